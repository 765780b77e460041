//! The parts of a message and where they lie in its file, found in one pass without holding it in memory.
//!
//! RFC 2045 and 2046. A boundary line ends every part inside; the line end before it belongs to the boundary.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;

use super::header::{self, Parameters};

/// One part.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its header, with the empty line at the end, as places in the file.
    pub header: Range<u64>,
    pub body: Range<u64>,
    /// Lines of the body.
    pub lines: u64,
    /// The header's bytes, up to a limit.
    pub head: Vec<u8>,
    pub content: Parameters,
    pub inside: Inside,
}

/// What a part holds.
#[derive(Clone, Debug)]
pub enum Inside {
    Bytes,
    Parts(Vec<Part>),
    Message(Box<Part>),
}

/// Deeper parts, and more of them, are taken as plain bytes.
const MOST_DEPTH: usize = 30;
const MOST_PARTS: usize = 2000;
/// Header bytes kept for looking at fields.
const HEAD_LIMIT: usize = 1 << 20;
/// Of a longer line only so much is looked at; a boundary is never that long.
const LINE_LOOK: usize = 4096;

impl Part {
    /// The parts of a multipart; a message of one part is its own part 1 (RFC 3501 section 6.4.5).
    fn child(&self, number: u32) -> Option<&Part> {
        match &self.inside {
            Inside::Parts(parts) => parts.get(usize::try_from(number).ok()?.checked_sub(1)?),
            _ => (number == 1).then_some(self),
        }
    }

    /// The part with that path, from the message on.
    pub fn at(&self, path: &[u32]) -> Option<&Part> {
        let (first, rest) = path.split_first()?;
        let mut part = self.child(*first)?;
        for number in rest {
            part = match &part.inside {
                Inside::Message(inner) => inner.child(*number)?,
                Inside::Parts(_) => part.child(*number)?,
                Inside::Bytes => return None,
            };
        }
        Some(part)
    }

    /// Every part without parts inside, this one if it has none.
    pub fn leaves(&self) -> Vec<&Part> {
        match &self.inside {
            Inside::Bytes => vec![self],
            Inside::Parts(parts) => parts.iter().flat_map(Part::leaves).collect(),
            Inside::Message(inner) => inner.leaves(),
        }
    }

    /// True for `text/…`, and for parts that do not say what they are.
    pub fn is_text(&self) -> bool {
        self.content.value.starts_with(b"text/") || self.content.value.is_empty()
    }
}

/// Reads only the header of a message; the body is the rest.
pub fn head(file: impl Read, size: u64) -> io::Result<Part> {
    let mut scanner = Scanner::new(file);
    let mut part = scanner.header()?.0;
    part.body = part.header.end..size.max(part.header.end);
    Ok(part)
}

/// Reads all of a message.
pub fn whole(file: impl Read) -> io::Result<Part> {
    let mut scanner = Scanner::new(file);
    let (mut part, end) = scanner.part(0, b"text/plain")?;
    // Nothing is open at the end of the file, so the body goes up to it.
    debug_assert!(matches!(end, End::File));
    part.body.end = part.body.end.max(scanner.at);
    Ok(part)
}

/// What ended a part.
#[derive(Clone, Copy, Debug)]
enum End {
    File,
    /// A delimiter of the multipart at this depth in the stack.
    Boundary {
        depth: usize,
        last: bool,
    },
}

struct Line {
    start: u64,
    /// Its beginning, without the line end if it is short.
    text: Vec<u8>,
    /// Length of the line end; 0 at the end of the file.
    ending: u64,
}

struct Scanner<R> {
    input: BufReader<R>,
    at: u64,
    boundaries: Vec<Vec<u8>>,
    parts: usize,
    /// Length of the line end before the present line.
    ending_before: u64,
}

impl<R: Read> Scanner<R> {
    fn new(input: R) -> Self {
        let input = BufReader::with_capacity(128 * 1024, input);
        Scanner { input, at: 0, boundaries: Vec::new(), parts: 0, ending_before: 0 }
    }

    fn part(&mut self, depth: usize, default: &[u8]) -> io::Result<(Part, End)> {
        self.parts += 1;
        let (mut part, ended) = self.header()?;
        if part.content.value.is_empty() {
            part.content = Parameters { value: default.to_vec(), list: part.content.list };
        }
        if let Some(end) = ended {
            return Ok((part, end));
        }
        let first = self.at;
        let may_nest = depth < MOST_DEPTH && self.parts < MOST_PARTS;
        let boundary = part.content.get("boundary").map(<[u8]>::to_vec).filter(|b| !b.is_empty());
        let is_message = matches!(part.content.value.as_slice(), b"message/rfc822" | b"message/global");
        let end = match boundary {
            Some(boundary) if may_nest && part.content.value.starts_with(b"multipart/") => {
                let digest = part.content.value == b"multipart/digest";
                let default: &[u8] = if digest { b"message/rfc822" } else { b"text/plain" };
                let (parts, end, stop) = self.multipart(boundary, depth, default)?;
                part.inside = if parts.is_empty() { Inside::Bytes } else { Inside::Parts(parts) };
                part.body = first..stop.max(first);
                end
            }
            _ if may_nest && is_message && is_plain(&part.head) => {
                let (inner, end) = self.part(depth + 1, b"text/plain")?;
                part.body = first..inner.body.end.max(first);
                part.lines = inner.lines + count_lines(&inner.head);
                part.inside = Inside::Message(Box::new(inner));
                end
            }
            _ => {
                let (end, stop, lines) = self.skip()?;
                part.body = first..stop.max(first);
                part.lines = lines;
                end
            }
        };
        Ok((part, end))
    }

    /// The parts between the delimiters; preamble and epilogue are passed over.
    fn multipart(
        &mut self,
        boundary: Vec<u8>,
        depth: usize,
        default: &[u8],
    ) -> io::Result<(Vec<Part>, End, u64)> {
        let mine = self.boundaries.len();
        self.boundaries.push(boundary);
        let mut parts = Vec::new();
        let (mut end, mut stop, _) = self.skip()?;
        while let End::Boundary { depth: found, last: false } = end
            && found == mine
        {
            let (part, next) = self.part(depth + 1, default)?;
            stop = part.body.end;
            parts.push(part);
            end = next;
        }
        self.boundaries.truncate(mine);
        if let End::Boundary { depth: found, .. } = end
            && found == mine
        {
            (end, stop, _) = self.skip()?;
        }
        Ok((parts, end, stop))
    }

    /// Reads on to a boundary or the end; gives where the contents before it stop, and how many lines they have.
    fn skip(&mut self) -> io::Result<(End, u64, u64)> {
        let mut lines = 0;
        let first = self.at;
        while let Some(line) = self.line(false)? {
            if let Some(end) = self.boundary(&line.text) {
                // The line end before a delimiter is the delimiter's, unless nothing stands before it.
                let stop = if lines == 0 { first } else { line.start - self.ending_before };
                return Ok((end, stop, lines));
            }
            lines += 1;
            self.ending_before = line.ending;
        }
        Ok((End::File, self.at, lines))
    }

    fn header(&mut self) -> io::Result<(Part, Option<End>)> {
        let start = self.at;
        let mut head = Vec::new();
        let mut ended = None;
        let mut stop = start;
        loop {
            let Some(line) = self.line(true)? else {
                ended = Some(End::File);
                break;
            };
            if let Some(end) = self.boundary(&line.text) {
                ended = Some(end);
                break;
            }
            stop = self.at;
            if head.len() < HEAD_LIMIT {
                head.extend_from_slice(&line.text);
                head.extend_from_slice(if line.ending > 0 { b"\r\n" } else { b"" });
            }
            if line.text.is_empty() {
                break;
            }
        }
        let content = header::value(&head, "Content-Type").map(|v| Parameters::parse(&v)).unwrap_or_default();
        let body = stop..stop;
        Ok((Part { header: start..stop, body, lines: 0, head, content, inside: Inside::Bytes }, ended))
    }

    fn boundary(&self, line: &[u8]) -> Option<End> {
        let rest = line.strip_prefix(b"--")?;
        self.boundaries.iter().enumerate().rev().find_map(|(depth, boundary)| {
            let after = rest.strip_prefix(boundary.as_slice())?;
            let (last, after) = after.strip_prefix(b"--").map_or((false, after), |after| (true, after));
            after.iter().all(u8::is_ascii_whitespace).then_some(End::Boundary { depth, last })
        })
    }

    /// The next line; with `all`, up to the header limit of it, else only its beginning.
    fn line(&mut self, all: bool) -> io::Result<Option<Line>> {
        let start = self.at;
        let keep = if all { HEAD_LIMIT } else { LINE_LOOK };
        let mut text = Vec::new();
        let mut before = 0;
        loop {
            let piece = self.input.fill_buf()?;
            if piece.is_empty() {
                return Ok((self.at > start).then_some(Line { start, text, ending: 0 }));
            }
            let end = memchr::memchr(b'\n', piece);
            let body = piece.get(..end.unwrap_or(piece.len())).unwrap_or(piece);
            let room = keep.saturating_sub(text.len());
            text.extend_from_slice(body.get(..room.min(body.len())).unwrap_or(body));
            let last = body.last().copied().unwrap_or(before);
            let used = body.len() + usize::from(end.is_some());
            self.input.consume(used);
            self.at += used as u64;
            before = last;
            if end.is_some() {
                let cr = before == b'\r';
                if cr && text.last() == Some(&b'\r') {
                    text.pop();
                }
                return Ok(Some(Line { start, text, ending: if cr { 2 } else { 1 } }));
            }
        }
    }
}

fn is_plain(head: &[u8]) -> bool {
    let encoding = header::value(head, "Content-Transfer-Encoding").unwrap_or_default().to_ascii_lowercase();
    !matches!(encoding.as_slice(), b"base64" | b"quoted-printable")
}

fn count_lines(head: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', head).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &[u8] = b"Subject: x\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\npreamble\r\n--b\r\n\r\nhello\r\nyou\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\nContent-Type: multipart/mixed; boundary=b2\r\n\r\n--b2\r\n\r\ndeep\r\n--b2--\r\n--b\r\nContent-Type: application/pdf\r\n\r\n--b--\r\nepilogue\r\n";

    fn text(range: &Range<u64>) -> &'static str {
        std::str::from_utf8(&MAIL[range.start as usize..range.end as usize]).unwrap()
    }

    #[test]
    fn parts_lie_where_they_lie() {
        let root = whole(MAIL).unwrap();
        assert_eq!(text(&root.at(&[1]).unwrap().body), "hello\r\nyou");
        assert_eq!(root.at(&[1]).unwrap().lines, 2);
        assert_eq!(text(&root.at(&[2, 1]).unwrap().body), "deep");
        assert_eq!(text(&root.at(&[2]).unwrap().header), "Content-Type: message/rfc822\r\n\r\n");
        assert!(text(&root.at(&[2]).unwrap().body).starts_with("Subject: in"));
        assert_eq!(text(&root.at(&[3]).unwrap().body), "");
        assert_eq!(root.body.end, MAIL.len() as u64);
        assert!(root.at(&[4]).is_none() && root.at(&[1, 2]).is_none() && root.at(&[]).is_none());
        assert_eq!(root.leaves().len(), 3);
    }

    #[test]
    fn a_plain_message_is_its_own_part() {
        let mail = b"Subject: x\n\none\ntwo";
        let root = whole(&mail[..]).unwrap();
        assert_eq!(root.at(&[1]).unwrap().body, 12..19);
        assert_eq!(root.lines, 2);
        assert_eq!(head(&mail[..], 19).unwrap().body, 12..19);
        assert_eq!(whole(&b"Subject: only a header"[..]).unwrap().header, 0..22);
        assert_eq!(whole(&b""[..]).unwrap().body, 0..0);
    }

    #[test]
    fn boundaries_without_end_do_not_nest_for_ever() {
        let mail = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n".repeat(5000);
        assert!(whole(&mail[..]).is_ok());
    }
}
