//! Many messages through one process: none is lost, none comes twice, and memory stays where it is.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use rustix::process::Signal;

use super::Home;
use crate::bench::{Bench, Running, base64_lines, pdf};

/// So many are laid there together.
const TOGETHER: usize = 250;
/// What the process may hold, in KiB.
const MOST: u64 = 48 * 1024;
/// By how much the last quarter may lie above the one before it, in KiB: what an allocator keeps varies.
const GROWTH: u64 = 1024;

/// What a process holds at a moment, and the most that it ever held, in KiB.
#[derive(Clone, Copy)]
struct Held {
    all: u64,
    own: u64,
    most: u64,
}

impl Held {
    fn by(pid: i32) -> Held {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
        };
        Held { all: of("VmRSS"), own: of("RssAnon"), most: of("VmHWM") }
    }
}

/// The commands that the loop shows, in a file: a pipe's reader would keep all of them.
struct Shown {
    lines: BufReader<File>,
    names: Vec<bool>,
    count: usize,
}

impl Shown {
    fn of(path: PathBuf, most: usize) -> Shown {
        let lines = BufReader::new(File::open(path).unwrap());
        Shown { lines, names: vec![false; most], count: 0 }
    }

    /// Takes what came; each number once.
    fn take(&mut self) -> usize {
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            // Half a line: the rest is still to come.
            if !line.ends_with('\n') {
                self.lines.seek_relative(-(line.len() as i64)).unwrap();
                break;
            }
            let name = line.trim_end().trim_end_matches('\'').rsplit('/').next().unwrap();
            let number: usize = name.trim_end_matches(".pdf").trim_start_matches("hw").parse().unwrap();
            assert!(!std::mem::replace(&mut self.names[number], true), "{number} was shown twice");
            self.count += 1;
            line.clear();
        }
        self.count
    }
}

fn deliver(bench: &Bench, number: usize) {
    let body = base64_lines(&pdf(&number.to_string()));
    let text = format!(
        "From: you@by.example\r\nTo: me@by.example\r\nSubject: homework {number}\r\nMIME-Version: 1.0\r\nContent-Type: \
         application/pdf; name=\"hw{number}.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\n{body}"
    );
    let (tmp, new) = (
        bench.path("server/me@by.example/tmp/hw"),
        bench.path(&format!("server/me@by.example/new/{number}")),
    );
    std::fs::write(&tmp, text).unwrap();
    std::fs::rename(tmp, new).unwrap();
}

/// A loop for which so many lie there.
fn start(home: &Home, many: usize) -> Running {
    for place in ["new", "tmp", "cur"] {
        std::fs::create_dir_all(home.bench.path(&format!("server/me@by.example/{place}"))).unwrap();
    }
    (0..many).for_each(|number| deliver(&home.bench, number));
    home.bench.write("shown", "");
    home.bench.sh("exec mail-loop run >shown").timeout(24 * 3600).spawn()
}

/// MAILLOOP_SOAK, or a few hundred.
fn many() -> usize {
    std::env::var("MAILLOOP_SOAK").ok().and_then(|n| n.parse().ok()).unwrap_or(500)
}

/// Waits until so many are shown, as long as that goes on; a minute without any is too long.
fn all_shown(shown: &mut Shown, wanted: usize, each: &mut dyn FnMut()) {
    while shown.count < wanted {
        let before = shown.count;
        super::until("more of them are shown", || {
            each();
            shown.take() > before
        });
    }
}

/// All of it lies there at the start, and again at the next.
#[test]
fn what_lies_there_at_the_start_takes_little_room() {
    let many = many();
    let home = Home::new("print");
    let run = start(&home, many);
    let mut shown = Shown::of(home.bench.path("shown"), many + 1);
    all_shown(&mut shown, many, &mut || {});
    let first = Held::by(run.pid()).most;
    run.signal(Signal::TERM);
    run.wait();
    deliver(&home.bench, many);
    let again = home.bench.sh("exec mail-loop run >>shown").timeout(24 * 3600).spawn();
    all_shown(&mut shown, many + 1, &mut || {});
    let second = Held::by(again.pid()).most;
    eprintln!(
        "{many} messages at the start: at most {first} KiB; with what is done long since, {second} KiB"
    );
    assert!(first.max(second) < MOST, "{first} KiB, {second} KiB");
}

/// MAILLOOP_SOAK messages one batch after the other, with MAILLOOP_SOAK_LOG=FILE a line for each.
#[test]
fn memory_does_not_grow_with_the_messages() {
    let many = many();
    let home = Home::new("print");
    let run = start(&home, 0);
    let mut shown = Shown::of(home.bench.path("shown"), many);
    let mut held = Vec::new();
    let begun = std::time::Instant::now();
    for first in (0..many).step_by(TOGETHER) {
        let last = many.min(first + TOGETHER);
        (first..last).for_each(|number| deliver(&home.bench, number));
        all_shown(&mut shown, last, &mut || held.push(Held::by(run.pid())));
        if let Some(path) = std::env::var_os("MAILLOOP_SOAK_LOG") {
            use std::io::Write;
            let now = Held::by(run.pid());
            let mut file = File::options().append(true).create(true).open(path).unwrap();
            writeln!(file, "{last} {} {} {:.1}", now.all, now.own, begun.elapsed().as_secs_f64()).unwrap();
        }
    }
    let most = |from: usize, to: usize| {
        held[held.len() * from / 4..held.len() * to / 4].iter().map(|one| one.own).max()
    };
    let (third, last) = (most(2, 3).unwrap(), most(3, 4).unwrap());
    let all = held.iter().map(|one| one.all).max().unwrap();
    eprintln!("{many} messages: at most {all} KiB; own {third} KiB in the third quarter, {last} in the last");
    assert!(all < MOST, "{all} KiB");
    assert!(last <= third + GROWTH, "{third} KiB in the third quarter, {last} in the last");
    run.signal(Signal::TERM);
    assert_eq!(run.wait().signal, Some(15));
    assert_eq!((shown.take(), home.status()), (many, 2), "its process is gone, and nothing else");
}
