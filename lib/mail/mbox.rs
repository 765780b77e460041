//! mbox files: many messages one after the other, each behind a `From ` line (RFC 4155).

use std::ops::Range;

use super::boundary::{self, Boundaries};
use super::header;
use super::param::Value;

/// Of a line that may be a field so much is looked at.
const LINE: usize = 1000;
/// The head of a message or of a part is looked for within so many bytes.
const HEAD: usize = 64 * 1024;
/// A boundary is looked for within so many bytes after a `From ` line.
const AHEAD: usize = 64 << 20;

/// The messages of an mbox file, each with its `From ` line; `None` if `bytes` is no mbox or holds one message only,
/// which then is best read as it stands.
///
/// A message begins where an empty line is followed by a `From ` line with a time and a year in it, and that by a field;
/// a text that merely has a sentence with `From ` in it stays whole, and so does a part with a whole mbox in it: a patch
/// as git writes it. QUIRK: what `mboxrd` quoted (`>From `) stays quoted.
pub fn messages(bytes: &[u8]) -> Option<impl Iterator<Item = Range<usize>>> {
    let mut starts = starts(bytes);
    let (first, second) = (starts.next().filter(|first| *first == 0)?, starts.next()?);
    let mut start = first;
    let ends = std::iter::once(second).chain(starts).chain(std::iter::once(bytes.len()));
    Some(ends.map(move |end| std::mem::replace(&mut start, end)..end))
}

fn starts(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let first = is_from_line(bytes).then_some(0);
    let others = first.map(|_| memchr::memmem::find_iter(bytes, b"\nFrom "));
    let mut open = Open::new(bytes);
    let is_start = move |start: &usize| {
        is_after_blank(bytes, *start)
            && is_from_line(&bytes[*start..])
            && begins_head(&bytes[*start..])
            && !ends_part_head(&bytes[..*start])
            && !open.holds(*start)
    };
    first.into_iter().chain(others.into_iter().flatten().map(|at| at + 1).filter(is_start))
}

fn is_after_blank(bytes: &[u8], start: usize) -> bool {
    let before = &bytes[..start - 1];
    let before = before.strip_suffix(b"\r").unwrap_or(before);
    before.is_empty() || before.ends_with(b"\n")
}

/// True if the line after the first is a field, or one more envelope.
fn begins_head(text: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b'\n', text) else { return false };
    let near = &text[end + 1..text.len().min(end + 1 + LINE)];
    let line = near.split(|b| *b == b'\n').next().unwrap_or_default();
    boundary::is_field(line) || line.starts_with(b">From ")
}

/// True if `before`, which ends in an empty line, ends in the head of a part: a boundary, then fields, one of which says
/// what the part is.
fn ends_part_head(before: &[u8]) -> bool {
    let near = &before[before.len().saturating_sub(HEAD)..];
    let near = near.trim_ascii_end();
    let mut lines =
        near.rsplit(|b| *b == b'\n').map(<[u8]>::trim_ascii_end).take_while(|line| !line.is_empty());
    let mut speaks = false;
    let is_head =
        |line: &&[u8]| line.starts_with(b" ") || line.starts_with(b"\t") || boundary::is_field(line);
    let first = lines.find(|line| {
        speaks |= line.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-"));
        line.starts_with(b"--") || !is_head(line)
    });
    speaks && first.is_some_and(|line| line.starts_with(b"--"))
}

/// The outermost multipart of the message that we are in.
struct Open<'a> {
    bytes: &'a [u8],
    boundary: Option<Vec<u8>>,
    /// How far its last boundary was looked for, without having been found.
    looked: usize,
    /// What begins before this lies in a part.
    until: usize,
    /// How many bytes may still be looked at ahead of a `From ` line: the time for all of them is linear.
    budget: usize,
}

impl<'a> Open<'a> {
    /// In the message at the beginning.
    fn new(bytes: &'a [u8]) -> Open<'a> {
        let budget = bytes.len().saturating_mul(4);
        let mut open = Open { bytes, boundary: None, looked: 0, until: 0, budget };
        open.enter(0);
        open
    }

    /// In the message whose `From ` line is at `start`.
    fn enter(&mut self, start: usize) {
        let rest = &self.bytes[start..];
        let line = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let near = rest.len().min(line + HEAD);
        let head = boundary::read_head(rest, line, near, HEAD, &Boundaries::default());
        let kind = header::fields(&rest[head.range]).into_iter().find(|field| field.is("Content-Type"));
        let kind =
            kind.map(|field| Value::parse(field.value)).filter(|kind| kind.token.starts_with("multipart/"));
        let boundary = kind.and_then(|kind| kind.raw("boundary").map(|b| b.trim_ascii_end().to_vec()));
        self.boundary = boundary.filter(|boundary| !boundary.is_empty());
        self.looked = start + head.body;
    }

    /// True if the `From ` line at `start` lies in a part; else we are in the message that it begins.
    fn holds(&mut self, start: usize) -> bool {
        if start < self.until {
            return true;
        }
        if let Some(boundary) = self.boundary.take()
            && let Some(next) = self.next(&boundary, start)
        {
            self.until = next;
            self.boundary = Some(boundary);
            return true;
        }
        self.enter(start);
        false
    }

    /// Where the next line of a boundary that is still open at `start` begins. A message that declares the same one comes
    /// before it where ours was cut short.
    fn next(&mut self, boundary: &[u8], start: usize) -> Option<usize> {
        let last = [b"\n--", boundary, b"--"].concat();
        // The newline before it may be the head's.
        let from = self.looked.saturating_sub(1).min(start);
        if memchr::memmem::find(&self.bytes[from..start], &last).is_some() {
            return None;
        }
        self.looked = start;
        let ahead = &self.bytes[start..][..(self.bytes.len() - start).min(AHEAD).min(self.budget)];
        for at in memchr::memmem::find_iter(ahead, boundary) {
            let (before, after) = (&ahead[..at], &ahead[at + boundary.len()..]);
            let before_quote = before.strip_suffix(b"\"").unwrap_or(before);
            let declares = before_quote.len().checked_sub(9).map(|from| &before_quote[from..]);
            if declares.is_some_and(|word| word.eq_ignore_ascii_case(b"boundary=")) {
                self.budget -= at;
                return None;
            }
            let after = after.strip_prefix(b"--").unwrap_or(after);
            if before.ends_with(b"\n--") && (after.is_empty() || after[0].is_ascii_whitespace()) {
                self.budget -= at;
                return Some(start + at);
            }
        }
        self.budget -= ahead.len();
        None
    }
}

/// `From sender Sat Nov 21 10:00:00 2026`, the zone and what else some write before or after the year left open.
fn is_from_line(text: &[u8]) -> bool {
    let near = &text[..text.len().min(300)];
    let line = memchr::memchr(b'\n', near).map_or(near, |end| &near[..end]);
    let Some(rest) = line.strip_prefix(b"From ") else { return false };
    let mut words = rest.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).skip(1);
    let is_time = |word: &[u8]| matches!(word, [a, b, b':', c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_digit()));
    let is_year = |word: &[u8]| word.len() == 4 && word.iter().all(u8::is_ascii_digit);
    words.any(is_time) && words.any(is_year)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Option<Vec<&str>> {
        Some(messages(text.as_bytes())?.map(|range| &text[range]).collect())
    }

    #[test]
    fn messages_are_told_from_sentences() {
        let one = "From a@b Sat Nov 21 10:00:00 2026\nSubject: 1\n\nhi\n\nFrom here to there\n\n";
        let two = "From - Sat Nov 21 10:00 +0100 2026\r\nSubject: 2\r\n\r\nhi\r\n\r\n";
        assert_eq!(split(one), None);
        assert_eq!(split(&format!("x\n\n{one}{one}")), None);
        assert_eq!(split(&format!("{one}{two}{one}")), Some(vec![one, two, one]));
        assert_eq!(split(""), None);
    }
}
