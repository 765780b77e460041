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

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::durable::{self, Dir, Lock, Log};
use crate::error::{Error, Kind, Result};
use crate::record::{self, RecordPath, VERSION};

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
    place: Dir,
    log: Log,
    /// The line of each finished message, as a short digest.
    finished: HashMap<String, u64>,
    lock: Option<Lock>,
    next: u64,
}

impl Journal {
    /// Opens or makes the journal of `out`; 78 if others can write to its place. The lock is not held yet.
    pub fn open(out: &Dir, limit: Duration) -> Result<Journal> {
        let place = out.subdir(PLACE, 0o700)?;
        durable::check_private(place.path())?;
        let lock = Lock::take(&place, LOCK, limit)?;
        let (log, lines) = Log::open(&place, JOURNAL)?;
        let mut journal = Journal { place, log, finished: HashMap::new(), lock: Some(lock), next: 0 };
        journal.learn(&lines);
        journal.sweep()?;
        Ok(journal)
    }

    /// Takes the lock if it is not held, learns what others finished meanwhile, removes what a crash left behind.
    pub fn lock(&mut self, limit: Duration) -> Result<()> {
        if self.lock.is_some() {
            return Ok(());
        }
        self.lock = Some(Lock::take(&self.place, LOCK, limit)?);
        let lines = self.log.read_on()?;
        self.learn(&lines);
        self.sweep()
    }

    /// Lets others write; only while no file of [`Journal::begin`] is unfinished.
    pub fn release(&mut self) {
        self.lock = None;
    }

    /// True if the message is finished.
    pub fn has(&self, key: &str) -> bool {
        self.finished.contains_key(key)
    }

    /// Creates a file to write to; where it lies and its name there come with it. Its mode follows the umask.
    pub fn begin(&mut self) -> Result<(String, File)> {
        self.next += 1;
        let name = format!("{TEMPORARY}{}", self.next);
        let file =
            self.place.create_new(&name, 0o666).map_err(|why| Error::creating(self.place.at(&name), why))?;
        Ok((name, file))
    }

    /// Where files of [`Journal::begin`] lie, to rename them from.
    pub fn place(&self) -> &Dir {
        &self.place
    }

    /// Removes a file of [`Journal::begin`] that is not wanted after all.
    pub fn discard(&self, name: &str) -> io::Result<()> {
        self.place.remove(name)
    }

    /// Notes messages as finished, durable on return. Their files must be durable under their names before.
    /// An entry that stands there already is not written again.
    pub fn append(&mut self, entries: &[Entry]) -> Result<()> {
        let mut lines = Vec::with_capacity(entries.len());
        for entry in entries {
            let line = serde_json::to_string(entry)
                .map_err(|why| Error::new(Kind::Internal, "cannot write a journal entry", why))?;
            let digest = digest(&line);
            if self.finished.insert(entry.key.clone(), digest) != Some(digest) {
                lines.push(line);
            }
        }
        self.log.append(&lines)
    }

    fn learn(&mut self, lines: &[String]) {
        #[derive(Deserialize)]
        struct Key {
            key: String,
        }
        for line in lines {
            if let Ok(Key { key }) = serde_json::from_str(line) {
                self.finished.insert(key, digest(line));
            }
        }
    }

    fn sweep(&mut self) -> Result<()> {
        for name in self.place.names()? {
            if name.as_bytes().starts_with(TEMPORARY.as_bytes()) {
                self.place.remove(&name).map_err(|why| Error::writing(self.place.at(&name), why))?;
            }
        }
        Ok(())
    }
}

fn digest(line: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}

/// The finished messages of `out` in the order in which they were finished; none where there is no journal.
/// Needs no lock.
pub fn entries(out: &Path) -> Result<Vec<Entry>> {
    let path = out.join(PLACE);
    if !path.join(JOURNAL).exists() {
        return Ok(Vec::new());
    }
    durable::check_private(&path)?;
    let bytes = Dir::open(path)?.read(JOURNAL)?.unwrap_or_default();
    let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
    let mut order = Vec::new();
    let mut last: HashMap<String, Entry> = HashMap::new();
    for line in bytes[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let entry: Entry = match serde_json::from_slice(line) {
            Ok(entry) => entry,
            Err(why) => {
                let doing = format!("cannot read a line of {}", out.join(PLACE).join(JOURNAL).display());
                return Err(Error::new(Kind::Io, doing, why));
            }
        };
        if !last.contains_key(&entry.key) {
            order.push(entry.key.clone());
        }
        last.insert(entry.key.clone(), entry);
    }
    Ok(order.into_iter().filter_map(|key| last.remove(&key)).collect())
}

/// The file records of `out`, each with its message and its path below `out`, in the order in which they were
/// finished.
pub fn files(out: &Path) -> Result<impl Iterator<Item = record::File>> {
    let out = out.to_path_buf();
    Ok(entries(&out)?.into_iter().flat_map(move |entry| {
        let (out, message) = (out.clone(), entry.message);
        entry.files.into_iter().filter_map(move |mut file| {
            file.path = RecordPath::from(below(&out, &file)?.as_path());
            file.message = Some(message.clone());
            Some(file)
        })
    }))
}

/// How long the journal of `out` is, to see whether there is something new in it; 0 where there is none.
pub fn size(out: &Path) -> u64 {
    std::fs::metadata(out.join(PLACE).join(JOURNAL)).map_or(0, |meta| meta.len())
}

/// The record of the file that lies at `path` in `out`, of the first message that it came out of.
pub fn find(out: &Path, path: &Path) -> Result<Option<record::File>> {
    let name = path.file_name();
    Ok(files(out)?.find(|file| file.path.get().is_some_and(|path| path.file_name() == name)))
}

/// Journals name files by one component; anything else did not come from us.
fn below(out: &Path, file: &record::File) -> Option<PathBuf> {
    file.path.get().and_then(Path::file_name).map(|name| out.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, file: &str) -> Entry {
        let mut entry = Entry::new(key.into(), record::Message::fresh());
        entry.files.push(record::File { path: RecordPath(Some(file.into())), ..record::File::fresh() });
        entry
    }

    #[test]
    fn the_last_entry_of_a_message_counts() {
        let temp = tempfile::tempdir().unwrap();
        let out = Dir::open(temp.path()).unwrap();
        assert!(entries(temp.path()).unwrap().is_empty());
        let mut journal = Journal::open(&out, Duration::ZERO).unwrap();
        journal.append(&[entry("a", "1.pdf"), entry("b", "2.pdf")]).unwrap();
        journal.append(&[entry("a", "3.pdf"), entry("b", "2.pdf")]).unwrap();
        assert!(journal.has("a") && !journal.has("c"));
        let names: Vec<_> =
            files(temp.path()).unwrap().map(|file| file.path.get().unwrap().to_path_buf()).collect();
        assert_eq!(names, [temp.path().join("3.pdf"), temp.path().join("2.pdf")]);
        let found = find(temp.path(), Path::new("x/2.pdf")).unwrap().unwrap();
        assert_eq!(found.message.unwrap().kind, "message");
        assert!(find(temp.path(), Path::new("1.pdf")).unwrap().is_none());
        // A line that stands is not written again.
        let text = std::fs::read_to_string(temp.path().join(PLACE).join(JOURNAL)).unwrap();
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn leftovers_go_and_others_are_seen() {
        let temp = tempfile::tempdir().unwrap();
        let out = Dir::open(temp.path()).unwrap();
        let mut first = Journal::open(&out, Duration::ZERO).unwrap();
        first.begin().unwrap();
        assert_eq!(Journal::open(&out, Duration::ZERO).unwrap_err().kind(), Kind::Temporary);
        first.release();
        let mut second = Journal::open(&out, Duration::ZERO).unwrap();
        assert!(!second.place().has("new.1"));
        second.append(&[entry("k", "f")]).unwrap();
        drop(second);
        assert!(!first.has("k"));
        first.lock(Duration::ZERO).unwrap();
        assert!(first.has("k"));
    }
}
