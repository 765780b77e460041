//! The journal of what was dissected into a directory: `DIR/.mailloop/journal`, one line for each finished message.
//!
//! | in `DIR/.mailloop/` | means |
//! |---|---|
//! | `lock` | kernel lock; who holds it may write here and rename from here into `DIR` |
//! | `journal` | JSON lines: key, message record, file records; a line stands once its files are durable |
//! | `new.N` | a file being written; an orphan unless its writer holds the lock |
//!
//! A message's key is its unique name where it lies in a Maildir, else the sha256 of its bytes; the last line with
//! a key counts. Paths of files are relative to `DIR`, so the directory may move.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::durable::{self, Dir, Lock, Log, NotAppended};
use crate::error::{Error, Kind, Result};
use crate::record::{self, VERSION};

mod known;
mod line;
mod read;
use known::{Known, Told};
use line::{digest, key_start};
pub use read::{Mark, entries, files, files_since, size};

/// The directory within the output directory.
pub const PLACE: &str = ".mailloop";
const JOURNAL: &str = "journal";
const LOCK: &str = "lock";
const TEMPORARY: &str = "new.";

/// One finished message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// Format version.
    pub v: u8,
    /// What tells the message from others.
    pub key: String,
    /// Why something selected in it could not be saved and never will be.
    pub trouble: Option<String>,
    /// What was odd about the message; said once.
    pub notes: Vec<String>,
    /// What the message is.
    pub message: record::Message,
    /// The files that came out of it, without the message in each; paths relative to the directory.
    pub files: Vec<record::File>,
}

impl Entry {
    /// An entry in the current format.
    pub fn new(key: String, message: record::Message) -> Entry {
        Entry { v: VERSION, key, message, ..Entry::default() }
    }
}

/// The journal of a directory, open for writing under its lock.
#[derive(Debug)]
pub struct Journal {
    desk: Desk,
    sync: bool,
    lock: Option<Lock>,
}

/// Where files are written aside, and what is finished; threads share it. Only while the journal is locked.
#[derive(Clone, Debug)]
pub struct Desk {
    place: Dir,
    lines: Arc<Mutex<Lines>>,
    next: Arc<AtomicU64>,
}

/// What stands in the journal.
#[derive(Debug)]
struct Lines {
    log: Log,
    /// None as long as nobody asked for much: a run over one message should not pay for all that came before it.
    known: Option<Known>,
    /// How often the journal was read for one line.
    asked: usize,
}

/// From so many readings on, all lines are kept in mind.
const MANY: usize = 3;

impl Journal {
    /// Opens or makes the journal of `out`, locked; 78 if others can write to its place. Without `sync` nothing that
    /// is appended waits for the disk.
    pub fn open(out: &Dir, limit: Duration, sync: bool) -> Result<Journal> {
        let place = out.subdir(PLACE, 0o700)?;
        durable::check_private(place.path())?;
        let lock = Lock::take(&place, LOCK, limit)?;
        let lines = Lines { log: Log::open_unread(&place, JOURNAL)?, known: None, asked: 0 };
        let desk = Desk { place, lines: Arc::new(Mutex::new(lines)), next: Arc::default() };
        desk.sweep()?;
        Ok(Journal { desk, sync, lock: Some(lock) })
    }

    /// Takes the lock if it is not held, learns what others finished meanwhile, removes what a crash left behind.
    pub fn lock(&mut self, limit: Duration) -> Result<()> {
        if self.lock.is_some() {
            return Ok(());
        }
        self.lock = Some(Lock::take(&self.desk.place, LOCK, limit)?);
        self.desk.lines().read_on()?;
        self.desk.sweep()
    }

    /// Lets others write; only while no file of [`Desk::begin`] is unfinished. What is kept in mind meanwhile takes the
    /// same room whatever stands in the journal.
    pub fn release(&mut self) {
        self.lock = None;
        self.desk.lines().release();
    }

    /// Where to write aside.
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Notes messages as finished, durable on return. Their files must be durable under their names before.
    ///
    /// An entry that stands there already is not written again. Those with a file that is new (`is_new`, by position)
    /// are taken for new without reading the journal for it: a run over one message should not pay for all before it.
    pub fn append(&mut self, entries: &[Entry], is_new: &dyn Fn(usize) -> bool) -> Result<(), NotAppended> {
        let mut new = Vec::with_capacity(entries.len());
        let mut lines = self.desk.lines();
        for (at, entry) in entries.iter().enumerate() {
            let line = serde_json::to_string(entry)
                .map_err(|why| Error::new(Kind::Internal, "cannot write a journal entry", why))?;
            let digest = digest(line.as_bytes());
            let is_unread = lines.known.is_none() && is_new(at);
            if !new.contains(&line) && (is_unread || lines.find(&entry.key)? != Some(digest)) {
                if let Some(known) = &mut lines.known {
                    known.insert(&entry.key, digest);
                }
                new.push(line);
            }
        }
        lines.log.append_with(&new, self.sync)
    }
}

impl Lines {
    /// The digest of the last line with this key.
    fn find(&mut self, key: &str) -> Result<Option<u64>> {
        match self.known.as_ref().map(|known| known.find(key)) {
            Some(Told::Finished(digest)) => return Ok(Some(digest)),
            Some(Told::New) => return Ok(None),
            Some(Told::Perhaps) | None => {}
        }
        if self.asked < MANY {
            self.asked += 1;
            return self.read(key);
        }
        let mut known = self.known.take().unwrap_or_else(Known::new);
        known.begin_all();
        self.log.each(&mut |line| known.learn(line))?;
        match self.known.insert(known).find(key) {
            Told::Finished(digest) => Ok(Some(digest)),
            Told::New | Told::Perhaps => Ok(None),
        }
    }

    fn read(&self, key: &str) -> Result<Option<u64>> {
        let mut found = None;
        let start = key_start(key)?;
        self.log.each(&mut |line| {
            if line.starts_with(&start) {
                found = Some(digest(line));
            }
        })?;
        Ok(found)
    }

    fn read_on(&mut self) -> Result<()> {
        match &mut self.known {
            Some(known) => self.log.read_each(&mut |line| known.learn(line)),
            None => self.log.pass_on(),
        }
    }

    fn release(&mut self) {
        if let Some(known) = &mut self.known {
            known.release();
            self.asked = 0;
        }
    }
}

impl Desk {
    /// True if the message is finished.
    pub fn has(&self, key: &str) -> Result<bool> {
        Ok(self.lines().find(key)?.is_some())
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a file to write to; its name comes with it. Its mode follows the umask.
    pub fn begin(&self) -> Result<(String, File)> {
        let name = format!("{TEMPORARY}{}", self.next.fetch_add(1, Ordering::Relaxed) + 1);
        let file =
            self.place.create_new(&name, 0o666).map_err(|why| Error::creating(self.place.at(&name), why))?;
        Ok((name, file))
    }

    /// Where files of [`Desk::begin`] lie, to rename them from.
    pub fn place(&self) -> &Dir {
        &self.place
    }

    /// Removes a file of [`Desk::begin`] that is not wanted after all.
    pub fn discard(&self, name: &str) -> io::Result<()> {
        self.place.remove(name)
    }

    fn sweep(&self) -> Result<()> {
        for name in self.place.names()? {
            if name.as_bytes().starts_with(TEMPORARY.as_bytes()) {
                self.place.remove(&name).map_err(|why| Error::writing(self.place.at(&name), why))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
