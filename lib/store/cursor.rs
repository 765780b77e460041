//! How far a mailbox was read: which UIDs were taken. One file a source, `mailloop-cursor-SOURCE`, in the Maildir.
//!
//! An append-only file of JSON lines (see [`Log`]); what [`Cursor`]'s methods were told is durable on return.
//!
//! | line | means |
//! |---|---|
//! | `{"v":1,"account":…,"mailbox":…}` | the first line: whose cursor this is |
//! | `{"uidvalidity":N}` | UIDs are those of this UIDVALIDITY from here on; what was taken before counts no more |
//! | `{"pending":[{uid,tmp,name,flags}…],"after":W}` | these are synced in `tmp/` and about to be renamed; W will be owed |
//! | `{"taken":"1:5,7"}` | these need not be looked at again; what was pending is done |
//! | `{"taken":"8","matched":[name…]}` | the same, and these files of an older UIDVALIDITY turned out to be them |
//! | `{"taken":"8","owed":N,"after":W}` | the same, and on the server W is still to be done with them (since N, seconds since 1970; lines of older versions have no W) |
//! | `{"paid":"8"}` | that is done, or will never be |
//! | `{"skipped":[{uid,size,reason}…]}` | these were looked at and not taken, and why |
//! | `{"missing":"3:4","times":1,"at":N}` | a search left these out, so often, last at N (seconds since 1970); without `times` they are there again |
//! | `{"settled":true}` | everything there was has been taken once under this UIDVALIDITY |
//!
//! After a crash the last `pending` without a `taken` says what to finish: those still in `tmp/` are renamed, those
//! not there any more were renamed already (and perhaps moved on by a reader); both are then taken.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::durable::{Dir, Lock, Log};
use crate::error::{Error, Kind, Result};
use crate::mail::uids::Uids;

mod missing;
mod seen;

pub use missing::{Missing, Verdict};
use seen::{Line, Sets};
pub use seen::{Owed, Pending, Seen, Skipped};

/// The cursor of one source, locked for this process.
#[derive(Debug)]
pub struct Cursor {
    _lock: Lock,
    log: Log,
    dir: Dir,
    file: String,
    head: Head,
    seen: Seen,
    lines: usize,
    octets: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Head {
    v: u8,
    account: String,
    mailbox: String,
}

/// More lines than this are written anew as three.
const COMPACT_BEYOND: usize = 1000;
/// So are more octets: reading them takes time in every run.
const COMPACT_OCTETS: usize = 64 << 10;
/// So many lines, and one for each group of what is missing, are not worth it.
const MORE_LINES: usize = 16;

impl Deref for Cursor {
    type Target = Seen;

    fn deref(&self) -> &Seen {
        &self.seen
    }
}

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
            seen: Seen::default(),
            lines: lines.len().max(1),
            octets: lines.iter().map(String::len).sum(),
        };
        for line in lines.iter().skip(1) {
            cursor.seen.replay(line, || dir.at(&cursor.file))?;
        }
        cursor.tidy()?;
        Ok(cursor)
    }

    /// Account and mailbox.
    pub fn owner(&self) -> (&str, &str) {
        (&self.head.account, &self.head.mailbox)
    }

    /// UIDs are those of another UIDVALIDITY from now on.
    pub fn renew(&mut self, uidvalidity: u32) -> Result<()> {
        self.write(Line { uidvalidity: Some(uidvalidity), ..Line::default() }, Sets::default())
    }

    /// These are about to be renamed; `after` is what will be owed on the server with them.
    pub fn announce(&mut self, pending: Vec<Pending>, after: Option<String>) -> Result<()> {
        self.write(Line { pending, after, ..Line::default() }, Sets::default())
    }

    /// These need not be looked at again; what was pending is done. `matched` are files of an older UIDVALIDITY that
    /// some of them turned out to be.
    pub fn take(&mut self, uids: &Uids, matched: Vec<String>) -> Result<()> {
        let line = Line { taken: Some(uids.to_string()), matched, ..Line::default() };
        self.write(line, Sets { taken: Some(uids.clone()), ..Sets::default() })
    }

    /// As [`Cursor::take`], and `after` is to be done with them on the server; `now` in seconds since 1970.
    pub fn take_and_owe(&mut self, uids: &Uids, now: i64, after: &str) -> Result<()> {
        let after = Some(after.to_string());
        let line = Line { taken: Some(uids.to_string()), owed: Some(now), after, ..Line::default() };
        self.write(line, Sets { taken: Some(uids.clone()), ..Sets::default() })
    }

    /// With these nothing more is to be done on the server.
    pub fn pay(&mut self, uids: &Uids) -> Result<()> {
        let line = Line { paid: Some(uids.to_string()), ..Line::default() };
        self.write(line, Sets { paid: Some(uids.clone()), ..Sets::default() })
    }

    /// These were looked at and not taken.
    pub fn skip(&mut self, skipped: Vec<Skipped>) -> Result<()> {
        self.write(Line { skipped, ..Line::default() }, Sets::default())
    }

    /// A search said this of those that it left out.
    pub fn note(&mut self, verdict: &Verdict) -> Result<()> {
        if !verdict.back.is_empty() {
            let line = Line { missing: Some(verdict.back.to_string()), ..Line::default() };
            self.write(line, Sets { missing: Some(verdict.back.clone()), ..Sets::default() })?;
        }
        for group in &verdict.missing {
            self.write(of_missing(group), Sets { missing: Some(group.uids.clone()), ..Sets::default() })?;
        }
        match verdict.gone.is_empty() {
            true => Ok(()),
            false => self.take(&verdict.gone, Vec::new()),
        }
    }

    /// Everything that there was has been taken.
    pub fn settle(&mut self) -> Result<()> {
        self.write(Line { settled: true, ..Line::default() }, Sets::default())
    }

    /// Writes a long file anew, so that the next run reads a short one.
    pub fn tidy(&mut self) -> Result<()> {
        // Where many UIDs are missing even the shortest form is long; writing it anew in each run would not help.
        let has_grown = self.lines > self.seen.missing.len() + MORE_LINES;
        match self.lines > COMPACT_BEYOND || (self.octets > COMPACT_OCTETS && has_grown) {
            true => self.compact(),
            false => Ok(()),
        }
    }

    fn write(&mut self, line: Line, sets: Sets) -> Result<()> {
        let text = json(&line)?;
        self.octets += text.len();
        self.log.append(&[text])?;
        self.lines += 1;
        self.seen.apply(line, sets);
        Ok(())
    }

    fn compact(&mut self) -> Result<()> {
        let mut lines = vec![json(&self.head)?];
        if let Some(uidvalidity) = self.seen.uidvalidity {
            lines.push(json(&Line { uidvalidity: Some(uidvalidity), ..Line::default() })?);
        }
        let mut matched: Vec<String> = self.seen.matched.iter().cloned().collect();
        matched.sort();
        let taken = Some(self.seen.taken.to_string());
        lines.push(json(&Line { taken, matched, settled: self.seen.settled, ..Line::default() })?);
        let mut owed: BTreeMap<&Owed, Uids> = BTreeMap::new();
        for (uid, one) in &self.seen.owed {
            owed.entry(one).or_default().insert(*uid);
        }
        for (Owed { since, after }, uids) in owed {
            let (taken, after) = (Some(uids.to_string()), after.clone());
            lines.push(json(&Line { taken, owed: Some(*since), after, ..Line::default() })?);
        }
        if !self.seen.skipped.is_empty() {
            let skipped = self.seen.skipped.values().cloned().collect();
            lines.push(json(&Line { skipped, ..Line::default() })?);
        }
        for group in &self.seen.missing {
            lines.push(json(&of_missing(group))?);
        }
        if !self.seen.pending.is_empty() {
            let (pending, after) = (self.seen.pending.clone(), self.seen.pending_after.clone());
            lines.push(json(&Line { pending, after, ..Line::default() })?);
        }
        self.dir.replace(&self.file, (lines.join("\n") + "\n").as_bytes(), 0o600)?;
        (self.log, _) = Log::open(&self.dir, &self.file)?;
        self.lines = lines.len();
        // What is left is as short as it gets.
        self.octets = 0;
        Ok(())
    }
}

fn of_missing(group: &Missing) -> Line {
    let Missing { uids, times, at } = group;
    Line { missing: Some(uids.to_string()), times: *times, at: Some(*at), ..Line::default() }
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
        Cursor::open(dir, "s", "school", "INBOX", Duration::from_secs(10)).unwrap()
    }

    #[test]
    fn a_file_that_cannot_be_shorter_is_not_written_anew() {
        use std::os::unix::fs::MetadataExt;
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        let mut cursor = open(&dir);
        cursor.renew(5).unwrap();
        let every_other = |first| (first..20_000).step_by(2).collect::<Uids>();
        let missing = vec![Missing { uids: every_other(2), times: 1, at: 88 }];
        cursor.note(&Verdict { missing, ..Verdict::default() }).unwrap();
        cursor.take(&every_other(1), Vec::new()).unwrap();
        drop(cursor);
        let file = || std::fs::metadata(dir.at("mailloop-cursor-s")).unwrap().ino();
        drop(open(&dir));
        let before = file();
        drop(open(&dir));
        assert_eq!(file(), before);
        for uid in 70_000..70_030 {
            open(&dir).take(&Uids::from_iter([uid]), Vec::new()).unwrap();
        }
        assert_ne!(file(), before, "what has grown is");
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
        cursor.take_and_owe(&Uids::from_iter([2000, 2001]), 77, "seen").unwrap();
        cursor.pay(&Uids::from_iter([2000])).unwrap();
        let skip = |uid| Skipped { uid, size: Some(9), reason: "large".into() };
        cursor.skip(vec![skip(3000), skip(1)]).unwrap();
        cursor.take(&Uids::from_iter([1]), Vec::new()).unwrap();
        let missing = |uids: &str| Missing { uids: uids.parse().unwrap(), times: 2, at: 88 };
        let verdict = Verdict { missing: vec![missing("1200:1300")], ..Verdict::default() };
        cursor.note(&verdict).unwrap();
        let verdict =
            Verdict { gone: Uids::from_iter([1300]), back: Uids::from_iter([1200]), ..Verdict::default() };
        cursor.note(&verdict).unwrap();
        cursor.announce(vec![pending.clone()], Some("delete".into())).unwrap();
        drop(cursor);
        for _ in 0..2 {
            let cursor = open(&dir);
            assert_eq!(
                (cursor.uidvalidity(), cursor.taken().to_string().as_str()),
                (Some(5), "1:1100,1300,2000:2001")
            );
            assert_eq!(cursor.missing(), [missing("1201:1299")]);
            assert_eq!(cursor.pending(), std::slice::from_ref(&pending));
            assert_eq!(cursor.pending_after(), Some("delete"));
            let owed = Owed { since: 77, after: Some("seen".into()) };
            assert_eq!(cursor.owed(), &BTreeMap::from([(2001, owed)]));
            assert_eq!(cursor.skipped(), &BTreeMap::from([(3000, skip(3000))]));
        }
        assert_eq!(dir.read("mailloop-cursor-s").unwrap().unwrap().split(|b| *b == b'\n').count(), 8);
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

    #[test]
    fn lines_of_older_versions_owe_nobody_knows_what() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        open(&dir).renew(5).unwrap();
        let old = "{\"v\":1,\"account\":\"school\",\"mailbox\":\"INBOX\"}\n{\"uidvalidity\":5}\n\
                   {\"taken\":\"8\",\"owed\":77}\n";
        dir.replace("mailloop-cursor-s", old.as_bytes(), 0o600).unwrap();
        assert_eq!(open(&dir).owed(), &BTreeMap::from([(8, Owed { since: 77, after: None })]));
    }

    fn open_again(cursor: Cursor, dir: &Dir) -> bool {
        drop(cursor);
        let cursor = open(dir);
        cursor.is_settled() && cursor.matched().contains("old")
    }
}
