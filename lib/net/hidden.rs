//! What must not be shown: a secret and what is said with it to log in, however a server gives them back.
//!
//! Whoever sees a server's words (errors, records, heartbeats, the trace) sees them with these taken out: as they are,
//! in any case of letters, as they stand in a quoted string, and in base64, alone or as part of something longer. The words
//! that every server says, tag, status and the name of a code, stay: a secret that is like them is not told by them.

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
/// A shorter secret is part of too many words to be taken out of them: it is taken out where it is one.
const SHORTEST_PART: usize = 4;
/// How a status line begins behind its tag (RFC 9051 section 7.1).
const STATUSES: &[&str] = &["ok", "no", "bad", "bye", "preauth"];
/// The names of codes in status lines (RFC 3501, 3502, 4315, 4467, 4978, 5162, 5182, 5530, 7888, 8474).
#[rustfmt::skip]
const CODES: &[&str] = &[
    "alert", "alreadyexists", "appenduid", "authenticationfailed", "authorizationfailed", "badcharset", "badurl",
    "cannot", "capability", "clientbug", "closed", "compressionactive", "contactadmin", "copyuid", "corruption",
    "expired", "expungeissued", "haschildren", "highestmodseq", "in-use", "inuse", "limit", "mailboxid", "modified",
    "nomodseq", "nonexistent", "noperm", "notsaved", "overquota", "parse", "permanentflags", "privacyrequired",
    "read-only", "read-write", "serverbug", "toobig", "trycreate", "uidnext", "uidnotsticky", "uidvalidity",
    "unavailable", "unknown-cte", "unseen",
];

/// Texts that are taken out; none by default.
#[derive(Default)]
pub(super) struct Hidden(Vec<Pattern>);

struct Pattern {
    /// In lower case.
    text: Zeroizing<String>,
    part: Part,
}

/// Of what a text may be a part.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// Of anything.
    Plain,
    /// Of no word.
    Word,
    /// Of something longer, which goes with it.
    Base64,
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
            let part = match is_base64 {
                true => Part::Base64,
                false if text.chars().count() < SHORTEST_PART => Part::Word,
                false => Part::Plain,
            };
            self.0.push(Pattern { text: Zeroizing::new(text.to_ascii_lowercase()), part });
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
        let common = common(&lower);
        found.retain(|place| place.end > common);
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
            if self.part == Part::Word && (is_within_word(text, start) || is_within_word(text, end)) {
                continue;
            }
            if self.part == Part::Base64 {
                let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
                start -= text[..at].iter().rev().take_while(|byte| is_part(byte)).count();
                end += text[end..].iter().take_while(|byte| is_part(byte)).count();
            }
            places.push(start..end);
        }
        places
    }
}

/// True if what stands before and after this place is one word.
fn is_within_word(text: &[u8], at: usize) -> bool {
    let is_word =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii());
    is_word(text[..at].last()) && is_word(text.get(at))
}

/// So far this line (in lower case) holds nothing but what every server says: tag, status, the name of a code.
fn common(line: &str) -> usize {
    let rest = match line.split_once(' ') {
        Some((tag, rest)) if is_tag(tag) => rest,
        _ => line,
    };
    let end = rest.find([' ', '\r', '\n']).unwrap_or(rest.len());
    let Some((status, text)) = rest.split_at_checked(end).filter(|(word, _)| STATUSES.contains(word)) else {
        return 0;
    };
    let code = text.strip_prefix(" [").and_then(|code| code.split([' ', ']']).next());
    let code = code.filter(|code| CODES.contains(code)).map_or(0, |code| " [".len() + code.len());
    line.len() - rest.len() + status.len() + code
}

/// `*`, or a tag as we use them.
fn is_tag(word: &str) -> bool {
    let number = word.strip_prefix(['a', 's']).unwrap_or_default();
    word == "*" || ((1..=4).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit()))
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

    #[test]
    fn what_every_server_says_is_no_secret() {
        for (secret, said, shown) in [
            ("a", "NO [UNAVAILABLE] too many", "NO [UNAVAILABLE] too many"),
            ("a", "a2 OK [READ-ONLY] a A, ab", "a2 OK [READ-ONLY] (secret) (secret), ab"),
            ("é", "sé é és", "sé (secret) és"),
            ("!a", "x!a !ab", "x(secret) !ab"),
            ("limit", "a1 NO [LIMIT] limit reached", "a1 NO [LIMIT] (secret) reached"),
            ("limit", "* BYE [limit]\r\n", "* BYE [limit]\r\n"),
            ("read", "OK [READ-WRITE] xread", "OK [READ-WRITE] x(secret)"),
            ("no", "NO no nobody", "NO (secret) nobody"),
            ("bye", "BYE", "BYE"),
            ("a12", "a12 BAD a12", "a12 BAD (secret)"),
            // None of these is one of those words.
            ("hunter2", "a1 NO [hunter2] [LIMIT hunter2]", "a1 NO [(secret)] [LIMIT (secret)]"),
            ("hunter2", "NO [ALERT hunter2]", "NO [ALERT (secret)]"),
            ("hunter2", "hunter2 NO [LIMIT]", "(secret) NO [LIMIT]"),
            ("limit", "* LIST [LIMIT]", "* LIST [(secret)]"),
            ("limit]", "NO [LIMIT] x", "NO [(secret) x"),
        ] {
            assert_eq!(hidden(secret).cover(said), shown, "{secret}: {said}");
        }
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
