//! What a running loop does when it is told something: end, end now, read the configuration again, look now.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, test_kill_process};

use super::{Home, until};

/// Says its number and what it was run for, then takes its time.
const SLOW: &str = "#!/bin/sh\necho $$ > \"$(dirname \"$0\")/pid\"\nprintf '%s\\n' \"$1\" >> \"$(dirname \"$0\")/counted\"\nexec sleep 600\n";

fn command_lives(home: &Home) -> bool {
    let pid = String::from_utf8(home.bench.read("pid")).unwrap();
    test_kill_process(Pid::from_raw(pid.trim().parse().unwrap()).unwrap()).is_ok()
}

fn delivered(home: &Home) -> usize {
    home.bench.files("home/Mail/school/new").len()
}

#[test]
fn a_slow_command_stops_neither_the_fetch_nor_the_end() {
    let home = Home::new("run");
    home.bench.write("count", SLOW);
    home.bench.deliver_pdf("one");
    let run = home.run();
    until("the command runs", || !home.bench.counted().is_empty());
    home.bench.deliver_pdf("two");
    until("the second message is fetched", || delivered(&home) == 2);
    until("and taken apart", || home.bench.path("home/in/two.pdf").exists());
    run.signal(Signal::TERM);
    // The command would take ten times as long as this waits; `job/loop/run.rs` says how long it may take at most.
    assert_eq!(run.wait().signal, Some(15));
    assert!(!command_lives(&home), "what it ran has ended with it");
    // What became of the first nobody knows; the second is as good as new.
    home.bench.write("count", "#!/bin/sh\nprintf '%s\\n' \"$1\" >> \"$(dirname \"$0\")/counted\"\n");
    home.bench.cmd("mail-loop").arg("once").run().fails(76);
    assert_eq!(home.bench.counted(), ["one.pdf", "two.pdf"]);
    let unknown =
        home.bench.cmd("mail-loop").args(["history", "--json", "--is", "unknown"]).run().ok().json();
    assert_eq!(unknown.len(), 1);
}

#[test]
fn a_second_signal_ends_it_at_once_with_what_it_runs() {
    let home = Home::new("run");
    home.bench.write("count", SLOW);
    home.bench.deliver_pdf("one");
    let run = home.run();
    until("the command runs", || !home.bench.counted().is_empty());
    let begun = Instant::now();
    run.signal(Signal::TERM);
    // Signals of the same number would melt into one.
    run.signal(Signal::INT);
    assert!(run.wait().signal.is_some());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    until("the command is gone", || !command_lives(&home));
}

#[test]
fn usr1_looks_at_once() {
    let home = Home::new("print");
    // What is named by a pattern is looked at every five minutes.
    home.edit(|text| text.replace("maildir =", "mailboxes = [\"INBOX\", \"Li*\"]\nmaildir ="));
    home.bench.deliver_pdf("one");
    let mut run = home.run();
    assert!(run.line().ends_with("/in/one.pdf"));
    home.bench.deliver_pdf("two");
    assert!(run.line().ends_with("/in/two.pdf"));
    home.bench.deliver_pdf("three");
    assert!(run.line().ends_with("/in/three.pdf"));
    let school = home.bench.path("server/me@by.example");
    for inner in ["tmp", "cur", "new"] {
        std::fs::create_dir_all(school.join(".List").join(inner)).unwrap();
    }
    let there =
        std::fs::read_dir(school.join("cur")).unwrap().chain(std::fs::read_dir(school.join("new")).unwrap());
    let message = there.map(|entry| entry.unwrap().path()).find(|path| path.is_file()).unwrap();
    let text = std::fs::read_to_string(message).unwrap();
    let text = ["one", "two", "three"]
        .iter()
        .fold(text, |text, name| text.replace(&format!("{name}.pdf"), "four.pdf"));
    std::fs::write(school.join(".List/tmp/four"), text).unwrap();
    std::fs::rename(school.join(".List/tmp/four"), school.join(".List/new/four")).unwrap();
    run.signal(Signal::USR1);
    assert!(run.line().ends_with("/in/four.pdf"));
}

#[test]
fn hup_takes_a_new_configuration_and_keeps_the_old_one_where_it_is_wrong() {
    let home = Home::new("print");
    home.bench.deliver_pdf("one");
    let mut run = home.run();
    assert!(run.line().ends_with("/in/one.pdf"));
    let good = home.bench.read("home/.config/mailloop/config.toml");
    home.edit(|text| text + "nonsense = 1\n");
    run.signal(Signal::HUP);
    until("status says so", || home.says("the configuration was not taken"));
    assert_eq!(home.status(), 1);
    home.bench.deliver_pdf("two");
    assert!(run.line().ends_with("/in/two.pdf"), "the old one goes on");
    home.bench.write("home/.config/mailloop/config.toml", good);
    home.edit(|text| text.replace("\"{path}\"]", "\"--new\", \"{path}\"]"));
    run.signal(Signal::HUP);
    until("all is well", || home.status() == 0);
    home.bench.deliver_pdf("three");
    let line = run.line();
    assert!(line.contains(" --new ") && line.ends_with("/in/three.pdf"), "{line}");
    run.signal(Signal::TERM);
    assert_eq!(run.wait().signal, Some(15));
}

/// What is right to read may still be wrong to do: found out before anything is ended.
#[test]
fn hup_with_a_place_that_cannot_be_made_ends_nothing() {
    let home = Home::new("print");
    home.bench.deliver_pdf("one");
    let mut run = home.run();
    assert!(run.line().ends_with("/in/one.pdf"));
    let good = home.bench.read("home/.config/mailloop/config.toml");
    home.bench.write("home/file", "no directory");
    for (place, wrong) in [
        ("/Mail/school", "/file/school"),
        ("[loop.homework]", "[loop.x]\nwatch = \"~/file/x\"\n\n[loop.homework]"),
    ] {
        home.edit(|text| text.replace(place, wrong));
        run.signal(Signal::HUP);
        until("status says so", || home.says("the configuration was not taken"));
        home.bench.write("home/.config/mailloop/config.toml", &good);
        assert_eq!(home.status(), 1, "{}", home.bench.cmd("mail-loop").arg("status").run().shown());
        run.signal(Signal::HUP);
        until("all is well", || home.status() == 0);
    }
    home.bench.deliver_pdf("two");
    assert!(run.line().ends_with("/in/two.pdf"), "it goes on");
    let second = home.bench.cmd("mail-loop").arg("run").run().fails(75);
    assert!(second.err_text().contains("running already"), "{}", second.shown());
}

#[test]
fn a_changed_password_stops_its_account_alone_until_hup() {
    let home = Home::new("print");
    let secret = home.bench.write("other", "secret\n");
    home.edit(|text| {
        let (account, rest) = text.split_once("[[rule]]").unwrap();
        let other = account
            .replace("account.school", "account.office")
            .replace("me@by.example", "you@by.example")
            .replace("/Mail/school", "/Mail/office")
            .replace(&home.bench.path("password").display().to_string(), &secret.display().to_string());
        let second = rest[rest.find("[loop.homework]").unwrap()..]
            .replace("loop.homework", "loop.work")
            .replace("account = \"school\"", "account = \"office\"")
            .replace("/in\"", "/work\"");
        format!("{account}{other}[[rule]]{rest}{second}")
    });
    home.bench.deliver_pdf("one");
    let mut run = home.run();
    assert!(run.line().ends_with("/in/one.pdf"));
    until("both live", || home.status() == 0);
    home.bench.write("other", "guess\n");
    run.signal(Signal::HUP);
    until("one is down", || home.says("account office: given up"));
    assert_eq!(home.status(), 2);
    let health: Vec<_> = home.json().iter().map(|one| one["health"].as_str().map(String::from)).collect();
    assert_eq!(health[..2], [Some("ok".into()), Some("down".into())]);
    home.bench.deliver_pdf("two");
    assert!(run.line().ends_with("/in/two.pdf"), "the other goes on");
    home.bench.write("other", "secret\n");
    run.signal(Signal::HUP);
    until("both live again", || home.status() == 0);
}
