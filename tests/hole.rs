//! Servers that take no more connections: who waits for one ends when asked to.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::bench::{Bench, Cmd, Running};

/// A port on which connections are never completed: its queue is full.
struct Hole {
    address: SocketAddr,
    listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Hole {
    fn new() -> Hole {
        Hole::of(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn of(listener: TcpListener) -> Hole {
        let address = listener.local_addr().unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let mut queued = Vec::new();
        while let Ok(one) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            queued.push(one);
            assert!(queued.len() < 100, "the queue is never full");
        }
        Hole { address, listener, _queued: queued }
    }

    /// Waits until somebody tries to connect.
    fn await_knock(&self) {
        // SYN_SENT to this port (proc(5)).
        let wanted = format!(":{:04X} 02 ", self.address.port());
        let begun = Instant::now();
        while !std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&wanted) {
            assert!(begun.elapsed() < Duration::from_secs(30), "nobody connects");
            std::thread::yield_now();
        }
    }
}

/// Long before its own limits would end it.
fn ends(running: Running) {
    running.signal(Signal::TERM);
    let ran = running.wait();
    assert_eq!(ran.signal, Some(15), "{}", ran.shown());
}

fn patient(cmd: Cmd) -> Running {
    cmd.args(["--timeout", "10m"]).timeout(40).spawn()
}

#[test]
fn a_connection_under_way_ends_when_asked() {
    let bench = Bench::new();
    bench.write("pw", "secret\n");
    let login = ["--user", "u", "--password-file", "pw"];
    let (imap, smtp) =
        (|hole: &Hole| format!("imap://{}", hole.address), |hole: &Hole| format!("smtp://{}", hole.address));
    let fetch = |hole: &Hole| bench.cmd("mail-fetch").args(["--imap", &imap(hole), "-C", "m"]).args(login);
    let mail = ["--from", "me@x.example", "--to", "you@x.example", "-s", "s", "--body", "b"];
    let inject = |hole: &Hole| bench.cmd("mail-inject").args(["--smtp", &smtp(hole)]).args(mail);
    let all: [&dyn Fn(&Hole) -> Cmd; 4] = [
        &fetch,
        &|hole: &Hole| fetch(hole).args(["-j", "3"]),
        &|hole: &Hole| fetch(hole).args(["--idle=1h", "--state", "state"]),
        &inject,
    ];
    for cmd in all {
        let hole = Hole::new();
        let running = patient(cmd(&hole));
        hole.await_knock();
        ends(running);
    }
}

/// The first connection is there, those of the other mailboxes wait for each other.
#[test]
fn connections_that_wait_for_each_other_end_when_asked() {
    let bench = Bench::new();
    bench.write("pw", "secret\n");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("imap://{}", listener.local_addr().unwrap());
    let cmd =
        bench.cmd("mail-fetch").args(["--imap", &url, "--user", "u", "--password-file", "pw", "-C", "m"]);
    let running = patient(cmd.args(["--idle=1h", "--state", "state", "*"]));
    let (socket, _) = listener.accept().unwrap();
    let hole = Hole::of(listener);
    let mut out = socket.try_clone().unwrap();
    let mut say = |text: String| out.write_all(text.as_bytes()).unwrap();
    say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN IDLE LIST-STATUS] hi\r\n".into());
    for line in BufReader::new(socket).lines() {
        let line = line.unwrap();
        let (tag, command) = line.split_once(' ').unwrap();
        if command.starts_with("LIST") {
            for name in ["INBOX", "a", "b", "c", "d", "e"] {
                say(format!(
                    "* LIST () \"/\" {name}\r\n* STATUS {name} (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 7)\r\n"
                ));
            }
        } else if command.starts_with("EXAMINE") {
            say("* 0 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 1] x\r\n".into());
        } else if command == "IDLE" {
            say("+ idling\r\n".into());
            break;
        }
        let more = if command.starts_with("AUTH") { "[CAPABILITY IMAP4rev1 IDLE LIST-STATUS] " } else { "" };
        say(format!("{tag} OK {more}x\r\n"));
    }
    hole.await_knock();
    ends(running);
    drop(hole.listener);
}

/// The server takes no more of a message, and says nothing.
#[test]
fn a_message_that_nobody_takes_ends_when_asked() {
    let bench = Bench::new();
    bench.write("large", vec![b'x'; 20 << 20]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let cmd =
        bench.cmd("mail-inject").args(["--smtp", &format!("smtp://{address}"), "--from", "me@x.example"]);
    let cmd = cmd.args(["--to", "you@x.example", "-s", "s", "--body", "b", "--attach", "large", "--json"]);
    let running = patient(cmd);
    let (socket, _) = listener.accept().unwrap();
    let mut out = socket.try_clone().unwrap();
    out.write_all(b"220 hi\r\n").unwrap();
    for line in BufReader::new(socket.try_clone().unwrap()).lines() {
        match line.unwrap().as_str() {
            "DATA" => break,
            _ => out.write_all(b"250 ok\r\n").unwrap(),
        }
    }
    out.write_all(b"354 go\r\n").unwrap();
    await_stuck(address);
    running.signal(Signal::TERM);
    let ran = running.wait();
    assert_eq!(ran.signal, Some(15), "{}", ran.shown());
    ran.err_has("it was not delivered");
}

/// Waits until what is on its way to this port stays the same.
fn await_stuck(address: SocketAddr) {
    let wanted = format!(":{:04X} 01 ", address.port());
    let (begun, mut same, mut last) = (Instant::now(), 0, String::new());
    while same < 500 {
        assert!(begun.elapsed() < Duration::from_secs(30), "it is all taken");
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let line = table.lines().find(|line| line.contains(&wanted)).unwrap_or_default();
        let queue =
            line.split_whitespace().nth(4).and_then(|queues| queues.split(':').next()).unwrap_or_default();
        same = if queue == last && !queue.trim_matches('0').is_empty() { same + 1 } else { 0 };
        last = queue.to_string();
    }
}
