//! Loops that start from a directory.

use std::io::Write;
use std::time::{Duration, SystemTime};

use mailloop::store::ledger::{End, Ledger, State};

use super::until;
use crate::bench::{Bench, Running, base64_lines, pdf};

/// A loop that watches `home/drop`; `more` goes into it.
fn watching(more: &str) -> Bench {
    let bench = Bench::new();
    let text = format!(
        "[[rule]]\nname = \"print\"\ntype = \"application/pdf\"\nrun = [\"lp\", \"{{path}}\"]\n\n[loop.scans]\nwatch = \
         \"~/drop\"\nact = \"print\"\n{more}\n"
    );
    bench.write("home/.config/mailloop/config.toml", text);
    std::fs::create_dir(bench.path("home/drop")).unwrap();
    bench
}

fn run(bench: &Bench) -> Running {
    let run = bench.cmd("mail-loop").arg("run").spawn();
    until("it lives", || bench.cmd("mail-loop").arg("status").run().status == Some(0));
    run
}

/// A file that was there for long.
fn old(bench: &Bench, name: &str) {
    let path = bench.write(&format!("home/drop/{name}"), pdf(name));
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
}

#[test]
fn what_is_whole_is_acted_on_once() {
    let bench = watching("");
    old(&bench, "before.pdf");
    let mut run = run(&bench);
    assert!(run.line().ends_with("/drop/before.pdf"));
    // Nobody takes what is being written, or what its name says is not finished.
    let mut slow = std::fs::File::create(bench.path("home/drop/slow.pdf")).unwrap();
    let bytes = pdf("slow");
    slow.write_all(&bytes[..100]).unwrap();
    bench.write("home/drop/part.pdf.part", "half of it");
    bench.write("home/drop/.hidden.pdf", pdf("hidden"));
    bench.write("aside", pdf("moved"));
    std::fs::rename(bench.path("aside"), bench.path("home/drop/moved.pdf")).unwrap();
    assert!(run.line().ends_with("/drop/moved.pdf"));
    slow.write_all(&bytes[100..]).unwrap();
    drop(slow);
    assert!(run.line().ends_with("/drop/slow.pdf"));
    // The same under another name, and touched, is the same; new bytes under an old name are not.
    std::fs::rename(bench.path("home/drop/slow.pdf"), bench.path("home/drop/again.pdf")).unwrap();
    std::fs::File::options().append(true).open(bench.path("home/drop/moved.pdf")).unwrap();
    bench.write("home/drop/moved.pdf", pdf("other"));
    assert!(run.line().ends_with("/drop/moved.pdf"));
    run.signal(rustix::process::Signal::TERM);
    let ran = run.wait();
    assert_eq!((ran.signal, ran.lines().len()), (Some(15), 4), "{}", ran.shown());
    std::fs::rename(bench.path("home/drop/part.pdf.part"), bench.path("home/drop/x.txt")).unwrap();
    let again = bench.cmd("mail-loop").arg("once").run().ok();
    assert!(again.out.is_empty(), "{}", again.shown());
}

#[test]
fn messages_are_taken_apart_where_there_is_a_place_for_files() {
    let bench = watching("files = \"~/in\"");
    let mut run = run(&bench);
    let body = base64_lines(&pdf("inside"));
    let text = format!(
        "From: you@by.example\r\nSubject: x\r\nContent-Type: application/pdf; name=\"inside.pdf\"\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{body}"
    );
    bench.write("home/drop/letter.eml", text);
    assert!(run.line().ends_with("/in/inside.pdf"));
    bench.write("home/drop/plain.pdf", pdf("plain"));
    assert!(run.line().ends_with("/drop/plain.pdf"));
    drop(run);
    // Its files must lie elsewhere, or they would be taken for what was laid there.
    let bad = watching("files = \"~/drop\"");
    bad.cmd("mail-loop").arg("once").run().fails(78).err_has("two directories");
}

#[test]
fn a_directory_without_the_kernels_word_is_read() {
    let bench = watching("poll = \"100ms\"");
    let mut run = run(&bench);
    bench.write("home/drop/a.pdf", pdf("a"));
    assert!(run.line().ends_with("/drop/a.pdf"));
    old(&bench, "b.pdf");
    assert!(run.line().ends_with("/drop/b.pdf"));
}

/// MAILLOOP_DROPS files at once; the kernel's queue holds 16384 events, ours 4096 names.
#[test]
fn many_files_at_once_are_all_handled() {
    let many: usize = std::env::var("MAILLOOP_DROPS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let bench = watching("");
    let mut run = run(&bench);
    for n in 0..many {
        bench.write(&format!("home/drop/{n}.pdf"), pdf(&n.to_string()));
    }
    let mut lines: Vec<String> = (0..many).map(|_| run.line()).collect();
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), many);
    run.signal(rustix::process::Signal::TERM);
    assert_eq!(run.wait().lines().len(), many, "none twice");
    let history = bench.cmd("mail-loop").args(["history", "--json"]).run().ok().lines();
    assert_eq!(history.len(), many);
}

#[test]
fn a_directory_that_goes_is_told_and_taken_up_again() {
    let bench = watching("poll = \"100ms\"");
    let mut run = run(&bench);
    let (dir, aside) = (bench.path("home/drop"), bench.path("home/gone"));
    std::fs::rename(&dir, &aside).unwrap();
    bench.write("home/drop", "a file in its place");
    until("it is told", || {
        let ran = bench.cmd("mail-loop").arg("status").run();
        ran.status == Some(1) && ran.out_text().contains("drop")
    });
    std::fs::remove_file(&dir).unwrap();
    std::fs::rename(&aside, &dir).unwrap();
    old(&bench, "late.pdf");
    run.signal(rustix::process::Signal::USR1);
    assert!(run.line().ends_with("/drop/late.pdf"));
}

#[test]
fn what_is_held_is_said_once_not_at_every_look() {
    let bench = watching("poll = \"20ms\"");
    let config = "home/.config/mailloop/config.toml";
    let text = String::from_utf8(bench.read(config)).unwrap();
    let other =
        "[[rule]]\nname = \"words\"\ntype = \"text/plain\"\nrun = [\"cat\", \"{path}\"]\n\n[loop.scans]";
    let text = text.replace("\"application/pdf\"\n", "\"application/pdf\"\nmax_per_hour = 1\n");
    bench.write(config, text.replace("[loop.scans]", other));
    ["a.pdf", "b.pdf", "c.pdf", "d.pdf"].iter().for_each(|name| old(&bench, name));
    let mut run = run_held(&bench);
    assert!(run.line().ends_with("/drop/a.pdf"));
    // Each of these is a look of its own at the directory, and some are at all that waits.
    for n in 0..6 {
        let path = bench.write(&format!("home/drop/{n}.txt"), n.to_string());
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        if n % 2 == 0 {
            run.signal(rustix::process::Signal::USR1);
        }
        assert!(run.line().ends_with(&format!("/drop/{n}.txt")));
    }
    run.signal(rustix::process::Signal::TERM);
    let ran = run.wait();
    for name in ["b.pdf", "c.pdf", "d.pdf"] {
        let lines = ran.err_text().lines().filter(|line| line.contains(name)).count();
        assert!(lines <= 1, "{}", ran.shown());
    }
    assert!(ran.err_text().contains("due again at"), "{}", ran.shown());
    let held = bench.cmd("mail-loop").args(["history", "--is", "held"]).run().ok().lines();
    assert_eq!(held.len(), 3);
}

#[test]
fn what_is_held_again_is_not_forgotten() {
    let bench = watching("poll = \"20ms\"");
    let config = "home/.config/mailloop/config.toml";
    let text = String::from_utf8(bench.read(config)).unwrap();
    bench.write(config, text.replace("\"application/pdf\"\n", "\"application/pdf\"\nmax_per_hour = 1\n"));
    ["a.pdf", "b.pdf"].iter().for_each(|name| old(&bench, name));
    let mut run = run_held(&bench);
    assert!(run.line().ends_with("/drop/a.pdf"));
    let state = bench.path("home/.local/state/mailloop");
    let mut ledger = Ledger::open(&state, Duration::from_secs(10)).unwrap();
    let lines = || bench.read("home/.local/state/mailloop/act/ledger").split(|byte| *byte == b'\n').count();
    let due = || End { next: Some(jiff::Timestamp::now()), ..End::of(State::Held) };
    // Its time comes, and there is still no room.
    ledger.by_hand(2, due()).unwrap();
    let before = lines();
    until("it is held again", || {
        run.signal(rustix::process::Signal::USR1);
        lines() > before
    });
    std::fs::remove_file(bench.path("home/drop/a.pdf")).unwrap();
    ledger.by_hand(1, End::of(State::Free)).unwrap();
    ledger.by_hand(2, due()).unwrap();
    run.signal(rustix::process::Signal::USR1);
    assert!(run.line().ends_with("/drop/b.pdf"));
}

/// What is held degrades it.
fn run_held(bench: &Bench) -> Running {
    let run = bench.cmd("mail-loop").arg("run").spawn();
    until("it lives", || bench.cmd("mail-loop").arg("status").run().status == Some(1));
    run
}
