use super::*;

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
    let entries = ledger.entries().unwrap();
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
    assert_eq!(two.entries().unwrap()[0].state, State::Unknown);
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
    let claimed = ledger.claim(Claim { max_per_hour: Some(2), ..wish(&third) }).unwrap();
    assert_eq!(claimed, Claimed::Held(2));
    let later = Timestamp::now() + SignedDuration::from_mins(61);
    assert_eq!((ledger.within_an_hour("r", later), ledger.within_an_hour("q", later)), (0, 0));
}

#[test]
fn a_damaged_line_is_never_skipped() {
    let temp = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(temp.path(), NOW).unwrap();
    number(ledger.claim(wish(&key("r", "f", None))).unwrap());
    let file = temp.path().join("act/ledger");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("x{good}")).unwrap();
    assert_eq!(Ledger::open(temp.path(), NOW).unwrap_err().status(), 74);
    std::fs::write(&file, format!("{good}{good}")).unwrap();
    assert_eq!(Ledger::open(temp.path(), NOW).unwrap_err().status(), 74);
    // What a crash cut short never became true.
    std::fs::write(&file, format!("{good}{}", &good[..good.len() - 9])).unwrap();
    assert_eq!(Ledger::open(temp.path(), NOW).unwrap().entries().unwrap().len(), 1);
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
    assert_eq!(dir.names().unwrap().len(), 2);
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
    assert_eq!(ledger.tries_before(&key, n), 0);
    ledger.settle(n, later(1)).unwrap();
    assert_eq!(state(ledger.claim(wish(&key)).unwrap()), State::Later);
    ledger.settle(n, later(-1)).unwrap();
    let mut fresh = Ledger::open(temp.path(), NOW).unwrap();
    let n = number(fresh.claim(wish(&key)).unwrap());
    assert_eq!(fresh.tries_before(&key, n), 1);
    fresh.settle(n, later(1)).unwrap();
    let n = number(fresh.claim(Claim { again: Again::Undone, ..wish(&key) }).unwrap());
    assert_eq!(fresh.tries_before(&key, n), 2);
    fresh.settle(n, End::of(State::Dead)).unwrap();
    assert_eq!(state(fresh.claim(wish(&key)).unwrap()), State::Dead);
    // Asked for by hand it is due at once, and its tries are counted anew.
    fresh.by_hand(n, End { next: Some(Timestamp::now()), ..End::of(State::Later) }).unwrap();
    let n = number(fresh.claim(wish(&key)).unwrap());
    assert_eq!(fresh.tries_before(&key, n), 0);
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
