//! `[[rule]]`: which files, and the one thing that is done with each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::place::Blame;

mod written;
use written::Written;

/// Which files something is done with, and what.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Written")]
pub struct Rule {
    /// What it is called in records and in the ledger.
    pub name: String,
    /// What a file must be like.
    pub when: Conditions,
    /// What a file must not be like: not all of this at once.
    pub not: Option<Conditions>,
    /// Only where the sender is proven (see [`super::Auth`]).
    pub authenticated: bool,
    /// What is done; a configuration that was checked has exactly one.
    pub actions: Vec<Action>,
    /// The rules after it are asked too.
    pub continues: bool,
    /// How many may run in any hour; beyond it files are held.
    pub max_per_hour: Option<u32>,
    /// Files larger than this, in bytes, are held until somebody asks for them.
    pub max_size: Option<u64>,
    /// What counts as the same thing.
    pub once_per: OncePer,
    /// How long the command may take.
    pub timeout: Option<Duration>,
    /// How often it is tried while it fails for now.
    pub tries: Option<u32>,
    /// It may be done once more where nobody knows whether it was done.
    pub repeatable: bool,
    /// Keys that only `print` can have, without `print`.
    stray: bool,
}

/// What a rule does with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Runs a command, word by word; no shell.
    Run(Vec<String>),
    /// Moves it into a directory; never over another file.
    Move(PathBuf),
    /// Copies it into a directory; never over another file.
    Copy(PathBuf),
    /// Prints it.
    Print(Print),
}

/// How something is printed, with `lp`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Print {
    /// The printer's name; empty means the usual one.
    pub printer: String,
    /// On both sides; the printer's own way where it is left out.
    pub duplex: Option<Duplex>,
    /// The paper, as the printer calls it: `A4`.
    pub media: Option<String>,
    /// How often.
    pub copies: Option<u32>,
    /// What the job is called; may have placeholders. The file's name where it is left out.
    pub title: Option<String>,
}

/// How both sides of a sheet are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duplex {
    /// One side only.
    None,
    /// Turned like a book.
    LongEdge,
    /// Turned like a wall calendar.
    ShortEdge,
}

/// What a rule does once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OncePer {
    /// The same file in another message is another action.
    #[default]
    Message,
    /// The same bytes are acted on once, whoever sends them again.
    File,
}

/// Patterns, any of which fits; `*` stands for anything. Written as one text or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns(pub Vec<String>);

/// What a rule can ask of a file; what is left out is not asked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Conditions {
    /// Type by content.
    #[serde(rename = "type")]
    pub media_type: Patterns,
    /// Its name on disk.
    pub file: Patterns,
    /// Larger than this, in bytes.
    #[serde(deserialize_with = "written::size")]
    pub larger_than: Option<u64>,
    /// Smaller than this, in bytes.
    #[serde(deserialize_with = "written::size")]
    pub smaller_than: Option<u64>,
    /// The account in whose Maildir its message lies.
    pub account: Patterns,
    /// The mailbox that its message came from.
    pub mailbox: Patterns,
    /// The only address in From.
    pub from: Patterns,
    /// One of the addresses in To and Cc.
    pub to: Patterns,
    /// The subject.
    pub subject: Patterns,
    /// The identifier in List-Id; a rule without it takes no list mail.
    pub list_id: Patterns,
    /// The server received the message longer ago than this.
    #[serde(deserialize_with = "super::time")]
    pub older_than: Option<Duration>,
    /// The server received the message less long ago than this.
    #[serde(deserialize_with = "super::time")]
    pub newer_than: Option<Duration>,
}

impl Conditions {
    /// True if nothing is asked.
    pub fn is_empty(&self) -> bool {
        let patterns = [
            &self.media_type,
            &self.file,
            &self.account,
            &self.mailbox,
            &self.from,
            &self.to,
            &self.subject,
            &self.list_id,
        ];
        patterns.iter().all(|patterns| patterns.is_empty())
            && self.larger_than.or(self.smaller_than).is_none()
            && self.older_than.or(self.newer_than).is_none()
    }

    /// True if it matters where the message lies.
    pub fn ask_for_place(&self) -> bool {
        !self.account.is_empty() || !self.mailbox.is_empty()
    }
}

impl Rule {
    /// What is done.
    pub fn action(&self) -> Option<&Action> {
        self.actions.first()
    }

    /// True if it may be done once more where nobody knows whether it was done: a file that lies where it was to be
    /// moved is seen there.
    pub fn may_repeat(&self) -> bool {
        self.repeatable || matches!(self.action(), Some(Action::Move(_) | Action::Copy(_)))
    }

    /// What `~/` stands for.
    pub(super) fn expand(&mut self, tilde: impl Fn(&mut PathBuf)) {
        for action in &mut self.actions {
            if let Action::Move(dir) | Action::Copy(dir) = action {
                tilde(dir);
            }
        }
    }

    /// What a single value cannot show.
    fn check(&self) -> Result<(), &'static str> {
        match self.actions.as_slice() {
            [] => return Err("it does nothing; write one of run, move, copy, print"),
            [Action::Run(words)] if words.is_empty() => return Err("run has no words"),
            [Action::Run(words)] if words.iter().any(|word| word.contains('\0')) => {
                return Err("run holds a NUL, which no command can have");
            }
            [Action::Move(dir) | Action::Copy(dir)] if dir.as_os_str().is_empty() => {
                return Err("the directory has no name");
            }
            [Action::Move(dir) | Action::Copy(dir)] if is_home_of_another(dir) => {
                return Err("only ~/ stands for a home; write the path of others whole");
            }
            [Action::Print(Print { printer, .. })] if printer.starts_with('-') => {
                return Err("a printer's name does not begin with -");
            }
            [Action::Print(Print { copies: Some(0), .. })] => return Err("copies must be at least 1"),
            [_] => {}
            _ => return Err("it does more than one of run, move, copy, print; write a rule for each"),
        }
        if self.stray {
            return Err("duplex, media, copies and title go with print");
        }
        if self.continues && matches!(self.action(), Some(Action::Move(_))) {
            return Err("nothing can continue after a move: the file is no longer there");
        }
        if self.not.as_ref().is_some_and(Conditions::is_empty) {
            return Err("not = {} excludes nothing");
        }
        if self.tries == Some(0) {
            return Err("tries must be at least 1");
        }
        // The ledger calls other things so.
        if self.name.starts_with("argv:")
            || self.name.starts_with('(')
            || self.name.contains(char::is_control)
        {
            return Err("a rule's name begins neither with argv: nor with (, and has no control characters");
        }
        Ok(())
    }
}

fn is_home_of_another(dir: &Path) -> bool {
    let text = dir.to_string_lossy();
    text.starts_with('~') && !text.starts_with("~/")
}

impl Patterns {
    /// True if nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As words for people.
    pub fn said(&self) -> String {
        self.0.join(" or ")
    }
}

/// What the values of each rule cannot show; the rule to blame and why.
pub(super) fn check(rules: &[Rule]) -> Result<(), (Blame, String)> {
    let mut names = std::collections::BTreeSet::new();
    for (number, rule) in rules.iter().enumerate() {
        let wrong = |why: &str| (Blame::Rule(number), format!("rule {:?}: {why}", rule.name));
        if rule.name.is_empty() || !names.insert(rule.name.as_str()) {
            return Err(wrong("a rule needs a name of its own"));
        }
        rule.check().map_err(wrong)?;
    }
    Ok(())
}
