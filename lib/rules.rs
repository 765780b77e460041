//! Which rule acts on a file, and why, in one sentence each.
//!
//! Pure: facts in, a decision out. The first rule that matches decides. Whatever is doubtful about the sender is a
//! reason not to match. How a matching rule's command is made from the facts stands in [`template`], how it is
//! written so that `sh` reads it back in [`shell`].

use crate::config::Rule;

pub mod shell;
pub mod template;

/// What is known of a file at the moment of the decision, from its bytes and its message's bytes.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its type by content.
    pub media_type: String,
    /// Who sent the message that it came out of.
    pub from: Sender,
}

/// The outermost message's only From address, or why there is none to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Exactly one address.
    Known(String),
    /// In words that follow "its sender is not known: ".
    Unknown(String),
}

/// What was decided for one file.
#[derive(Clone, Debug)]
pub struct Decision<'a> {
    /// The rule that acts, and why it matches.
    pub matched: Option<(&'a Rule, String)>,
    /// The rules before it (all of them where none matched), and why each did not match.
    pub passed: Vec<(&'a Rule, String)>,
}

/// Finds the first rule that matches.
pub fn decide<'a>(rules: &'a [Rule], facts: &Facts) -> Decision<'a> {
    let mut passed = Vec::new();
    for rule in rules {
        match judge(rule, facts) {
            Ok(why) => return Decision { matched: Some((rule, why)), passed },
            Err(why) => passed.push((rule, why)),
        }
    }
    Decision { matched: None, passed }
}

/// Why `rule` matches, or why not; each is a sentence without its full stop.
pub fn judge(rule: &Rule, facts: &Facts) -> Result<String, String> {
    let mut reasons = Vec::new();
    if rule.authenticated {
        return Err("it asks for a proven sender, which this version cannot prove".into());
    }
    if let Some(wanted) = &rule.media_type {
        if !matches(wanted, &facts.media_type) {
            return Err(format!("its type is {}, not {wanted}", facts.media_type));
        }
        reasons.push(format!("its type is {}", facts.media_type));
    }
    if !rule.from.is_empty() {
        let from = match &facts.from {
            Sender::Known(from) => from,
            Sender::Unknown(why) => return Err(format!("its sender is not known: {why}")),
        };
        if !rule.from.iter().any(|pattern| matches(pattern, from)) {
            return Err(format!("it is from {from}, not from {}", rule.from.join(" or ")));
        }
        reasons.push(format!("it is from {from}"));
    }
    Ok(match reasons.is_empty() {
        true => "the rule takes every file".into(),
        false => reasons.join(" and "),
    })
}

/// True if `text` is what `pattern` says; `*` stands for any characters, ASCII letters are the same in both cases.
///
/// Only `*`: `?` and `[` are legal in addresses (RFC 5322 section 3.2.3) and file names and mean themselves.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(mut part) = parts.next() else { return rest.is_empty() };
    // Each part between two stars may be taken where it first occurs: what it leaves is the most there can be.
    for next in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
        part = next;
    }
    rest.ends_with(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Vec<Rule> {
        crate::config::Config::parse(text, std::path::Path::new("c"), None).unwrap().rule
    }

    fn facts(media_type: &str, from: &str) -> Facts {
        Facts { media_type: media_type.into(), from: Sender::Known(from.into()) }
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text) in [
            ("*", ""),
            ("*@by.example", "Me@BY.example"),
            ("a*b*c", "aXbYbc"),
            ("**", "x"),
            ("image/*", "image/png"),
            ("a?@x", "a?@x"),
            ("a*a", "aa"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "x"),
            ("a", "ab"),
            ("*@by.example", "me@by.example.org"),
            ("*@by.example", "me@evilby.example"),
            ("a*a", "a"),
            ("a*bc*c", "abc"),
            ("a?@x", "ab@x"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_match_decides_and_the_others_say_why_not() {
        let rules = rules(
            "[[rule]]\nname='a'\ntype='image/*'\nrun=['x']\n[[rule]]\nname='b'\nfrom=['*@y']\nrun=['x']\n\
             [[rule]]\nname='c'\ntype='application/pdf'\nfrom=['q@x', '*@z']\nrun=['x']\n[[rule]]\nname='d'\nrun=['x']",
        );
        let decision = decide(&rules, &facts("application/pdf", "a@z"));
        let (rule, why) = decision.matched.unwrap();
        assert_eq!(
            (rule.name.as_str(), why.as_str()),
            ("c", "its type is application/pdf and it is from a@z")
        );
        let passed: Vec<&str> = decision.passed.iter().map(|(_, why)| why.as_str()).collect();
        assert_eq!(passed, ["its type is application/pdf, not image/*", "it is from a@z, not from *@y"]);
        assert_eq!(decide(&rules, &facts("text/plain", "a@z")).matched.unwrap().0.name, "d");
    }

    #[test]
    fn a_doubtful_sender_matches_no_rule_that_asks_for_one() {
        let rules = rules("[[rule]]\nname='a'\nfrom=['*']\nrun=['x']\n");
        let facts = Facts {
            media_type: "application/pdf".into(),
            from: Sender::Unknown("the message has two From fields".into()),
        };
        let decision = decide(&rules, &facts);
        assert!(decision.matched.is_none());
        assert_eq!(decision.passed[0].1, "its sender is not known: the message has two From fields");
    }
}
