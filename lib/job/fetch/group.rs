//! A commit group: messages that become durable together and are told together.

use std::fs::File;
use std::io;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use super::known::Known;
use crate::durable;
use crate::error::{Error, Result};
use crate::job::message;
use crate::mail::uids::Uids;
use crate::net::imap::Fetched;
use crate::record::Message;
use crate::report::{self, Records};
use crate::store::cursor::{Cursor, Pending, Skipped};
use crate::store::maildir::{Maildir, Name};

/// Records, for several who tell.
pub(super) type Out<'a, 'b> = Mutex<&'a mut Records<'b>>;

/// True once nobody reads the records any more.
pub(super) fn nobody_reads(out: &Out<'_, '_>) -> bool {
    out.lock().map_or(true, |records| records.gone())
}

/// Where one mailbox's messages go, and how far it was read.
pub(super) struct Group {
    pub maildir: Maildir,
    pub source: String,
    pub cursor: Cursor,
    /// What is to be done on the server with what is taken, in the word of `--after`.
    pub owes: Option<String>,
}

/// A message that is whole in `tmp/` and knows its name.
pub(super) struct Whole {
    pending: Pending,
    file: File,
    received: Option<i64>,
}

impl Whole {
    /// Joins what the server said about a message with its file.
    pub fn new(source: &str, uidvalidity: u32, one: &Fetched, tmp: String, file: File, size: u64) -> Whole {
        let seconds = one.received.unwrap_or(0);
        let name = Name { seconds, uidvalidity, uid: one.uid, source: source.to_string(), size }.to_string();
        let pending = Pending { uid: one.uid, tmp, name, flags: one.flags.clone() };
        Whole { pending, file, received: one.received }
    }

    /// The file's modification time becomes the time when the server received the message.
    fn stamp(&self) -> io::Result<()> {
        let Some(seconds) = self.received.and_then(|seconds| u64::try_from(seconds).ok()) else {
            return Ok(());
        };
        let received = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        durable::step("stamp", || self.file.set_modified(received))
    }
}

impl Group {
    /// Finishes what a process that died had announced, and tells it; removes its orphans.
    pub fn recover(&mut self, out: &Out<'_, '_>) -> Result<()> {
        let pending = self.cursor.pending().to_vec();
        if !pending.is_empty() {
            report::detail(format_args!("finishing the delivery of {} messages", pending.len()));
            // What it was fetched for holds, whatever this run is for.
            let owed = self.cursor.pending_after().map(str::to_string);
            self.rename_and_tell(&pending, owed, out)?;
        }
        self.maildir.sweep(&self.source)
    }

    /// Makes the messages durable under their names, then marks them as taken, then tells them.
    pub fn commit(&mut self, whole: &[Whole], known: &mut Known, out: &Out<'_, '_>) -> Result<()> {
        let (mut taken, mut matched, mut new) = (Uids::default(), Vec::new(), Vec::new());
        for one in whole {
            match known.has(&one.pending.name, &one.file, &mut matched)? {
                true => taken.insert(one.pending.uid),
                false => new.push(one),
            }
        }
        // What lies here already is taken first: its file in `tmp/` is an orphan from then on, swept or not.
        if !taken.is_empty() {
            self.cursor.take(&taken, matched)?;
        }
        for one in whole.iter().filter(|one| taken.contains(one.pending.uid)) {
            self.maildir
                .discard(&one.pending.tmp)
                .map_err(|why| Error::writing(self.maildir.dir.path(), why))?;
        }
        if new.is_empty() {
            return Ok(());
        }
        let failed = |why| Error::writing(self.maildir.dir.path(), why);
        for one in &new {
            one.stamp().map_err(failed)?;
        }
        durable::sync_many(&new.iter().map(|one| &one.file).collect::<Vec<_>>()).map_err(failed)?;
        self.maildir.sync_tmp()?;
        let pending: Vec<Pending> = new.iter().map(|one| one.pending.clone()).collect();
        self.cursor.announce(pending.clone(), self.owes.clone())?;
        self.rename_and_tell(&pending, self.owes.clone(), out)
    }

    fn rename_and_tell(
        &mut self,
        pending: &[Pending],
        owed: Option<String>,
        out: &Out<'_, '_>,
    ) -> Result<()> {
        let mut taken = Uids::default();
        for one in pending {
            self.maildir.deliver(&one.tmp, &one.name, &one.flags)?;
            taken.insert(one.uid);
        }
        self.maildir.sync(pending.iter().any(|one| !one.flags.is_empty()))?;
        match owed {
            Some(after) => self.cursor.take_and_owe(&taken, jiff::Timestamp::now().as_second(), &after)?,
            None => self.cursor.take(&taken, Vec::new())?,
        }
        let Ok(mut records) = out.lock() else { return Ok(()) };
        for one in pending {
            self.tell(one, &mut records)?;
        }
        records.flush()
    }

    fn tell(&self, one: &Pending, records: &mut Records) -> Result<()> {
        let path = self.maildir.path_of(&one.name, &one.flags);
        // A reader may have moved it on since; then its new place is told.
        let path = if path.exists() { Some(path) } else { self.maildir.find(&one.name) };
        let Some(path) = path else { return Ok(()) };
        match records.is_json() {
            true => records.json(&message::record_of_file(&path)?),
            false => records.path(&path),
        }
    }

    /// Remembers what was passed over, and tells what is new of it. True for those that are.
    pub fn skip(&mut self, skipped: Vec<Skipped>, out: &Out<'_, '_>) -> Result<Vec<Skipped>> {
        let known = |one: &Skipped| self.cursor.skipped().get(&one.uid) == Some(one);
        let new: Vec<Skipped> = skipped.into_iter().filter(|one| !known(one)).collect();
        if new.is_empty() {
            return Ok(new);
        }
        self.cursor.skip(new.clone())?;
        let Ok(mut records) = out.lock() else { return Ok(new) };
        if records.is_json() {
            let (account, mailbox) = self.cursor.owner();
            for one in &new {
                records.json(&Message {
                    state: "skipped".into(),
                    size: one.size,
                    account: Some(account.into()),
                    mailbox: Some(mailbox.into()),
                    uidvalidity: self.cursor.uidvalidity(),
                    uid: Some(one.uid),
                    reason: Some(one.reason.clone()),
                    ..Message::fresh()
                })?;
            }
            records.flush()?;
        }
        Ok(new)
    }
}
