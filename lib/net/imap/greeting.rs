//! Before there is a session: the greeting and STARTTLS, read byte by byte from the bare line.

use std::io::{Read, Write};
use std::time::Instant;

use super::login::crowded;
use super::tap::bracketed;
use crate::error::{Error, Kind, Result};
use crate::net::Wire;
use crate::net::hidden::Hidden;
use crate::report;

/// Greetings and answers to STARTTLS are one short line.
const LONGEST_GREETING: usize = 8192;
/// So many lines may stand before the answer to STARTTLS.
const MOST_LINES: usize = 100;

/// Reads the greeting byte by byte: nothing of what follows may be read ahead in plain text. Gives the capabilities in
/// it, if there are some.
pub(super) fn greet(wire: &mut Wire, hidden: &Hidden) -> Result<Vec<String>> {
    in_time(wire);
    let line = bare_line(wire, "waiting for the greeting", hidden)?;
    wire.set_deadline(None);
    let server = wire.peer().server.clone();
    let wrong = |kind, why: &str| Err(Error::new(kind, format!("cannot use {server}"), why));
    let upper = line.to_ascii_uppercase();
    if upper.starts_with("* OK") {
        Ok(bracketed(&upper).map(|(_, _, words)| words).unwrap_or_default())
    } else if upper.starts_with("* PREAUTH") {
        // Logged in as whom? And before TLS it would make us skip TLS (CVE-2021-39272).
        wrong(Kind::Protocol, "it says that we are logged in already (PREAUTH)")
    } else if upper.starts_with("* BYE") {
        wrong(Kind::Temporary, &format!("it turned us away: {}", hidden.shown(&line)))
            .map_err(|error| crowded(error, &line))
    } else {
        wrong(
            Kind::Protocol,
            &format!("this is no IMAP server: it greets with {:?}", shortened(&hidden.cover(&line))),
        )
    }
}

pub(super) fn start_tls(wire: &mut Wire, hidden: &Hidden) -> Result<()> {
    let server = wire.peer().server.clone();
    wire.write_all(b"s1 STARTTLS\r\n")
        .map_err(|why| Error::network(format!("cannot ask {server} for STARTTLS"), why))?;
    in_time(wire);
    for _ in 0..MOST_LINES {
        let line = bare_line(wire, "waiting for the answer to STARTTLS", hidden)?;
        if line.starts_with("* ") {
            continue; // Nothing said before the handshake is believed.
        }
        if !line.to_ascii_uppercase().starts_with("S1 OK") {
            let why = format!("it refuses STARTTLS: {}", hidden.shown(&line));
            return Err(Error::new(Kind::Protocol, format!("cannot protect the line to {server}"), why)
                .hint("nothing was sent over the open line; use imaps:// if the server has it"));
        }
        return wire.start_tls();
    }
    let why = format!("it said {MOST_LINES} lines, and none that answers STARTTLS");
    Err(Error::new(Kind::Protocol, format!("cannot protect the line to {server}"), why))
}

/// What comes next has to be there within one time limit, however it drips.
fn in_time(wire: &mut Wire) {
    wire.set_deadline(Instant::now().checked_add(wire.peer().timeout));
}

fn bare_line(wire: &mut Wire, doing: &str, hidden: &Hidden) -> Result<String> {
    let words = format!("{} at {}: {doing}", wire.peer().name, wire.peer().server);
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        match wire.read(&mut byte) {
            Ok(0) => return Err(Error::new(Kind::Temporary, words, "the other side closed the connection")),
            Ok(_) if byte[0] == b'\n' => {
                let line = String::from_utf8_lossy(&line).into_owned();
                report::trace(format_args!("S: {}", hidden.cover(line.trim_end())));
                return Ok(line);
            }
            Ok(_) if line.len() >= LONGEST_GREETING => {
                return Err(Error::new(Kind::Protocol, words, "its line never ends"));
            }
            Ok(_) => line.push(byte[0]),
            Err(why) => return Err(Error::network(words, why)),
        }
    }
}

fn shortened(line: &str) -> String {
    line.trim().chars().take(100).collect()
}
