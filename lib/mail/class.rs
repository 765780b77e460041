//! What kind of trouble a server's reply means, by its code, its enhanced code and its words.
//!
//! Pure. The rules are a table in a file of their own (`class/rules.tsv`), the first that fits decides;
//! `class/replies.tsv` holds replies of real servers with what they must come out as.

use serde::{Deserialize, Serialize};

/// What a reply that refuses is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// There is no such recipient, or no longer.
    NoUser,
    /// The address we come from is blocked, or has no proper name.
    BlockedIp,
    /// What the message says or holds.
    Content,
    /// We did not log in, or the sender's domain does not allow us (SPF, DKIM, DMARC).
    AuthPolicy,
    /// The message is too large.
    Size,
    /// Too much, too fast.
    Rate,
    /// Strangers have to come again later.
    Greylist,
    /// None of these, or nobody can tell.
    Other,
}

/// What we say of a message that a server's abilities rule out, with the code that the server would give (RFC 3463).
pub const NOT_SENT: &str = "not sent: ";

const CLASSES: [Class; 8] = [
    Class::NoUser,
    Class::BlockedIp,
    Class::Content,
    Class::AuthPolicy,
    Class::Size,
    Class::Rate,
    Class::Greylist,
    Class::Other,
];

impl Class {
    /// As it stands in records and in the table.
    pub fn word(self) -> &'static str {
        match self {
            Class::NoUser => "no-user",
            Class::BlockedIp => "blocked-ip",
            Class::Content => "content",
            Class::AuthPolicy => "auth-policy",
            Class::Size => "size",
            Class::Rate => "rate",
            Class::Greylist => "greylist",
            Class::Other => "other",
        }
    }

    /// The class of a reply such as `550 5.1.1 no such user`; `None` unless it begins with a code that refuses
    /// (4xx, 5xx; RFC 5321 section 4.2.1, RFC 3463), or is our own word that it was `not sent: 5.3.4 too large`.
    pub fn of_reply(reply: &str) -> Option<Class> {
        if let Some(own) = reply.strip_prefix(NOT_SENT) {
            return Class::of_reply(&format!("550 {own}"));
        }
        let code = reply.get(..3).filter(|code| code.bytes().all(|b| b.is_ascii_digit()))?;
        if !code.starts_with(['4', '5']) || reply.as_bytes().get(3).is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let text = reply.get(3..).unwrap_or_default().trim_start_matches(['-', ' ']);
        let first = text.split([' ', '\t']).next().unwrap_or_default();
        let enhanced = if is_enhanced(first) { first } else { "" };
        let words = text.to_lowercase();
        let fits = |rule: &Rule<'_>| {
            is_like(rule.code, code) && is_like(rule.enhanced, enhanced) && holds(rule.words, &words)
        };
        Some(rules().find(fits).map_or(Class::Other, |rule| rule.class))
    }
}

struct Rule<'a> {
    class: Class,
    /// `?` stands for one character.
    code: &'a str,
    /// `?` for one character, `*` for any text.
    enhanced: &'a str,
    /// Some of these, `|` between them; each may be several, with ` & ` between them.
    words: &'a str,
}

/// `class TAB code TAB enhanced TAB words`; an empty cell fits anything, `#` begins a remark.
fn rules() -> impl Iterator<Item = Rule<'static>> {
    include_str!("class/rules.tsv").lines().filter_map(|line| {
        let mut cells = line.split('\t').map(str::trim);
        let word = cells.next()?;
        let class = CLASSES.into_iter().find(|class| class.word() == word)?;
        Some(Rule {
            class,
            code: cells.next()?,
            enhanced: cells.next()?,
            words: cells.next().unwrap_or_default(),
        })
    })
}

fn is_enhanced(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

fn is_like(pattern: &str, text: &str) -> bool {
    if pattern.is_empty() {
        return true;
    }
    if let Some(start) = pattern.strip_suffix('*') {
        return text.len() >= start.len()
            && is_like_exactly(start, text.get(..start.len()).unwrap_or_default());
    }
    is_like_exactly(pattern, text)
}

fn is_like_exactly(pattern: &str, text: &str) -> bool {
    pattern.len() == text.len() && pattern.bytes().zip(text.bytes()).all(|(p, t)| p == b'?' || p == t)
}

fn holds(wanted: &str, words: &str) -> bool {
    wanted.is_empty() || wanted.split('|').any(|all| all.split(" & ").all(|each| words.contains(each)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_replies_are_told_apart() {
        let mut wrong = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for line in include_str!("class/replies.tsv").lines().filter(|line| !line.starts_with('#')) {
            let (wanted, reply) = line.split_once('\t').expect("two cells");
            let got = Class::of_reply(reply).map_or("none", Class::word);
            seen.insert(wanted);
            if got != wanted {
                wrong.push(format!("{reply}: {got}, not {wanted}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(CLASSES.iter().all(|class| seen.contains(class.word())), "a class without a reply: {seen:?}");
    }

    #[test]
    fn every_line_of_the_table_is_a_rule() {
        let lines = include_str!("class/rules.tsv").lines();
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(lines.count(), rules().count());
        for rule in rules() {
            assert_eq!(rule.words, rule.words.to_lowercase());
            assert!(!rule.code.is_empty() || !rule.enhanced.is_empty() || !rule.words.is_empty());
        }
    }

    #[test]
    fn what_is_no_refusal_has_no_class() {
        for reply in ["", "250 ok", "the connection broke", "5", "5500 x", "55\u{e9}0"] {
            assert_eq!(Class::of_reply(reply), None, "{reply:?}");
        }
    }
}
