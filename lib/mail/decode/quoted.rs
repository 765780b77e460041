//! Quoted-printable (RFC 2045 section 6.7), lenient: bad escapes stay as they are, binary data keeps its line ends.

use std::io::{self, Write};

use super::{CHUNK, Sink};
use crate::mail::words::hex;

/// `=XX` octets, `=` at a line's end joins lines, blanks before a line end are transport padding (rule 3).
pub(super) fn quoted_printable(body: &[u8], sink: &mut Sink<impl Write>) -> io::Result<Vec<String>> {
    let mut out = Vec::with_capacity(body.len().min(2 * CHUNK));
    let mut bad = 0u64;
    let mut rest = body;
    while !rest.is_empty() {
        let (line, end, tail) = match memchr::memchr(b'\n', rest) {
            Some(at) if at > 0 && rest[at - 1] == b'\r' => (&rest[..at - 1], &b"\r\n"[..], &rest[at + 1..]),
            Some(at) => (&rest[..at], &b"\n"[..], &rest[at + 1..]),
            None => (rest, &b""[..], &rest[rest.len()..]),
        };
        rest = tail;
        let text = match end.is_empty() {
            true => line,
            false => trim_padding(line),
        };
        let soft = quoted_line(text, &mut out, &mut bad, sink)?;
        if !soft {
            out.extend_from_slice(end);
        }
    }
    sink.put(&out)?;
    Ok(match bad {
        0 => Vec::new(),
        _ => vec![format!("quoted-printable: {bad} bad escapes left as they are")],
    })
}

fn trim_padding(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|b| !matches!(b, b' ' | b'\t')).map_or(0, |at| at + 1);
    &line[..end]
}

/// Decodes one line; true if it ends in a soft line break.
fn quoted_line(
    line: &[u8],
    out: &mut Vec<u8>,
    bad: &mut u64,
    sink: &mut Sink<impl Write>,
) -> io::Result<bool> {
    let mut rest = line;
    loop {
        if out.len() >= CHUNK {
            sink.put(out)?;
            out.clear();
        }
        let near = &rest[..rest.len().min(CHUNK)];
        let Some(at) = memchr::memchr(b'=', near) else {
            out.extend_from_slice(near);
            rest = &rest[near.len()..];
            if rest.is_empty() {
                return Ok(false);
            }
            continue;
        };
        out.extend_from_slice(&rest[..at]);
        match &rest[at + 1..] {
            [high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex(*high) << 4 | hex(*low));
                rest = tail;
            }
            tail if tail.iter().all(u8::is_ascii_whitespace) => return Ok(true),
            tail => {
                *bad += 1;
                out.push(b'=');
                rest = tail;
            }
        }
    }
}
