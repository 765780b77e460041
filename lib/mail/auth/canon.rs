//! The forms of header and body that are signed (RFC 6376 section 3.4).
//!
//! Lines end in CRLF there. A message that is stored with LF is read as if each were a CRLF; in one with CRLF a lone LF
//! is an octet like any other.

use sha2::{Digest, Sha256};

use super::fields::Field;

/// How header or body are made comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Simple,
    Relaxed,
}

/// Adds a field to what is signed, with its line end; `gap` is left out of its raw bytes.
pub(super) fn field(field: &Field<'_>, gap: Option<std::ops::Range<usize>>, form: Form, out: &mut Vec<u8>) {
    let mut raw = field.raw.to_vec();
    if let Some(gap) = gap {
        raw.drain(gap);
    }
    match form {
        Form::Simple => {
            for byte in raw.iter().filter(|byte| **byte != b'\r') {
                if *byte == b'\n' {
                    out.push(b'\r');
                }
                out.push(*byte);
            }
        }
        Form::Relaxed => {
            out.extend(field.name.bytes().map(|byte| byte.to_ascii_lowercase()));
            out.push(b':');
            let value: Vec<u8> =
                raw[field.value_at..].iter().copied().filter(|byte| !b"\r\n".contains(byte)).collect();
            let mut words = value.split(|byte| b" \t".contains(byte)).filter(|word| !word.is_empty());
            if let Some(first) = words.next() {
                out.extend_from_slice(first);
            }
            words.for_each(|word| {
                out.push(b' ');
                out.extend_from_slice(word);
            });
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The digest of a body in that form, and how many octets it has there. Copies nothing, whatever the length.
pub(super) fn body(body: &[u8], is_wire: bool, form: Form) -> ([u8; 32], u64) {
    let mut digest = Counted { digest: Sha256::new(), octets: 0 };
    let (mut at, mut empty_lines, mut is_any) = (0, 0u64, false);
    while at < body.len() {
        let end = line_end(body, at, is_wire);
        let mut line = &body[at..end];
        at = (end + 1).min(body.len());
        if end < body.len() || !is_wire {
            line = line.strip_suffix(b"\r").unwrap_or(line);
        }
        if form == Form::Relaxed {
            let kept = line.iter().rposition(|byte| !b" \t".contains(byte)).map_or(0, |last| last + 1);
            line = &line[..kept];
        }
        if line.is_empty() {
            empty_lines += 1;
            continue;
        }
        for _ in 0..std::mem::take(&mut empty_lines) {
            digest.add(b"\r\n");
        }
        is_any = true;
        match form {
            Form::Simple => digest.add(line),
            Form::Relaxed => digest.add_with_single_blanks(line),
        }
        digest.add(b"\r\n");
    }
    if !is_any && form == Form::Simple {
        digest.add(b"\r\n");
    }
    (digest.digest.finalize().into(), digest.octets)
}

/// Where the line that begins at `at` ends: at its LF, or at the end.
fn line_end(body: &[u8], at: usize, is_wire: bool) -> usize {
    let mut from = at;
    while let Some(found) = memchr::memchr(b'\n', &body[from..]) {
        let end = from + found;
        if !is_wire || end > at && body[end - 1] == b'\r' {
            return end;
        }
        from = end + 1;
    }
    body.len()
}

struct Counted {
    digest: Sha256,
    octets: u64,
}

impl Counted {
    fn add(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.octets += bytes.len() as u64;
    }

    fn add_with_single_blanks(&mut self, line: &[u8]) {
        let mut rest = line;
        while let Some(at) = memchr::memchr2(b' ', b'\t', rest) {
            self.add(&rest[..at]);
            self.add(b" ");
            let blanks = rest[at..].iter().take_while(|byte| b" \t".contains(byte)).count();
            rest = &rest[at + blanks..];
        }
        self.add(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::Head;
    use super::*;

    fn digest(text: &[u8]) -> ([u8; 32], u64) {
        (Sha256::digest(text).into(), text.len() as u64)
    }

    /// RFC 6376 section 3.4.5, on the wire and as stored with LF.
    #[test]
    fn the_example_of_the_rfc() {
        let wire = b"A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n\r\n\r\n".to_vec();
        let stored: Vec<u8> = wire.iter().copied().filter(|byte| *byte != b'\r').collect();
        for message in [wire, stored] {
            let head = Head::of(&message).unwrap();
            let fields = |form| {
                let mut out = Vec::new();
                head.fields.iter().for_each(|each| field(each, None, form, &mut out));
                out
            };
            assert_eq!(fields(Form::Relaxed), b"a:X\r\nb:Y Z\r\n");
            assert_eq!(fields(Form::Simple), b"A: X\r\nB : Y\t\r\n\tZ  \r\n");
            assert_eq!(body(head.body, head.is_wire, Form::Relaxed), digest(b" C\r\nD E\r\n"));
            assert_eq!(body(head.body, head.is_wire, Form::Simple), digest(b" C \r\nD \t E\r\n"));
        }
    }

    #[test]
    fn ends_of_bodies() {
        for (text, simple, relaxed) in [
            ("", "\r\n", ""),
            ("\r\n\r\n", "\r\n", ""),
            (" \r\n", " \r\n", ""),
            ("a", "a\r\n", "a\r\n"),
            ("a\r\n\r\nb\r\n \r\n", "a\r\n\r\nb\r\n \r\n", "a\r\n\r\nb\r\n"),
            ("a\nb\r\n", "a\nb\r\n", "a\nb\r\n"),
            ("\n\r\n", "\n\r\n", "\n\r\n"),
            ("a  \t b\r\n", "a  \t b\r\n", "a b\r\n"),
        ] {
            assert_eq!(body(text.as_bytes(), true, Form::Simple), digest(simple.as_bytes()), "{text:?}");
            assert_eq!(body(text.as_bytes(), true, Form::Relaxed), digest(relaxed.as_bytes()), "{text:?}");
        }
        assert_eq!(body(b"a\nb\r\n\n", false, Form::Simple), digest(b"a\r\nb\r\n"));
    }
}
