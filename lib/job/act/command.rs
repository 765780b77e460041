//! Running one command in a clean environment, and what its end means for the ledger.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Kind, Result};
use crate::process::{self, Job};
use crate::record::Message;
use crate::report;
use crate::rules::template::text;
use crate::store::ledger::{End, State};

use super::facts::Known;

/// How much of what a command prints is kept, besides how it ends.
const KEEP: usize = 64 * 1024;

/// The status by which a command says "try again later" (`EX_TEMPFAIL` of sysexits.h).
const LATER: i32 = 75;

/// What became of a command.
pub(super) struct Ran {
    /// For the ledger and the record.
    pub end: End,
    /// The class of trouble; none if it was done.
    pub kind: Option<Kind>,
    /// The last line it printed.
    pub said: Option<String>,
    /// What it printed, up to a limit.
    pub printed: Vec<u8>,
}

impl Ran {
    /// A failure with a status is one that passes.
    ///
    /// `lp` ends with 1 whatever is wrong: a printer that takes no jobs now, a print server that is away, a name
    /// that nobody knows. It has printed nothing then, so trying again is safe.
    pub(super) fn failed_for_now(&mut self) {
        if self.end.state == State::Failed && self.end.exit.is_some() {
            (self.kind, self.end.temporary) = (Some(Kind::Temporary), true);
        }
    }
}

/// Runs it to its end, at the latest to its limit.
pub(super) fn run(argv: &[OsString], env: Vec<(OsString, OsString)>, limit: Duration) -> Ran {
    let program = argv.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let job = Job { argv: argv.to_vec(), env: Some(env), limit, keep: KEEP, stderr_through: false };
    let ran = match process::run(&job) {
        Ok(ran) => ran,
        Err(error) if error.kind() == Kind::Unknown => {
            return ended(State::Unknown, Kind::Unknown, error.to_string(), None);
        }
        Err(error) => return ended(State::Free, error.kind(), error.to_string(), None),
    };
    let said = last_line(if ran.last.is_empty() { &ran.output } else { &ran.last });
    Ran { printed: kept(ran.output, &ran.last), ..judge(&program, ran.end, said, limit) }
}

/// A move or copy: where the file lies now, or why it does not.
pub(super) fn transferred(done: Result<PathBuf>) -> Ran {
    match done {
        Ok(path) => {
            let end = End::because(State::Done, format!("it lies in {}", path.display()));
            Ran { said: end.why.clone(), end, kind: None, printed: Vec::new() }
        }
        // Whatever was in the way may go away; nothing was lost, and it is the same to try again.
        Err(error) => {
            let mut ran = ended(State::Failed, error.kind(), error.to_string(), None);
            ran.end.temporary = true;
            ran
        }
    }
}

/// How it began and how it ended.
fn kept(mut output: Vec<u8>, last: &[u8]) -> Vec<u8> {
    if !last.is_empty() {
        output.extend_from_slice(b"\n[cut here]\n");
        output.extend_from_slice(last);
    }
    output
}

fn judge(program: &str, end: process::End, said: Option<String>, limit: Duration) -> Ran {
    let with = |what: String| match &said {
        Some(said) => format!("{what}: {said}"),
        None => what,
    };
    match end {
        process::End::Exit(0) => {
            let end = End { exit: Some(0), ..End::of(State::Done) };
            Ran { end, kind: None, said, printed: Vec::new() }
        }
        process::End::Exit(status) => {
            let (kind, words) = match status {
                LATER => (Kind::Temporary, with(format!("{program} failed for now (75)"))),
                _ => (Kind::Refused, with(format!("{program} failed with status {status}"))),
            };
            let mut ran = ended(State::Failed, kind, words, said.clone());
            ran.end.exit = Some(status);
            ran
        }
        process::End::Signal(signal) => {
            let mut ran = ended(
                State::Failed,
                Kind::Refused,
                with(format!("signal {signal} ended {program}")),
                said.clone(),
            );
            ran.end.signal = Some(signal);
            ran
        }
        process::End::TimedOut => {
            let words = format!("{program} took longer than {}s and was ended", limit.as_secs_f32());
            ended(State::Failed, Kind::Temporary, with(words), said.clone())
        }
    }
}

fn ended(state: State, kind: Kind, why: String, said: Option<String>) -> Ran {
    let end = End { why: Some(why), temporary: kind == Kind::Temporary, ..End::of(state) };
    Ran { end, kind: Some(kind), said, printed: Vec::new() }
}

fn last_line(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(report::printable(&line.chars().take(200).collect::<String>()).into_owned())
}

/// What a command sees: of our own environment what it needs to work at all, and the facts as `MAILLOOP_…`; a fact
/// that is not known has no variable.
pub(super) fn environment(known: &Known, rule: Option<&str>) -> Vec<(OsString, OsString)> {
    let mut env: Vec<(OsString, OsString)> =
        std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(passes)).collect();
    let values = known.values();
    let mut put = |name: &str, value: OsString| {
        if !value.is_empty() {
            env.push((format!("MAILLOOP_{name}").into(), value));
        }
    };
    put("PATH", known.path.clone().into());
    put("NAME", values.name.into());
    put("FROM", values.from.into());
    put("SUBJECT", values.subject.into());
    put("DATE", values.date.into());
    put("SHA256", values.sha256.into());
    put("TYPE", known.media_type().into());
    put("RULE", rule.unwrap_or_default().into());
    if let Some(message) = &known.record.message {
        let shown =
            |fact: fn(&Message) -> &Option<String>| text(fact(message).as_deref().unwrap_or_default()).into();
        put("MESSAGE", message.path.get().map(Path::as_os_str).unwrap_or_default().into());
        put("MESSAGE_ID", shown(|message| &message.message_id));
        put("ACCOUNT", shown(|message| &message.account));
        put("MAILBOX", shown(|message| &message.mailbox));
    }
    env
}

fn passes(name: &str) -> bool {
    matches!(name, "PATH" | "HOME" | "USER" | "LANG" | "TZ" | "TMPDIR" | "CUPS_SERVER")
        || name.starts_with("LC_")
        || name.starts_with("XDG_")
}
