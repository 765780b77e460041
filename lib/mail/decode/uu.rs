//! uuencode, as POSIX describes it: as a transfer encoding, and in the middle of a text.
//!
//! `begin MODE NAME`, lines of a length character and groups of four characters, `end`.

use std::io::{self, Write};
use std::ops::Range;

use super::{CHUNK, Sink, next_line};

/// How many characters that a transport stripped are made up for besides as many as the body has: a line may claim
/// 63 bytes and have none, so without a bound two bytes could become 63.
const SPARE: usize = 64 * 1024;
/// How many lines a `begin` line is looked for.
const NEAR: usize = 100;

/// Decodes the first file in `body` into `sink`; gives what was repaired.
pub(super) fn uuencode(body: &[u8], sink: &mut Sink<impl Write>) -> io::Result<Vec<String>> {
    let mut lines =
        Lines { out: Vec::with_capacity(body.len().min(2 * CHUNK)), spare: body.len() + SPARE, short: 0 };
    let mut rest = body;
    let mut state = State::Before;
    while let Some((line, _)) = next_line(&mut rest) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match state {
            State::Before if line.starts_with(b"begin ") => state = State::Inside,
            State::Inside if line.trim_ascii() == b"end" => {
                state = State::After;
                break;
            }
            State::Inside => lines.take(line),
            _ => {}
        }
        if lines.out.len() >= CHUNK {
            sink.put(&lines.out)?;
            lines.out.clear();
        }
    }
    sink.put(&lines.out)?;
    let mut notes = Vec::new();
    if state == State::Before {
        // QUIRK: some label plain bytes so; without a `begin` line there is nothing to decode.
        sink.put(body)?;
        notes.push("uuencode: no begin line, bytes left as they are".to_string());
    }
    if state == State::Inside {
        notes.push("uuencode: the end line is missing".to_string());
    }
    if lines.short > 0 {
        notes.push(format!("uuencode: {} lines shorter than they say", lines.short));
    }
    Ok(notes)
}

#[derive(PartialEq, Clone, Copy)]
enum State {
    Before,
    Inside,
    After,
}

struct Lines {
    out: Vec<u8>,
    /// How many more missing characters are taken as blanks.
    spare: usize,
    short: u64,
}

impl Lines {
    /// Decodes one line. QUIRK: characters that are missing at its end are taken as blanks, which transports strip.
    fn take(&mut self, line: &[u8]) {
        let Some((&first, data)) = line.split_first() else { return };
        let claimed = claimed(first);
        let missing = claimed.saturating_sub(data.len() * 3 / 4);
        self.short += u64::from(missing > 0);
        let granted = missing.min(self.spare);
        self.spare -= granted;
        let want = claimed - (missing - granted);
        let start = self.out.len();
        let mut groups = data.chunks(4);
        while self.out.len() - start < want {
            let group = groups.next().unwrap_or_default();
            let at = |k: usize| u32::from(group.get(k).copied().unwrap_or(b' ').wrapping_sub(b' ') & 63);
            let bits = at(0) << 18 | at(1) << 12 | at(2) << 6 | at(3);
            self.out.extend_from_slice(&bits.to_be_bytes()[1..]);
        }
        self.out.truncate(start + want);
    }
}

/// How many bytes a line says it has.
fn claimed(first: u8) -> usize {
    usize::from(first.wrapping_sub(b' ') & 63)
}

/// The file name on the `begin` line of a uuencoded body.
pub fn name(body: &[u8]) -> Option<Vec<u8>> {
    let mut rest = body;
    for _ in 0..NEAR {
        let (line, _) = next_line(&mut rest)?;
        if let Some(tail) = line.strip_prefix(b"begin ") {
            let tail = tail.trim_ascii();
            let name = tail.iter().position(|b| *b == b' ').map(|at| tail[at + 1..].trim_ascii())?;
            return (!name.is_empty()).then(|| name.to_vec());
        }
    }
    None
}

/// A uuencoded file in a text.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// From its `begin` line to its `end` line.
    pub range: Range<usize>,
}

/// The first uuencoded file at or after `from`, where a line begins. A text that merely speaks of `begin 644 x` has no
/// line after it that is as long as its first character says; such a place is passed over.
pub fn find(text: &[u8], from: usize) -> Option<Found> {
    let mut at = from;
    while at < text.len() {
        let start = match text[at..].starts_with(b"begin ") && (at == 0 || text[at - 1] == b'\n') {
            true => at,
            false => at + memchr::memmem::find(&text[at..], b"\nbegin ")? + 1,
        };
        let line_end = memchr::memchr(b'\n', &text[start..]).map_or(text.len(), |end| start + end + 1);
        if is_begin(&text[start..line_end])
            && let Some(length) = length(&text[line_end..])
        {
            return Some(Found { range: start..line_end + length });
        }
        at = line_end;
    }
    None
}

/// `begin MODE NAME` with three or four octal digits.
fn is_begin(line: &[u8]) -> bool {
    let Some(tail) = line.strip_prefix(b"begin ") else { return false };
    let mut words = tail.trim_ascii_end().splitn(2, |b| *b == b' ');
    let mode = words.next().unwrap_or_default();
    (3..=4).contains(&mode.len())
        && mode.iter().all(|b| (b'0'..=b'7').contains(b))
        && words.next().is_some_and(|name| !name.trim_ascii().is_empty())
}

/// How long the data after a `begin` line is, its `end` line included; `None` if its first line is no data. Without an
/// `end` line it goes on as far as lines look like data.
fn length(data: &[u8]) -> Option<usize> {
    let mut rest = data;
    let mut lines = 0usize;
    let mut good = 0;
    while let Some((line, _)) = next_line(&mut rest) {
        let end = data.len() - rest.len();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.trim_ascii() == b"end" && lines > 0 {
            return Some(end);
        }
        if !is_data(line) {
            break;
        }
        lines += usize::from(!line.is_empty());
        good = end;
    }
    (lines > 0).then_some(good)
}

/// True for a line of about the length that it says; a checksum character or stripped blanks are allowed.
fn is_data(line: &[u8]) -> bool {
    let Some((&first, data)) = line.split_first() else { return true };
    let full = claimed(first).div_ceil(3) * 4;
    line.iter().all(|b| (b' '..=b'`').contains(b)) && data.len() <= full + 2 && data.len() * 2 >= full
}
