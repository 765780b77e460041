//! Structured header values: `token *(";" name "=" value)` (RFC 2045 section 5.1) with RFC 2231 parameters.
//!
//! Split first, decode after: an encoded word inside a value can never become structure.

use std::borrow::Cow;

use super::words;

/// More parameters than this in one value are left out; real ones have fewer than ten.
const MOST: usize = 4096;

/// A value such as `application/pdf; name="a.pdf"`.
#[derive(Debug, Default, Clone)]
pub struct Value {
    /// What stands before the first `;`, without comments and blanks, in lower case.
    pub token: String,
    params: Vec<(String, Raw)>,
}

/// A parameter's value as it stands.
#[derive(Debug, Clone)]
enum Raw {
    Plain(Vec<u8>),
    /// The inside of a quoted string.
    Quoted(Vec<u8>),
}

impl Raw {
    /// Without escapes: `quoted-pair = "\\" (VCHAR / WSP)` (RFC 5322 section 3.2.1).
    fn octets(&self) -> Cow<'_, [u8]> {
        match self {
            Raw::Quoted(text) if text.contains(&b'\\') => {
                let mut escaped = false;
                let keep = |b: &&u8| {
                    escaped = **b == b'\\' && !escaped;
                    !escaped
                };
                Cow::Owned(text.iter().filter(keep).copied().collect())
            }
            Raw::Plain(text) | Raw::Quoted(text) => Cow::Borrowed(text),
        }
    }
}

/// A parameter as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// The decoded text.
    pub text: String,
    /// The same read as a path.
    pub path: String,
}

/// QUIRK: Windows paths come with single backslashes, which are escapes by the RFC.
fn is_windows_path(inside: &[u8]) -> bool {
    matches!(inside, [drive, b':', b'\\', ..] if drive.is_ascii_alphabetic())
}

impl Value {
    /// Reads a folded header value; never fails, what makes no sense is left out.
    pub fn parse(value: &[u8]) -> Value {
        let value = words::unfold(value);
        let mut scan = Scan { rest: &value, closes: true };
        let token = scan.until(b';');
        let token = String::from_utf8_lossy(&token).trim().trim_matches('"').trim().to_ascii_lowercase();
        let mut params = Vec::new();
        while let Some(param) = scan.param() {
            if !param.0.is_empty() && params.len() < MOST {
                params.push(param);
            }
        }
        Value { token, params }
    }

    /// The raw value of a plain parameter; the first one where it stands twice (as Thunderbird takes it).
    pub fn raw(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.find(name).map(Raw::octets)
    }

    fn find(&self, name: &str) -> Option<&Raw> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// A parameter as text: the RFC 2231 form over the plain one; encoded words are decoded in both, since
    /// mailers mix them.
    pub fn get(&self, name: &str) -> Option<Param> {
        if let Some(text) = self.extended(name) {
            return Some(Param { path: text.clone(), text });
        }
        let raw = self.find(name)?;
        let text = words::decode(&raw.octets());
        let path = match raw {
            Raw::Quoted(inside) if is_windows_path(inside) => words::decode(inside),
            _ => text.clone(),
        };
        Some(Param { text, path })
    }

    /// `name*=charset'language'octets` or `name*0*=…; name*1=…` (RFC 2231 sections 3 and 4).
    fn extended(&self, name: &str) -> Option<String> {
        let mut segments: Vec<(usize, bool, Cow<[u8]>)> = Vec::new();
        for (key, value) in &self.params {
            let Some(tail) = key.strip_prefix(name).and_then(|tail| tail.strip_prefix('*')) else { continue };
            let (number, encoded) = match tail.strip_suffix('*') {
                Some(number) => (number, true),
                None => (tail, tail.is_empty()),
            };
            match number.parse() {
                Ok(number) => segments.push((number, encoded, value.octets())),
                Err(_) if number.is_empty() => segments.push((0, true, value.octets())),
                Err(_) => {}
            }
        }
        segments.sort_by_key(|(number, ..)| *number);
        segments.dedup_by_key(|(number, ..)| *number);
        // QUIRK: some count from 1.
        let first = segments.first().map(|(number, ..)| *number).filter(|number| *number < 2)?;
        let mut charset = Vec::new();
        let mut octets = Vec::new();
        for (at, (number, encoded, value)) in segments.iter().enumerate() {
            if *number != first + at {
                break;
            }
            let mut value: &[u8] = value;
            if at == 0
                && let Some((label, text)) = charset_of(value, *encoded)
            {
                charset = label.to_vec();
                value = text;
            }
            match encoded {
                true => unpercent(value, &mut octets),
                false => octets.extend_from_slice(value),
            }
        }
        // QUIRK: encoded words inside RFC 2231 values.
        if charset.is_empty() {
            return Some(words::decode(&octets));
        }
        Some(words::in_charset(&charset, &octets))
    }
}

/// `charset'language'rest`; without the two quotes the value is taken as it is.
fn charset_of(value: &[u8], encoded: bool) -> Option<(&[u8], &[u8])> {
    if !encoded {
        return None;
    }
    let first = value.iter().position(|b| *b == b'\'')?;
    let second = first + 1 + value[first + 1..].iter().position(|b| *b == b'\'')?;
    Some((&value[..first], &value[second + 1..]))
}

fn unpercent(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(words::hex(*high) << 4 | words::hex(*low));
                rest = after;
            }
            _ => out.push(byte),
        }
    }
}

struct Scan<'a> {
    rest: &'a [u8],
    /// False once no `)` is left, so that a flood of `(` costs one search.
    closes: bool,
}

impl Scan<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    /// Everything up to `end` or `;` (which is taken), without comments; quoted text stays whole.
    fn until(&mut self, end: u8) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(byte) = self.next() {
            match byte {
                b';' => break,
                _ if byte == end => break,
                b'(' => self.comment(),
                _ => out.push(byte),
            }
        }
        out
    }

    /// Comments nest (RFC 5322 section 3.2.2); an open one runs to the end of the value.
    fn comment(&mut self) {
        // QUIRK: without any closing bracket it is no comment; dropping the rest would lose the parameters.
        self.closes = self.closes && memchr::memchr(b')', self.rest).is_some();
        if !self.closes {
            return;
        }
        let mut depth = 1;
        while let Some(byte) = self.next() {
            match byte {
                b'\\' => drop(self.next()),
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn param(&mut self) -> Option<(String, Raw)> {
        self.skip_blanks();
        if self.rest.is_empty() {
            return None;
        }
        let mut name = Vec::new();
        let mut has_value = false;
        while let Some(byte) = self.next() {
            match byte {
                b'=' => {
                    has_value = true;
                    break;
                }
                b';' => break,
                _ => name.push(byte),
            }
        }
        let name = String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase();
        Some((name, if has_value { self.value() } else { Raw::Plain(Vec::new()) }))
    }

    fn value(&mut self) -> Raw {
        self.skip_blanks();
        if self.rest.first() == Some(&b'"') {
            self.next();
            let value = Raw::Quoted(self.quoted());
            // QUIRK: anything between the closing quote and the next `;` is dropped.
            self.until(b';');
            return value;
        }
        // QUIRK: an unquoted value with blanks (`filename=my invoice.pdf`) runs to the next `;`.
        let end = memchr::memchr(b';', self.rest).unwrap_or(self.rest.len());
        let value = self.rest[..end].trim_ascii().to_vec();
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        Raw::Plain(value)
    }

    /// A quoted string after its opening quote, escapes and all; an open one runs to the end of the value.
    fn quoted(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(byte) = self.next() {
            match byte {
                b'"' => break,
                b'\\' => {
                    out.push(byte);
                    out.extend(self.next());
                }
                _ => out.push(byte),
            }
        }
        out
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str, name: &str) -> Option<String> {
        Value::parse(value.as_bytes()).get(name).map(|param| param.text)
    }

    #[test]
    fn types_lose_comments_and_case() {
        assert_eq!(Value::parse(b"(c) Application/PDF (x); a=b").token, "application/pdf");
        assert_eq!(Value::parse(b"\"base64\" ; x").token, "base64");
    }

    #[test]
    fn rfc_2231_over_plain() {
        let value = "attachment; filename=plain.pdf; filename*1*=%A9.pdf; filename*0*=utf-8''r%C3";
        assert_eq!(text(value, "filename").as_deref(), Some("r\u{e9}.pdf"));
        assert_eq!(text("a; filename*=bogus''x%20y", "filename").as_deref(), Some("x y"));
        assert_eq!(
            text("a; filename*0=\"long \"; filename*1=name", "filename").as_deref(),
            Some("long name")
        );
    }

    #[test]
    fn broken_quoting() {
        assert_eq!(
            text("a; filename=my invoice 7.pdf; x=y", "filename").as_deref(),
            Some("my invoice 7.pdf")
        );
        assert_eq!(text("a; filename=\"open.pdf", "filename").as_deref(), Some("open.pdf"));
        let windows = Value::parse(br#"a; filename="C:\tmp\a.pdf""#).get("filename");
        assert_eq!(windows, Some(Param { text: "C:tmpa.pdf".into(), path: r"C:\tmp\a.pdf".into() }));
        assert_eq!(text(r#"a; filename="a\"b\\.pdf""#, "filename").as_deref(), Some(r#"a"b\.pdf"#));
        assert_eq!(text("a; filename=\"a;b.pdf\" junk; x=\"y\"", "x").as_deref(), Some("y"));
        assert_eq!(text("a;; ;filename=a", "filename").as_deref(), Some("a"));
    }

    #[test]
    fn a_word_cannot_break_out() {
        let value = "a; filename=\"=?utf-8?Q?x=22;_filename=3Dy?=\"";
        assert_eq!(text(value, "filename").as_deref(), Some("x\"; filename=y"));
    }
}
