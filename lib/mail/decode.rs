//! Transfer decoders: streaming, lenient, honest. Every repair is a note, and memory is one chunk of 64 KiB.

use std::io::{self, Write};

use super::param::Value;

mod base64;
mod quoted;
mod uu;

use base64::base64;
use quoted::quoted_printable;
use uu::uuencode;
pub use uu::{Found, find as find_uu, name as uu_name};

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

/// The first `limit` bytes of a decoded body, at the cost of a small piece of it, unless much of it decodes to nothing.
pub fn decode_head(encoding: &Encoding, body: &[u8], limit: usize) -> Vec<u8> {
    // A byte takes at most four in quoted-printable with soft breaks; the rest allows for blank lines and junk.
    let mut piece = limit.saturating_mul(8).min(body.len());
    loop {
        let mut head = Head { bytes: Vec::with_capacity(limit), limit };
        // The one error says that it is full.
        let _ = decode(encoding, &body[..piece], &mut head);
        if head.bytes.len() >= limit || piece == body.len() {
            return head.bytes;
        }
        piece = piece.saturating_mul(8).min(body.len());
    }
}

/// Takes the first bytes, and is an error once it has them all.
struct Head {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.limit - self.bytes.len());
        if taken == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use base64_simd::STANDARD;
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
    fn a_text_that_says_begin_is_no_uuencode() {
        for text in [
            "begin ",
            "begin \n",
            "x\nbegin \r\n#0V%T\nend\n",
            "x\nbegin 644\n#0V%T\nend\n",
            "begin 644 x\nno\n",
        ] {
            assert_eq!(find_uu(text.as_bytes(), 0), None, "{text:?}");
        }
        assert!(find_uu(b"begin \nbegin 644 x\n#0V%T\nend\n", 0).is_some());
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
