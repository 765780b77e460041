//! mail-act's memory through the binary: what is given up is told in a mailbox, what is held is seen, many commands are
//! claimed together; and the process killed at any moment.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bench::{Bench, Cmd, pdf};

struct Desk(Bench);

impl Desk {
    /// Rules, and a command that fails for now.
    fn new(rules: &str) -> Desk {
        let desk = Desk(Bench::new());
        desk.0.write("config.toml", rules);
        desk.script("busy", "#!/bin/sh\necho x >>count\necho \"no paper\" >&2\nexit 75\n");
        desk.script("counter", "#!/bin/sh\nprintf '%s\\n' \"$1\" >>count\n");
        desk
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.0.write(name, text);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(path, mode).unwrap();
    }

    /// So many PDFs in `in`; gives their paths.
    fn pdfs(&self, many: usize) -> Vec<String> {
        let path = |n| format!("in/{n:04}.pdf");
        for n in 0..many {
            self.0.write(&path(n), pdf(&n.to_string()));
        }
        (0..many).map(path).collect()
    }

    fn act(&self, words: &[&str]) -> Cmd {
        self.0.cmd("mail-act").args(["-c", "config.toml"]).args(words)
    }

    fn history(&self, words: &[&str]) -> Vec<Value> {
        self.0.cmd("mail-loop").args(["-c", "config.toml", "history", "--json"]).args(words).run().ok().json()
    }

    fn hand(&self, words: &[&str]) -> Cmd {
        self.0.cmd("mail-loop").args(["-c", "config.toml"]).args(words)
    }

    fn count(&self) -> usize {
        std::fs::read_to_string(self.0.path("count")).unwrap_or_default().lines().count()
    }

    fn letters(&self, maildir: &str) -> Vec<PathBuf> {
        self.0.files(&format!("{maildir}/new"))
    }
}

#[test]
fn what_is_given_up_is_told_in_a_mailbox_once() {
    let desk = Desk::new(
        "dead_letters = 'Mail/dead'\n[[rule]]\nname = 'r'\ntries = 2\nrun = ['./busy', '{name}']\n",
    );
    desk.pdfs(1);
    let run = |words: &[&str], status| desk.act(&["in/0000.pdf", "--run"]).args(words).run().fails(status);
    run(&[], 75);
    assert!(!desk.0.path("Mail").exists());
    run(&["--again"], 75)
        .err_has("given up after 2 tries")
        .err_has("given up; the notice lies in Mail/dead/new/");
    let letters = desk.letters("Mail/dead");
    assert_eq!(letters.len(), 1);
    let text = String::from_utf8(desk.0.read(&format!("Mail/dead/new/{}", letters[0].display()))).unwrap();
    for wanted in [
        "Subject: Given up: 0000.pdf\r\n",
        "  rule     r\r\n",
        "  command  ./busy 0000.pdf\r\n",
        "  tries    2\r\n",
        "  | no paper\r\n",
        "mail-loop retry 2 ",
    ] {
        assert!(text.contains(wanted), "{wanted:?} not in\n{text}");
    }
    // Who deletes it has read it.
    std::fs::remove_file(desk.0.path("Mail/dead/new").join(&letters[0])).unwrap();
    run(&[], 0);
    assert!(desk.letters("Mail/dead").is_empty());
    // Asked for and given up again, it is another one.
    desk.hand(&["retry", "2"]).run().ok();
    run(&[], 75);
    run(&["--again"], 75);
    assert_eq!(desk.letters("Mail/dead").len(), 1);
}

#[test]
fn a_notice_that_cannot_be_left_is_left_by_a_later_run() {
    let desk = Desk::new("dead_letters = 'Mail/dead'\n[[rule]]\nname = 'r'\ntries = 1\nrun = ['./busy']\n");
    desk.pdfs(1);
    desk.0.write("Mail", "in the way");
    let run = || desk.act(&["in/0000.pdf", "--run"]).run();
    run().err_has("cannot leave a notice of claim 1");
    run().err_has("cannot leave a notice of claim 1");
    std::fs::remove_file(desk.0.path("Mail")).unwrap();
    run().ok();
    assert_eq!((desk.letters("Mail/dead").len(), desk.count()), (1, 1));
    run().ok();
    assert_eq!(desk.letters("Mail/dead").len(), 1);
}

#[test]
fn given_up_and_stopped_at_every_step_it_is_told_once_or_unknown() {
    let fresh = || {
        let desk = Desk::new("dead_letters = 'dead'\n[[rule]]\nname = 'r'\ntries = 1\nrun = ['./busy']\n");
        desk.pdfs(1);
        desk
    };
    let run = |desk: &Desk, env: &str, value: &str| desk.act(&["in/0000.pdf", "--run"]).env(env, value).run();
    let whole = fresh();
    run(&whole, "MAILLOOP_STEPS", whole.0.path("steps").to_str().unwrap());
    let steps = String::from_utf8(whole.0.read("steps")).unwrap().lines().count();
    assert_eq!(whole.letters("dead").len(), 1);
    for step in 1..=steps {
        for side in ["-", "+"] {
            let desk = fresh();
            run(&desk, "MAILLOOP_STOP", &format!("{step}{side}"));
            for _ in 0..2 {
                run(&desk, "LANG", "C");
            }
            let unknown = desk.history(&["--is", "unknown"]).len();
            let told = desk.letters("dead").len();
            assert_eq!((told + unknown, desk.count() <= 1), (1, true), "step {step}{side}");
        }
    }
}

#[test]
fn what_is_too_much_for_an_hour_is_seen_and_released_by_hand() {
    let desk = Desk::new("[[rule]]\nname = 'r'\nmax_per_hour = 2\nrun = ['./counter', '{name}']\n");
    let paths = desk.pdfs(5);
    let run = |status| desk.act(&["--run"]).args(&paths).run().fails(status);
    run(75).err_has("held: rule r may act 2 times an hour; due again at").err_has("3 files held");
    let held = desk.history(&["--is", "held"]);
    assert_eq!(held.len(), 3);
    let room = held[0]["next"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap() - jiff::Timestamp::now();
    assert!((3500.0..=3600.0).contains(&room.total(jiff::Unit::Second).unwrap()), "{held:?}");
    run(75);
    assert_eq!((desk.count(), desk.history(&[]).len()), (2, 5), "nothing is added for what stays held");
    desk.hand(&["retry", held[0]["number"].to_string().as_str()]).run().ok();
    desk.hand(&["forget", held[1]["number"].to_string().as_str()]).run().ok();
    run(75);
    assert_eq!((desk.count(), desk.history(&["--is", "held"]).len()), (3, 1));
}

#[test]
fn a_burst_of_commands_is_claimed_with_few_writes() {
    let desk = Desk::new("");
    let paths = desk.pdfs(300);
    let steps = desk.0.path("steps");
    let once =
        |words: &[&str]| desk.act(words).args(["--once", "--json", "--", "lp"]).env("MAILLOOP_STEPS", &steps);
    let ran = once(&[]).args(["in/0000.pdf"; 0]).stdin("").run().ok();
    assert!(ran.out.is_empty());
    let words: Vec<&str> = paths.iter().map(String::as_str).collect();
    let ran = once(&words).run().ok();
    assert_eq!(ran.json().len(), 300);
    let appends = String::from_utf8(desk.0.read("steps")).unwrap();
    let appends = appends.lines().filter(|line| line.ends_with("append")).count();
    assert_eq!(appends, 2, "one for each 256");
    assert_eq!(once(&words).run().ok().json().iter().filter(|one| one["state"] == "emitted").count(), 0);
    assert_eq!(desk.history(&["--is", "emitted"]).len(), 300);
}

#[test]
fn what_a_pipe_holds_is_claimed_together_and_nobody_waits_for_more() {
    let desk = Desk::new("");
    let paths = desk.pdfs(300);
    let steps = desk.0.path("steps");
    let once = desk.act(&["--once", "--", "lp"]).env("MAILLOOP_STEPS", &steps);
    assert_eq!(once.stdin(paths[..299].join("\n")).run().ok().lines().len(), 299);
    let appends = String::from_utf8(desk.0.read("steps")).unwrap();
    let appends = appends.lines().filter(|line| line.ends_with("append")).count();
    assert_eq!(appends, 2, "one for each 256");
    // A writer that sends nothing more before it has an answer gets one.
    let script = "mkfifo to from; mail-act --once -- lp <to >from & exec 7>to 8<from; \
                  for n in 0299 0000; do echo in/$n.pdf >&7; [ $n = 0000 ] || head -n 1 <&8; done; exec 7>&-; cat <&8; wait $!";
    assert_eq!(desk.0.sh(script).run().ok().lines(), ["lp ./in/0299.pdf"]);
}

#[test]
fn what_a_reader_that_left_did_not_get_is_free_again() {
    let desk = Desk::new("");
    let paths = desk.pdfs(200).join(" ");
    let shown = desk.0.sh(&format!("mail-act {paths} --once -- lp | head -n 1")).run().ok().lines().len();
    let (emitted, free) = (desk.history(&["--is", "emitted"]).len(), desk.history(&["--is", "free"]).len());
    assert_eq!((shown, emitted + free), (1, 200));
    let rest = desk.0.sh(&format!("mail-act {paths} --once -- lp")).run().ok().lines().len();
    assert_eq!(rest, free);
}

#[test]
fn commands_get_no_files_that_our_caller_left_open() {
    let desk = Desk::new("");
    desk.pdfs(1);
    desk.script("look", "#!/bin/sh\nls /proc/$$/fd >fds\n");
    desk.0.sh("exec 7<config.toml 9>lock; mail-act in/0000.pdf --run -- ./look").run().ok();
    let fds = String::from_utf8(desk.0.read("fds")).unwrap();
    let fds: Vec<&str> = fds.split_whitespace().collect();
    assert!(!fds.contains(&"7") && !fds.contains(&"9") && fds.contains(&"0"), "{fds:?}");
}

#[test]
fn a_word_about_a_state_means_what_stands_so_now() {
    let desk = Desk::new("");
    let paths = desk.pdfs(2);
    let run =
        |more: &[&str], path: &str| desk.act(&["--run"]).args(more).arg(path).args(["--", "./try"]).run();
    desk.script("try", "#!/bin/sh\nexit 1\n");
    run(&[], &paths[0]).fails(69);
    run(&[], &paths[1]).fails(69);
    desk.script("try", "#!/bin/sh\nexit 0\n");
    run(&["--again"], &paths[0]).ok();
    // The first stands as done now, though an older claim of it failed.
    let said = desk.hand(&["retry", "--is", "failed"]).run().ok().err_text();
    assert!(said.contains("claim 2: due") && !said.contains("claim 1"), "{said}");
    desk.hand(&["retry", "1"]).run().fails(64).err_has("of the same thing and newer");
    run(&[], &paths[1]).ok();
    desk.hand(&["retry", "--is", "failed"]).run().fails(64).err_has("no claim is meant");
}

#[test]
fn what_a_wordy_command_said_last_is_kept() {
    let desk = Desk::new("");
    desk.script(
        "wordy",
        "#!/bin/sh\necho first\nhead -c 300000 /dev/zero | tr '\\0' x\necho\necho 'no paper' >&2\nexit 1\n",
    );
    let path = desk.pdfs(1).remove(0);
    desk.act(&["--run", &path]).args(["--", "./wordy"]).run().fails(69).err_has("no paper");
    let lines = desk.hand(&["history", "--output", "1"]).run().ok().lines();
    assert_eq!((lines[0].as_str(), lines.last().unwrap().as_str()), ("first", "no paper"));
    assert!(lines.contains(&"[cut here]".to_string()));
}

#[test]
fn a_damaged_ledger_is_an_error_and_nothing_is_done() {
    let desk = Desk::new("");
    let paths = desk.pdfs(3);
    let run = || desk.act(&["--run"]).args(&paths).args(["--", "./counter"]).run();
    run().ok();
    let file = "home/.local/state/mailloop/act/ledger";
    let good = desk.0.read(file);
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 0x80;
    // With its index it still knows what was done; without it nobody does.
    desk.0.write(file, &bad);
    run().ok();
    std::fs::remove_file(desk.0.path("home/.local/state/mailloop/act/rows")).unwrap();
    for _ in 0..2 {
        run().fails(74).err_has("of the ledger");
    }
    assert_eq!(desk.count(), 3);
    // A last line that was cut short is taken off, and said.
    desk.0.write(file, [&good[..], b"{\"do\":\"claim\",\"v\":1"].concat());
    run().ok().err_has("took off 19 bytes");
    assert!(run().ok().err.is_empty());
    assert_eq!((desk.count(), desk.0.read(file)), (3, good));
}

/// How often the drill kills; more where `MAILLOOP_KILLS` says so.
fn kills() -> u64 {
    std::env::var("MAILLOOP_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(8)
}

#[test]
fn killed_at_any_moment_each_is_done_once_or_unknown() {
    const FILES: usize = 6;
    let desk = Desk::new("[[rule]]\nname = 'r'\nrun = ['./counter', '{name}']\n");
    let started = Instant::now();
    let paths = desk.pdfs(FILES);
    let run = |desk: &Desk| desk.act(&["--run"]).args(&paths).spawn();
    run(&desk).wait().ok();
    let whole = started.elapsed().as_micros() as u64;
    let (mut seed, mut unknown_in_all, mut hit) =
        (0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(std::process::id()), 0, 0);
    for kill in 0..kills() {
        let state = desk.0.path("home/.local");
        std::fs::remove_dir_all(&state).unwrap();
        let _ = std::fs::remove_file(desk.0.path("count"));
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Duration::from_micros((seed >> 33) % whole);
        let begun = Instant::now();
        let running = run(&desk);
        while begun.elapsed() < moment {
            std::hint::spin_loop();
        }
        running.kill();
        hit += usize::from(running.wait().signal == Some(9));
        // A child that has not become its command yet holds what tells that somebody lives.
        while !desk.history(&["--is", "claimed"]).is_empty() {
            std::thread::yield_now();
        }
        // What ran when it was killed may run on; its line comes before the lock on nothing, so look until it is quiet.
        let after = desk.act(&["--run"]).args(&paths).run();
        let unknown = desk.history(&["--is", "unknown"]).len();
        assert_eq!(after.status, Some(if unknown > 0 { 76 } else { 0 }), "kill {kill}: {}", after.shown());
        let quiet = Instant::now();
        let lines = loop {
            let text = std::fs::read_to_string(desk.0.path("count")).unwrap_or_default();
            let mut lines: Vec<String> = text.lines().map(String::from).collect();
            lines.sort();
            if lines.len() == FILES
                || quiet.elapsed() > Duration::from_millis(if unknown > 0 { 30 } else { 5000 })
            {
                break lines;
            }
            std::thread::yield_now();
        };
        let mut each = lines.clone();
        each.dedup();
        assert_eq!(each, lines, "kill {kill} after {moment:?}: twice");
        assert!(
            unknown <= 1 && lines.len() + unknown >= FILES,
            "kill {kill} after {moment:?}: {lines:?}, {unknown} unknown"
        );
        unknown_in_all += unknown;
    }
    eprintln!(
        "{} kills, {hit} of them before the end, {unknown_in_all} unknown, none twice, none lost",
        kills()
    );
}

#[test]
fn many_processes_claim_each_once() {
    let desk = Desk::new("");
    let paths = desk.pdfs(60);
    let input = paths.join("\n");
    let run = || desk.act(&["--once", "--", "lp"]).stdin(&input).spawn();
    let running: Vec<_> = (0..4).map(|_| run()).collect();
    let mut shown: Vec<String> = running.into_iter().flat_map(|each| each.wait().ok().lines()).collect();
    shown.sort();
    let mut once = shown.clone();
    once.dedup();
    assert_eq!((shown.len(), once.len()), (60, 60));
    assert_eq!(desk.history(&["--is", "emitted"]).len(), 60);
    assert_eq!(desk.history(&["--last", "1"])[0]["rule"], json!(desk.history(&[])[0]["rule"]));
}

#[test]
fn a_loop_says_what_is_unknown_once() {
    let bench = Bench::new();
    let server = bench.sandbox();
    bench.configure("me@by.example", &server.smtp, &server.imap, "run", "");
    let quick = String::from_utf8(bench.read("count")).unwrap();
    bench.deliver_pdf("one");
    bench.write("count", format!("{quick}exec sleep 600\n"));
    let wait_for = |many: usize| {
        bench.sh(&format!("until [ -e counted ] && [ $(wc -l <counted) -ge {many} ]; do :; done")).run().ok();
    };
    let killed = bench.cmd("mail-loop").arg("once").spawn();
    wait_for(1);
    killed.kill();
    killed.wait();
    bench.write("count", &quick);
    let run = bench.cmd("mail-loop").arg("run").spawn();
    for (many, name) in [(2, "two"), (3, "three"), (4, "four")] {
        bench.deliver_pdf(name);
        wait_for(many);
    }
    let history =
        |words: &[&str]| bench.cmd("mail-loop").args(["history", "--json"]).args(words).run().ok().json();
    assert_eq!(history(&["--is", "unknown"]).len(), 1);
    assert_eq!(bench.counted(), ["four.pdf", "one.pdf", "three.pdf", "two.pdf"]);
    run.signal(rustix::process::Signal::TERM);
    let ran = run.wait();
    assert_eq!(ran.err_text().matches("nobody knows").count(), 1, "{}", ran.shown());
}
