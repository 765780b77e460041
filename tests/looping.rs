//! mail-loop: init, once, run, status, history.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::bench::{Bench, Running, Server};

mod drill;
mod health;
mod jump;
mod kills;
mod probe;
mod signals;
mod soak;
mod steps;
mod watching;

/// Waits until it is so; a minute is too long.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within a minute");
        std::thread::yield_now();
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Home {
    bench: Bench,
    server: Server,
}

impl Home {
    fn new(act: &str) -> Home {
        let bench = Bench::new();
        let server = bench.sandbox();
        bench.configure("me@by.example", &server.smtp, &server.imap, act, "");
        Home { bench, server }
    }

    fn run(&self) -> Running {
        self.bench.cmd("mail-loop").arg("run").spawn()
    }

    /// Rewrites the configuration.
    fn edit(&self, change: impl FnOnce(String) -> String) {
        let config = "home/.config/mailloop/config.toml";
        let text = String::from_utf8(self.bench.read(config)).unwrap();
        self.bench.write(config, change(text));
    }

    fn says(&self, words: &str) -> bool {
        self.bench.cmd("mail-loop").arg("status").run().out_text().contains(words)
    }

    fn json(&self) -> Vec<serde_json::Value> {
        self.bench.cmd("mail-loop").args(["status", "--json"]).run().json()
    }

    fn status(&self) -> i32 {
        let ran = self.bench.cmd("mail-loop").arg("status").run();
        ran.status.unwrap_or_else(|| panic!("{}", ran.shown()))
    }
}

#[test]
fn once_runs_each_command_once() {
    let home = Home::new("run");
    home.bench.deliver_pdf("one");
    home.bench.deliver_pdf("two");
    assert_eq!(home.status(), 2, "it never ran");
    home.bench.cmd("mail-loop").arg("once").run().ok();
    assert_eq!(home.bench.counted(), ["one.pdf", "two.pdf"]);
    assert_eq!(home.status(), 0);
    home.bench.cmd("mail-loop").arg("once").run().ok();
    assert_eq!(home.bench.counted(), ["one.pdf", "two.pdf"]);
    let history = home.bench.cmd("mail-loop").args(["history", "--json"]).run().ok().json();
    assert_eq!(history.len(), 2);
    assert!(history.iter().all(|entry| entry["state"] == "done" && entry["rule"] == "print"));
    assert_eq!(home.bench.cmd("mail-loop").args(["history", "--last", "1"]).run().ok().lines().len(), 1);
}

#[test]
fn print_shows_each_command_once() {
    let home = Home::new("print");
    home.bench.deliver_pdf("one");
    let shown = home.bench.cmd("mail-loop").arg("once").run().ok().lines();
    assert_eq!(shown.len(), 1);
    assert!(shown[0].ends_with("/in/one.pdf"), "{shown:?}");
    assert!(home.bench.cmd("mail-loop").arg("once").run().ok().lines().is_empty());
    assert!(home.bench.counted().is_empty());
}

#[test]
fn what_an_earlier_run_left_is_taken_up() {
    let home = Home::new("run");
    home.bench.deliver_pdf("one");
    home.bench.cmd("mail-fetch").arg("school").run().ok();
    home.bench.deliver_pdf("two");
    home.bench.sh("mail-fetch school | mail-dissect -C ~/in").run().ok();
    home.bench.cmd("mail-loop").arg("once").run().ok();
    assert_eq!(home.bench.counted(), ["one.pdf", "two.pdf"]);
}

#[test]
fn older_mail_is_fetched_but_not_acted_on() {
    let bench = Bench::new();
    let server = bench.sandbox();
    bench.configure("me@by.example", &server.smtp, &server.imap, "run", "start = 2999-01-01T00:00:00Z");
    bench.deliver_pdf("one");
    bench.cmd("mail-loop").arg("once").run().ok();
    assert!(bench.path("home/in/one.pdf").is_file());
    assert!(bench.counted().is_empty());
}

#[test]
fn run_acts_at_once_and_ends_when_asked() {
    let home = Home::new("print");
    home.bench.deliver_pdf("one");
    let mut run = home.bench.cmd("mail-loop").arg("run").spawn();
    assert!(run.line().ends_with("/in/one.pdf"));
    // `every` is five minutes: only the server's word can bring this one within the test's time.
    home.bench.deliver_pdf("two");
    assert!(run.line().ends_with("/in/two.pdf"));
    assert_eq!(home.status(), 0);
    let second = home.bench.cmd("mail-loop").arg("run").run().fails(75);
    assert!(second.err_text().contains("running already"), "{}", second.shown());
    run.signal(Signal::TERM);
    assert_eq!(run.wait().signal, Some(15));
    assert_eq!(home.status(), 2, "its process is gone");
}

#[test]
fn run_outlives_the_server() {
    let home = Home::new("print");
    home.bench.deliver_pdf("one");
    let mut run = home.bench.cmd("mail-loop").arg("run").spawn();
    assert!(run.line().ends_with("/in/one.pdf"));
    let port = |url: &str| url.rsplit(':').next().unwrap().to_owned();
    let (imap, smtp) = (port(&home.server.imap), port(&home.server.smtp));
    home.server.kill();
    drop(home.server);
    home.bench.deliver_pdf("two");
    let words =
        ["-C", "server", "--user", "me@by.example:secret", "--imap-port", &imap, "--smtp-port", &smtp];
    let again = home.bench.cmd("mail-sandbox").args(words).spawn();
    assert!(run.line().ends_with("/in/two.pdf"));
    run.signal(Signal::INT);
    assert_eq!(run.wait().signal, Some(2));
    again.kill();
    again.wait();
}

#[test]
fn a_refused_login_ends_it_with_77() {
    let home = Home::new("print");
    home.bench.write("password", "guess\n");
    home.bench.cmd("mail-loop").arg("run").run().fails(77).err_has("given up");
    home.bench.cmd("mail-loop").arg("once").run().fails(77);
    let status = home.bench.cmd("mail-loop").arg("status").run().fails(2);
    assert!(status.out_text().contains("never answered"), "{}", status.shown());
}

#[test]
fn a_failed_action_degrades_the_status() {
    let home = Home::new("run");
    home.bench.deliver_pdf("one");
    home.bench.write("count", "#!/bin/sh\nexit 3\n");
    home.bench.cmd("mail-loop").arg("once").run().fails(69);
    assert_eq!(home.status(), 1);
    let status = home.bench.cmd("mail-loop").args(["status", "--json"]).run().fails(1).json();
    assert_eq!((status[0]["health"].as_str(), status[1]["failed"].as_u64()), (Some("degraded"), Some(1)));
    // Repaired and done again, it is well.
    home.bench.write("count", "#!/bin/sh\nexit 0\n");
    home.bench.cmd("mail-act").args(["--pending", "home/in", "--run", "--again"]).run().ok();
    home.bench.cmd("mail-loop").arg("once").run().ok();
    assert_eq!(home.status(), 0);
}

#[test]
fn what_is_given_up_degrades_the_status_until_somebody_decides() {
    let home = Home::new("run");
    let config = home.bench.path("home/.config/mailloop/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replacen("[[rule]]", "[[rule]]\ntries = 1", 1)).unwrap();
    home.bench.deliver_pdf("one");
    home.bench.write("count", "#!/bin/sh\nexit 75\n");
    home.bench.cmd("mail-loop").arg("once").run().fails(75).err_has("given up after 1 tries");
    assert_eq!(home.status(), 1);
    let status = home.bench.cmd("mail-loop").args(["status", "--json"]).run().fails(1).json();
    assert_eq!(status[1]["dead"], 1);
    home.bench.write("count", "#!/bin/sh\nexit 0\n");
    home.bench.cmd("mail-loop").arg("once").run().ok();
    assert_eq!(home.status(), 1, "it stays dead unasked");
    home.bench.cmd("mail-loop").args(["retry", "--is", "dead"]).run().ok();
    home.bench.cmd("mail-loop").arg("once").run().ok();
    assert_eq!(home.status(), 0);
    let done = home.bench.cmd("mail-loop").args(["history", "--json", "--is", "done"]).run().ok().json();
    assert_eq!(done.len(), 1);
}

#[test]
fn a_removed_file_is_no_trouble() {
    let home = Home::new("run");
    home.bench.deliver_pdf("one");
    home.bench.sh("mail-fetch school | mail-dissect -C ~/in; rm ~/in/one.pdf").run().ok();
    home.bench.cmd("mail-loop").arg("once").run().ok().err_has("it was removed");
    let again = home.bench.cmd("mail-loop").arg("once").run().ok();
    assert!(again.err.is_empty(), "{}", again.shown());
    assert_eq!(home.status(), 0);
}

#[test]
fn what_others_can_write_to_is_refused() {
    let home = Home::new("print");
    home.bench.cmd("mail-loop").arg("once").run().ok();
    let open = |rel: &str| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(home.bench.path(rel), mode).unwrap();
    };
    open("home/.local/state/mailloop");
    for what in ["once", "status", "history"] {
        home.bench.cmd("mail-loop").arg(what).run().fails(78).err_has("written to by others");
    }
    open("home/.config/mailloop");
    home.bench.sh("cd ~/.config/mailloop; mail-fetch -c config.toml school").run().fails(78);
}

#[test]
fn a_command_killed_with_its_loop_is_unknown_and_not_repeated() {
    let home = Home::new("run");
    home.bench.deliver_pdf("one");
    let script = "#!/bin/sh\nprintf '%s\\n' \"$1\" >> \"$(dirname \"$0\")/counted\"\nexec sleep 600\n";
    home.bench.write("count", script);
    let run = home.bench.cmd("mail-loop").arg("once").spawn();
    home.bench.sh("until [ -s counted ]; do :; done").run().ok();
    run.kill();
    run.wait();
    let again = home.bench.cmd("mail-loop").arg("once").run().fails(76);
    assert!(again.err_text().contains("nobody knows whether it was done"), "{}", again.shown());
    assert_eq!(home.bench.counted(), ["one.pdf"]);
    assert_eq!(home.status(), 1);
}

#[test]
fn init_asks_for_what_it_cannot_know() {
    let bench = Bench::new();
    let ran = bench.cmd("mail-loop").arg("init").stdin("me@gmail.com\n\n").run().ok();
    let file = ran.lines().remove(0);
    assert!(file.ends_with("/home/.config/mailloop/config.toml"), "{file}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("imaps://imap.gmail.com") && text.contains("act     = \"print\""), "{text}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    bench.cmd("mail-loop").arg("init").stdin("me@gmail.com\n\n").run().fails(73).err_has("there already");
    bench.cmd("mail-loop").args(["init", "-c", "x.toml"]).stdin("nobody\n").run().fails(64);
    assert!(!bench.path("x.toml").exists());
}

#[test]
fn bad_configurations_are_told_with_their_place() {
    let bench = Bench::new();
    let config = "home/.config/mailloop/config.toml";
    bench.cmd("mail-loop").arg("once").run().fails(78).err_has("mail-loop init");
    bench.cmd("mail-loop").args(["once", "-c", "nowhere.toml"]).run().fails(66);
    bench.write(config, "[loop.x]\naccount = \"x\"\nfiles = \"f\"\nevry = \"5m\"\n");
    bench.cmd("mail-loop").arg("once").run().fails(78).err_has("line 4, column 1");
    bench.write(config, "[account.x]\nimap = \"imaps://x\"\npassword = \"hunter2\"\nmaildir = \"m\"\n");
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(bench.path(config), mode(0o644)).unwrap();
    let refused = bench.cmd("mail-fetch").arg("x").run().fails(78).err_has("can be read by others");
    assert!(!refused.err_text().contains("hunter2"));
    std::fs::set_permissions(bench.path(config), mode(0o666)).unwrap();
    bench.cmd("mail-fetch").arg("x").run().fails(78).err_has("written to by others");
    bench.write(
        config,
        "[[rule]]\nname = \"p\"\nrun = [\"lp\"]\nauthenticated = true\n[auth]\ndkim = false\n",
    );
    std::fs::set_permissions(bench.path(config), mode(0o600)).unwrap();
    bench.cmd("mail-act").arg("--check").run().fails(78).err_has("line 1, column 1");
    bench.cmd("mail-act").arg("x.pdf").run().fails(78).err_has("line 1, column 1");
}

#[test]
fn where_there_is_no_loop_nothing_is_well() {
    let bench = Bench::new();
    bench.cmd("mail-loop").arg("status").run().fails(78).err_has("no [loop.NAME]");
}
