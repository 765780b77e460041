//! A UID that a SEARCH leaves out may come back: it is looked for again, and counts as gone only after days.

use std::collections::BTreeSet;

use super::fake::Fake;
use crate::bench::Bench;

/// Some time passes between two runs: what was left out is due to be looked for.
fn time_passes(bench: &Bench) {
    let cursor = bench.files("m").into_iter().find(|file| file.to_string_lossy().contains("cursor"));
    let cursor = format!("m/{}", cursor.expect("a cursor").display());
    let text = String::from_utf8(bench.read(&cursor)).unwrap();
    bench.write(&cursor, text.replace("\"at\":1", "\"at\":"));
}

fn leave_out(fake: &Fake, uids: impl IntoIterator<Item = u32>) {
    let uids: BTreeSet<u32> = uids.into_iter().collect();
    fake.change(|state| state.boxes.get_mut("INBOX").unwrap().left_out = uids);
}

fn inbox(messages: usize) -> (Bench, Fake) {
    let fake = Fake::new(&["INBOX"]);
    (0..messages).for_each(|_| _ = fake.add("INBOX", "one\r\n"));
    (Bench::new(), fake)
}

#[track_caller]
fn comes(bench: &Bench, fake: &Fake, args: &[&str], number: usize) {
    let ran = fake.fetch(bench).args(args).run().ok();
    assert_eq!(ran.lines().len(), number, "{}", ran.shown());
}

#[test]
fn what_one_search_leaves_out_comes_later() {
    let (bench, fake) = inbox(5);
    leave_out(&fake, [2, 4]);
    comes(&bench, &fake, &[], 3);
    leave_out(&fake, [4]);
    // It is there again, and something new lets us look.
    fake.add("INBOX", "six\r\n");
    comes(&bench, &fake, &[], 2);
    // The other one comes back much later, and nothing is new.
    time_passes(&bench);
    comes(&bench, &fake, &[], 0);
    leave_out(&fake, []);
    time_passes(&bench);
    comes(&bench, &fake, &[], 1);
    comes(&bench, &fake, &[], 0);
    assert_eq!(bench.files("m/new").len(), 6);
}

#[test]
fn what_was_there_and_not_taken_is_not_gone_when_a_search_leaves_it_out() {
    let (bench, fake) = inbox(6);
    comes(&bench, &fake, &["--newest-first", "--limit", "1"], 1);
    leave_out(&fake, 1..6);
    comes(&bench, &fake, &[], 0);
    leave_out(&fake, []);
    fake.add("INBOX", "seven\r\n");
    comes(&bench, &fake, &[], 6);
}

#[test]
fn a_search_that_finds_nothing_at_all_says_nothing() {
    let (bench, fake) = inbox(3);
    leave_out(&fake, 1..4);
    for _ in 0..6 {
        comes(&bench, &fake, &[], 0);
        let cursor = bench.files("m").into_iter().find(|file| file.to_string_lossy().contains("cursor"));
        let text = bench.read(&format!("m/{}", cursor.unwrap().display()));
        assert!(!String::from_utf8(text).unwrap().contains("missing"));
    }
    leave_out(&fake, []);
    comes(&bench, &fake, &[], 3);
}

/// Some were expunged before we came: that costs a look now and then, and then none.
#[test]
fn holes_cost_nothing_once_they_are_known() {
    let (bench, fake) = inbox(9);
    fake.change(|state| [2, 5].map(|uid| state.boxes.get_mut("INBOX").unwrap().messages.remove(&uid)));
    comes(&bench, &fake, &[], 7);
    let searches = || fake.count("SEARCH");
    assert_eq!(searches(), 1);
    comes(&bench, &fake, &[], 0);
    assert_eq!(searches(), 1, "nothing is new: nothing is looked for");
    let mut looks = 0;
    for _ in 0..8 {
        let before = searches();
        time_passes(&bench);
        comes(&bench, &fake, &[], 0);
        looks += searches() - before;
        comes(&bench, &fake, &[], 0);
        assert!(searches() <= before + 1, "nothing is due");
    }
    assert_eq!(looks, 3, "{:#?}", fake.state().heard);
    // What comes then is looked for alone.
    let uid = fake.add("INBOX", "ten\r\n");
    comes(&bench, &fake, &[], 1);
    assert!(fake.count(&format!("UID SEARCH UID {uid}:*")) == 1, "{:#?}", fake.state().heard);
}

/// A server that lost its disk makes a new, empty mailbox; when the old one is back, what was deleted here stays so.
#[test]
fn an_empty_mailbox_of_another_uidvalidity_changes_nothing() {
    let (bench, fake) = inbox(3);
    comes(&bench, &fake, &[], 3);
    let file = bench.files("m/new").remove(0);
    std::fs::remove_file(bench.path("m/new").join(file)).unwrap();
    let before = fake.change(|state| {
        state.validity = 9;
        std::mem::take(state.boxes.get_mut("INBOX").unwrap())
    });
    comes(&bench, &fake, &[], 0);
    comes(&bench, &fake, &["*"], 0);
    fake.change(|state| {
        state.validity = 7;
        state.boxes.insert("INBOX".into(), before);
    });
    fake.add("INBOX", "four\r\n");
    comes(&bench, &fake, &[], 1);
    // One with mail in it is another mailbox.
    fake.change(|state| state.validity = 9);
    let ran = fake.fetch(&bench).run().ok().err_has("new UIDVALIDITY");
    assert_eq!(ran.lines().len(), 1, "the one that was deleted here: {}", ran.shown());
}

/// A UIDNEXT that was said once and is not so costs a look, and loses nothing.
#[test]
fn a_next_uid_that_is_none_is_forgotten() {
    let (bench, fake) = inbox(3);
    fake.change(|state| state.next = Some(u32::MAX));
    comes(&bench, &fake, &[], 3);
    fake.change(|state| state.next = None);
    time_passes(&bench);
    comes(&bench, &fake, &[], 0);
    let searches = fake.count("SEARCH");
    time_passes(&bench);
    comes(&bench, &fake, &[], 0);
    assert_eq!(fake.count("SEARCH"), searches, "nothing is left to be looked for");
    fake.add("INBOX", "four\r\n");
    comes(&bench, &fake, &[], 1);
}

/// The newest was expunged, or the server is wrong about its next UID: what may still come is never given up.
#[test]
fn what_lies_above_the_last_message_is_never_gone() {
    let (bench, fake) = inbox(3);
    fake.change(|state| state.next = Some(1000));
    comes(&bench, &fake, &[], 3);
    let searches = fake.count("SEARCH");
    comes(&bench, &fake, &[], 0);
    assert_eq!(fake.count("SEARCH"), searches, "nothing is new: nothing is looked for");
    for _ in 0..6 {
        time_passes(&bench);
        comes(&bench, &fake, &[], 0);
    }
    (0..2).for_each(|_| _ = fake.add("INBOX", "more\r\n"));
    time_passes(&bench);
    comes(&bench, &fake, &[], 2);
}

#[test]
fn a_next_uid_that_cannot_be_is_not_believed() {
    for (next, words) in [(0, &[][..]), (1, &["*"]), (3, &["*"]), (3, &[])] {
        let (bench, fake) = inbox(3);
        fake.change(|state| state.next = Some(next));
        comes(&bench, &fake, words, 3);
        fake.add("INBOX", "four\r\n");
        comes(&bench, &fake, words, 1);
    }
}

/// As [`an_empty_mailbox_of_another_uidvalidity_changes_nothing`], for who stays.
#[test]
fn who_stays_believes_no_empty_mailbox_either() {
    let (bench, fake) = inbox(3);
    comes(&bench, &fake, &[], 3);
    for file in bench.files("m/new") {
        std::fs::remove_file(bench.path("m/new").join(file)).unwrap();
    }
    let before = fake.change(|state| {
        state.validity = 9;
        std::mem::take(state.boxes.get_mut("INBOX").unwrap())
    });
    let running = fake.fetch(&bench).arg("--idle=1s").timeout(60).spawn();
    fake.until("two looks", |state| state.heard.iter().filter(|line| line.ends_with(" IDLE")).count() > 1);
    running.signal(rustix::process::Signal::TERM);
    running.wait();
    fake.change(|state| {
        state.validity = 7;
        state.boxes.insert("INBOX".into(), before);
    });
    comes(&bench, &fake, &[], 0);
}

/// Where `--since` leaves some out nothing can be judged: that does not cost a search in each run.
#[test]
fn what_is_due_waits_for_a_run_that_can_judge() {
    let (bench, fake) = inbox(5);
    leave_out(&fake, [2, 4]);
    comes(&bench, &fake, &[], 3);
    time_passes(&bench);
    let searches = fake.count("SEARCH");
    comes(&bench, &fake, &["--since", "2020-01-01"], 0);
    assert_eq!(fake.count("SEARCH"), searches);
}
