//! Lines: where a head ends, and which line is a boundary of an open multipart (RFC 2046 section 5.1.1).

use std::collections::HashMap;
use std::ops::Range;

/// A boundary longer than this is no boundary; the RFC allows 70.
const LONGEST: usize = 1000;
/// How far a guess looks for a line that could be a boundary.
const GUESS: usize = 64 * 1024;

/// The open boundaries by their text, so that a line costs one look whatever the depth.
#[derive(Debug, Default)]
pub struct Boundaries {
    levels: HashMap<Vec<u8>, Vec<usize>>,
    stack: Vec<(Vec<u8>, usize)>,
    longest: usize,
}

/// A boundary line that was found.
#[derive(Debug, PartialEq, Eq)]
pub struct Hit {
    /// Which level it belongs to.
    pub level: usize,
    /// True for the last boundary (`--x--`).
    pub closes: bool,
    /// Where what stands before it ends; the line end in front belongs to the boundary.
    pub body_end: usize,
    /// Where the next line begins.
    pub after: usize,
}

impl Boundaries {
    /// True if no multipart is open.
    pub fn is_empty(&self) -> bool {
        self.stack.is_empty()
    }

    /// Opens a boundary for a level.
    pub fn push(&mut self, boundary: Vec<u8>, level: usize) {
        if boundary.len() > LONGEST {
            return;
        }
        self.longest = self.longest.max(boundary.len());
        self.levels.entry(boundary.clone()).or_default().push(level);
        self.stack.push((boundary, level));
    }

    /// Closes the boundaries of this level and those inside it.
    pub fn close(&mut self, level: usize) {
        while self.stack.last().is_some_and(|(_, last)| *last >= level) {
            let Some((boundary, _)) = self.stack.pop() else { return };
            if let Some(levels) = self.levels.get_mut(&boundary) {
                levels.pop();
                if levels.is_empty() {
                    self.levels.remove(&boundary);
                }
            }
        }
    }

    /// The next boundary line at or after `at`, where a line begins.
    pub fn find(&self, bytes: &[u8], at: usize, end: usize) -> Option<Hit> {
        if self.is_empty() {
            return None;
        }
        if let Some(hit) = self.line(bytes, at, at, end) {
            return Some(hit);
        }
        let finder = memchr::memmem::find_iter(&bytes[at..end], b"\n--");
        finder.map(|found| at + found + 1).find_map(|line| self.line(bytes, at, line, end))
    }

    /// Looks at the one line that begins at `line`; `floor` is where the text before it begins.
    fn line(&self, bytes: &[u8], floor: usize, line: usize, end: usize) -> Option<Hit> {
        let rest = bytes[line..end].strip_prefix(b"--")?;
        // Blanks after a boundary are transport padding.
        let near = &rest[..rest.len().min(self.longest + 200)];
        let (text, after) = match memchr::memchr(b'\n', near) {
            Some(at) => (&near[..at], line + 2 + at + 1),
            None if near.len() == rest.len() => (near, end),
            None => return None,
        };
        let text = text.trim_ascii_end();
        let (level, closes) = match self.level_of(text) {
            Some(level) => (level, false),
            None => (self.level_of(text.strip_suffix(b"--")?)?, true),
        };
        let mut body_end = line;
        for before in [b'\n', b'\r'] {
            if body_end > floor && bytes[body_end - 1] == before {
                body_end -= 1;
            } else {
                break;
            }
        }
        Some(Hit { level, closes, body_end, after })
    }

    fn level_of(&self, text: &[u8]) -> Option<usize> {
        self.levels.get(text).and_then(|levels| levels.last().copied())
    }
}

/// A head that was read.
#[derive(Debug)]
pub struct Head {
    /// Its fields.
    pub range: Range<usize>,
    /// Where the body begins, or the boundary line that came instead of an empty line.
    pub body: usize,
    /// True if it was longer than the limit; the rest was skipped.
    pub cut: bool,
}

/// Reads the fields that begin at `at`: up to an empty line, a boundary line or the end.
pub fn read_head(bytes: &[u8], at: usize, end: usize, limit: usize, open: &Boundaries) -> Head {
    let mut line = at;
    let range_to = |stop: usize| at..stop.min(at.saturating_add(limit));
    while line < end {
        let rest = &bytes[line..end];
        let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |found| found + 1);
        let text = &rest[..length];
        let done = |body: usize| Head { range: range_to(line), body, cut: line - at > limit };
        if text.trim_ascii_end().is_empty() && !matches!(text.first(), Some(b' ' | b'\t')) {
            return done(line + length);
        }
        // QUIRK: a lone carriage return instead of the empty line.
        if text.len() > 1 && text[0] == b'\r' {
            return done(line + 1);
        }
        if text.starts_with(b"--") && open.line(bytes, line, line, end).is_some() {
            return done(line);
        }
        // QUIRK: a part that begins with text at once has no head.
        if line == at && !open.is_empty() && !is_field(text) {
            return done(line);
        }
        line += length;
    }
    Head { range: range_to(end), body: end, cut: end - at > limit }
}

/// True if one of these lines begins a field that says what a body is and how it is encoded; `lines` begins with one.
pub fn speaks_of_body(lines: &[u8]) -> bool {
    let names = [&b"content-type"[..], b"content-disposition", b"content-transfer-encoding"];
    std::iter::once(0).chain(memchr::memchr_iter(b'\n', lines).map(|at| at + 1)).any(|at| {
        let line = &lines[at..];
        names.iter().any(|name| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))
    })
}

/// `field-name ":"`: printable characters without blanks; blanks before the colon are obsolete but seen.
pub(super) fn is_field(line: &[u8]) -> bool {
    let Some(colon) = memchr::memchr(b':', line) else { return false };
    let name = line[..colon].trim_ascii_end();
    !name.is_empty() && name.iter().all(|b| b.is_ascii_graphic())
}

/// True if a line of `body` is this boundary.
pub fn is_used(boundary: &[u8], body: &[u8]) -> bool {
    let mut open = Boundaries::default();
    open.push(boundary.to_vec(), 0);
    open.find(body, 0, body.len()).is_some()
}

/// The boundary that a multipart body seems to use: the first line `--x` with a field of a part after it.
pub fn guess(body: &[u8]) -> Option<Vec<u8>> {
    let near = &body[..body.len().min(GUESS)];
    let mut lines = near.split(|b| *b == b'\n').peekable();
    while let Some(line) = lines.next() {
        let Some(text) = line.strip_prefix(b"--") else { continue };
        let text = text.trim_ascii_end();
        let next = lines.peek().copied().unwrap_or_default();
        let begins_part = next.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-"));
        if !text.is_empty() && text.len() <= LONGEST && begins_part && is_field(next) {
            return Some(text.to_vec());
        }
    }
    None
}
