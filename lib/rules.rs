//! Which rule acts on a file, and why, in one sentence each.
//!
//! Pure: facts in, a decision out. The first rule that matches decides, unless it says `continue`. Whatever is
//! doubtful about what a rule asks is a reason not to match, under `not` too. How a matching rule's command is made from the facts stands in [`template`], how it is
//! written so that `sh` reads it back in [`shell`].

use std::time::Duration;

use crate::config::{Conditions, Rule};
use crate::mail::auth::Proof;

mod condition;
pub mod letter;
pub mod sentence;
pub mod shell;
pub mod template;

use condition::Verdict;
use letter::Letter;

/// Something that a rule judges, or why nobody knows it, in words.
pub type Fact<T> = Result<T, String>;

/// What is known of a file at the moment of the decision, from its bytes and its message's bytes and places.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its type by content.
    pub media_type: String,
    /// Its name on disk.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// What the message that it came out of says.
    pub letter: Letter,
    /// The account in whose Maildir the message lies.
    pub account: Fact<String>,
    /// The mailbox that it came from.
    pub mailbox: Fact<String>,
    /// How long ago the server received the message.
    pub age: Fact<Duration>,
    /// Who is proven to have sent the message; `None` as long as nobody looked.
    pub proof: Option<Proof>,
}

/// What was decided for one file.
#[derive(Clone, Debug, Default)]
pub struct Decision<'a> {
    /// Why no rule is asked at all.
    pub brake: Option<String>,
    /// The rules that were asked, each with its number, in their order: why it matches, or why not.
    pub asked: Vec<(usize, &'a Rule, Result<String, String>)>,
    /// What stands in the way of asking the others.
    pub open: Option<Open<'a>>,
}

/// A rule of which nobody knows yet whether it matches; those after it must not be asked before.
#[derive(Clone, Debug)]
pub struct Open<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// Why nobody knows now; `None` where nobody looked who sent the message.
    pub why: Option<String>,
}

/// What one rule says.
enum Answer {
    Yes(String),
    No(String),
    /// It depends on who is proven to be the sender.
    Open(Option<String>),
}

/// Asks the rules until one matches that does not continue; mail that must not cause any action is asked nothing.
pub fn decide<'a>(rules: &'a [Rule], facts: &Facts) -> Decision<'a> {
    if let Some(why) = &facts.letter.brake {
        return Decision { brake: Some(format!("its message {why}")), ..Decision::default() };
    }
    let mut decision = Decision::default();
    for (number, rule) in rules.iter().enumerate() {
        let verdict = match judge(rule, facts) {
            Answer::Yes(why) => Ok(why),
            Answer::No(why) => Err(why),
            Answer::Open(why) => {
                decision.open = Some(Open { rule, why });
                break;
            }
        };
        let ends = verdict.is_ok() && !rule.continues;
        decision.asked.push((number, rule, verdict));
        if ends {
            break;
        }
    }
    decision
}

/// Whether `rule` matches, and why; each reason is a sentence without its full stop. Who is proven to be the sender is
/// asked last: it takes the longest to know.
fn judge(rule: &Rule, facts: &Facts) -> Answer {
    let mut reasons = match conditions(rule, facts) {
        Ok(reasons) => reasons,
        Err(why) => return Answer::No(why),
    };
    if rule.authenticated {
        match proven(rule, facts) {
            Answer::Yes(why) => reasons.push(why),
            other => return other,
        }
    }
    Answer::Yes(match reasons.is_empty() {
        true => "the rule takes every file".into(),
        false => reasons.join(" and "),
    })
}

/// The proof must be of the very address that the conditions were asked about, and cover what else they judged.
fn proven(rule: &Rule, facts: &Facts) -> Answer {
    let (from, by, loose) = match &facts.proof {
        None => return Answer::Open(None),
        Some(Proof::Later(why)) => return Answer::Open(Some(why.clone())),
        Some(Proof::Unproven(why)) => return Answer::No(format!("its sender is not proven: {why}")),
        Some(Proof::Proven { from, by, loose }) => (from, by, loose),
    };
    if !facts.letter.from.as_ref().is_ok_and(|asked| asked.eq_ignore_ascii_case(from)) {
        return Answer::No("its sender is not proven: its From field can be read in two ways".into());
    }
    match loose.iter().find(|field| judges(rule, field)) {
        Some(field) => Answer::No(format!(
            "its sender is proven by {by}, but not that its {field} is theirs: that is not covered"
        )),
        None => Answer::Yes(format!("its sender is proven by {by}")),
    }
}

/// True if the rule asks about this field, to take or to exclude.
fn judges(rule: &Rule, field: &str) -> bool {
    let asks = |asked: &Conditions| match field {
        "To" | "Cc" => !asked.to.is_empty(),
        "Subject" => !asked.subject.is_empty(),
        _ => false,
    };
    asks(&rule.when) || rule.not.as_ref().is_some_and(asks)
}

fn conditions(rule: &Rule, facts: &Facts) -> Result<Vec<String>, String> {
    let mut reasons = match condition::ask(&rule.when, facts) {
        Verdict::Fits(reasons) => reasons,
        Verdict::Differs(why) | Verdict::Doubtful(why) => return Err(why),
    };
    if rule.when.list_id.is_empty() {
        match &facts.letter.list {
            Ok(None) => {}
            Ok(Some(id)) if id.is_empty() => {
                return Err("it came through a mailing list, and the rule has no list_id".into());
            }
            Ok(Some(id)) => {
                return Err(format!("it came through the mailing list {id}, and the rule has no list_id"));
            }
            Err(why) => return Err(format!("it came through a mailing list: {why}")),
        }
    }
    if let Some(not) = &rule.not {
        match condition::ask(not, facts) {
            Verdict::Fits(why) => return Err(format!("{}, which it must not be", why.join(" and "))),
            Verdict::Doubtful(why) => return Err(format!("{why}; the rule excludes some")),
            Verdict::Differs(why) => reasons.push(why),
        }
    }
    Ok(reasons)
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

    fn facts(media_type: &str, head: &str) -> Facts {
        Facts {
            media_type: media_type.into(),
            name: "work.pdf".into(),
            size: 1000,
            letter: Letter::of(format!("{head}\n\n").as_bytes()),
            account: Ok("school".into()),
            mailbox: Err("no place".into()),
            age: Ok(Duration::from_secs(3600)),
            proof: None,
        }
    }

    fn matching(rules: &[Rule], facts: &Facts) -> Vec<String> {
        let asked = decide(rules, facts).asked.into_iter();
        asked.filter(|(_, _, why)| why.is_ok()).map(|(_, rule, _)| rule.name.clone()).collect()
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
        let asked: Vec<Result<String, String>> = decide(&rules, &facts("application/pdf", "From: a@z"))
            .asked
            .into_iter()
            .map(|(_, _, why)| why)
            .collect();
        assert_eq!(
            asked,
            [
                Err("its type is application/pdf, not image/*".into()),
                Err("it is from a@z, not from *@y".into()),
                Ok("its type is application/pdf and it is from a@z".into())
            ]
        );
        assert_eq!(matching(&rules, &facts("text/plain", "From: a@z")), ["d"]);
    }

    #[test]
    fn a_doubtful_sender_matches_no_rule_that_asks_for_one() {
        let rules = rules(
            "[[rule]]\nname='a'\nfrom=['*']\nrun=['x']\n[[rule]]\nname='b'\nnot={from='x@y'}\nrun=['x']",
        );
        assert_eq!(matching(&rules, &facts("application/pdf", "From: a@z")), ["a"]);
        let doubtful = facts("application/pdf", "From: a@z\nFrom: b@z");
        assert!(matching(&rules, &doubtful).is_empty());
        let why = decide(&rules, &doubtful).asked[0].2.clone().unwrap_err();
        assert!(why.starts_with("its sender is not known: its message has 2 From fields"), "{why}");
    }

    #[test]
    fn each_condition_fits_or_does_not() {
        let head = "From: a@z\nTo: me@x, you@x\nCc: all@x\nSubject: Homework 3";
        for (condition, fits) in [
            ("file='*.PDF'", true),
            ("file=['*.doc', 'w*']", true),
            ("file='*.doc'", false),
            ("larger_than=999", true),
            ("larger_than='1K'", false),
            ("smaller_than='1K'", true),
            ("smaller_than=1000", false),
            ("account='school'", true),
            ("account='work'", false),
            ("mailbox='*'", false),
            ("to='all@x'", true),
            ("to='*@y'", false),
            ("subject='homework*'", true),
            ("subject='homework'", false),
            ("older_than='30m'", true),
            ("older_than='2h'", false),
            ("newer_than='2h'", true),
            ("newer_than='1h'", false),
            ("not={file='*.doc'}", true),
            ("not={file='*.pdf'}", false),
            ("not={file='*.pdf', to='*@y'}", true),
            // What nobody knows may be what is excluded.
            ("not={mailbox='spam'}", false),
            ("list_id='*'", false),
        ] {
            let rules = rules(&format!("[[rule]]\nname='a'\nrun=['x']\n{condition}\n"));
            assert_eq!(!matching(&rules, &facts("x/y", head)).is_empty(), fits, "{condition}");
        }
    }

    #[test]
    fn list_mail_is_taken_where_it_is_asked_for() {
        let rules = rules("[[rule]]\nname='a'\nrun=['x']\n[[rule]]\nname='b'\nlist_id='*.x'\nrun=['x']");
        assert_eq!(matching(&rules, &facts("x/y", "List-Id: All <all.x>")), ["b"]);
        assert!(matching(&rules, &facts("x/y", "List-Id: <all.x>\nList-Id: <b.x>")).is_empty());
        assert!(matching(&rules, &facts("x/y", "Precedence: list")).is_empty());
        let any = self::rules("[[rule]]\nname='a'\nlist_id='*'\nrun=['x']");
        assert_eq!(matching(&any, &facts("x/y", "List-Post: <mailto:a@b>")), ["a"]);
        assert_eq!(matching(&rules, &facts("x/y", "From: a@b")), ["a"]);
    }

    #[test]
    fn continue_asks_the_next_and_a_brake_asks_none() {
        let rules = rules(
            "[[rule]]\nname='a'\ncontinue=true\nrun=['x']\n[[rule]]\nname='b'\nrun=['x']\n[[rule]]\nname='c'\nrun=['x']",
        );
        assert_eq!(matching(&rules, &facts("x/y", "From: a@b")), ["a", "b"]);
        let bounce = decide(&rules, &facts("x/y", "Return-Path: <>")).brake.unwrap();
        assert_eq!(bounce, "its message is a bounce (its return path is empty)");
        assert!(matching(&rules, &facts("x/y", "Return-Path: <>")).is_empty());
    }

    #[test]
    fn a_proven_sender_is_asked_for_last_and_must_be_the_one_that_was_asked_about() {
        let rules = rules(
            "[auth]\ntrusted=['mx']\n[[rule]]\nname='a'\nauthenticated=true\nfrom='*@z'\nrun=['x']\n[[rule]]\nname='b'\nrun=['x']",
        );
        let with = |head: &str, proof: Option<Proof>| Facts { proof, ..facts("x/y", head) };
        let proven = |from: &str| {
            Some(Proof::Proven { from: from.into(), by: "a signature".into(), loose: Vec::new() })
        };
        let why = decide(&rules, &with("From: a@z", proven("a@Z"))).asked[0].2.clone();
        assert_eq!(why, Ok("it is from a@z and its sender is proven by a signature".into()));
        // Where it does not matter, nobody need look; where it does, the next rule waits.
        assert_eq!(matching(&rules, &with("From: a@y", None)), ["b"]);
        let open = |proof| decide(&rules, &with("From: a@z", proof)).open.map(|open| open.why);
        assert_eq!(open(None), Some(None));
        assert_eq!(open(Some(Proof::Later("no DNS".into()))), Some(Some("no DNS".into())));
        assert!(matching(&rules, &with("From: a@z", Some(Proof::Later("no DNS".into())))).is_empty());
        let loose = |field: &str| {
            let proof =
                Proof::Proven { from: "a@z".into(), by: "a signature".into(), loose: vec![field.into()] };
            with("From: a@z\nTo: me@x\nSubject: hi", Some(proof))
        };
        for (more, field, fits) in [
            ("", "Subject", true),
            ("to='me@x'", "Subject", true),
            ("to='me@x'", "Cc", false),
            ("to='me@x'", "To", false),
            ("subject='h*'", "Subject", false),
            ("not={subject='x*'}", "Subject", false),
            ("not={subject='x*'}", "To", true),
        ] {
            let rules = self::rules(&format!(
                "[auth]\ntrusted=['mx']\n[[rule]]\nname='a'\nauthenticated=true\nrun=['x']\n{more}\n"
            ));
            assert_eq!(!matching(&rules, &loose(field)).is_empty(), fits, "{more} {field}");
        }
        assert_eq!(matching(&rules, &with("From: a@z", proven("b@z"))), ["b"]);
        assert_eq!(matching(&rules, &with("From: a@z", Some(Proof::Unproven("x".into())))), ["b"]);
    }
}
