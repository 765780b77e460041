//! The messages that an item stands for: a file, an mbox file, what lies in a Maildir and below it.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::bytes::Bytes;
use super::items::Item;
use crate::error::{Error, Kind, Result};
use crate::mail::mbox;
use crate::record::{self, RecordPath, hex};
use crate::store::maildir::{self, Maildir, Messages, Name};

/// One message to take apart.
pub(super) struct Job {
    pub source: Source,
    /// What the journal knows it by, if that is not the digest of its bytes.
    pub key: Option<String>,
    /// What was handed over with it.
    pub record: record::Message,
    /// For people.
    pub shown: String,
}

pub(super) enum Source {
    Path(PathBuf),
    Bytes(Arc<Bytes>, Range<usize>),
}

/// Hands the messages of an item to `each`, as long as that gives true.
pub(super) fn messages(item: Item, each: &mut dyn FnMut(Result<Job>) -> Result<bool>) -> Result<()> {
    let fresh = record::Message::fresh;
    match item {
        Item::Pause => Ok(()),
        Item::Bytes(bytes) => in_bytes(bytes, "standard input", fresh(), each),
        Item::Record(record) => match record.path.get().map(Path::to_path_buf) {
            Some(path) => in_file(&path, *record, each),
            None => Ok(()),
        },
        Item::Path(path) if path.is_dir() => in_maildirs(&path, each),
        Item::Path(path) => in_file(&path, fresh(), each),
    }
}

/// A file with a message, or an mbox file. What lies in a Maildir is one message, whatever it looks like.
fn in_file(
    path: &Path,
    record: record::Message,
    each: &mut dyn FnMut(Result<Job>) -> Result<bool>,
) -> Result<()> {
    let job = in_place(path, record);
    if job.key.is_some() || !begins_as_mbox(path) {
        return each(Ok(job)).map(drop);
    }
    match Bytes::of_file(path) {
        Ok(bytes) => in_bytes(bytes, &job.shown, job.record, each),
        Err(error) => each(Err(error)).map(drop),
    }
}

fn begins_as_mbox(path: &Path) -> bool {
    let is_file = std::fs::metadata(path).is_ok_and(|meta| meta.is_file());
    let mut start = [0; 5];
    is_file && File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && &start == b"From "
}

fn in_bytes(
    bytes: Bytes,
    shown: &str,
    record: record::Message,
    each: &mut dyn FnMut(Result<Job>) -> Result<bool>,
) -> Result<()> {
    let bytes = Arc::new(bytes);
    let job =
        |range, record, shown| Job { source: Source::Bytes(bytes.clone(), range), key: None, record, shown };
    let Some(ranges) = mbox::messages((*bytes).as_ref()) else {
        return each(Ok(job(0..(*bytes).as_ref().len(), record, shown.to_string()))).map(drop);
    };
    for (at, range) in ranges.enumerate() {
        let mut record = record.clone();
        // The file's path names no single message; what judges a sender must not read the first one's.
        if let Some(path) = std::mem::take(&mut record.path).get() {
            record.other.insert("mbox".into(), path.to_string_lossy().into());
        }
        if !each(Ok(job(range, record, format!("{shown} (message {})", at + 1))))? {
            break;
        }
    }
    Ok(())
}

/// A message in a file of its own; where it left `new/` meanwhile it is found in `cur/`.
fn in_place(path: &Path, record: record::Message) -> Job {
    let key = maildir_key(path);
    let found = if key.is_some() { maildir::locate(path) } else { None };
    let path = found.as_deref().unwrap_or(path);
    let record = record::Message { path: RecordPath::from(path), ..record };
    Job { source: Source::Path(path.to_path_buf()), key, record, shown: path.display().to_string() }
}

/// What a message in a Maildir is known by: its unique name, which stays when a reader moves the file. Only the names
/// that we give are unique in the world; others are so in their Maildir.
fn maildir_key(path: &Path) -> Option<String> {
    let place = path.parent()?;
    let is_place = matches!(place.file_name()?.to_str()?, "new" | "cur");
    let dir = place.parent()?;
    let name = maildir::unique(path.file_name()?.to_str()?);
    if !is_place || !maildir::is_maildir(dir) {
        return None;
    }
    if name.parse::<Name>().is_ok() {
        return Some(name.to_string());
    }
    let whole = dir.canonicalize().ok()?;
    Some(format!("{name} in {}", hex(&Sha256::digest(whole.as_os_str().as_bytes())[..8])))
}

/// The messages in the Maildirs at and below `path` (Maildir++ and nested ones), mailbox by mailbox, each in the
/// order of its names, and what of it could not be read; 66 if there is no Maildir at all.
fn in_maildirs(path: &Path, each: &mut dyn FnMut(Result<Job>) -> Result<bool>) -> Result<()> {
    let (maildirs, troubles) = maildirs(path);
    if maildirs.is_empty() && troubles.is_empty() {
        let none = Error::plain(Kind::NoInput, format!("{} is no Maildir and holds none", path.display()));
        let none = none.hint("name a message file, or a directory with cur/, new/ and tmp/");
        return each(Err(none)).map(drop);
    }
    for trouble in troubles {
        if !each(Err(trouble))? {
            return Ok(());
        }
    }
    for maildir in maildirs {
        let go_on = match Maildir::open(maildir).and_then(|maildir| maildir.messages()) {
            Ok(messages) => all(messages, each)?,
            Err(error) => each(Err(error))?,
        };
        if !go_on {
            break;
        }
    }
    Ok(())
}

/// The Maildirs at and below `path` in order, and what could not be looked at.
fn maildirs(path: &Path) -> (Vec<PathBuf>, Vec<Error>) {
    let (mut maildirs, mut troubles) = (Vec::new(), Vec::new());
    let is_inside = |entry: &walkdir::DirEntry| {
        entry.depth() > 0 && matches!(entry.file_name().to_str(), Some("new" | "cur" | "tmp"))
    };
    // Not sorted by walkdir, which would read all of `new/` to pass it over.
    let walk = walkdir::WalkDir::new(path).into_iter();
    for entry in walk.filter_entry(|entry| entry.file_type().is_dir() && !is_inside(entry)) {
        match entry {
            Ok(entry) if maildir::is_maildir(entry.path()) => maildirs.push(entry.into_path()),
            Ok(_) => {}
            Err(why) => {
                let at = why.path().unwrap_or(path).to_path_buf();
                let why =
                    why.into_io_error().unwrap_or_else(|| std::io::Error::other("it leads back to itself"));
                troubles.push(Error::reading(at, why));
            }
        }
    }
    maildirs.sort();
    (maildirs, troubles)
}

fn all(messages: Messages, each: &mut dyn FnMut(Result<Job>) -> Result<bool>) -> Result<bool> {
    for message in messages {
        if !each(Ok(in_place(&message, record::Message::fresh())))? {
            return Ok(false);
        }
    }
    Ok(true)
}
