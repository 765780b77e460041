//! What a cursor's lines come to: which UIDs need not be looked at again, and what is left to do.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::missing::{self, Missing, Verdict};
use crate::durable::Dir;
use crate::error::{Error, Kind, Result};
use crate::mail::uids::Uids;

/// A message of a commit group: its contents are durable in `tmp/`, its name is not final yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Its UID.
    pub uid: u32,
    /// Its name in `tmp/`.
    pub tmp: String,
    /// Its unique name.
    pub name: String,
    /// Its flag letters.
    pub flags: String,
}

/// Something that is still to be done on the server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owed {
    /// Since when, in seconds since 1970.
    pub since: i64,
    /// What, in the word of the run that fetched it; lines of older versions do not say.
    pub after: Option<String>,
}

/// A message that was passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its UID.
    pub uid: u32,
    /// Its size as the server tells it, where that was the reason.
    pub size: Option<u64>,
    /// Why, for people.
    pub reason: String,
}

/// One line but the first; each field is one of the table's words.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uidvalidity: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Pending>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matched: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paid: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub times: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub settled: bool,
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

/// The sets that a line holds as text.
#[derive(Default)]
pub(super) struct Sets {
    pub taken: Option<Uids>,
    pub paid: Option<Uids>,
    pub missing: Option<Uids>,
}

/// How far a mailbox was read.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub(super) uidvalidity: Option<u32>,
    pub(super) taken: Uids,
    pub(super) pending: Vec<Pending>,
    pub(super) matched: HashSet<String>,
    /// What the run that announced them owes with them.
    pub(super) pending_after: Option<String>,
    pub(super) owed: BTreeMap<u32, Owed>,
    pub(super) skipped: BTreeMap<u32, Skipped>,
    pub(super) missing: Vec<Missing>,
    pub(super) settled: bool,
}

impl Seen {
    /// Reads the cursor of `source` as it stands; nothing is locked, begun or changed. Nothing was seen where there is
    /// none.
    pub fn read(dir: &Dir, source: &str) -> Result<Seen> {
        let name = format!("mailloop-cursor-{source}");
        let mut seen = Seen::default();
        let bytes = dir.read(&name)?.unwrap_or_default();
        // A last line without its end never became true.
        let whole = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        for line in whole.skip(1) {
            seen.replay(&String::from_utf8_lossy(line), || dir.at(&name))?;
        }
        Ok(seen)
    }

    /// What of it holds under this UIDVALIDITY.
    pub fn under(self, uidvalidity: u32) -> Seen {
        match self.uidvalidity == Some(uidvalidity) {
            true => self,
            false => Seen { uidvalidity: Some(uidvalidity), ..Seen::default() },
        }
    }

    pub(super) fn replay(&mut self, line: &str, file: impl Fn() -> PathBuf) -> Result<()> {
        let damaged = |why: String| {
            Error::new(Kind::Io, format!("cannot read {}", file().display()), why)
                .hint("remove it to fetch everything anew; what lies in the Maildir is recognised")
        };
        let line: Line = serde_json::from_str(line).map_err(|why| damaged(why.to_string()))?;
        let set = |text: &Option<String>| text.as_deref().map(str::parse::<Uids>).transpose();
        let sets = Sets {
            taken: set(&line.taken).map_err(damaged)?,
            paid: set(&line.paid).map_err(damaged)?,
            missing: set(&line.missing).map_err(damaged)?,
        };
        self.apply(line, sets);
        Ok(())
    }

    /// What a line changes.
    pub(super) fn apply(&mut self, line: Line, sets: Sets) {
        if let Some(number) = line.uidvalidity {
            self.uidvalidity = Some(number);
            self.taken = Uids::default();
            self.matched.clear();
            self.owed.clear();
            self.skipped.clear();
            self.missing.clear();
            self.settled = false;
        }
        if let Some(taken) = sets.taken {
            missing::forget(&mut self.missing, &taken);
            self.skipped.retain(|uid, _| !taken.contains(*uid));
            if let Some(since) = line.owed {
                let owed = Owed { since, after: line.after.clone() };
                self.owed.extend(taken.iter().map(|uid| (uid, owed.clone())));
            }
            self.taken.extend(&taken);
            self.pending.clear();
            self.pending_after = None;
        }
        if !line.pending.is_empty() {
            self.pending_after = line.after;
            self.pending = line.pending;
        }
        if let Some(paid) = sets.paid {
            self.owed.retain(|uid, _| !paid.contains(*uid));
        }
        if let Some(uids) = sets.missing {
            missing::forget(&mut self.missing, &uids);
            if line.times > 0 {
                self.missing.push(Missing { uids, times: line.times, at: line.at.unwrap_or(0) });
            }
        }
        self.skipped.extend(line.skipped.into_iter().map(|one| (one.uid, one)));
        self.matched.extend(line.matched);
        self.settled |= line.settled;
    }

    /// True once everything that there was has been taken under this UIDVALIDITY; before that, what lies in the
    /// Maildir may be what the server has.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Files of an older UIDVALIDITY that turned out to be messages taken under this one.
    pub fn matched(&self) -> &HashSet<String> {
        &self.matched
    }

    /// The UIDVALIDITY that the taken UIDs belong to.
    pub fn uidvalidity(&self) -> Option<u32> {
        self.uidvalidity
    }

    /// UIDs that need not be looked at again.
    pub fn taken(&self) -> &Uids {
        &self.taken
    }

    /// What a process that died was about to rename.
    pub fn pending(&self) -> &[Pending] {
        &self.pending
    }

    /// What the run that announced the pending ones was to do with them on the server.
    pub fn pending_after(&self) -> Option<&str> {
        self.pending_after.as_deref()
    }

    /// With what something is still to be done on the server, and what.
    pub fn owed(&self) -> &BTreeMap<u32, Owed> {
        &self.owed
    }

    /// What searches left out, and has not come since.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// True if it is time to look for some of them again.
    pub fn is_due(&self, now: i64) -> bool {
        self.missing.iter().any(|group| group.is_due(now))
    }

    /// What follows from a search that listed these UIDs and left those out; nothing is remembered by that.
    pub fn judge(&self, listed: &Uids, left_out: &Uids, last: u32, now: i64) -> Verdict {
        missing::judge(&self.missing, listed, left_out, last, now)
    }

    /// What was passed over and not taken since.
    pub fn skipped(&self) -> &BTreeMap<u32, Skipped> {
        &self.skipped
    }
}
