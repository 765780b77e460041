//! COMPRESS=DEFLATE (RFC 4978) against a server of the tests' own that compresses: honestly, not at all, or a bomb.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};

use crate::bench::{Bench, Ran};

#[derive(Clone, Copy, PartialEq)]
enum Packer {
    Honest,
    /// Says NO.
    Refuses,
    /// Packs a line that never ends into little.
    Bomb,
    /// Says OK and goes on in plain text.
    Forgets,
}

fn body(uid: u32) -> String {
    format!(
        "Subject: number {uid}\r\n\r\n{}",
        "a line that compresses well\r\n".repeat(uid as usize * 20_000)
    )
}

/// One connection.
fn serve(socket: TcpStream, packer: Packer) -> std::io::Result<()> {
    let (mut lines, mut out): (Box<dyn BufRead>, Box<dyn Write>) =
        (Box::new(BufReader::new(socket.try_clone()?)), Box::new(socket.try_clone()?));
    out.write_all(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN COMPRESS=DEFLATE] hi\r\n")?;
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        let tag = line.split(' ').next().unwrap_or_default().to_string();
        let mut status = "OK done";
        if line.contains("COMPRESS DEFLATE") && packer == Packer::Refuses {
            status = "NO [COMPRESSIONACTIVE] no";
        } else if line.contains("AUTHENTICATE") {
            status = "OK [CAPABILITY IMAP4rev1 COMPRESS=DEFLATE] in";
        } else if line.contains("EXAMINE") {
            out.write_all(b"* 2 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 3] x\r\n")?;
        } else if line.contains("SEARCH") {
            out.write_all(b"* SEARCH 1 2\r\n")?;
        } else if line.contains("UID FETCH") && packer == Packer::Bomb {
            out.write_all(b"* 1 FETCH (UID 1 FLAGS (")?;
            for _ in 0..40 {
                out.write_all(&vec![b'x'; 1 << 20])?;
            }
        } else if line.contains("UID FETCH") {
            for uid in 1..=2 {
                let body = body(uid);
                write!(out, "* {uid} FETCH (UID {uid} FLAGS () BODY[] {{{}}}\r\n{body})\r\n", body.len())?;
            }
        }
        write!(out, "{tag} {status}\r\n")?;
        out.flush()?;
        if line.contains("COMPRESS DEFLATE") && matches!(packer, Packer::Honest | Packer::Bomb) {
            let plain = socket.try_clone()?;
            lines = Box::new(BufReader::new(DeflateDecoder::new(plain)));
            out = Box::new(DeflateEncoder::new(socket.try_clone()?, Compression::fast()));
        }
        line.clear();
    }
    Ok(())
}

fn fetch(packer: Packer, words: &[&str]) -> (Bench, Ran) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("imap://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            // That the client hangs up is its right.
            std::thread::spawn(move || serve(socket, packer));
        }
    });
    let bench = Bench::new();
    bench.write("pw", "secret\n");
    // The memory of the program and its threads, and no room for what the bomb holds.
    let script = "ulimit -v 600000; exec mail-fetch \"$@\"";
    let login = ["--imap", &url, "--user", "u", "--password-file", "pw", "-C", "m", "--timeout", "5s", "-v"];
    let ran = bench.cmd("sh").args(["-c", script, "sh"]).args(login).args(words).timeout(60).run();
    (bench, ran)
}

/// What came over the wire, as `-v` tells.
fn came(ran: &Ran) -> u64 {
    let err = ran.err_text();
    let line =
        err.lines().find(|line| line.contains("octets came")).unwrap_or_else(|| panic!("{}", ran.shown()));
    line.split(' ')
        .zip(line.split(' ').skip(1))
        .find(|(_, word)| *word == "octets")
        .unwrap()
        .0
        .parse()
        .unwrap()
}

#[track_caller]
fn is_whole(bench: &Bench, ran: &Ran) {
    let lines = ran.lines();
    assert_eq!(lines.len(), 2, "{}", ran.shown());
    for (line, uid) in lines.iter().zip(1..) {
        assert!(bench.read(line) == body(uid).into_bytes(), "message {uid} differs");
    }
}

#[test]
fn what_was_compressed_comes_whole_over_a_quieter_line() {
    let (bench, packed) = fetch(Packer::Honest, &["--compress"]);
    let packed = packed.ok();
    is_whole(&bench, &packed);
    let (bench, plain) = fetch(Packer::Honest, &[]);
    let plain = plain.ok();
    is_whole(&bench, &plain);
    let (packed, plain) = (came(&packed), came(&plain));
    assert!(plain > 1_600_000 && packed * 20 < plain, "{packed} octets came compressed, {plain} plain");
}

#[test]
fn a_server_that_refuses_to_compress_is_used_without_and_it_is_said_once() {
    let (bench, ran) = fetch(Packer::Refuses, &["--compress"]);
    let ran = ran.ok();
    is_whole(&bench, &ran);
    assert_eq!(ran.err_text().matches("going on without compression").count(), 1, "{}", ran.shown());
}

#[test]
fn a_bomb_ends_at_the_limit_of_a_line() {
    let (_, ran) = fetch(Packer::Bomb, &["--compress"]);
    let ran = ran.fails(76).err_has("a line of more than 1 MiB");
    assert!(ran.lines().is_empty());
}

#[test]
fn plain_text_after_the_agreement_is_damage() {
    let (_, ran) = fetch(Packer::Forgets, &["--compress"]);
    assert!(matches!(ran.status, Some(75 | 76)), "{}", ran.shown());
    assert!(ran.lines().is_empty());
}
