//! `tag=value; tag=value`, the form of signatures and keys (RFC 6376 section 3.2).

use std::ops::Range;

/// So many tags are read; those that are known are some fifteen.
const MOST: usize = 64;

/// The tags of a list, each with its value and where that stands; none twice.
#[derive(Debug)]
pub(super) struct Tags<'a>(Vec<(&'a str, &'a str, Range<usize>)>);

impl<'a> Tags<'a> {
    /// Reads a list in ASCII, folded or not; an error in words where it breaks the grammar.
    pub fn parse(text: &'a str) -> Result<Tags<'a>, String> {
        let mut tags: Vec<(&str, &str, Range<usize>)> = Vec::new();
        let mut at = 0;
        for piece in text.split(';') {
            let (start, end) = (at, at + piece.len());
            at = end + 1;
            if piece.trim_ascii().is_empty() {
                // Only behind the last semicolon may there be nothing.
                if end == text.len() {
                    break;
                }
                return Err("has an empty tag".into());
            }
            let (name, value) = piece.split_once('=').ok_or("has a tag without a value")?;
            let value_at = start + name.len() + 1;
            let name = name.trim_ascii();
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if name.is_empty() || !name.bytes().all(is_name) || !value.is_ascii() {
                return Err("has a tag that is none".into());
            }
            if tags.iter().any(|(known, ..)| *known == name) {
                return Err(format!("has {name}= twice"));
            }
            if tags.len() == MOST {
                return Err("has too many tags".into());
            }
            tags.push((name, value.trim_ascii(), value_at..end));
        }
        Ok(Tags(tags))
    }

    /// The value of a tag, without the blanks around it.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, ..)| *known == name).map(|(_, value, _)| *value)
    }

    /// Where the value of a tag stands in the text, with the blanks around it.
    pub fn place(&self, name: &str) -> Option<Range<usize>> {
        self.0.iter().find(|(known, ..)| *known == name).map(|(_, _, place)| place.clone())
    }

    /// The first tag of all.
    pub fn first(&self) -> Option<&'a str> {
        self.0.first().map(|(name, ..)| *name)
    }

    /// A value of words between colons, each without blanks.
    pub fn words(&self, name: &str) -> Option<Vec<&'a str>> {
        self.get(name).map(|value| value.split(':').map(str::trim_ascii).collect())
    }

    /// A value in base64, which may be folded.
    pub fn octets(&self, name: &str) -> Option<Vec<u8>> {
        let plain: Vec<u8> = self.get(name)?.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        base64_simd::STANDARD.decode_to_vec(plain).ok()
    }

    /// A value that is a decimal number, as seconds may be; an error in words where it is none.
    pub fn number(&self, name: &str) -> Result<Option<i64>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let is_number =
            !value.is_empty() && value.len() <= 12 && value.bytes().all(|byte| byte.is_ascii_digit());
        let number = value.parse().ok().filter(|_| is_number);
        number.map(Some).ok_or_else(|| format!("has {name}= with something that is no number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_tags() {
        let tags = Tags::parse(" v=1; h = from :\r\n\tto ; b=QQ\r\n ==;\r\n").unwrap();
        assert_eq!((tags.first(), tags.get("v"), tags.get("x")), (Some("v"), Some("1"), None));
        assert_eq!(tags.words("h").unwrap(), ["from", "to"]);
        assert_eq!(tags.octets("b").unwrap(), b"A");
        assert_eq!(tags.number("v"), Ok(Some(1)));
        assert!(tags.number("h").is_err() && tags.number("x") == Ok(None));
        for broken in ["a=1; a=2", "a", "=1", "a=1;;b=2", ";", "a b=1", "a=\u{e4}"] {
            assert!(Tags::parse(broken).is_err(), "{broken}");
        }
        let many: String = (0..70).map(|number| format!("a{number}=;")).collect();
        assert_eq!(Tags::parse(&many).unwrap_err(), "has too many tags");
    }
}
