//! How far a mailbox was read: which UIDs were taken. One file a source, `mailloop-cursor-SOURCE`, in the Maildir.
//!
//! An append-only file of JSON lines (see [`Log`]); what [`Cursor`]'s methods were told is durable on return.
//!
//! | line | means |
//! |---|---|
//! | `{"v":1,"account":…,"mailbox":…}` | the first line: whose cursor this is |
//! | `{"uidvalidity":N}` | UIDs are those of this UIDVALIDITY from here on; what was taken before counts no more |
//! | `{"pending":[{uid,tmp,name,flags}…]}` | these are synced in `tmp/` and about to be renamed |
//! | `{"taken":"1:5,7"}` | these need not be looked at again; what was pending is done |
//! | `{"taken":"8","matched":[name…]}` | the same, and these files of an older UIDVALIDITY turned out to be them |
//! | `{"taken":"8","owed":N}` | the same, and on the server something is still to be done with them (since N, seconds since 1970) |
//! | `{"paid":"8"}` | that is done, or will never be |
//! | `{"skipped":[{uid,size,reason}…]}` | these were looked at and not taken, and why |
//! | `{"settled":true}` | everything there was has been taken once under this UIDVALIDITY |
//!
//! After a crash the last `pending` without a `taken` says what to finish: those still in `tmp/` are renamed, those
//! not there any more were renamed already (and perhaps moved on by a reader); both are then taken.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::durable::{Dir, Lock, Log};
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

/// The cursor of one source, locked for this process.
#[derive(Debug)]
pub struct Cursor {
    _lock: Lock,
    log: Log,
    dir: Dir,
    file: String,
    head: Head,
    uidvalidity: Option<u32>,
    taken: Uids,
    pending: Vec<Pending>,
    matched: HashSet<String>,
    owed: BTreeMap<u32, i64>,
    skipped: BTreeMap<u32, Skipped>,
    settled: bool,
    lines: usize,
    octets: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Head {
    v: u8,
    account: String,
    mailbox: String,
}

/// One line but the first; each field is one of the table's words.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    uidvalidity: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pending: Vec<Pending>,
    #[serde(skip_serializing_if = "Option::is_none")]
    taken: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    matched: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paid: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<Skipped>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    settled: bool,
}

/// More lines than this are written anew as three.
const COMPACT_BEYOND: usize = 1000;
/// So are more octets: reading them takes time in every run.
const COMPACT_OCTETS: usize = 64 << 10;

impl Cursor {
    /// Opens or begins the cursor of `source` in `dir` and locks it, waiting up to `limit` (75 if it is held).
    pub fn open(dir: &Dir, source: &str, account: &str, mailbox: &str, limit: Duration) -> Result<Cursor> {
        let lock = Lock::take(dir, &format!("mailloop-lock-{source}"), limit)?;
        let file = format!("mailloop-cursor-{source}");
        let head = Head { v: 1, account: account.into(), mailbox: mailbox.into() };
        let (mut log, lines) = Log::open(dir, &file)?;
        if lines.is_empty() {
            log.append(&[json(&head)?])?;
        }
        let mut cursor = Cursor {
            _lock: lock,
            log,
            dir: dir.clone(),
            file,
            head,
            uidvalidity: None,
            taken: Uids::default(),
            pending: Vec::new(),
            matched: HashSet::new(),
            owed: BTreeMap::new(),
            skipped: BTreeMap::new(),
            settled: false,
            lines: lines.len().max(1),
            octets: lines.iter().map(String::len).sum(),
        };
        for line in lines.iter().skip(1) {
            cursor.replay(line)?;
        }
        cursor.tidy()?;
        Ok(cursor)
    }

    fn replay(&mut self, line: &str) -> Result<()> {
        let damaged = |why: String| {
            Error::new(Kind::Io, format!("cannot read {}", self.dir.at(&self.file).display()), why)
                .hint("remove it to fetch everything anew; what lies in the Maildir is recognised")
        };
        let line: Line = serde_json::from_str(line).map_err(|why| damaged(why.to_string()))?;
        let set = |text: &Option<String>| text.as_deref().map(str::parse::<Uids>).transpose();
        let taken = set(&line.taken).map_err(damaged)?;
        let paid = set(&line.paid).map_err(damaged)?;
        self.apply(line, taken, paid);
        Ok(())
    }

    fn apply(&mut self, line: Line, taken: Option<Uids>, paid: Option<Uids>) {
        if let Some(number) = line.uidvalidity {
            self.uidvalidity = Some(number);
            self.taken = Uids::default();
            self.matched.clear();
            self.owed.clear();
            self.skipped.clear();
            self.settled = false;
        }
        if let Some(taken) = taken {
            self.skipped.retain(|uid, _| !taken.contains(*uid));
            if let Some(since) = line.owed {
                self.owed.extend(taken.iter().map(|uid| (uid, since)));
            }
            self.taken.extend(&taken);
            self.pending.clear();
        }
        if !line.pending.is_empty() {
            self.pending = line.pending;
        }
        if let Some(paid) = paid {
            self.owed.retain(|uid, _| !paid.contains(*uid));
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

    /// Account and mailbox.
    pub fn owner(&self) -> (&str, &str) {
        (&self.head.account, &self.head.mailbox)
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

    /// UIDs are those of another UIDVALIDITY from now on.
    pub fn renew(&mut self, uidvalidity: u32) -> Result<()> {
        self.write(Line { uidvalidity: Some(uidvalidity), ..Line::default() }, None, None)
    }

    /// These are about to be renamed.
    pub fn announce(&mut self, pending: Vec<Pending>) -> Result<()> {
        self.write(Line { pending, ..Line::default() }, None, None)
    }

    /// These need not be looked at again; what was pending is done. `matched` are files of an older UIDVALIDITY that
    /// some of them turned out to be.
    pub fn take(&mut self, uids: &Uids, matched: Vec<String>) -> Result<()> {
        let line = Line { taken: Some(uids.to_string()), matched, ..Line::default() };
        self.write(line, Some(uids.clone()), None)
    }

    /// As [`Cursor::take`], and something is to be done with them on the server; `now` in seconds since 1970.
    pub fn take_and_owe(&mut self, uids: &Uids, now: i64) -> Result<()> {
        let line = Line { taken: Some(uids.to_string()), owed: Some(now), ..Line::default() };
        self.write(line, Some(uids.clone()), None)
    }

    /// With what something is still to be done on the server, and since when (seconds since 1970).
    pub fn owed(&self) -> &BTreeMap<u32, i64> {
        &self.owed
    }

    /// With these nothing more is to be done on the server.
    pub fn pay(&mut self, uids: &Uids) -> Result<()> {
        let line = Line { paid: Some(uids.to_string()), ..Line::default() };
        self.write(line, None, Some(uids.clone()))
    }

    /// What was passed over and not taken since.
    pub fn skipped(&self) -> &BTreeMap<u32, Skipped> {
        &self.skipped
    }

    /// These were looked at and not taken.
    pub fn skip(&mut self, skipped: Vec<Skipped>) -> Result<()> {
        self.write(Line { skipped, ..Line::default() }, None, None)
    }

    /// Everything that there was has been taken.
    pub fn settle(&mut self) -> Result<()> {
        self.write(Line { settled: true, ..Line::default() }, None, None)
    }

    /// Writes a long file anew, so that the next run reads a short one.
    pub fn tidy(&mut self) -> Result<()> {
        match self.lines > COMPACT_BEYOND || self.octets > COMPACT_OCTETS {
            true => self.compact(),
            false => Ok(()),
        }
    }

    fn write(&mut self, line: Line, taken: Option<Uids>, paid: Option<Uids>) -> Result<()> {
        let text = json(&line)?;
        self.octets += text.len();
        self.log.append(&[text])?;
        self.lines += 1;
        self.apply(line, taken, paid);
        Ok(())
    }

    fn compact(&mut self) -> Result<()> {
        let mut lines = vec![json(&self.head)?];
        if let Some(uidvalidity) = self.uidvalidity {
            lines.push(json(&Line { uidvalidity: Some(uidvalidity), ..Line::default() })?);
        }
        let mut matched: Vec<String> = self.matched.iter().cloned().collect();
        matched.sort();
        let taken = Some(self.taken.to_string());
        lines.push(json(&Line { taken, matched, settled: self.settled, ..Line::default() })?);
        let mut owed: BTreeMap<i64, Uids> = BTreeMap::new();
        for (uid, since) in &self.owed {
            owed.entry(*since).or_default().insert(*uid);
        }
        for (since, uids) in owed {
            let line = Line { taken: Some(uids.to_string()), owed: Some(since), ..Line::default() };
            lines.push(json(&line)?);
        }
        if !self.skipped.is_empty() {
            let skipped = self.skipped.values().cloned().collect();
            lines.push(json(&Line { skipped, ..Line::default() })?);
        }
        if !self.pending.is_empty() {
            lines.push(json(&Line { pending: self.pending.clone(), ..Line::default() })?);
        }
        self.dir.replace(&self.file, (lines.join("\n") + "\n").as_bytes(), 0o600)?;
        (self.log, _) = Log::open(&self.dir, &self.file)?;
        self.lines = lines.len();
        // What is left is as short as it gets.
        self.octets = 0;
        Ok(())
    }
}

fn json(line: &impl Serialize) -> Result<String> {
    serde_json::to_string(line).map_err(|why| Error::new(Kind::Internal, "cannot write a cursor line", why))
}

/// Whose cursor `source` is in this Maildir: account and mailbox; `None` if none is there.
pub fn owner(dir: &Dir, source: &str) -> Option<(String, String)> {
    let bytes = dir.read(format!("mailloop-cursor-{source}")).ok()??;
    let first = bytes.split(|b| *b == b'\n').next()?;
    let head: Head = serde_json::from_slice(first).ok()?;
    Some((head.account, head.mailbox))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Dir) -> Cursor {
        Cursor::open(dir, "s", "school", "INBOX", Duration::ZERO).unwrap()
    }

    #[test]
    fn remembers_over_reopening_and_compacting() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        let mut cursor = open(&dir);
        cursor.renew(5).unwrap();
        for uid in 1..=1100 {
            cursor.take(&Uids::from_iter([uid]), Vec::new()).unwrap();
        }
        let pending = Pending { uid: 9999, tmp: "t".into(), name: "n".into(), flags: String::new() };
        cursor.take_and_owe(&Uids::from_iter([2000, 2001]), 77).unwrap();
        cursor.pay(&Uids::from_iter([2000])).unwrap();
        let skip = |uid| Skipped { uid, size: Some(9), reason: "large".into() };
        cursor.skip(vec![skip(3000), skip(1)]).unwrap();
        cursor.take(&Uids::from_iter([1]), Vec::new()).unwrap();
        cursor.announce(vec![pending.clone()]).unwrap();
        drop(cursor);
        for _ in 0..2 {
            let cursor = open(&dir);
            assert_eq!(
                (cursor.uidvalidity(), cursor.taken().to_string().as_str()),
                (Some(5), "1:1100,2000:2001")
            );
            assert_eq!(cursor.pending(), std::slice::from_ref(&pending));
            assert_eq!(cursor.owed(), &BTreeMap::from([(2001, 77)]));
            assert_eq!(cursor.skipped(), &BTreeMap::from([(3000, skip(3000))]));
        }
        assert_eq!(dir.read("mailloop-cursor-s").unwrap().unwrap().split(|b| *b == b'\n').count(), 7);
        assert_eq!(owner(&dir, "s"), Some(("school".into(), "INBOX".into())));
    }

    #[test]
    fn another_uidvalidity_forgets_what_was_taken() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        let mut cursor = open(&dir);
        cursor.renew(5).unwrap();
        cursor.take(&Uids::from_iter([1, 2]), vec!["old".into()]).unwrap();
        cursor.settle().unwrap();
        assert!(open_again(cursor, &dir));
        let mut cursor = open(&dir);
        cursor.renew(6).unwrap();
        drop(cursor);
        let cursor = open(&dir);
        assert!(cursor.taken().is_empty() && cursor.matched().is_empty() && !cursor.is_settled());
    }

    fn open_again(cursor: Cursor, dir: &Dir) -> bool {
        drop(cursor);
        let cursor = open(dir);
        cursor.is_settled() && cursor.matched().contains("old")
    }
}
