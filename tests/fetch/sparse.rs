//! Mailboxes with many holes: no command line is longer than what servers take (8,192 octets, RFC 7162 section 4).

use super::fake::Fake;
use crate::bench::Bench;

fn longest(fake: &Fake) -> usize {
    fake.state().heard.iter().map(String::len).max().unwrap_or(0)
}

/// So many messages, each with a hole behind it, and UIDs of seven digits.
fn sparse(messages: u32) -> Fake {
    let fake = Fake::new(&["INBOX"]);
    fake.change(|state| {
        let inbox = state.boxes.get_mut("INBOX").unwrap();
        inbox.messages = (0..messages).map(|n| (1_000_000 + 2 * n, "one\r\n".to_string())).collect();
        inbox.last = 1_000_000 + 2 * messages;
    });
    fake
}

#[test]
fn what_is_only_looked_at_is_asked_for_in_pieces() {
    let (bench, fake) = (Bench::new(), sparse(2000));
    fake.fetch(&bench).arg("-n").run().ok().err_has("2000 new, 10000 octets");
    assert!(fake.count("RFC822.SIZE") > 1, "in one piece");
    assert!(longest(&fake) < 8192, "{} octets", longest(&fake));
    let ran = fake.fetch(&bench).args(["--max-size", "1", "--json"]).run().ok();
    assert_eq!(ran.json().iter().filter(|one| one["size"] == 5).count(), 2000);
    assert!(longest(&fake) < 8192, "{} octets", longest(&fake));
}

#[test]
fn what_did_not_come_is_looked_for_in_pieces() {
    let (bench, fake) = (Bench::new(), Fake::new(&["INBOX"]));
    fake.change(|state| {
        let inbox = state.boxes.get_mut("INBOX").unwrap();
        inbox.last = 1_000_000_000;
        (0..2000).for_each(|_| _ = inbox.add("one\r\n"));
        inbox.withheld = inbox.messages.keys().copied().filter(|uid| uid % 2 == 1).collect();
    });
    let ran = fake.fetch(&bench).run().fails(76).err_has("UID 1000001999 skipped: the server gave no body");
    assert_eq!(ran.lines().len(), 1000);
    assert!(longest(&fake) < 8192, "{} octets", longest(&fake));
}

#[test]
fn many_mailboxes_by_name_are_listed_in_pieces() {
    let names: Vec<String> =
        (0..300).map(|n| format!("an archive of nineteen-eighty-four, part {n}")).collect();
    let (bench, fake) = (Bench::new(), Fake::new(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    fake.change(|state| state.can += " LIST-EXTENDED");
    let ran = fake.fetch(&bench).arg("-n").args(&names).run().ok();
    assert_eq!(ran.err_text().matches(" 0 new").count(), 300);
    assert!(longest(&fake) < 8192, "{} octets", longest(&fake));
}
