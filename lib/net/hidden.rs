//! What must not be shown: a secret and what is said with it to log in, however a server gives them back.
//!
//! Whoever sees a server's words (errors, records, heartbeats, the trace) sees them with these taken out: as they are,
//! in any case of letters, as they stand in a quoted string, and in base64, alone or as part of something longer.

use std::borrow::Cow;
use std::ops::Range;

use zeroize::Zeroizing;

use crate::secret::Secret;

/// What stands in its place.
const COVER: &str = "(secret)";
/// Words of a server are shown up to here.
const LONGEST: usize = 2000;
/// Fewer characters of base64 say nothing, and occur by chance.
const SHORTEST: usize = 3;

/// Texts that are taken out; none by default.
#[derive(Default)]
pub(super) struct Hidden(Vec<Pattern>);

struct Pattern {
    /// In lower case.
    text: Zeroizing<String>,
    /// It may be part of something longer, which goes with it.
    is_base64: bool,
}

impl Hidden {
    /// Hides a secret from now on.
    pub fn learn(&mut self, secret: &Secret) {
        let secret = secret.reveal();
        self.add(secret, false);
        self.add(&Zeroizing::new(secret.replace('\\', "\\\\").replace('"', "\\\"")), false);
        self.say(secret);
        // Where the secret stands somewhere in what was encoded: the characters that it alone decides.
        for before in 0..3 {
            let bytes = Zeroizing::new([&b"\0\0"[..before], secret.as_bytes()].concat());
            let text = Zeroizing::new(base64_simd::STANDARD_NO_PAD.encode_to_string(&*bytes));
            let own = (before * 8).div_ceil(6)..bytes.len() * 8 / 6;
            self.add(text.get(own).filter(|own| own.len() >= SHORTEST).unwrap_or_default(), true);
        }
    }

    /// Hides what goes over the line in base64.
    pub fn say(&mut self, text: &str) {
        self.add(&Zeroizing::new(base64_simd::STANDARD.encode_to_string(text)), true);
    }

    /// Hides this text.
    pub fn add_text(&mut self, text: &str) {
        self.add(text, false);
    }

    fn add(&mut self, text: &str, is_base64: bool) {
        if !text.is_empty() {
            self.0.push(Pattern { text: Zeroizing::new(text.to_ascii_lowercase()), is_base64 });
        }
    }

    /// The text without what is hidden.
    pub fn cover<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.0.is_empty() {
            return Cow::Borrowed(text);
        }
        let lower = Zeroizing::new(text.to_ascii_lowercase());
        let mut found: Vec<Range<usize>> =
            self.0.iter().flat_map(|pattern| pattern.places(lower.as_bytes())).collect();
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        found.sort_unstable_by_key(|place| place.start);
        let (mut out, mut from) = (String::with_capacity(text.len()), 0);
        for place in found {
            if place.start >= from {
                out.push_str(text.get(from..place.start).unwrap_or_default());
                out.push_str(COVER);
            }
            from = from.max(place.end);
        }
        out.push_str(text.get(from..).unwrap_or_default());
        Cow::Owned(out)
    }

    /// The same in place.
    pub fn cover_lines(&self, lines: &mut [String]) {
        for line in lines {
            if let Cow::Owned(covered) = self.cover(line) {
                *line = covered;
            }
        }
    }

    /// The same, fit for a line: not longer than anybody reads.
    pub fn shown(&self, text: &str) -> String {
        shortened(&self.cover(text.trim()), LONGEST)
    }
}

impl Pattern {
    fn places(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut places: Vec<Range<usize>> = Vec::new();
        for at in memchr::memmem::find_iter(text, self.text.as_bytes()) {
            if places.last().is_some_and(|last| last.end > at) {
                continue;
            }
            let (mut start, mut end) = (at, at + self.text.len());
            if self.is_base64 {
                let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
                start -= text[..at].iter().rev().take_while(|byte| is_part(byte)).count();
                end += text[end..].iter().take_while(|byte| is_part(byte)).count();
            }
            places.push(start..end);
        }
        places
    }
}

/// At most so many characters.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_string(),
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hidden(secret: &str) -> Hidden {
        let mut hidden = Hidden::default();
        hidden.learn(&Secret::new(secret.into()));
        hidden
    }

    #[test]
    fn nothing_of_it_is_left() {
        let hidden = hidden("hunter\"2");
        for (said, shown) in [
            ("no hunter\"2 here", "no (secret) here"),
            ("HUNTER\"2HUNTER\"2", "(secret)(secret)"),
            ("LOGIN \"hunter\\\"2\"", "LOGIN \"(secret)\""),
            ("say aHVudGVyIjI= again", "say (secret) again"),
            // "\0u\0hunter\"2" and "user=u\x01auth=Bearer hunter\"2\x01\x01"
            ("AHUAaHVudGVyIjI=", "(secret)"),
            ("+ dXNlcj11AWF1dGg9QmVhcmVyIGh1bnRlciIyAQE=", "+ (secret)"),
            ("é hunter\"2 é", "é (secret) é"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(hidden.cover(said), shown, "{said}");
        }
        assert_eq!(Hidden::default().cover("x"), "x");
        assert_eq!(hidden.shown(&"é".repeat(9999)).chars().count(), LONGEST + 1);
    }

    proptest! {
        #[test]
        fn however_it_is_embedded(secret in "\\PC{5,20}", before in "\\PC{0,9}", after in "\\PC{0,9}") {
            let hidden = hidden(&secret);
            let text = format!("{before}{secret}{after}");
            let shown = hidden.cover(&text);
            prop_assert!(!shown.contains(&secret) || COVER.contains(&secret));
            let base64 = base64_simd::STANDARD.encode_to_string(&text);
            let said = format!("x {base64} y");
            prop_assert_eq!(hidden.cover(&said), "x (secret) y");
        }
    }
}
