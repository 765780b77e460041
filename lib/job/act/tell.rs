//! What is said of a decision: a record, a line on stderr, or the sentences of an explanation.

use std::ffi::OsString;
use std::path::Path;

use jiff::Timestamp;

use crate::error::{Error, Kind, Result};
use crate::record::{Action, File};
use crate::report;
use crate::rules::shell;
use crate::store::ledger::{End, Past, State};

use super::actor::Actor;
use super::facts::Known;
use super::orders::{Choice, Order};

/// What a decision is about.
pub(super) struct About<'a> {
    pub path: &'a Path,
    pub file: &'a File,
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

    /// The rule's name; empty for a command from the command line.
    pub fn rule_name(&self) -> &'a str {
        self.rule.unwrap_or_default()
    }

    /// In words.
    pub fn rule(&self) -> String {
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
        if let Some(why) = &choice.brake {
            report::detail(format_args!("{}: no action: {why}", known.path.display()));
        }
        for (rule, verdict) in &choice.asked {
            if let Err(why) = verdict {
                report::detail(format_args!("{}: not by rule {}: {why}", known.path.display(), rule.name));
            }
        }
    }

    /// It was claimed before: what is unknown is trouble each time, the rest is no news.
    pub(super) fn was_before(&mut self, about: &About<'_>, past: &Past) -> Result<()> {
        let Past { number, state, at, .. } = *past;
        let doing = format!("{} ({})", about.path.display(), about.rule());
        let why = match state {
            State::Unknown => {
                let why = format!("started at {at:.0}, and nobody knows whether it was done");
                if !self.options.memory.is_news(number, state) {
                    self.status.add(Kind::Unknown);
                    return Ok(());
                }
                self.trouble(&Error::new(Kind::Unknown, doing, &why).hint(format!(
                    "look whether it was; --again does it again, `mail-loop settle done {number}` says that it was"
                )));
                return self.record(about, &[], "unknown", &End::because(state, why));
            }
            State::Claimed => format!("another process is at it since {at:.0}"),
            State::Failed => format!("failed at {at:.0}; --again tries it again"),
            State::Later => {
                let next = past.next.map_or("the next run".into(), |next| format!("{next:.0}"));
                format!("failed for now at {at:.0}; tried again from {next} on, --again does it now")
            }
            State::Dead => {
                // Where an earlier run died before somebody was told, or could not tell.
                if !past.told && self.claims() {
                    self.tell_dead(about, number);
                }
                format!("given up at {at:.0}; --again or `mail-loop retry {number}` tries again")
            }
            State::Held if past.next.is_some() => {
                let next = past.next.unwrap_or(at);
                format!(
                    "held by max_per_hour; due again at {next:.0}, `mail-loop retry {number}` does it now"
                )
            }
            State::Held => format!("held since {at:.0}; `mail-loop retry {number}` does it nonetheless"),
            state => format!("{} at {at:.0} already; --again repeats it", state.word()),
        };
        let waits = state == State::Later || state == State::Held && past.next.is_some();
        if waits && !self.pending {
            self.status.add(Kind::Temporary);
            let is_news = self.options.memory.is_news(number, state);
            match is_news && (state == State::Later || self.is_first_held(about)) {
                true => report::trouble(format_args!("{doing}: {why}")),
                false => report::detail(format_args!("{doing}: {why}")),
            }
        } else {
            report::detail(format_args!("{doing}: {why}"));
        }
        if self.pending {
            return Ok(());
        }
        self.record(about, &[], "skipped", &End::because(state, why))
    }

    /// Larger than the rule likes: it is held until somebody asks for it.
    pub(super) fn too_much(&mut self, about: &About<'_>, size: u64, most: u64) -> Result<()> {
        let why = format!("held by {}: {}", about.rule(), too_large(size, most));
        self.trouble(
            &Error::new(Kind::Refused, about.path.display().to_string(), &why)
                .hint("`mail-loop history --is held` shows it, `mail-loop retry` does it nonetheless"),
        );
        self.record(about, &[], "held", &End::because(State::Held, why))
    }

    /// Too many in an hour: it stays pending. A line for the first of each rule, not for a thousand.
    pub(super) fn hold(&mut self, about: &About<'_>, most: u32, until: Timestamp, news: bool) -> Result<()> {
        let why = format!("held: {} may act {most} times an hour; due again at {until:.0}", about.rule());
        let error = Error::new(Kind::Temporary, about.path.display().to_string(), &why);
        self.status.add(error.kind());
        if !news {
            report::detail(&error);
            return Ok(());
        }
        match self.is_first_held(about) {
            true => report::trouble(&error),
            false => report::detail(&error),
        }
        self.record(about, &[], "held", &End::because(State::Free, why))
    }

    /// Counts it among the held of its rule.
    fn is_first_held(&mut self, about: &About<'_>) -> bool {
        let held = self.held.entry(about.rule()).or_default();
        *held += 1;
        *held == 1
    }

    /// Nobody can tell now who sent it: it stays pending, and no rule after that is asked.
    pub(super) fn wait_for_proof(&mut self, about: &About<'_>, why: Option<&str>) -> Result<()> {
        let why = format!(
            "{} waits until its sender can be told: {}",
            about.rule(),
            why.unwrap_or("nobody looked")
        );
        let error = Error::new(Kind::Temporary, about.path.display().to_string(), &why);
        self.waiting += 1;
        if self.waiting == 1 {
            self.trouble(&error);
        } else {
            report::detail(&error);
        }
        self.record(about, &[], "later", &End::because(State::Free, why))
    }

    /// A rule fits but for its sender: that is told once, since somebody may have tried something.
    pub(super) fn tell_unproven(&mut self, about: &About<'_>, why: &str) -> Result<()> {
        let why = format!("its sender is not proven: {why}");
        report::say(format_args!("{}: not by {}: {why}", about.path.display(), about.rule()));
        self.record(about, &[], "skipped", &End::because(State::Skipped, why))
    }

    /// How many were held, where it was more than the one that was told.
    pub(super) fn tell_held(&self) {
        if self.waiting > 1 {
            report::trouble(format_args!("{} files wait until their sender can be told", self.waiting));
        }
        for (rule, held) in self.held.iter().filter(|(_, held)| **held > 1) {
            report::trouble(format_args!(
                "{rule}: {held} files held; they are taken up when there is room, or by `mail-loop retry --is held`"
            ));
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
        let mut sentences = Vec::new();
        for (rule, verdict) in &choice.asked {
            match verdict {
                Err(why) => sentences.push(format!("rule {} does not match: {why}", rule.name)),
                Ok(number) => {
                    sentences.extend(choice.orders.get(*number).map(|order| self.outcome(known, order)))
                }
            }
        }
        if let Some((rule, why)) = &choice.open {
            let why = why.as_deref().unwrap_or("nobody looked");
            sentences.push(format!("rule {} waits until its sender can be told: {why}", rule.name));
        }
        if let Some(why) = &choice.brake {
            sentences.push(format!("no action: {why}"));
        }
        let rest = match (&choice.brake, &choice.open) {
            (None, None) => self.options.orders.names_from(choice.asked.len()),
            _ => Vec::new(),
        };
        if !rest.is_empty() {
            sentences.push(format!("not asked after that: {}", rest.join(", ")));
        }
        if choice.asked.is_empty() {
            let orders = choice.orders.iter();
            sentences.extend(orders.map(|order| self.outcome(known, order)).collect::<Vec<_>>());
        }
        if choice.orders.is_empty() && choice.brake.is_none() && choice.open.is_none() {
            sentences.push("no rule matches, nothing is done".into());
        }
        match choice.orders.first() {
            None => self.sentences(&About::file(&known.record, None), &[], &sentences),
            Some(order) => {
                let argv = order.argv(known).unwrap_or_default();
                self.sentences(&About::of(known, order), &argv, &sentences)
            }
        }
    }

    /// What an order would do now, as a sentence.
    fn outcome(&mut self, known: &Known, order: &Order<'_>) -> String {
        let before = self.ledger.as_mut().and_then(|ledger| ledger.before(&order.key(known)).transpose());
        let outcome = match (before, order.argv(known)) {
            (Some(Err(error)), _) | (None, Err(error)) => format!("but {error}"),
            (Some(Ok(past)), _) => format!("it is {} since {:.0}", past.state.word(), past.at),
            (None, Ok(argv)) => match order.max_size().filter(|most| known.record.size > *most) {
                Some(most) => format!("it would be held: {}", too_large(known.record.size, most)),
                None => format!("the command is {}", String::from_utf8_lossy(&shell::quote(&argv))),
            },
        };
        format!("{} matches: {}; {outcome}", About::of(known, order).rule(), order.why)
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

/// Why a file is held, in words.
pub(super) fn too_large(size: u64, most: u64) -> String {
    format!("it has {size} bytes, more than max_size, {most}")
}
