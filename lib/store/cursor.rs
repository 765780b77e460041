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
//!
//! After a crash the last `pending` without a `taken` says what to finish: those still in `tmp/` are renamed, those
//! not there any more were renamed already (and perhaps moved on by a reader); both are then taken.

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
    lines: usize,
    was_there: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Head {
    v: u8,
    account: String,
    mailbox: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Uidvalidity(u32),
    Pending(Vec<Pending>),
    Taken(String),
}

/// More lines than this are written anew as three.
const COMPACT_BEYOND: usize = 1000;

impl Cursor {
    /// Opens or begins the cursor of `source` in `dir` and locks it, waiting up to `limit` (75 if it is held).
    pub fn open(dir: &Dir, source: &str, account: &str, mailbox: &str, limit: Duration) -> Result<Cursor> {
        let lock = Lock::take(dir, &format!("mailloop-lock-{source}"), limit)?;
        let file = format!("mailloop-cursor-{source}");
        let head = Head { v: 1, account: account.into(), mailbox: mailbox.into() };
        let (mut log, lines) = Log::open(dir, &file)?;
        let was_there = !lines.is_empty();
        if !was_there {
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
            lines: lines.len().max(1),
            was_there,
        };
        for line in lines.iter().skip(1) {
            cursor.replay(line)?;
        }
        if cursor.lines > COMPACT_BEYOND {
            cursor.compact()?;
        }
        Ok(cursor)
    }

    fn replay(&mut self, line: &str) -> Result<()> {
        let damaged = |why: String| {
            Error::new(Kind::Io, format!("cannot read {}", self.dir.at(&self.file).display()), why)
                .hint("remove it to fetch everything anew; what lies in the Maildir is recognised")
        };
        let line: Line = serde_json::from_str(line).map_err(|why| damaged(why.to_string()))?;
        match line {
            Line::Uidvalidity(number) => {
                self.uidvalidity = Some(number);
                self.taken = Uids::default();
            }
            Line::Pending(pending) => self.pending = pending,
            Line::Taken(text) => {
                self.taken.extend(&text.parse().map_err(damaged)?);
                self.pending.clear();
            }
        }
        Ok(())
    }

    /// False if this cursor was begun just now: what lies in the Maildir may have come from here all the same.
    pub fn was_there(&self) -> bool {
        self.was_there
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
        self.write(Line::Uidvalidity(uidvalidity))?;
        self.uidvalidity = Some(uidvalidity);
        self.taken = Uids::default();
        Ok(())
    }

    /// These are about to be renamed.
    pub fn announce(&mut self, pending: Vec<Pending>) -> Result<()> {
        self.write(Line::Pending(pending.clone()))?;
        self.pending = pending;
        Ok(())
    }

    /// These need not be looked at again; what was pending is done.
    pub fn take(&mut self, uids: &Uids) -> Result<()> {
        self.write(Line::Taken(uids.to_string()))?;
        self.taken.extend(uids);
        self.pending.clear();
        Ok(())
    }

    fn write(&mut self, line: Line) -> Result<()> {
        self.lines += 1;
        self.log.append(&[json(&line)?])
    }

    fn compact(&mut self) -> Result<()> {
        let mut lines = vec![json(&self.head)?];
        if let Some(uidvalidity) = self.uidvalidity {
            lines.push(json(&Line::Uidvalidity(uidvalidity))?);
        }
        lines.push(json(&Line::Taken(self.taken.to_string()))?);
        if !self.pending.is_empty() {
            lines.push(json(&Line::Pending(self.pending.clone()))?);
        }
        self.dir.replace(&self.file, (lines.join("\n") + "\n").as_bytes(), 0o600)?;
        (self.log, _) = Log::open(&self.dir, &self.file)?;
        self.lines = lines.len();
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
        assert!(!cursor.was_there());
        cursor.renew(5).unwrap();
        for uid in 1..=1100 {
            cursor.take(&Uids::from_iter([uid])).unwrap();
        }
        let pending = Pending { uid: 9999, tmp: "t".into(), name: "n".into(), flags: String::new() };
        cursor.announce(vec![pending.clone()]).unwrap();
        drop(cursor);
        for _ in 0..2 {
            let cursor = open(&dir);
            assert!(cursor.was_there());
            assert_eq!((cursor.uidvalidity(), cursor.taken().to_string().as_str()), (Some(5), "1:1100"));
            assert_eq!(cursor.pending(), [pending.clone()]);
        }
        assert_eq!(dir.read("mailloop-cursor-s").unwrap().unwrap().split(|b| *b == b'\n').count(), 5);
        assert_eq!(owner(&dir, "s"), Some(("school".into(), "INBOX".into())));
    }

    #[test]
    fn another_uidvalidity_forgets_what_was_taken() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        let mut cursor = open(&dir);
        cursor.renew(5).unwrap();
        cursor.take(&Uids::from_iter([1, 2])).unwrap();
        cursor.renew(6).unwrap();
        drop(cursor);
        assert!(open(&dir).taken().is_empty());
    }
}
