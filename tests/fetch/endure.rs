//! What only shows over time: descriptors, threads and memory over many reconnects, one huge message, a machine that
//! slept. MAILLOOP_RECONNECTS and MAILLOOP_MEBIBYTES ask for more than the usual.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;

use super::stay::{EMPTY, GOOD, LOGIN, one_pause, stay};
use crate::bench::Bench;
use crate::transcript::Transcript;

fn asked_for(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// What a running process holds.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    descriptors: usize,
    threads: usize,
    /// Resident memory that is no file's, in KiB.
    memory: usize,
}

impl Held {
    fn by(pid: i32) -> Held {
        let count = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let memory = memory.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
        Held { descriptors: count("fd"), threads: count("task"), memory: memory.unwrap_or(0) }
    }

    fn most(self, other: Held) -> Held {
        Held {
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
            memory: self.memory.max(other.memory),
        }
    }
}

/// Turns the client away in one of the ways in which servers do.
fn turn_away(mut socket: TcpStream, number: usize) -> Option<()> {
    let mut lines = BufReader::new(socket.try_clone().ok()?).lines();
    let mut say = |text: &str| socket.write_all(text.as_bytes()).ok();
    match number % 5 {
        0 => say("* BYE too many connections\r\n"),
        1 => say("* OK [CAPABILITY IM"),
        2 => None,
        way => {
            say("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR IDLE] hi\r\n")?;
            lines.next()?.ok()?;
            if way == 3 {
                return say("a1 NO [UNAVAILABLE] try later\r\n* BYE\r\n");
            }
            say("a1 OK [CAPABILITY IMAP4rev1 IDLE] in\r\n")?;
            lines.next()?.ok()?;
            say("* 0 EXISTS\r\n* OK [UIDVALIDITY 5] x\r\n* OK [UIDNEXT 1] x\r\na2 OK x\r\n")?;
            lines.next()?.ok()?;
            say("+ idling\r\n* BYE restarting\r\n")
        }
    }
}

#[test]
fn many_reconnects_leak_nothing() {
    let reconnects = asked_for("MAILLOOP_RECONNECTS", 300).max(100);
    let bench = Bench::new();
    bench.write("pw", "secret\n");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("imap://{}", listener.local_addr().unwrap());
    let cmd =
        bench.cmd("mail-fetch").args(["--imap", &url, "--user", "u", "--password-file", "pw", "-C", "m"]);
    let cmd = cmd.args(["--timeout", "10s", "--idle=1h", "--state", "state"]).env("MAILLOOP_PAUSE", "1");
    let mut running = cmd.timeout(120).spawn();
    let pid = running.pid();
    let (mut early, mut late) = (Held::default(), Held::default());
    for number in 0..reconnects {
        let (socket, _) = listener.accept().unwrap();
        // While it connects it holds nothing but this one line.
        let held = Held::by(pid);
        match number {
            20..60 => early = early.most(held),
            _ if number + 40 >= reconnects => late = late.most(held),
            _ => {}
        }
        turn_away(socket, number);
    }
    let play = Transcript::play_on(listener, [format!("{LOGIN}{GOOD}")]);
    assert!(bench.path(&running.line()).is_file());
    eprintln!("{reconnects} reconnects: early {early:?}, late {late:?}");
    assert!(early.descriptors > 3 && early.memory > 0, "{early:?}");
    assert!(late.descriptors <= early.descriptors, "{early:?}, then {late:?}");
    assert!(late.threads <= early.threads, "{early:?}, then {late:?}");
    assert!(late.memory <= early.memory + 1024, "{early:?}, then {late:?}");
    running.signal(Signal::TERM);
    assert_eq!(running.wait().signal, Some(15));
    drop(play);
}

/// A server with one message of so many MiB, made as it is sent. Gives the most that the client held meanwhile.
fn huge(listener: &TcpListener, mebibytes: usize, pid: impl Fn() -> i32) -> Option<Held> {
    let (mut socket, _) = listener.accept().ok()?;
    let mut lines = BufReader::new(socket.try_clone().ok()?).lines();
    let piece = b"a line of sixty-three octets, and so on for two thousand MiB \r\n".repeat(16 * 1024);
    assert_eq!(piece.len(), 63 * 16 * 1024);
    let mut most = Held::default();
    socket.write_all(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\r\n").ok()?;
    while let Some(Ok(line)) = lines.next() {
        let (tag, command) = line.split_once(' ')?;
        if command.starts_with("EXAMINE") {
            socket.write_all(b"* 1 EXISTS\r\n* OK [UIDVALIDITY 5] x\r\n* OK [UIDNEXT 2] x\r\n").ok()?;
        } else if command.starts_with("UID SEARCH") {
            socket.write_all(b"* SEARCH 1\r\n").ok()?;
        } else if command.starts_with("UID FETCH") {
            let size = mebibytes << 20;
            socket.write_all(format!("* 1 FETCH (UID 1 BODY[] {{{size}}}\r\n").as_bytes()).ok()?;
            let mut left = size;
            while left > 0 {
                let length = piece.len().min(left);
                socket.write_all(&piece[..length]).ok()?;
                left -= length;
                most = most.most(Held::by(pid()));
            }
            socket.write_all(b")\r\n").ok()?;
        }
        let capabilities = if command.starts_with("AUTH") { "[CAPABILITY IMAP4rev1] " } else { "" };
        socket.write_all(format!("{tag} OK {capabilities}x\r\n").as_bytes()).ok()?;
        most = most.most(Held::by(pid()));
        if command.starts_with("LOGOUT") {
            return Some(most);
        }
    }
    None
}

#[test]
fn one_huge_message_needs_no_memory() {
    let mebibytes = asked_for("MAILLOOP_MEBIBYTES", 64);
    let bench = Bench::new();
    bench.write("pw", "secret\n");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("imap://{}", listener.local_addr().unwrap());
    let cmd =
        bench.cmd("mail-fetch").args(["--imap", &url, "--user", "u", "--password-file", "pw", "-C", "m"]);
    let running = cmd.timeout(60 + mebibytes as u64 / 4).spawn();
    let pid = running.pid();
    let most = huge(&listener, mebibytes, || pid).expect("the client asks for the message and says goodbye");
    let ran = running.wait().ok();
    let size = std::fs::metadata(bench.path(&ran.lines()[0])).unwrap().len();
    assert_eq!(size, (mebibytes as u64) << 20);
    eprintln!("{mebibytes} MiB: at most {} KiB", most.memory);
    assert!(most.memory > 0 && most.memory < 12 * 1024, "{most:?}");
}

/// Stopped for longer than it waits, as a machine that sleeps: when it goes on, the line is dead or closed.
#[test]
fn after_a_long_stop_it_notices_and_the_next_message_comes() {
    for (name, meanwhile) in [("the server hung up", "CLOSE"), ("the line is dead", "STALL")] {
        let bench = Bench::new();
        let idle = format!("{LOGIN}{EMPTY}C: a3 IDLE\nS: + idling\nPAUSE\n{meanwhile}");
        let play = Transcript::play([idle, format!("{LOGIN}{GOOD}")]);
        let mut running = stay(&bench, &play.url("imap"));
        play.await_pause();
        running.signal(Signal::STOP);
        play.go();
        // Longer than the time limit and than IDLE is left alone; nothing can happen that we could wait for.
        let (_never, nothing) = mpsc::channel::<()>();
        let _ = nothing.recv_timeout(Duration::from_millis(3200));
        running.signal(Signal::CONT);
        assert!(bench.path(&running.line()).is_file(), "{name}");
        running.signal(Signal::TERM);
        one_pause(name, &running.wait());
    }
}

/// One mailbox breaks every line that opens it: the others come, with `--idle` too.
#[test]
fn a_mailbox_that_breaks_the_line_does_not_starve_the_others() {
    let login = "S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR IDLE] hi\nC: a1 AUTHENTICATE PLAIN *\n\
                 S: a1 OK [CAPABILITY IMAP4rev1 IDLE] in\n";
    let list = "C: a2 LIST *\nS: * LIST () \"/\" INBOX\nS: a2 OK\nC: a3 LIST *\nS: * LIST () \"/\" a\nS: a3 OK\n\
                C: a4 LIST *\nS: * LIST () \"/\" b\nS: a4 OK\n";
    let poison = "EXAMINE \"a\"\nS: * BYE internal error\n";
    let good = |tag: u32, name: &str| {
        let (search, fetch) = (tag + 1, tag + 2);
        format!(
            "C: a{tag} EXAMINE \"{name}\"\nS: * 1 EXISTS\nS: * OK [UIDVALIDITY 5] x\nS: * OK [UIDNEXT 2] x\nS: a{tag} OK x\n\
             C: a{search} UID SEARCH *\nS: * SEARCH 1\nS: a{search} OK\nC: a{fetch} UID FETCH *\n\
             S- * 1 FETCH (UID 1 BODY[] {{3}}\\r\\none)\\r\\n\nS: a{fetch} OK\n"
        )
    };
    let bench = Bench::new();
    bench.write("pw", "secret\n");
    let fetch = |url: &str, maildir: &str| {
        let cmd = bench.cmd("mail-fetch").args(["--imap", url, "--user", "u", "--password-file", "pw"]);
        cmd.args(["-C", maildir, "--timeout", "5s", "--state", "state", "INBOX", "a", "b"])
    };
    let play = Transcript::play([
        format!("{login}{list}{}C: a8 {poison}", good(5, "INBOX")),
        format!("{login}{}C: a5 LOGOUT\nS: a5 OK", good(2, "b")),
    ]);
    let ran = fetch(&play.url("imap"), "once").run().fails(75).err_has("internal error");
    play.heard();
    assert_eq!(ran.lines().len(), 2, "{}", ran.shown());
    let play = Transcript::play([
        format!("{login}{list}{}C: a8 {poison}", good(5, "b")),
        format!("{login}{}STALL", good(2, "INBOX")),
    ]);
    let mut running = fetch(&play.url("imap"), "stay").args(["--idle=1h"]).timeout(20).spawn();
    let lines = [running.line(), running.line()];
    assert!(lines[1].contains("stay/new/"), "{lines:?}");
    running.signal(rustix::process::Signal::TERM);
    running.wait();
}

/// However few files may be open, everything comes over however many connections.
#[test]
fn few_descriptors_are_enough() {
    let post = super::Post::new();
    for n in 0..300 {
        post.deliver(&format!("m{n:03}"), "x");
    }
    let program = env!("CARGO_BIN_EXE_mail-fetch");
    for (limit, jobs) in [("128", "1"), ("256", "8")] {
        let script = "ulimit -n $0; exec \"$@\"";
        let ran = std::process::Command::new("sh")
            .args([
                "-c",
                script,
                limit,
                program,
                "--imap",
                &post.server.imap,
                "--user",
                "me@by.example",
                "-j",
                jobs,
            ])
            .arg("--password-file")
            .arg(post.bench.path("password"))
            .arg("-C")
            .arg(post.bench.path(&format!("mail{limit}")))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{limit} {jobs}: {errors}");
        assert_eq!(post.digests(&format!("mail{limit}")).len(), 300, "{errors}");
    }
}
