//! Servers that never come to an end: they say more and more, or drip.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::bench::{Bench, Cmd};
use crate::transcript::Transcript;

const LOGIN: &str = "S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\nC: a1\n";
const IN: &str = "S: a1 OK [CAPABILITY IMAP4rev1] in\nC: a2\n";
const OPEN: &str = "S: * 1 EXISTS\nS: * OK [UIDVALIDITY 5] x\nS: a2 OK\nC: a3\n";
const FOUND: &str = "S: * SEARCH 1\nS: a3 OK\nC: a4\n";

/// In so little memory that what it keeps of a flood would not fit twice.
fn fetch(bench: &Bench, url: &str) -> Cmd {
    bench.write("pw", "secret\n");
    let script =
        "ulimit -v 600000; exec mail-fetch --imap \"$@\" --user u --password-file pw -C m --timeout 1s";
    bench.cmd("sh").args(["-c", script, "sh", url]).timeout(60)
}

/// Talks to one client up to the end of the script.
fn up_to(listener: &TcpListener, script: &str) -> (TcpStream, BufReader<TcpStream>) {
    let (socket, _) = listener.accept().unwrap();
    let (mut out, mut lines) = (socket.try_clone().unwrap(), BufReader::new(socket));
    for step in script.lines() {
        match step.strip_prefix("S: ") {
            Some(line) => out.write_all(format!("{line}\r\n").as_bytes()).unwrap(),
            None => assert!(lines.read_line(&mut String::new()).unwrap() > 0),
        }
    }
    (out, lines)
}

#[test]
fn a_flood_before_an_answer_is_ended() {
    let name = "x".repeat(900);
    let [login, open, found] =
        [LOGIN.into(), format!("{LOGIN}{IN}"), format!("{LOGIN}{IN}{OPEN}")] as [String; 3];
    let fetching = format!("{found}{FOUND}");
    let body = "* 9 FETCH (UID 9 BODY[] {900}\r\n".to_string() + &name + ")\r\n";
    for (script, more, line) in [
        (&login, "", format!("* XYZZY {name}\r\n")),
        (&login, "", format!("* CAPABILITY {name}\r\n")),
        (&open, "", format!("* 7 EXISTS {name}\r\n")),
        (&open, "", format!("* OK [UIDVALIDITY 7] {name}\r\n")),
        (&open, "*", format!("* LIST () \"/\" \"{name}\"\r\n")),
        (&found, "", format!("* SEARCH {}\r\n", " ".repeat(900))),
        (&fetching, "", format!("* 1 FETCH (UID 1 FLAGS ({name}))\r\n")),
        (&fetching, "", body),
    ] {
        let bench = Bench::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("imap://{}", listener.local_addr().unwrap());
        let running = fetch(&bench, &url).args(Some(more).filter(|more| !more.is_empty())).spawn();
        let (mut out, _lines) = up_to(&listener, script);
        let block = line.repeat((1 << 20) / line.len());
        let written = (0..200).take_while(|_| out.write_all(block.as_bytes()).is_ok()).count();
        // It may connect again for the messages; nobody is there any more.
        drop((out, listener));
        let shown = line.chars().take(30).collect::<String>();
        assert!((60..100).contains(&written), "{shown}: {written} MiB were listened to");
        let ran = running.wait().err_has("the server said more than 64 MiB");
        assert!(matches!(ran.status, Some(75 | 76)), "{shown}: {}", ran.shown());
    }
}

/// What others do to a busy mailbox is not kept, and IDLE has its own end.
#[test]
fn a_flood_while_idle_is_passed_over() {
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("imap://{}", listener.local_addr().unwrap());
    let running = fetch(&bench, &url).args(["--idle=1h", "--state", "state"]).spawn();
    let script = format!("{LOGIN}{IN}{OPEN}{FOUND}").replace("IMAP4rev1", "IMAP4rev1 IDLE");
    let (mut out, mut lines) = up_to(&listener, &script);
    out.write_all(b"* 1 FETCH (UID 1 BODY[] {3}\r\none)\r\na4 OK x\r\n").unwrap();
    assert!(lines.read_line(&mut String::new()).unwrap() > 0);
    out.write_all(b"+ idling\r\n").unwrap();
    let block = format!("* 1 FETCH (FLAGS ({}))\r\n", "x".repeat(900)).repeat(1100);
    (0..80).for_each(|_| out.write_all(block.as_bytes()).unwrap());
    out.write_all(b"* 2 EXISTS\r\n").unwrap();
    let mut said = String::new();
    lines.read_line(&mut said).unwrap();
    assert_eq!(said, "DONE\r\n");
    running.signal(rustix::process::Signal::TERM);
    running.wait();
}

#[test]
fn lines_and_lists_without_reason_are_refused() {
    let many: String = (0..100_001).map(|n| format!("* LIST () \"/\" m{n}\r\n")).collect();
    let long = "x".repeat(9000);
    for (line, why) in [
        (format!("* LIST () \"/\" {}", "x".repeat(2 << 20)), "a line of more than 1 MiB"),
        (format!("* SEARCH {}", "1 ".repeat(33 << 20)), "the server said more than 64 MiB"),
        (format!("* SEARCH {}", "x".repeat(2 << 20)), "a line of more than 1 MiB"),
        (many + "a2 OK x\r\n", "more than 100000"),
        // It is no mailbox: there are none.
        (format!("* LIST () \"/\" \"{long}\"\r\na2 OK x\r\n"), ""),
    ] {
        let bench = Bench::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("imap://{}", listener.local_addr().unwrap());
        let running = fetch(&bench, &url).arg("*").spawn();
        let (mut out, _lines) = up_to(&listener, &format!("{LOGIN}{IN}"));
        // It need not hear it to its end.
        let _ = out.write_all(line.as_bytes());
        drop(out);
        let ran = running.wait();
        assert_eq!(ran.status, Some(if why.is_empty() { 0 } else { 76 }), "{why}: {}", ran.shown());
        ran.err_has(why);
    }
}

/// What a SEARCH over the largest mailboxes finds is one line.
#[test]
fn millions_of_messages_are_found() {
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("imap://{}", listener.local_addr().unwrap());
    let running = fetch(&bench, &url).spawn();
    let (mut out, mut lines) =
        up_to(&listener, &format!("{LOGIN}{IN}{OPEN}").replace("1 EXISTS", "9 EXISTS"));
    out.write_all(b"* SEARCH").unwrap();
    let text: String = (1..=2_300_000).map(|uid| format!(" {uid}")).collect();
    // Where it does not listen, what it says tells why.
    let _ = out.write_all(text.as_bytes());
    let _ = out.write_all(b"\r\na3 OK\r\n");
    let mut asked = String::new();
    let _ = lines.read_line(&mut asked);
    drop((out, lines, listener));
    let ran = running.wait();
    assert!(asked.contains("FETCH 1:2300000 "), "{asked}{}", ran.shown());
}

#[test]
fn questions_and_lines_without_end_are_ended() {
    let wait = "S: * OK wait\n".repeat(120);
    let ask = "S: +\nC? *\n".repeat(40);
    for (script, tls, why) in [
        (format!("S: * OK hi\nC: s1 STARTTLS\n{wait}STALL"), "starttls", "none that answers STARTTLS"),
        (format!("{LOGIN}{ask}STALL").replace("C: a1", "C: a1 *"), "none", "asked 20 times"),
        (
            format!("{LOGIN}{ask}STALL").replace("C: a1", "C: a1 *").replace(" SASL-IR", ""),
            "none",
            "asked 20 times",
        ),
    ] {
        let bench = Bench::new();
        let play = Transcript::play([script]);
        fetch(&bench, &play.url("imap")).args(["--tls", tls]).run().fails(76).err_has(why);
        play.heard();
    }
}

#[test]
fn what_drips_has_an_end() {
    for (script, drop, status, why) in [
        ("", "*", 75, "waiting for the greeting"),
        ("S: * OK hi\nC: s1 STARTTLS", "* OK wait\r\n", 75, "waiting for the answer to STARTTLS"),
        // A record of TLS of 16 KiB, octet by octet.
        ("S: * OK hi\nC: s1 STARTTLS\nS: s1 OK", "\x16\x03\x03\x3f\x00", 75, "cannot start TLS"),
    ] {
        let bench = Bench::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("imap://localhost:{}", listener.local_addr().unwrap().port());
        let tls = if script.is_empty() { "none" } else { "starttls" };
        let running = fetch(&bench, &url).args(["--tls", tls]).spawn();
        let (mut out, lines) = up_to(&listener, script);
        lines.get_ref().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let is_tls = drop.starts_with('\x16');
        let mut drops = drop.bytes().chain(std::iter::repeat(0));
        let left = (0..60).any(|_| {
            let next = if is_tls { vec![drops.next().unwrap()] } else { drop.as_bytes().to_vec() };
            let gone = out.write_all(&next).is_err();
            // The client hangs up, or 300 ms pass.
            let mut ear = lines.get_ref();
            let heard = std::io::Read::read(&mut ear, &mut [0; 4096]);
            gone || matches!(heard, Ok(0))
                || heard.is_err_and(|why| why.kind() == std::io::ErrorKind::ConnectionReset)
        });
        assert!(left, "{why}: the client listens for ever");
        running.wait().fails(status).err_has(why);
    }
}
