//! The words of the ledger and its lines.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::record::RecordPath;

/// What is done once: a rule, a file's bytes, and the message that they came in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The rule's name, or `argv:` and the digest of a command from the command line.
    pub rule: String,
    /// SHA-256 of the file, hex.
    pub file: String,
    /// SHA-256 of the message, hex; null where the rule acts once per file, or where the message is not known.
    pub message: Option<String>,
}

/// What is known of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A living process is at it.
    Claimed,
    /// Its command was printed (or lost on its way to a reader that has gone).
    Emitted,
    /// Its command ended with status 0.
    Done,
    /// Its command ended otherwise.
    Failed,
    /// Nobody knows whether it happened.
    Unknown,
    /// It was decided that nothing is to be done.
    Skipped,
    /// It surely did not happen.
    Free,
}

impl State {
    /// As a word in records.
    pub fn word(self) -> &'static str {
        match self {
            State::Claimed => "claimed",
            State::Emitted => "emitted",
            State::Done => "done",
            State::Failed => "failed",
            State::Unknown => "unknown",
            State::Skipped => "skipped",
            State::Free => "free",
        }
    }
}

/// A claim and what became of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The number of the claim, from 1.
    pub number: u64,
    /// What was claimed.
    pub key: Key,
    /// When.
    pub claimed: Timestamp,
    /// Where the file lay.
    pub path: Option<PathBuf>,
    /// The command.
    pub argv: Vec<String>,
    /// What is known of it.
    pub state: State,
    /// When it was settled.
    pub settled: Option<Timestamp>,
    /// The exit status of the command.
    pub exit: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// In one sentence.
    pub why: Option<String>,
}

/// Which earlier claims do not stand in the way of a new one; those of a living process always do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Again {
    /// None but those that surely did not happen.
    #[default]
    No,
    /// Those that failed, and those whose fate nobody knows.
    Undone,
    /// All.
    All,
}

impl Again {
    /// True if a claim in this state does not stand in the way.
    pub fn allows(self, state: State) -> bool {
        match state {
            State::Free => true,
            State::Claimed => false,
            State::Failed | State::Unknown | State::Skipped => self != Again::No,
            State::Done | State::Emitted => self == Again::All,
        }
    }
}

/// How a claim ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct End {
    /// Not [`State::Claimed`].
    pub state: State,
    /// The exit status of the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// In one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// True if trying again may help.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub temporary: bool,
}

impl End {
    /// An end without more to say.
    pub fn of(state: State) -> End {
        End { state, exit: None, signal: None, why: None, temporary: false }
    }

    /// An end and its reason, in one sentence.
    pub fn because(state: State, why: impl Into<String>) -> End {
        End { why: Some(why.into()), ..End::of(state) }
    }
}

impl Entry {
    /// Takes in how it ended.
    pub(super) fn end(&mut self, at: Timestamp, end: End) {
        self.state = end.state;
        self.settled = Some(at);
        (self.exit, self.signal, self.why) = (end.exit, end.signal, end.why);
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub(super) enum Line {
    Claim {
        v: u8,
        n: u64,
        #[serde(with = "moment")]
        at: Timestamp,
        #[serde(flatten)]
        key: Key,
        #[serde(flatten)]
        path: RecordPath,
        argv: Vec<String>,
        /// Which `live-…` file its process has locked; none where it is settled in the same line.
        by: Option<String>,
        settled: Option<End>,
    },
    Settle {
        v: u8,
        n: u64,
        #[serde(with = "moment")]
        at: Timestamp,
        #[serde(flatten)]
        end: End,
    },
}

/// Reads a line; 74 where it makes no sense.
pub(super) fn read(line: &str) -> Result<Line> {
    // Skipping what we cannot read might do something twice.
    serde_json::from_str(line)
        .map_err(|why| Error::new(Kind::Io, "cannot read a line of the ledger", format!("{why}: {line}")))
}

/// RFC 3339 in UTC.
mod moment {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(at: &jiff::Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(at)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<jiff::Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
