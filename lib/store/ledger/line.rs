//! The words of the ledger and its lines.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
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
    /// It failed for now and is tried again from a known moment on.
    Later,
    /// It failed for now too often: somebody has to look.
    Dead,
    /// It is too much to be done unasked.
    Held,
    /// It was decided that nothing is to be done.
    Skipped,
    /// It surely did not happen.
    Free,
}

impl State {
    /// All of them.
    pub const ALL: [State; 10] = [
        State::Claimed,
        State::Emitted,
        State::Done,
        State::Failed,
        State::Unknown,
        State::Later,
        State::Dead,
        State::Held,
        State::Skipped,
        State::Free,
    ];

    /// As a word in records.
    pub fn word(self) -> &'static str {
        match self {
            State::Claimed => "claimed",
            State::Emitted => "emitted",
            State::Done => "done",
            State::Failed => "failed",
            State::Unknown => "unknown",
            State::Later => "later",
            State::Dead => "dead",
            State::Held => "held",
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
    /// From when on it is tried again.
    pub next: Option<Timestamp>,
}

/// What the last claim of something that may have happened came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// Its number.
    pub number: u64,
    /// What is known of it.
    pub state: State,
    /// When it was made.
    pub at: Timestamp,
    /// From when on it is tried again, for [`State::Later`] and [`State::Held`].
    pub next: Option<Timestamp>,
    /// Somebody asked for the next try.
    pub asked: bool,
    /// Somebody was told of it for good ([`super::Ledger::told`]).
    pub told: bool,
}

/// No pause is as long as this: a moment further ahead was reckoned by a clock that was wrong.
const FAR: SignedDuration = SignedDuration::from_hours(3);

/// True if what is to be tried again from that moment on is to be tried now.
pub fn is_due(next: Timestamp, now: Timestamp) -> bool {
    next <= now || next.duration_since(now) > FAR
}

impl Past {
    /// True if it stands in the way of a new claim now.
    pub fn bars(&self, again: Again, now: Timestamp) -> bool {
        let is_due = match self.state {
            State::Later => self.next.is_none_or(|next| is_due(next, now)),
            State::Held => self.next.is_some_and(|next| is_due(next, now)),
            _ => false,
        };
        !is_due && !again.allows(self.state)
    }
}

/// Which earlier claims do not stand in the way of a new one; those of a living process always do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Again {
    /// None but those that surely did not happen.
    #[default]
    No,
    /// Those whose fate nobody knows.
    Unknown,
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
            State::Unknown => self != Again::No,
            State::Failed | State::Skipped | State::Later | State::Dead | State::Held => {
                matches!(self, Again::Undone | Again::All)
            }
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
    /// From when on it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "maybe")]
    pub next: Option<Timestamp>,
    /// Somebody said so by hand.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked: bool,
}

impl End {
    /// An end without more to say.
    pub fn of(state: State) -> End {
        End { state, exit: None, signal: None, why: None, temporary: false, next: None, asked: false }
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
        (self.exit, self.signal, self.why, self.next) = (end.exit, end.signal, end.why, end.next);
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
    Told {
        v: u8,
        n: u64,
        #[serde(with = "moment")]
        at: Timestamp,
    },
}

/// Reads the line that begins at byte `at`; 74 where it makes no sense.
pub(super) fn read(at: u64, line: &[u8]) -> Result<Line> {
    // Skipping what we cannot read might do something twice.
    let failed = |why: &dyn std::fmt::Display| {
        let said = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
        let doing = format!("cannot read the line at byte {at} of the ledger");
        Error::new(Kind::Io, doing, format!("{why}: {}", crate::report::printable(&said)))
            .hint("look at act/ledger in the state directory; what is lost from it might be done twice")
    };
    let line: Line = serde_json::from_slice(line).map_err(|why| failed(&why))?;
    match line {
        Line::Claim { v: 1, .. } | Line::Settle { v: 1, .. } | Line::Told { v: 1, .. } => Ok(line),
        _ => Err(failed(&"it is of another version of this program")),
    }
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

/// RFC 3339 in UTC, or nothing.
mod maybe {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        at.map(|at| at.to_string()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
    }
}
