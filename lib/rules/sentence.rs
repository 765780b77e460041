//! A rule as a sentence, for whoever wrote it.

use std::path::Path;

use super::condition::time;
use crate::config::{Action, Conditions, Duplex, OncePer, Patterns, Print, Rule};

/// What the rule takes, what it does, how often; without its name.
pub fn of(rule: &Rule) -> String {
    let mut text = match rule.when.is_empty() {
        true => "takes every file".to_string(),
        false => format!("takes each file of which {}", conditions(&rule.when).join(" and ")),
    };
    if rule.authenticated {
        let and = if rule.when.is_empty() { " of which" } else { " and" };
        text.push_str(&format!("{and} the sender is proven"));
    }
    if let Some(not) = &rule.not {
        text.push_str(&format!(", but not where {}", conditions(not).join(" and ")));
    }
    text.push_str(&format!("; {}", rule.action().map_or("does nothing".into(), action)));
    text.push_str(match rule.once_per {
        OncePer::Message => ", once for each message that brings it",
        OncePer::File => ", once whoever sends it",
    });
    if let Some(most) = rule.max_per_hour {
        text.push_str(&format!(", at most {most} times an hour"));
    }
    if let Some(most) = rule.max_size {
        text.push_str(&format!(", files of more than {most} bytes only when asked"));
    }
    if rule.repeatable {
        text.push_str(", once more where nobody knows whether it was done");
    }
    text.push_str(match (rule.when.from.is_empty(), rule.authenticated) {
        (true, false) => "; whoever sends it",
        (true, true) => "; whoever proves to have sent it",
        (false, false) => "; From can be forged",
        (false, true) => "",
    });
    if rule.continues {
        text.push_str("; the rules after it are asked too");
    }
    text
}

/// The command that prints, with placeholders.
pub fn print(print: &Print) -> Vec<String> {
    let mut words = vec!["lp".to_string()];
    let mut add = |option: &str, value: String| words.extend([option.to_string(), value]);
    if !print.printer.is_empty() {
        add("-d", print.printer.clone());
    }
    if let Some(copies) = print.copies {
        add("-n", copies.to_string());
    }
    if let Some(media) = &print.media {
        add("-o", format!("media={media}"));
    }
    if let Some(duplex) = print.duplex {
        let sides = match duplex {
            Duplex::None => "one-sided",
            Duplex::LongEdge => "two-sided-long-edge",
            Duplex::ShortEdge => "two-sided-short-edge",
        };
        add("-o", format!("sides={sides}"));
    }
    add("-t", print.title.clone().unwrap_or_else(|| "{name}".into()));
    add("--", "{path}".into());
    words
}

fn action(action: &Action) -> String {
    let quoted = |words: &[String]| {
        let words: Vec<std::ffi::OsString> = words.iter().map(Into::into).collect();
        String::from_utf8_lossy(&super::shell::quote(&words)).into_owned()
    };
    let place = |dir: &Path| dir.display().to_string();
    match action {
        Action::Run(words) => format!("runs {}", quoted(words)),
        Action::Print(how) => format!("prints it with {}", quoted(&print(how))),
        Action::Move(dir) => format!("moves it to {}", place(dir)),
        Action::Copy(dir) => format!("copies it to {}", place(dir)),
    }
}

fn conditions(asked: &Conditions) -> Vec<String> {
    let mut all = Vec::new();
    let mut patterns = |what: &str, patterns: &Patterns| {
        if !patterns.is_empty() {
            all.push(format!("{what} is {}", patterns.said()));
        }
    };
    patterns("the type by content", &asked.media_type);
    patterns("the name", &asked.file);
    patterns("the account", &asked.account);
    patterns("the mailbox", &asked.mailbox);
    patterns("the only From", &asked.from);
    patterns("a recipient", &asked.to);
    patterns("the subject", &asked.subject);
    patterns("the mailing list", &asked.list_id);
    all.extend(asked.larger_than.map(|size| format!("the size is over {size} bytes")));
    all.extend(asked.smaller_than.map(|size| format!("the size is under {size} bytes")));
    all.extend(asked.older_than.map(|age| format!("the message came more than {} ago", time(age))));
    all.extend(asked.newer_than.map(|age| format!("the message came less than {} ago", time(age))));
    all
}
