//! What is said of a decision: a record, a line on stderr, or the sentences of an explanation.

use std::ffi::OsString;
use std::path::Path;

use jiff::Timestamp;

use crate::config::Rule;
use crate::error::{Error, Kind, Result};
use crate::record::{Action, File};
use crate::report;
use crate::rules::shell;
use crate::store::ledger::{End, State};

use super::Actor;
use super::facts::Known;
use super::orders::{Choice, Order};

/// What a decision is about.
pub(super) struct About<'a> {
    path: &'a Path,
    file: &'a File,
    /// None for a command from the command line.
    rule: Option<&'a str>,
    /// Why the rule matches.
    why: &'a str,
}

impl<'a> About<'a> {
    pub fn of(known: &'a Known, order: &'a Order<'_>) -> Self {
        About { path: &known.path, file: &known.record, rule: order.name(), why: &order.why }
    }

    /// A file that was not looked at.
    pub fn file(file: &'a File, rule: Option<&'a str>) -> Self {
        About { path: file.path.get().unwrap_or(Path::new("")), file, rule, why: "" }
    }

    fn rule(&self) -> String {
        self.rule.map_or_else(|| "the command".into(), |rule| format!("rule {rule}"))
    }
}

impl Actor<'_, '_> {
    /// The command, on stdout.
    pub(super) fn show(&mut self, about: &About<'_>, argv: &[OsString]) -> Result<()> {
        if self.records.is_json() {
            return self.record(about, argv, "emitted", &End::of(State::Emitted));
        }
        self.records.text(shell::quote(argv))?;
        self.records.flush()
    }

    /// With `--json`, what became of it.
    pub(super) fn record(
        &mut self,
        about: &About<'_>,
        argv: &[OsString],
        state: &str,
        end: &End,
    ) -> Result<()> {
        if !self.records.is_json() {
            return Ok(());
        }
        let why = end.why.clone().unwrap_or_else(|| about.why.to_string());
        let action = Action {
            rule: about.rule.map(Into::into),
            argv: lossy(argv),
            state: state.into(),
            exit: end.exit,
            signal: end.signal,
            why: Some(why),
            file: Some(about.file.clone()),
            ..Action::fresh()
        };
        self.records.json(&action)?;
        self.records.flush()
    }

    /// No rule matches: that is no news.
    pub(super) fn pass(&self, known: &Known, choice: &Choice<'_>) {
        for (rule, why) in &choice.passed {
            report::detail(format_args!("{}: not by rule {}: {why}", known.path.display(), rule.name));
        }
    }

    /// It was claimed before: what is unknown is trouble each time, the rest is no news.
    pub(super) fn was_before(&mut self, about: &About<'_>, state: State, at: Timestamp) -> Result<()> {
        let doing = format!("{} ({})", about.path.display(), about.rule());
        let why = match state {
            State::Unknown => {
                let why = format!("started at {at:.0}, and nobody knows whether it was done");
                self.trouble(
                    &Error::new(Kind::Unknown, doing, &why)
                        .hint("look whether it was; --again does it again"),
                );
                return self.record(about, &[], "unknown", &End::because(state, why));
            }
            State::Claimed => format!("another process is at it since {at:.0}"),
            State::Failed => format!("failed at {at:.0}; --again tries it again"),
            state => format!("{} at {at:.0} already; --again repeats it", state.word()),
        };
        report::detail(format_args!("{doing}: {why}"));
        if self.pending {
            return Ok(());
        }
        self.record(about, &[], "skipped", &End::because(state, why))
    }

    /// Too many in an hour: it stays pending. A line for the first of each rule, not for a thousand.
    pub(super) fn hold(&mut self, about: &About<'_>, most: u32) -> Result<()> {
        let why = format!("held: {} may act {most} times an hour", about.rule());
        let error = Error::new(Kind::Temporary, about.path.display().to_string(), &why);
        let held = self.held.entry(about.rule()).or_default();
        *held += 1;
        if *held == 1 {
            self.trouble(&error);
        } else {
            report::detail(&error);
        }
        self.record(about, &[], "held", &End::because(State::Free, why))
    }

    /// How many were held, where it was more than the one that was told.
    pub(super) fn tell_held(&self) {
        for (rule, held) in self.held.iter().filter(|(_, held)| **held > 1) {
            report::trouble(format_args!("{rule}: {held} files held; they are taken up at the next run"));
        }
    }

    /// No command can be made of what the message says.
    pub(super) fn refuse(&mut self, about: &About<'_>, error: &Error) -> Result<()> {
        self.trouble(error);
        self.record(about, &[], "failed", &End::because(State::Failed, error.to_string()))
    }

    /// One sentence for each rule up to the one that matches, and what would be done; with `--json` in one record
    /// for each file, `skipped` because nothing is done.
    pub(super) fn explain(&mut self, known: &Known, choice: &Choice<'_>) -> Result<()> {
        let not = |(rule, why): &(&Rule, String)| format!("rule {} does not match: {why}", rule.name);
        let mut sentences: Vec<String> = choice.passed.iter().map(not).collect();
        let Some(order) = &choice.order else {
            sentences.push("no rule matches, nothing is done".into());
            return self.sentences(&About::file(&known.record, None), &[], &sentences);
        };
        let before = match &mut self.ledger {
            Some(ledger) => ledger.before(&order.key(known))?,
            None => None,
        };
        let argv = order.argv(known);
        let outcome = match (before, &argv) {
            (Some((_, state, at)), _) => format!("it is {} since {at:.0}", state.word()),
            (None, Ok(argv)) => format!("the command is {}", String::from_utf8_lossy(&shell::quote(argv))),
            (None, Err(error)) => format!("but {error}"),
        };
        let about = About::of(known, order);
        sentences.push(format!("{} matches: {}; {outcome}", about.rule(), order.why));
        self.sentences(&about, &argv.unwrap_or_default(), &sentences)
    }

    pub(super) fn sentences(&mut self, about: &About<'_>, argv: &[OsString], said: &[String]) -> Result<()> {
        if self.records.is_json() {
            return self.record(about, argv, "skipped", &End::because(State::Free, said.join("; ")));
        }
        for sentence in said {
            self.records
                .text(report::printable(&format!("{}: {sentence}", about.path.display())).as_bytes())?;
        }
        self.records.flush()
    }
}

/// Words that are no UTF-8 have U+FFFD in the place of what is wrong.
pub(super) fn lossy(argv: &[OsString]) -> Vec<String> {
    argv.iter().map(|word| word.to_string_lossy().into_owned()).collect()
}
