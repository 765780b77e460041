//! `--idle` over several connections: they do not quarrel, they come back, and nothing falls between them.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::mpsc;

use rustix::process::Signal;

use super::fake::{Act, Fake};
use crate::bench::Bench;

/// Ended as asked for; what it said.
#[track_caller]
fn end(running: crate::bench::Running) -> String {
    running.signal(Signal::TERM);
    let ran = running.wait();
    assert_eq!(ran.signal, Some(15), "{}", ran.shown());
    ran.err_text()
}

fn idles(fake: &Fake, number: usize) {
    fake.until(&format!("{number} times IDLE"), |state| {
        state.heard.iter().filter(|line| line.ends_with(" IDLE")).count() >= number
    });
}

/// While a mailbox's own connection is at a long download, the first one does not wait for it to end.
#[test]
fn connections_of_one_process_do_not_wait_for_each_others_mailboxes() {
    let (bench, fake) = (Bench::new(), Fake::new(&["INBOX", "a"]));
    let mut running = fake.fetch(&bench).args(["--idle=1h", "--timeout", "20s", "INBOX", "a"]).spawn();
    idles(&fake, 2);
    let (go, going) = mpsc::channel();
    let mut going = Some(going);
    fake.at(move |_, line| match line.contains("UID FETCH") {
        true => going.take().map(Act::Await),
        false => None,
    });
    fake.add("a", "long\r\n");
    fake.until("the download", |state| state.heard.iter().any(|line| line.contains("UID FETCH")));
    fake.add("INBOX", "short\r\n");
    let line = running.line();
    assert!(line.contains("m/new/"), "{line}");
    go.send(()).unwrap();
    assert!(running.line().contains("m/.a/new/"));
    assert_eq!(end(running), "", "nothing of this is trouble");
}

#[test]
fn an_account_that_is_named_twice_is_fetched_once() {
    let (bench, fake) = (Bench::new(), Fake::new(&["INBOX"]));
    bench.write("pw", "secret\n");
    let account = format!(
        "[account.school]\nimap = \"{}\"\nuser = \"u\"\npassword_file = \"{}\"\nmaildir = \"{}\"\n",
        fake.url,
        bench.path("pw").display(),
        bench.path("m").display()
    );
    bench.write("home/.config/mailloop/config.toml", account);
    let fetch = || bench.cmd("mail-fetch").args(["school", "school"]).timeout(25);
    fake.add("INBOX", "one\r\n");
    let ran = fetch().args(["-j", "2"]).run().ok().err_has("named twice");
    assert_eq!((ran.lines().len(), ran.err_text().lines().count()), (1, 1), "{}", ran.shown());
    let before = fake.count("AUTHENTICATE");
    let mut running = fetch().args(["--idle=1h", "--timeout", "5s"]).spawn();
    idles(&fake, 1);
    fake.add("INBOX", "two\r\n");
    running.line();
    let said = end(running);
    assert_eq!(said.matches("named twice").count(), 1, "{said}");
    assert_eq!((said.lines().count(), fake.count("AUTHENTICATE")), (1, before + 1), "{said}");
}

fn lock_of(bench: &Bench, dir: &str) -> File {
    let lock = bench.files(dir).into_iter().find(|file| file.to_string_lossy().starts_with("mailloop-lock"));
    let lock = File::open(bench.path(dir).join(lock.expect("a lock"))).unwrap();
    lock.lock().unwrap();
    lock
}

/// IDLE would be on the mailbox that was open before.
#[test]
fn a_first_mailbox_that_cannot_be_fetched_is_not_waited_on_with_another_one_open() {
    let (bench, fake) = (Bench::new(), Fake::new(&["INBOX", "a"]));
    // One connection, and both mailboxes over it.
    fake.change(|state| state.most = 1);
    fake.fetch(&bench).arg("INBOX").run().ok();
    let lock = lock_of(&bench, "m");
    fake.add("a", "one\r\n");
    let cmd = fake.fetch(&bench).args(["--idle=1h", "--timeout", "1s", "INBOX", "a"]);
    let mut running = cmd.env("MAILLOOP_PAUSE", "50").spawn();
    assert!(running.line().contains("m/.a/new/"));
    let before = fake.state().heard.len();
    fake.until("what it does next", |state| {
        state.heard[before..].iter().any(|line| line.contains("IDLE") || line.contains("NOOP"))
    });
    let next = fake.state().heard[before..]
        .iter()
        .find(|line| line.contains("IDLE") || line.contains("NOOP"))
        .cloned();
    assert!(next.as_ref().is_some_and(|next| next.contains("NOOP")), "{next:?} with another mailbox open");
    // It comes as soon as it can.
    fake.add("INBOX", "two\r\n");
    drop(lock);
    assert!(running.line().contains("m/new/"));
    end(running);
}

/// News of a mailbox that cannot be stored must not be asked for again and again without a pause.
#[test]
fn a_mailbox_that_cannot_be_stored_is_tried_with_pauses() {
    let (bench, fake) = (Bench::new(), Fake::new(&["INBOX"]));
    let cmd = fake.fetch(&bench).args(["--idle=1h", "--timeout", "5s"]).env("MAILLOOP_PAUSE", "50");
    let mut running = cmd.spawn();
    idles(&fake, 1);
    std::fs::rename(bench.path("m/tmp"), bench.path("m/away")).unwrap();
    bench.write("m/tmp", "a file");
    fake.add("INBOX", "one\r\n");
    running.complains("m/tmp");
    fake.until("three times NOOP", |state| {
        state.heard.iter().filter(|line| line.contains("NOOP")).count() >= 3
    });
    std::fs::remove_file(bench.path("m/tmp")).unwrap();
    assert!(running.line().contains("m/new/"));
    let said = end(running);
    let (told, asked) = (said.matches("m/tmp").count(), fake.count("NOOP"));
    assert!(told <= asked + 1, "told {told} times, asked {asked} times\n{said}");
}

/// Everybody is hung up on and turned away more often than a mailbox tries; then it is as before, where the server
/// grants each mailbox a connection and where it does not.
#[test]
fn after_an_outage_all_is_as_before() {
    for (most, connections) in [(usize::MAX, 3), (2, 2)] {
        let (bench, fake) = (Bench::new(), Fake::new(&["INBOX", "a", "b"]));
        fake.change(|state| state.most = most);
        let cmd = fake.fetch(&bench).args(["--idle=1h", "--poll", "300ms", "--timeout", "5s", "*"]);
        let mut running = cmd.env("MAILLOOP_PAUSE", "1").spawn();
        idles(&fake, connections);
        fake.until("the last one asks", |state| state.connected == connections);
        let before = fake.change(|state| {
            state.down = true;
            state.refused
        });
        fake.until("all are gone and turned away", |state| {
            state.connected == 0 && state.refused >= before + 6 * connections
        });
        let heard = fake.state().heard.len();
        fake.change(|state| state.down = false);
        fake.until("connections wait again", |state| {
            let waiting: BTreeSet<&str> =
                (state.heard[heard..].iter()).filter_map(|line| line.strip_suffix(" IDLE")).collect();
            waiting.len() >= connections
        });
        for name in ["b", "a", "INBOX", "b"] {
            fake.add(name, "one\r\n");
            let dir = if name == "INBOX" { "m/new/".to_string() } else { format!("m/.{name}/new/") };
            let line = running.line();
            assert!(line.contains(&dir), "{name}: {line}");
        }
        end(running);
    }
}

/// A message that comes while others are downloaded, and the line breaks: the mailbox is opened anew, and nobody
/// announces what was there by then.
#[test]
fn what_comes_during_a_download_that_breaks_is_not_waited_for() {
    let (bench, fake) = (Bench::new(), Fake::new(&["INBOX"]));
    (0..3).for_each(|_| _ = fake.add("INBOX", "one\r\n"));
    let mut broken = false;
    fake.at(move |boxes, line| {
        if broken || !line.contains("UID FETCH") {
            return None;
        }
        broken = true;
        boxes.get_mut("INBOX")?.add("four\r\n");
        Some(Act::CloseAfter(1))
    });
    let mut running = fake.fetch(&bench).args(["--idle=1h", "--timeout", "5s"]).spawn();
    let mut lines: Vec<String> = (0..4).map(|_| running.line()).collect();
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), 4);
    end(running);
}

/// The password was changed: that is said at once, although other connections hold.
#[test]
fn an_account_that_is_given_up_says_so_at_once() {
    let (bench, fake) = (Bench::new(), Fake::new(&["INBOX", "a"]));
    let cmd = fake.fetch(&bench).args(["--idle=1h", "--timeout", "5s", "*"]).env("MAILLOOP_PAUSE", "1");
    let running = cmd.spawn();
    idles(&fake, 2);
    // The first connection ends, and there is no other one.
    fake.at(|_, line| match (line.split_once(' '), line.contains("AUTHENTICATE")) {
        (_, true) => Some(Act::Answer("NO [AUTHENTICATIONFAILED] wrong")),
        (Some(("1", _)), _) => Some(Act::Close),
        _ => None,
    });
    fake.add("INBOX", "one\r\n");
    running.complains("given up");
    running.wait().fails(77);
}

/// Another client took the place of the first connection: one of the others gives up its own, and no mailbox asks for one.
#[test]
fn a_first_connection_that_finds_no_room_gets_that_of_another() {
    let (bench, fake) = (Bench::new(), Fake::new(&["INBOX", "a"]));
    let cmd = fake.fetch(&bench).args(["--idle=1h", "--poll", "300ms", "--timeout", "5s", "*"]);
    let mut running = cmd.env("MAILLOOP_PAUSE", "50").spawn();
    idles(&fake, 2);
    fake.change(|state| state.most = 1);
    fake.at(|_, line| line.starts_with("1 ").then_some(Act::Close));
    fake.add("INBOX", "one\r\n");
    assert!(running.line().contains("m/new/"));
    fake.add("a", "two\r\n");
    assert!(running.line().contains("m/.a/new/"));
    // Those that it takes until there is room.
    let refused = fake.state().refused;
    for text in ["three\r\n", "four\r\n", "five\r\n"] {
        fake.add("b", text);
        assert!(running.line().contains("m/.b/new/"));
    }
    assert_eq!(fake.state().refused, refused, "a new mailbox asked");
    end(running);
}

/// A server that announces at each IDLE what nobody finds.
#[test]
fn news_that_bring_nothing_are_not_asked_for_without_a_pause() {
    let (bench, fake) = (Bench::new(), Fake::new(&["INBOX"]));
    fake.change(|state| state.boasts = Some(0));
    fake.add("INBOX", "one\r\n");
    let begun = std::time::Instant::now();
    let mut running = fake.fetch(&bench).args(["--idle=1h", "--timeout", "5s"]).spawn();
    running.line();
    idles(&fake, 7);
    // Two pauses by then, however fast the machine is.
    assert!(begun.elapsed().as_secs() >= 2, "{:?}", begun.elapsed());
    fake.add("INBOX", "two\r\n");
    running.line();
    end(running);
}

/// A mailbox that a connection of its own cannot open is left to the first one, and not asked for by both.
#[test]
fn a_mailbox_that_will_not_be_opened_has_no_connection() {
    let (bench, fake) = (Bench::new(), Fake::new(&["INBOX", "a"]));
    fake.at(|_, line| {
        let own = !line.starts_with("1 ") && line.contains("EXAMINE");
        own.then_some(Act::Answer("NO [NOPERM] not over this connection"))
    });
    let cmd = fake.fetch(&bench).args(["--idle=1h", "--poll", "200ms", "--timeout", "5s", "*"]);
    let mut running = cmd.spawn();
    fake.until("the connection is given up", |state| {
        state.heard.iter().any(|line| line.starts_with("2 LOGOUT"))
    });
    for _ in 0..2 {
        fake.add("a", "one\r\n");
        assert!(running.line().contains("m/.a/new/"));
    }
    let said = end(running);
    assert_eq!(said.matches("NOPERM").count(), 1, "{said}");
    assert_eq!(fake.state().heard.iter().filter(|line| line.starts_with("2 EXAMINE")).count(), 1);
}
