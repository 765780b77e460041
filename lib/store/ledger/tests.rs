use super::*;
use jiff::SignedDuration;

const NOW: Duration = Duration::from_secs(5);

fn key(rule: &str, file: &str, message: Option<&str>) -> Key {
    Key { rule: rule.into(), file: file.into(), message: message.map(Into::into) }
}

fn wish(key: &Key) -> Claim<'_> {
    Claim {
        key,
        path: Path::new("./a"),
        argv: vec!["lp".into()],
        again: Again::No,
        max_per_hour: None,
        settle: None,
    }
}

fn entries(ledger: &mut Ledger) -> Vec<Entry> {
    let mut entries = Vec::new();
    ledger
        .each(&Wanted::default(), &mut |entry| {
            Ok({
                entries.push(entry);
                true
            })
        })
        .unwrap();
    entries
}

fn number(claimed: Claimed) -> u64 {
    match claimed {
        Claimed::Ours(number) => number,
        other => panic!("{other:?}"),
    }
}

fn state(claimed: Claimed) -> State {
    match claimed {
        Claimed::Before(past) => past.state,
        other => panic!("{other:?}"),
    }
}

#[test]
fn once_and_again() {
    let temp = tempfile::tempdir().unwrap();
    let key = key("r", "f", Some("m"));
    let mut ledger = Ledger::open(temp.path(), NOW).unwrap();
    let n = number(ledger.claim(wish(&key)).unwrap());
    assert_eq!(state(ledger.claim(Claim { again: Again::All, ..wish(&key) }).unwrap()), State::Claimed);
    ledger.settle(n, End { exit: Some(1), ..End::of(State::Failed) }).unwrap();
    assert_eq!(state(ledger.claim(wish(&key)).unwrap()), State::Failed);
    assert!(Again::Undone.allows(State::Failed) && !Again::Undone.allows(State::Done));
    let n = number(ledger.claim(Claim { again: Again::All, ..wish(&key) }).unwrap());
    ledger.settle(n, End::of(State::Free)).unwrap();
    // The claim that surely did not happen uncovers the one before it.
    assert_eq!(ledger.before(&key).unwrap().unwrap().state, State::Failed);
    let entries = entries(&mut ledger);
    assert_eq!(
        entries.iter().map(|e| (e.number, e.state)).collect::<Vec<_>>(),
        [(1, State::Failed), (2, State::Free)]
    );
    assert_eq!((entries[0].exit, entries[0].path.as_deref()), (Some(1), Some(Path::new("./a"))));
}

#[test]
fn another_process_sees_a_living_claim_and_then_an_unknown_one() {
    let temp = tempfile::tempdir().unwrap();
    let key = key("r", "f", None);
    let mut one = Ledger::open(temp.path(), NOW).unwrap();
    let mut two = Ledger::open(temp.path(), NOW).unwrap();
    number(one.claim(wish(&key)).unwrap());
    assert_eq!(state(two.claim(wish(&key)).unwrap()), State::Claimed);
    drop(one);
    assert_eq!(state(two.claim(wish(&key)).unwrap()), State::Unknown);
    assert_eq!(entries(&mut two)[0].state, State::Unknown);
    number(two.claim(Claim { again: Again::All, ..wish(&key) }).unwrap());
}

#[test]
fn the_message_counts_unless_nobody_knows_it() {
    let temp = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(temp.path(), NOW).unwrap();
    for message in ["m", "n"] {
        let key = key("r", "f", Some(message));
        number(ledger.claim(Claim { settle: Some(End::of(State::Emitted)), ..wish(&key) }).unwrap());
    }
    assert_eq!(state(ledger.claim(wish(&key("r", "f", None))).unwrap()), State::Emitted);
    for stranger in [key("r", "f", Some("o")), key("q", "f", Some("m")), key("r", "g", None)] {
        assert!(ledger.before(&stranger).unwrap().is_none());
    }
}

#[test]
fn the_brake_counts_claims_of_the_last_hour() {
    let temp = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(temp.path(), NOW).unwrap();
    for file in ["a", "b"] {
        let key = key("r", file, None);
        number(ledger.claim(Claim { max_per_hour: Some(2), ..wish(&key) }).unwrap());
    }
    let third = key("r", "c", None);
    let hold = |ledger: &mut Ledger| ledger.claim(Claim { max_per_hour: Some(2), ..wish(&third) }).unwrap();
    let Claimed::Held { most: 2, until, news: true, .. } = hold(&mut ledger) else { panic!("not held") };
    let left = until.duration_since(Timestamp::now());
    assert!(left > SignedDuration::from_mins(59) && left <= SignedDuration::from_hours(1), "{left}");
    // It stands in the ledger, and is not asked for before its time.
    assert_eq!(state(hold(&mut ledger)), State::Held);
    assert_eq!(entries(&mut ledger)[2].next, Some(until));
    // Due, and still too many: the same claim stands as held, with a new moment.
    ledger.settle(3, End { next: Some(Timestamp::now()), ..End::of(State::Held) }).unwrap();
    assert!(matches!(hold(&mut ledger), Claimed::Held { news: false, .. }));
    assert_eq!(entries(&mut ledger).len(), 3);
    // Another rule has its own hour, and what somebody asks for is done.
    let other = key("q", "c", None);
    number(ledger.claim(Claim { max_per_hour: Some(2), ..wish(&other) }).unwrap());
    ledger.by_hand(3, End { next: Some(Timestamp::now()), ..End::of(State::Later) }).unwrap();
    number(hold(&mut ledger));
    // An hour later there is room.
    let (a, later) = (key("r", "a", None), Timestamp::now() + SignedDuration::from_mins(61));
    assert_eq!(ledger.full_until(&a, 2, later, &Default::default()).unwrap(), None);
}

#[test]
fn a_damaged_line_is_never_skipped() {
    let temp = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(temp.path(), NOW).unwrap();
    number(ledger.claim(wish(&key("r", "f", None))).unwrap());
    let file = temp.path().join("act/ledger");
    let good = std::fs::read_to_string(&file).unwrap();
    let other = good.replace("\"v\":1", "\"v\":2");
    for (bad, why) in [
        (format!("x{good}"), "cannot read the line at byte 0"),
        (format!("{good}{good}"), "is missing or out of its place"),
        (format!("{good}\0\0\n"), "cannot read the line at byte"),
        (other, "another version"),
    ] {
        let _ = std::fs::remove_file(temp.path().join("act/rows"));
        std::fs::write(&file, &bad).unwrap();
        let error = Ledger::open(temp.path(), NOW).unwrap_err();
        assert!(error.status() == 74 && error.to_string().contains(why), "{bad}: {error}");
    }
    // What a crash cut short never became true.
    std::fs::write(&file, format!("{good}{}", &good[..good.len() - 9])).unwrap();
    assert_eq!(entries(&mut Ledger::open(temp.path(), NOW).unwrap()).len(), 1);
}

#[test]
fn the_dead_leave_no_life_signs_behind() {
    let temp = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(temp.path(), NOW).unwrap();
    std::fs::write(temp.path().join("act/live-1-2"), "").unwrap();
    number(ledger.claim(wish(&key("r", "f", None))).unwrap());
    let signs = |ledger: &Ledger| {
        ledger.dir.names().unwrap().iter().filter(|name| name.to_string_lossy().starts_with("live-")).count()
    };
    assert_eq!(signs(&ledger), 1);
    let dir = ledger.dir.clone();
    drop(ledger);
    assert!(!dir.names().unwrap().iter().any(|name| name.to_string_lossy().starts_with("live-")));
}

#[test]
fn what_failed_for_now_is_free_from_its_moment_on() {
    let temp = tempfile::tempdir().unwrap();
    let key = key("r", "f", Some("m"));
    let mut ledger = Ledger::open(temp.path(), NOW).unwrap();
    let later = |minutes| {
        let next = Some(Timestamp::now() + SignedDuration::from_mins(minutes));
        End { next, ..End::of(State::Later) }
    };
    let n = number(ledger.claim(wish(&key)).unwrap());
    assert_eq!(ledger.tries_before(n).unwrap(), 0);
    ledger.settle(n, later(1)).unwrap();
    assert_eq!(state(ledger.claim(wish(&key)).unwrap()), State::Later);
    ledger.settle(n, later(-1)).unwrap();
    let mut fresh = Ledger::open(temp.path(), NOW).unwrap();
    let n = number(fresh.claim(wish(&key)).unwrap());
    assert_eq!(fresh.tries_before(n).unwrap(), 1);
    fresh.settle(n, later(1)).unwrap();
    let n = number(fresh.claim(Claim { again: Again::Undone, ..wish(&key) }).unwrap());
    assert_eq!(fresh.tries_before(n).unwrap(), 2);
    fresh.settle(n, End::of(State::Dead)).unwrap();
    assert_eq!(state(fresh.claim(wish(&key)).unwrap()), State::Dead);
    // A moment that no pause can reach was reckoned by a clock that was wrong.
    let far = End { next: Some(Timestamp::now() + SignedDuration::from_hours(100)), ..End::of(State::Later) };
    fresh.settle(n, far.clone()).unwrap();
    let n = number(fresh.claim(wish(&key)).unwrap());
    fresh.settle(n, End { state: State::Held, ..far }).unwrap();
    let n = number(fresh.claim(wish(&key)).unwrap());
    fresh.settle(n, End::of(State::Dead)).unwrap();
    // Asked for by hand it is due at once, and its tries are counted anew.
    fresh.by_hand(n, End { next: Some(Timestamp::now()), ..End::of(State::Later) }).unwrap();
    let n = number(fresh.claim(wish(&key)).unwrap());
    assert_eq!(fresh.tries_before(n).unwrap(), 0);
}

#[test]
fn a_hand_cannot_touch_what_lives_or_is_not_there_or_was_overtaken() {
    let temp = tempfile::tempdir().unwrap();
    let key = key("r", "f", Some("m"));
    let mut ledger = Ledger::open(temp.path(), NOW).unwrap();
    let n = number(ledger.claim(wish(&key)).unwrap());
    let mut hand = Ledger::open(temp.path(), NOW).unwrap();
    assert_eq!(hand.by_hand(n, End::of(State::Done)).unwrap_err().status(), 75);
    assert_eq!(hand.by_hand(n + 1, End::of(State::Done)).unwrap_err().status(), 64);
    assert_eq!(hand.by_hand(0, End::of(State::Done)).unwrap_err().status(), 64);
    ledger.settle(n, End::of(State::Failed)).unwrap();
    let second = number(ledger.claim(Claim { again: Again::All, ..wish(&key) }).unwrap());
    ledger.settle(second, End::of(State::Failed)).unwrap();
    assert_eq!(hand.by_hand(n, End::of(State::Done)).unwrap_err().status(), 64);
    hand.by_hand(second, End::of(State::Done)).unwrap();
    assert_eq!(ledger.before(&key).unwrap().unwrap().state, State::Done);
}

#[test]
fn outputs_are_kept_for_the_last_claims() {
    let temp = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(temp.path(), NOW).unwrap();
    ledger.keep_output(1, b"one").unwrap();
    ledger.keep_output(1, b"one more").unwrap();
    assert_eq!(ledger.output(1).unwrap().unwrap(), b"one more");
    ledger.keep_output(1 + output::KEPT, b"two").unwrap();
    assert_eq!(ledger.output(1).unwrap(), None);
    assert_eq!(ledger.output(1 + output::KEPT).unwrap().unwrap(), b"two");
}

/// What every key of the test came to, by a ledger opened anew.
fn all_states(temp: &Path, keys: &[Key]) -> Vec<Option<State>> {
    let mut ledger = Ledger::open(temp, NOW).unwrap();
    keys.iter().map(|key| ledger.before(key).unwrap().map(|past| past.state)).collect()
}

fn emitted(key: &Key) -> Claim<'_> {
    Claim { settle: Some(End::of(State::Emitted)), ..wish(key) }
}

#[test]
fn many_are_found_and_the_index_is_made_anew_from_the_log() {
    let temp = tempfile::tempdir().unwrap();
    let keys: Vec<Key> =
        (0..3000).map(|n| key(["a", "b"][n % 2], &n.to_string(), (n % 3 > 0).then_some("m"))).collect();
    let mut ledger = Ledger::open(temp.path(), NOW).unwrap();
    for some in keys.chunks(500) {
        let claimed = ledger.claim_all(some.iter().map(emitted).collect()).unwrap();
        assert!(claimed.iter().all(|one| matches!(one, Claimed::Ours(_))));
    }
    for n in (1..=3000).step_by(7) {
        ledger.settle(n, End::of(State::Failed)).unwrap();
    }
    let wanted: Vec<Option<State>> =
        (0..3000).map(|n| Some(if n % 7 == 0 { State::Failed } else { State::Emitted })).collect();
    assert_eq!(all_states(temp.path(), &keys), wanted);
    assert_eq!(ledger.before(&key("a", "1", Some("m"))).unwrap(), None);
    let open = |ledger: &mut Ledger| {
        let mut open = Vec::new();
        ledger.each_open(&mut |entry| open.push((entry.number, entry.state))).unwrap();
        open
    };
    let wanted_open: Vec<(u64, State)> = (1..=3000).step_by(7).map(|n| (n, State::Failed)).collect();
    assert_eq!(open(&mut ledger), wanted_open);
    // Whatever of the index is lost or older than the log, the log says it again.
    let act = temp.path().join("act");
    for part in ["rows", "slots-"] {
        std::fs::remove_file(part_of(&act, part)).unwrap();
        assert_eq!(all_states(temp.path(), &keys), wanted, "without {part}");
    }
    // The one that is open sees that, and goes on with the new one.
    assert_eq!(ledger.before(&keys[0]).unwrap().unwrap().state, State::Failed);
    assert_eq!(open(&mut ledger), wanted_open);
    let newest = Wanted { newest_first: true, ..Wanted::default() };
    let mut numbers = Vec::new();
    ledger
        .each(&newest, &mut |entry| {
            Ok({
                numbers.push(entry.number);
                numbers.len() < 1000
            })
        })
        .unwrap();
    assert_eq!(numbers, (2001..=3000).rev().collect::<Vec<_>>());
}

#[test]
fn an_index_that_a_crash_left_behind_goes_on_from_the_log() {
    let temp = tempfile::tempdir().unwrap();
    let act = temp.path().join("act");
    let keys: Vec<Key> =
        (0..40).map(|n| key("r", &(n % 5).to_string(), Some(&(n % 7).to_string()))).collect();
    let mut ledger = Ledger::open(temp.path(), NOW).unwrap();
    let read = |name: &str| std::fs::read(act.join(name)).unwrap();
    let (mut rows, mut slots) = (read("rows"), read("slots-1"));
    for (n, key) in keys.iter().enumerate() {
        let number = number(ledger.claim(Claim { again: Again::All, ..wish(key) }).unwrap());
        ledger.settle(number, End { next: Some(Timestamp::now()), ..End::of(State::Later) }).unwrap();
        let (new_rows, new_slots) = (read("rows"), read("slots-1"));
        let tries = ledger.tries_before(number).unwrap();
        // As if the process had died between writing one and the other: any mixture of old and new, as long as the
        // head, which is written last, is the old one.
        let old_head = [&rows[..row::LENGTH], &new_rows[row::LENGTH..]].concat();
        for (some_rows, some_slots) in [(&rows, &slots), (&old_head, &slots), (&old_head, &new_slots)] {
            std::fs::write(act.join("rows"), some_rows).unwrap();
            std::fs::write(act.join("slots-1"), some_slots).unwrap();
            let mut other = Ledger::open(temp.path(), NOW).unwrap();
            let past = other.before(key).unwrap().unwrap();
            assert_eq!((past.number, past.state), (number, State::Later), "claim {n}");
            assert_eq!(other.tries_before(number).unwrap(), tries, "claim {n}");
            // How many slots are taken may be a little too low.
            assert_eq!(read("rows")[row::LENGTH..], new_rows[row::LENGTH..], "claim {n}");
            assert_eq!(read("slots-1"), new_slots, "claim {n}");
        }
        (rows, slots) = (new_rows, new_slots);
    }
}

#[test]
fn damage_to_the_index_is_seen_and_never_means_that_nothing_was_done() {
    let temp = tempfile::tempdir().unwrap();
    let act = temp.path().join("act");
    let keys: Vec<Key> = (0..60).map(|n| key("r", &n.to_string(), None)).collect();
    let mut ledger = Ledger::open(temp.path(), NOW).unwrap();
    ledger.claim_all(keys.iter().map(emitted).collect()).unwrap();
    drop(ledger);
    for (part, stride) in [("rows", 241), ("slots-", 1531)] {
        let length = std::fs::metadata(part_of(&act, part)).unwrap().len() as usize;
        for at in (0..length).step_by(stride) {
            for damage in [&[0; 512][..], &[0xff; 3], b"0"] {
                // Where the last damage was seen the index has gone, and is made anew.
                drop(Ledger::open(temp.path(), NOW).unwrap());
                let file = part_of(&act, part);
                let mut bytes = std::fs::read(&file).unwrap();
                let end = bytes.len().min(at + damage.len());
                bytes[at..end].copy_from_slice(&damage[..end - at]);
                std::fs::write(&file, &bytes).unwrap();
                for key in keys.iter().step_by(7) {
                    let found = Ledger::open(temp.path(), NOW).and_then(|mut ledger| ledger.before(key));
                    match found {
                        Ok(past) => assert_eq!(past.map(|past| past.state), Some(State::Emitted), "{at}"),
                        Err(error) => assert_eq!(error.status(), 75, "{at}: {error}"),
                    }
                }
            }
        }
        let _ = std::fs::remove_file(act.join("rows"));
        assert_eq!(all_states(temp.path(), &keys), vec![Some(State::Emitted); 60]);
    }
}

/// The file of the index that begins so; there is one.
fn part_of(act: &Path, begin: &str) -> std::path::PathBuf {
    let files = std::fs::read_dir(act).unwrap().map(|entry| entry.unwrap().path());
    let mut files = files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(begin));
    let file = files.next().unwrap();
    assert_eq!(files.next(), None, "old ones go");
    file
}

#[test]
fn many_at_once_are_decided_as_if_one_by_one() {
    let temp = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(temp.path(), NOW).unwrap();
    let keys = [
        key("r", "f", Some("m")),
        key("r", "f", Some("n")),
        key("r", "f", Some("m")),
        key("r", "f", None),
        key("r", "g", None),
        key("r", "h", None),
        key("q", "h", None),
    ];
    let wishes = keys.iter().map(|key| Claim { max_per_hour: Some(3), ..emitted(key) }).collect();
    let claimed = ledger.claim_all(wishes).unwrap();
    let said: Vec<String> = claimed
        .iter()
        .map(|one| match one {
            Claimed::Ours(n) => format!("ours {n}"),
            Claimed::Before(past) => format!("{} {}", past.state.word(), past.number),
            Claimed::Held { news, .. } => format!("held {news}"),
        })
        .collect();
    assert_eq!(said, ["ours 1", "ours 2", "emitted 1", "emitted 2", "ours 3", "held true", "ours 5"]);
    ledger.settle_all(&[1, 3], &End::of(State::Free)).unwrap();
    assert!(ledger.before(&keys[0]).unwrap().is_none() && ledger.before(&keys[1]).unwrap().is_some());
}

#[test]
fn somebody_is_told_once() {
    let temp = tempfile::tempdir().unwrap();
    let key = key("r", "f", None);
    let mut ledger = Ledger::open(temp.path(), NOW).unwrap();
    let n = number(ledger.claim(wish(&key)).unwrap());
    ledger.settle(n, End::of(State::Dead)).unwrap();
    assert!(!ledger.before(&key).unwrap().unwrap().told);
    ledger.told(n).unwrap();
    std::fs::remove_file(temp.path().join("act/rows")).unwrap();
    let mut fresh = Ledger::open(temp.path(), NOW).unwrap();
    assert!(fresh.was_told(n).unwrap() && fresh.before(&key).unwrap().unwrap().told);
}

#[test]
fn a_ledger_that_lost_something_is_not_begun_anew() {
    let temp = tempfile::tempdir().unwrap();
    let (log, rows) = (temp.path().join("act/ledger"), temp.path().join("act/rows"));
    let keys: Vec<Key> = (0..3).map(|n| key("r", &n.to_string(), None)).collect();
    let mut ledger = Ledger::open(temp.path(), NOW).unwrap();
    ledger.claim_all(keys.iter().map(emitted).collect()).unwrap();
    let whole = std::fs::read(&log).unwrap();
    let two: Vec<u8> = whole.split_inclusive(|byte| *byte == b'\n').take(2).flatten().copied().collect();
    for less in [&whole[..whole.len() - 9], &two, b""] {
        std::fs::write(&log, less).unwrap();
        let error = Ledger::open(temp.path(), NOW).unwrap_err();
        assert!(error.status() == 74 && error.to_string().contains("held 3 claims"), "{error}");
        assert_eq!(ledger.before(&keys[2]).unwrap_err().status(), 74, "also by one that has it open");
        std::fs::remove_file(&log).unwrap();
        assert_eq!(Ledger::open(temp.path(), NOW).unwrap_err().status(), 74, "nor where it is gone");
        // Put back, from a copy too, it is as good as before.
        std::fs::write(&log, &whole).unwrap();
        assert_eq!(all_states(temp.path(), &keys), vec![Some(State::Emitted); 3]);
    }
    std::fs::write(&log, two).unwrap();
    std::fs::remove_file(rows).unwrap();
    assert_eq!(
        all_states(temp.path(), &keys),
        [Some(State::Emitted), Some(State::Emitted), None],
        "somebody who was told so says that it is meant"
    );
}
