//! Transfer decoders: streaming, lenient, honest. Every repair is a note, and memory is one chunk of 64 KiB.

use std::io::{self, Write};

use base64_simd::{Out, STANDARD};

use super::param::Value;
use super::words::hex;

/// How much is decoded at a time.
const CHUNK: usize = 64 * 1024;

/// A `Content-Transfer-Encoding` (RFC 2045 section 6).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Encoding {
    /// 7bit, 8bit, binary or none: the bytes as they stand.
    #[default]
    Identity,
    /// RFC 2045 section 6.8.
    Base64,
    /// RFC 2045 section 6.7.
    QuotedPrintable,
    /// `x-uuencode`, as POSIX describes uuencode.
    Uuencode,
    /// Something else: the bytes are left as they are.
    Unknown(String),
}

impl Encoding {
    /// Reads the field's value; comments, quotes, parameters, blanks and case do not matter.
    pub fn parse(value: &[u8]) -> Encoding {
        let token = Value::parse(value).token;
        // QUIRK: spellings that old gateways write.
        match token.trim_end_matches(['.', ',', ':']) {
            "" | "7bit" | "8bit" | "binary" | "7-bit" | "8-bit" | "7 bit" | "8 bit" | "none" | "plain" => {
                Encoding::Identity
            }
            "base64" | "base-64" | "x-base64" | "b" => Encoding::Base64,
            "quoted-printable" | "quoted_printable" | "quoted printable" | "quoted/printable" | "qp"
            | "q" => Encoding::QuotedPrintable,
            "x-uuencode" | "uuencode" | "x-uue" | "uue" | "x-uu" => Encoding::Uuencode,
            other => Encoding::Unknown(other.to_string()),
        }
    }
}

/// What decoding gave besides the bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decoded {
    /// How many bytes were written.
    pub size: u64,
    /// What was repaired, in words.
    pub notes: Vec<String>,
}

/// Decodes `body` into `out`, chunk by chunk. Damage is repaired and noted; an error is always `out`'s.
pub fn decode(encoding: &Encoding, body: &[u8], out: &mut impl Write) -> io::Result<Decoded> {
    let mut sink = Sink { out, size: 0 };
    let notes = match encoding {
        Encoding::Identity => sink.put(body).map(|()| Vec::new()),
        Encoding::Base64 => base64(body, &mut sink),
        Encoding::QuotedPrintable => quoted_printable(body, &mut sink),
        Encoding::Uuencode => uuencode(body, &mut sink),
        Encoding::Unknown(name) => {
            sink.put(body)?;
            Ok(vec![format!("unknown transfer encoding \"{name}\": bytes left as they are")])
        }
    }?;
    Ok(Decoded { size: sink.size, notes })
}

/// The first `limit` bytes of a decoded body, at the cost of a small piece of it.
pub fn decode_head(encoding: &Encoding, body: &[u8], limit: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(limit * 4);
    // A byte takes at most four in quoted-printable with soft breaks; the rest allows for blank lines and junk.
    let piece = &body[..body.len().min(limit * 8)];
    // A Vec takes everything.
    let _ = decode(encoding, piece, &mut head);
    head.truncate(limit);
    head
}

struct Sink<'a, W> {
    out: &'a mut W,
    size: u64,
}

impl<W: Write> Sink<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.size += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

/// Lines of `body` without their ends; a long one comes in pieces of at most [`CHUNK`].
fn next_line<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], bool)> {
    if rest.is_empty() {
        return None;
    }
    let near = &rest[..rest.len().min(CHUNK)];
    let (line, tail, ended) = match memchr::memchr(b'\n', near) {
        Some(end) => (&rest[..end], &rest[end + 1..], true),
        None => (near, &rest[near.len()..], near.len() == rest.len()),
    };
    *rest = tail;
    Some((line, ended))
}

fn base64(body: &[u8], sink: &mut Sink<impl Write>) -> io::Result<Vec<String>> {
    let mut reader =
        Base64 { pending: Vec::with_capacity(2 * CHUNK), out: vec![0; 2 * CHUNK], ..Base64::default() };
    let mut rest = body;
    let mut some = false;
    let mut was_blank = false;
    while let Some((line, _)) = next_line(&mut rest) {
        let line = line.trim_ascii();
        // Only the first of many blank lines looks ahead, or a flood of them would cost quadratic time.
        let ends = if line.is_empty() { !was_blank } else { reader.is_closed() };
        if some && ends && reader.is_footer(line, rest) {
            reader.footer = true;
            break;
        }
        was_blank = line.is_empty();
        some |= !was_blank;
        reader.pending.extend_from_slice(line);
        if reader.pending.len() >= CHUNK {
            reader.drain(sink)?;
        }
    }
    reader.drain(sink)?;
    reader.finish(sink)?;
    Ok(reader.notes())
}

#[derive(Default)]
struct Base64 {
    pending: Vec<u8>,
    out: Vec<u8>,
    junk: u64,
    unpadded: bool,
    lost: bool,
    footer: bool,
}

impl Base64 {
    /// True where an encoder could have stopped with padding.
    fn is_closed(&self) -> bool {
        self.pending.last() == Some(&b'=')
    }

    /// QUIRK: list servers and scanners append text after the base64 of a part; what follows padding or a blank
    /// line and is no base64 itself is such text, not data.
    fn is_footer(&self, line: &[u8], rest: &[u8]) -> bool {
        let mut rest = rest;
        let mut line = line;
        while line.is_empty() {
            match next_line(&mut rest) {
                Some((next, _)) => line = next.trim_ascii(),
                None => return false,
            }
        }
        let foreign = line.iter().filter(|b| VALUES[usize::from(**b)] > 63 && **b != b'=').count();
        foreign * 8 > line.len()
    }

    /// Decodes whole groups of four; up to three characters stay pending.
    fn drain(&mut self, sink: &mut Sink<impl Write>) -> io::Result<()> {
        let whole = self.pending.len() / 4 * 4;
        let room = Out::from_slice(&mut self.out);
        if let Ok(bytes) = STANDARD.decode(&self.pending[..whole], room) {
            sink.put(bytes)?;
            self.pending.drain(..whole);
            return Ok(());
        }
        self.drain_slowly(sink)
    }

    /// The same for damaged data: skips what is no base64, takes padding in the middle as the end of a group.
    fn drain_slowly(&mut self, sink: &mut Sink<impl Write>) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let mut bytes = Vec::with_capacity(pending.len() / 4 * 3 + 3);
        for byte in pending {
            match byte {
                b'=' => self.close_group(&mut bytes, true),
                b'\t' | b' ' | b'\r' => {}
                other if VALUES[usize::from(other)] > 63 => self.junk += 1,
                other => {
                    self.pending.push(other);
                    if self.pending.len() == 4 {
                        push_group(&self.pending, &mut bytes);
                        self.pending.clear();
                    }
                }
            }
        }
        sink.put(&bytes)
    }

    /// Ends a group of fewer than four characters.
    fn close_group(&mut self, bytes: &mut Vec<u8>, padded: bool) {
        let have = self.pending.len();
        match have {
            0 => return,
            1 => self.lost = true,
            _ => {
                self.unpadded |= !padded;
                let mut group = std::mem::take(&mut self.pending);
                group.resize(4, b'A');
                let keep = bytes.len() + have - 1;
                push_group(&group, bytes);
                bytes.truncate(keep);
            }
        }
        self.pending.clear();
    }

    fn finish(&mut self, sink: &mut Sink<impl Write>) -> io::Result<()> {
        if self.pending.contains(&b'=') {
            self.drain_slowly(sink)?;
        }
        if self.pending.iter().any(|b| VALUES[usize::from(*b)] > 63) {
            self.drain_slowly(sink)?;
        }
        let mut bytes = Vec::new();
        self.close_group(&mut bytes, false);
        sink.put(&bytes)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.junk > 0 {
            notes.push(format!("base64: {} foreign bytes skipped", self.junk));
        }
        if self.unpadded {
            notes.push("base64: padding missing at the end".to_string());
        }
        if self.lost {
            notes.push("base64: a lone character at the end of a group dropped".to_string());
        }
        if self.footer {
            notes.push("base64: text after its end left out".to_string());
        }
        notes
    }
}

fn push_group(group: &[u8], bytes: &mut Vec<u8>) {
    let bits = group.iter().fold(0u32, |bits, b| bits << 6 | u32::from(VALUES[usize::from(*b)] & 63));
    bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
}

/// The value of each base64 character, 64 for all others.
const VALUES: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut values = [64; 256];
    let mut at = 0;
    while at < 64 {
        values[alphabet[at] as usize] = at as u8;
        at += 1;
    }
    values
};

/// `=XX` octets, `=` at a line's end joins lines, blanks before a line end are transport padding (rule 3).
fn quoted_printable(body: &[u8], sink: &mut Sink<impl Write>) -> io::Result<Vec<String>> {
    let mut out = Vec::with_capacity(2 * CHUNK);
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

/// `begin MODE NAME`, lines of a length character and groups of four, `end`.
fn uuencode(body: &[u8], sink: &mut Sink<impl Write>) -> io::Result<Vec<String>> {
    let mut out = Vec::with_capacity(2 * CHUNK);
    let mut rest = body;
    let mut state = Uu::Before;
    let mut short = 0u64;
    while let Some((line, _)) = next_line(&mut rest) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match state {
            Uu::Before if line.starts_with(b"begin ") => state = Uu::Inside,
            Uu::Inside if line.trim_ascii() == b"end" => {
                state = Uu::After;
                break;
            }
            Uu::Inside => short += u64::from(!uu_line(line, &mut out)),
            _ => {}
        }
        if out.len() >= CHUNK {
            sink.put(&out)?;
            out.clear();
        }
    }
    sink.put(&out)?;
    let mut notes = Vec::new();
    if state == Uu::Before {
        // QUIRK: some label plain bytes so; without a `begin` line there is nothing to decode.
        sink.put(body)?;
        notes.push("uuencode: no begin line, bytes left as they are".to_string());
    }
    if state == Uu::Inside {
        notes.push("uuencode: the end line is missing".to_string());
    }
    if short > 0 {
        notes.push(format!("uuencode: {short} lines shorter than they say"));
    }
    Ok(notes)
}

#[derive(PartialEq, Clone, Copy)]
enum Uu {
    Before,
    Inside,
    After,
}

/// Decodes one line; false if characters are missing (taken as blanks, which transports strip).
fn uu_line(line: &[u8], out: &mut Vec<u8>) -> bool {
    let Some((&first, data)) = line.split_first() else { return true };
    let want = usize::from(first.wrapping_sub(b' ') & 63);
    let start = out.len();
    let mut groups = data.chunks(4);
    while out.len() - start < want {
        let group = groups.next().unwrap_or_default();
        let at = |k: usize| u32::from(group.get(k).copied().unwrap_or(b' ').wrapping_sub(b' ') & 63);
        let bits = at(0) << 18 | at(1) << 12 | at(2) << 6 | at(3);
        out.extend_from_slice(&bits.to_be_bytes()[1..]);
    }
    out.truncate(start + want);
    data.len() * 3 / 4 >= want
}

/// The file name on the `begin` line of a uuencoded body.
pub fn uu_name(body: &[u8]) -> Option<Vec<u8>> {
    let mut rest = body;
    for _ in 0..100 {
        let (line, _) = next_line(&mut rest)?;
        if let Some(tail) = line.strip_prefix(b"begin ") {
            let tail = tail.trim_ascii();
            let name = tail.iter().position(|b| *b == b' ').map(|at| tail[at + 1..].trim_ascii())?;
            return (!name.is_empty()).then(|| name.to_vec());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(encoding: Encoding, body: &[u8]) -> (Vec<u8>, String) {
        let mut out = Vec::new();
        let decoded = decode(&encoding, body, &mut out).unwrap();
        assert_eq!(decoded.size, out.len() as u64);
        (out, decoded.notes.join("; "))
    }

    fn b64(body: &str) -> (String, String) {
        let (bytes, notes) = run(Encoding::Base64, body.as_bytes());
        (String::from_utf8(bytes).unwrap(), notes)
    }

    fn clean(text: &str) -> (String, String) {
        (text.to_string(), String::new())
    }

    #[test]
    fn base64_as_it_should_be() {
        assert_eq!(b64("aGVsbG8gd29ybGQ=\r\n"), clean("hello world"));
        assert_eq!(b64("aGVs\nbG8gd2\n9ybGQ="), clean("hello world"));
        assert_eq!(b64(""), clean(""));
    }

    #[test]
    fn base64_repaired() {
        assert_eq!(b64("aGVsbG8gd29ybGQ").0, "hello world");
        assert!(b64("aGVsbG8gd29ybGQ").1.contains("padding"));
        assert_eq!(
            b64("aGVs!bG8*gd29ybGQ="),
            ("hello world".into(), "base64: 2 foreign bytes skipped".into())
        );
        assert_eq!(b64("aGk=aGk=").0, "hihi");
        assert_eq!(b64("aGk=\r\naGk=\r\n").0, "hihi");
        let footer = b64("aGVsbG8gd29ybGQ=\r\n\r\n_____\r\nThis list is great\r\n");
        assert_eq!(footer, ("hello world".into(), "base64: text after its end left out".into()));
        assert_eq!(b64("aGVsbG8gd29ybGQ=\n-- \nlist").0, "hello world");
        assert_eq!(b64("aGk==="), clean("hi").clone());
        assert!(b64("aGVsb").1.contains("dropped"));
        assert_eq!(b64("aGVs\r\n\r\nbG8gd29ybGQ=").0, "hello world");
        assert_eq!(b64(&format!("aGVs{}bG8=", "\n".repeat(1 << 22))).0, "hello");
    }

    #[test]
    fn quoted_printable_keeps_carriage_returns() {
        let run = |body: &[u8]| run(Encoding::QuotedPrintable, body);
        assert_eq!(run(b"a=0D=0A\rb=\r\nc=\nd \r\n").0, b"a\r\n\rbcd\r\n");
        assert_eq!(
            run(b"x=ZZy=3d= \t\nz="),
            (b"x=ZZy=z".to_vec(), "quoted-printable: 1 bad escapes left as they are".into())
        );
    }

    #[test]
    fn uuencode_with_stripped_blanks() {
        let (bytes, notes) = run(Encoding::Uuencode, b"begin 644 a.txt\n%:&5L;&\\\n`\nend\n");
        assert_eq!((bytes.as_slice(), notes.as_str()), (&b"hello"[..], ""));
        assert_eq!(uu_name(b"\nbegin 644 my file.txt\r\n").as_deref(), Some(&b"my file.txt"[..]));
    }

    #[test]
    fn labels_as_mailers_write_them() {
        assert_eq!(Encoding::parse(b"base64 "), Encoding::Base64);
        assert_eq!(Encoding::parse(b"\"BASE64\"; x"), Encoding::Base64);
        assert_eq!(Encoding::parse(b"(c) Quoted-Printable"), Encoding::QuotedPrintable);
        assert_eq!(Encoding::parse(b""), Encoding::Identity);
        assert_eq!(Encoding::parse(b"x-gzip64"), Encoding::Unknown("x-gzip64".into()));
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(bytes: Vec<u8>, width in 1usize..100, long in 0usize..3) {
            let bytes = bytes.repeat(1 + long * 700);
            let text = STANDARD.encode_to_string(&bytes);
            let lines: Vec<_> = text.as_bytes().chunks(width).collect();
            prop_assert_eq!(run(Encoding::Base64, &lines.join(&b"\r\n"[..])), (bytes, String::new()));
        }

        #[test]
        fn nothing_panics(body: Vec<u8>) {
            for encoding in [Encoding::Base64, Encoding::QuotedPrintable, Encoding::Uuencode] {
                run(encoding.clone(), &body);
                decode_head(&encoding, &body, 16);
            }
        }
    }
}
