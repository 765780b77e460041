//! Whether a file is what a rule's conditions ask for, and why in words.

use std::time::Duration;

use super::{Fact, Facts, matches};
use crate::config::{Conditions, Patterns};

/// What a set of conditions comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of it fits: each reason in words.
    Fits(Vec<String>),
    /// Something does not, in words.
    Differs(String),
    /// Something cannot be known: neither it nor its contrary can be relied on.
    Doubtful(String),
}

/// Asks everything that is asked; a difference that is sure counts before a doubt.
pub(super) fn ask(wanted: &Conditions, facts: &Facts) -> Verdict {
    let letter = &facts.letter;
    let known = |text: &str| -> Fact<Vec<String>> { Ok(vec![text.to_string()]) };
    let one = |fact: &Fact<String>| fact.clone().map(|value| vec![value]);
    let answers = [
        patterns(&wanted.media_type, known(&facts.media_type), "its type is"),
        patterns(&wanted.file, known(&facts.name), "its name is"),
        larger(wanted.larger_than, facts.size),
        smaller(wanted.smaller_than, facts.size),
        patterns(&wanted.account, one(&facts.account), "its account is"),
        patterns(&wanted.mailbox, one(&facts.mailbox), "its mailbox is"),
        from(&wanted.from, &letter.from),
        patterns(&wanted.to, letter.to.clone(), "it is to"),
        patterns(&wanted.subject, one(&letter.subject), "its subject is"),
        patterns(
            &wanted.list_id,
            letter.list.clone().map(|id| id.into_iter().collect()),
            "its mailing list is",
        ),
        older(wanted.older_than, &facts.age),
        newer(wanted.newer_than, &facts.age),
    ];
    let (mut reasons, mut doubt) = (Vec::new(), None);
    for answer in answers.into_iter().flatten() {
        match answer {
            Verdict::Fits(why) => reasons.extend(why),
            Verdict::Doubtful(why) => {
                doubt.get_or_insert(why);
            }
            differs => return differs,
        }
    }
    doubt.map_or(Verdict::Fits(reasons), Verdict::Doubtful)
}

fn from(wanted: &Patterns, from: &Fact<String>) -> Option<Verdict> {
    if wanted.is_empty() {
        return None;
    }
    Some(match from {
        Err(why) => Verdict::Doubtful(format!("its sender is not known: {why}")),
        Ok(from) if wanted.0.iter().any(|pattern| matches(pattern, from)) => {
            Verdict::Fits(vec![format!("it is from {from}")])
        }
        Ok(from) => Verdict::Differs(format!("it is from {from}, not from {}", wanted.said())),
    })
}

/// One of the values fits one of the patterns; `is` is how a sentence about them begins.
fn patterns(wanted: &Patterns, values: Fact<Vec<String>>, is: &str) -> Option<Verdict> {
    if wanted.is_empty() {
        return None;
    }
    let values = match values {
        Ok(values) => values,
        Err(why) => {
            return Some(Verdict::Doubtful(format!("nobody knows whether {is} {}: {why}", wanted.said())));
        }
    };
    let fits = |value: &&String| wanted.0.iter().any(|pattern| matches(pattern, value));
    Some(match values.iter().find(fits) {
        Some(value) => Verdict::Fits(vec![format!("{is} {}", shown(value))]),
        None => Verdict::Differs(format!("{is} {}, not {}", list(&values), wanted.said())),
    })
}

fn larger(than: Option<u64>, size: u64) -> Option<Verdict> {
    than.map(|than| match size > than {
        true => Verdict::Fits(vec![format!("it has {size} bytes, more than {than}")]),
        false => Verdict::Differs(format!("it has {size} bytes, not more than {than}")),
    })
}

fn smaller(than: Option<u64>, size: u64) -> Option<Verdict> {
    than.map(|than| match size < than {
        true => Verdict::Fits(vec![format!("it has {size} bytes, less than {than}")]),
        false => Verdict::Differs(format!("it has {size} bytes, not less than {than}")),
    })
}

fn older(than: Option<Duration>, age: &Fact<Duration>) -> Option<Verdict> {
    than.map(|than| match age {
        Err(why) => Verdict::Doubtful(format!("its age is not known: {why}")),
        Ok(age) if *age > than => Verdict::Fits(vec![format!("it is older than {}", time(than))]),
        Ok(age) => Verdict::Differs(format!("its age is {}, not more than {}", time(*age), time(than))),
    })
}

fn newer(than: Option<Duration>, age: &Fact<Duration>) -> Option<Verdict> {
    than.map(|than| match age {
        Err(why) => Verdict::Doubtful(format!("its age is not known: {why}")),
        Ok(age) if *age < than => Verdict::Fits(vec![format!("it is newer than {}", time(than))]),
        Ok(age) => Verdict::Differs(format!("its age is {}, not less than {}", time(*age), time(than))),
    })
}

/// As it is written in a configuration: `2d`, `1h30m`.
pub(super) fn time(time: Duration) -> String {
    let (seconds, mut text) = (time.as_secs(), String::new());
    for (unit, length, above) in [("d", 86400, u64::MAX), ("h", 3600, 86400), ("m", 60, 3600), ("s", 1, 60)] {
        let count = if above == u64::MAX { seconds / length } else { seconds % above / length };
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// What a message says can be as long as it likes; a sentence cannot.
fn shown(value: &str) -> String {
    let short: String = value.chars().take(80).collect();
    match (short.is_empty(), short.len() < value.len()) {
        (true, _) => "empty".into(),
        (_, true) => format!("{short}…"),
        _ => short,
    }
}

fn list(values: &[String]) -> String {
    match values {
        [] => "none".into(),
        [first, second, third, _, ..] => {
            format!("{}, {}, {} and others", shown(first), shown(second), shown(third))
        }
        some => some.iter().map(|value| shown(value)).collect::<Vec<_>>().join(" and "),
    }
}
