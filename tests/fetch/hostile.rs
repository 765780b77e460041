//! A server that says anything at all, seeded: no panic, no hang, no file outside the Maildir, bounded memory.
//! Five seconds here; MAILLOOP_FUZZ_SECONDS asks for more.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::bench::Bench;

/// xorshift: the same seed says the same things.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

const PIECES: &[&str] = &[
    "* ",
    "+ ",
    "OK ",
    "NO ",
    "BAD ",
    "BYE ",
    "1 FETCH (",
    "UID 1 ",
    "UID 2 ",
    "FLAGS (\\Seen) ",
    "BODY[] {3}\r\nabc",
    "BODY[] NIL ",
    "BODY[] {9999999999}\r\n",
    "BODY[] {200}\r\n",
    "INTERNALDATE \"x\" ",
    ")",
    ")\r\n",
    "\r\n",
    "\n",
    "\0",
    "\u{e9}",
    "LIST () \"/\" ",
    "../../../escape",
    "\"../evil\"",
    "a/../../b",
    "STATUS INBOX (UIDNEXT 9 UIDVALIDITY 5)",
    "4294967295 EXISTS",
    "3 EXISTS",
    "SEARCH 1 2 3",
    "SEARCH 4294967295 0",
    "[UIDVALIDITY 5]",
    "[CAPABILITY IMAP4rev1 IDLE",
    "(((((((",
    "{5}",
    "{5}\r\n",
    "\"",
    "\\",
    "~{4}\r\n\0\0\0\0",
];

/// Mostly right answers, so that it gets far, with nonsense in between.
fn reply(dice: &mut Dice, command: &str) -> Vec<u8> {
    let tag = command.split(' ').next().unwrap_or("a1");
    let upper = command.to_ascii_uppercase();
    let mut out = Vec::new();
    let noise = |out: &mut Vec<u8>, dice: &mut Dice| {
        if dice.roll(14) == 0 {
            for _ in 0..dice.roll(8) {
                out.extend_from_slice(PIECES[dice.roll(PIECES.len())].as_bytes());
            }
            if dice.roll(2) == 0 {
                out.extend_from_slice(b"\r\n");
            }
        }
    };
    noise(&mut out, dice);
    if upper.contains("AUTHENTICATE") {
        return format!("{tag} OK [CAPABILITY IMAP4rev1 IDLE LIST-STATUS] x\r\n").into_bytes();
    }
    if upper.contains("EXAMINE") {
        out.extend_from_slice(b"* 3 EXISTS\r\n* OK [UIDVALIDITY 5] x\r\n");
    } else if upper.contains("LIST") {
        for name in ["\"../../out\"", "INBOX", "\"a/../..\"", "/etc", "\"&AAAALw-\"", "{3}\r\n..."] {
            out.extend_from_slice(format!("* LIST () \"/\" {name}\r\n").as_bytes());
        }
    } else if upper.contains("SEARCH") {
        out.extend_from_slice(b"* SEARCH 1 2 3\r\n");
    } else if upper.contains("FETCH") {
        for uid in 1..4 {
            noise(&mut out, dice);
            out.extend_from_slice(format!("* {uid} FETCH (UID {uid} BODY[] {{4}}\r\nabcd)\r\n").as_bytes());
        }
    }
    noise(&mut out, dice);
    out.extend_from_slice(format!("{tag} OK x\r\n").as_bytes());
    if dice.roll(20) == 0 {
        out.truncate(dice.roll(out.len() + 1));
    }
    out
}

fn serve(listener: TcpListener, seed: u64, over: Arc<AtomicBool>) {
    let mut dice = Dice(seed);
    for socket in listener.incoming() {
        let Ok(mut socket) = socket else { return };
        if over.load(Ordering::SeqCst) {
            return;
        }
        let _ = socket.set_read_timeout(Some(Duration::from_secs(2)));
        let _ = socket.write_all(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN IDLE LIST-STATUS] hi\r\n");
        let mut buffer = [0; 8192];
        while let Ok(n @ 1..) = socket.read(&mut buffer) {
            let command = String::from_utf8_lossy(&buffer[..n]).into_owned();
            if socket.write_all(&reply(&mut dice, &command)).is_err() || dice.roll(25) == 0 {
                break;
            }
        }
    }
}

#[test]
fn a_hostile_server_for_some_seconds() {
    let seconds = std::env::var("MAILLOOP_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let (begun, mut seed) = (Instant::now(), 88_172_645_463_325_252u64);
    let (mut came, mut last) = (0, String::new());
    while begun.elapsed() < Duration::from_secs(seconds) {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let bench = Bench::new();
        bench.write("pw", "secret\n");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let server = std::thread::spawn(move || serve(listener, seed, ended));
        let url = format!("imap://{address}");
        // 64 MiB of address space beyond what the program and its threads map at the start would be a leak.
        let script = "ulimit -v 600000; exec mail-fetch --imap \"$1\" --user u --password-file pw -C in/m --timeout 300ms '*'";
        let ran = bench.cmd("sh").args(["-c", script, "sh", &url]).timeout(50).run();
        assert!(matches!(ran.status, Some(0 | 69 | 73 | 75 | 76 | 77)), "seed {seed}: {}", ran.shown());
        assert!(!ran.err_text().contains("panicked"), "seed {seed}: {}", ran.shown());
        for file in bench.files("") {
            let inside = file.starts_with("in/m")
                || file.starts_with("home")
                || file.starts_with("tmp")
                || file.starts_with("pw");
            assert!(inside, "seed {seed}: {} lies outside", file.display());
        }
        assert!(!bench.path("escape").exists() && !bench.path("out").exists());
        came += ran.lines().len();
        last = ran.shown();
        over.store(true, Ordering::SeqCst);
        let _ = std::net::TcpStream::connect(address);
        server.join().unwrap();
    }
    assert!(came > 0, "the nonsense never let a message through, so it tests too little; at last: {last}");
}
