//! `--idle` where the server grants one connection and no more: the other mailboxes share it, and it is not hammered.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::bench::Bench;

#[derive(Default)]
struct State {
    names: Vec<String>,
    /// So many connections are granted.
    most: usize,
    connected: usize,
    refused: usize,
    /// How many messages each mailbox holds.
    held: BTreeMap<String, u32>,
}

type Shared = Arc<Mutex<State>>;

/// One connection; every mailbox is its own UIDVALIDITY and holds messages 1 to n.
fn serve(socket: TcpStream, refusal: &str, state: &Shared) -> std::io::Result<()> {
    let mut out = socket.try_clone()?;
    let mut open = String::new();
    let held = |name: &str| state.lock().unwrap().held.get(name).copied().unwrap_or(0);
    out.write_all(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN IDLE LIST-STATUS] hi\r\n")?;
    let mut lines = BufReader::new(socket).lines();
    while let Some(line) = lines.next() {
        let line = line?;
        let (tag, command) = line.split_once(' ').unwrap_or((&line, ""));
        let mut status = "OK done";
        if command.starts_with("AUTHENTICATE") {
            let mut state = state.lock().unwrap();
            if state.connected >= state.most {
                state.refused += 1;
                status = refusal;
            } else {
                state.connected += 1;
                status = "OK [CAPABILITY IMAP4rev1 IDLE LIST-STATUS] in";
            }
        } else if command.starts_with("LIST") {
            let names = state.lock().unwrap().names.clone();
            for name in names {
                write!(out, "* LIST () \"/\" {name}\r\n")?;
                let n = held(&name);
                write!(out, "* STATUS {name} (MESSAGES {n} UIDNEXT {} UIDVALIDITY 7)\r\n", n + 1)?;
            }
        } else if let Some(name) = command.strip_prefix("EXAMINE ") {
            open = name.trim_matches('"').to_string();
            let n = held(&open);
            write!(out, "* {n} EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT {}] x\r\n", n + 1)?;
        } else if command.starts_with("UID SEARCH") {
            let all: Vec<String> = (1..=held(&open)).map(|uid| uid.to_string()).collect();
            write!(out, "* SEARCH {}\r\n", all.join(" "))?;
        } else if command.starts_with("UID FETCH") {
            let uid = held(&open);
            write!(out, "* {uid} FETCH (UID {uid} FLAGS () BODY[] {{5}}\r\n{open:5})\r\n")?;
        } else if command == "IDLE" {
            out.write_all(b"+ idling\r\n")?;
            lines.next();
        }
        write!(out, "{tag} {status}\r\n")?;
    }
    Ok(())
}

fn listen(refusal: &'static str, state: &Shared) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("imap://{}", listener.local_addr().unwrap());
    let serving = state.clone();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let state = serving.clone();
            // That the client hangs up is its right.
            std::thread::spawn(move || serve(socket, refusal, &state));
        }
    });
    url
}

/// However many mailboxes a server says that there are: the rest is asked for.
#[test]
fn a_hundred_mailboxes_have_connections_and_no_more() {
    let names: Vec<String> =
        std::iter::once("INBOX".into()).chain((1..150).map(|n| format!("m{n}"))).collect();
    let state = Arc::new(Mutex::new(State { names, most: 1000, ..State::default() }));
    let url = listen("", &state);
    let bench = Bench::new();
    bench.write("pw", "secret\n");
    let login = ["--imap", &url, "--user", "u", "--password-file", "pw", "-C", "m", "--state", "state"];
    let stay = ["--idle=1h", "--poll", "200ms", "--timeout", "20s", "*"];
    let mut running = bench.cmd("mail-fetch").args(login).args(stay).timeout(60).spawn();
    for name in ["m149", "m120", "m149"] {
        *state.lock().unwrap().held.entry(name.into()).or_default() += 1;
        assert!(running.line().contains(&format!("m/.{name}/new/")), "{name}");
    }
    let begun = std::time::Instant::now();
    while state.lock().unwrap().connected < 101 {
        assert!(begun.elapsed().as_secs() < 40, "{} connections", state.lock().unwrap().connected);
        std::thread::yield_now();
    }
    running.signal(rustix::process::Signal::TERM);
    let ran = running.wait().err_has("there are more than 100 mailboxes");
    assert_eq!(state.lock().unwrap().connected, 101, "{}", ran.shown());
}

#[test]
fn mailboxes_without_a_connection_share_one_and_are_asked_for() {
    for (refusal, secret) in [
        ("NO [LIMIT] Maximum number of connections exceeded", "secret"),
        ("NO [ALERT] Too many simultaneous connections. (Failure)", "secret"),
        // That it is not shown changes nothing.
        ("NO [UNAVAILABLE] Too many", "a"),
        ("NO [LIMIT] reached", "limit"),
        ("NO [ALERT] Too many connections", "many"),
    ] {
        let names = ["INBOX", "a", "b", "c"].map(String::from).to_vec();
        let state = Arc::new(Mutex::new(State { names, most: 1, ..State::default() }));
        let url = listen(refusal, &state);
        let bench = Bench::new();
        bench.write("pw", format!("{secret}\n"));
        let login = ["--imap", &url, "--user", "u", "--password-file", "pw", "-C", "m", "--state", "state"];
        let stay = ["--idle=1h", "--poll", "200ms", "--timeout", "5s", "*"];
        let mut running = bench.cmd("mail-fetch").args(login).args(stay).timeout(60).spawn();
        // Each comes although nobody waits on its mailbox, and the pause is not that of --idle.
        for name in ["b", "c", "a", "b"] {
            *state.lock().unwrap().held.entry(name.into()).or_default() += 1;
            assert!(running.line().contains(&format!("m/.{name}/new/")), "{name}");
        }
        running.signal(rustix::process::Signal::TERM);
        let ran = running.wait();
        assert_eq!(ran.err_text().matches("without a connection of their own").count(), 1, "{}", ran.shown());
        assert_eq!(state.lock().unwrap().refused, 1, "refused logins: {}", ran.shown());
    }
}
