//! What is known of a file when it is decided on: its own bytes as they are now, and its message's.
//!
//! What a rule judges (type, sender) is read from bytes, never believed from a record. That a file came out of a
//! message is what its record or the journal over it says, as long as the digests there are those of the bytes.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::mail::sniff;
use crate::mail::summary::Summary;
use crate::record::File;
use crate::report;
use crate::rules::letter::Letter;
use crate::rules::template::{self, Values};
use crate::store::journal;

use super::bytes::Bytes;
use super::items::Item;
use super::message::{Opened, Unread};

/// A file and the message it is said to come out of; nothing was read of them yet.
pub(super) struct Subject {
    pub path: PathBuf,
    pub record: File,
    /// Whether `record` was given, not found: then its bytes must be those it speaks of.
    given: bool,
}

/// The journals that may hold the files that were asked for, beside them or one directory above (`mail-dissect --by`),
/// read again only for a name that they did not hold: a pipe of many paths does not read them for each.
#[derive(Default)]
pub(super) struct Journals {
    journals: HashMap<PathBuf, Held>,
    /// Of a directory with files: the one above it, and its name there.
    above: HashMap<PathBuf, Option<(PathBuf, OsString)>>,
}

/// What a journal holds, by path below its directory.
#[derive(Default)]
struct Held {
    size: u64,
    files: HashMap<PathBuf, File>,
}

impl Journals {
    fn find(&mut self, path: &Path) -> Result<Option<File>> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
        if let Some(found) = self.held(dir, Path::new(name))? {
            return Ok(Some(found));
        }
        let above = self.above.entry(dir.to_path_buf()).or_insert_with(|| {
            // A directory may be given by a link, or as `.`.
            let whole = dir.canonicalize().ok()?;
            Some((whole.parent()?.to_path_buf(), whole.file_name()?.to_os_string()))
        });
        let Some((out, sub)) = above.clone() else { return Ok(None) };
        match self.held(&out, &Path::new(&sub).join(name)) {
            // Anybody may have put that there, above what is ours; it says nothing to us.
            Err(error) if error.kind() == Kind::Config => Ok(None),
            found => found,
        }
    }

    fn held(&mut self, out: &Path, below: &Path) -> Result<Option<File>> {
        let held = self.journals.entry(out.to_path_buf()).or_default();
        let size = journal::size(out);
        if !held.files.contains_key(below) && size != held.size {
            held.size = size;
            held.files.clear();
            for file in journal::files(out)? {
                let path = file.path.get().and_then(|path| path.strip_prefix(out).ok());
                if let Some(path) = path.map(Path::to_path_buf) {
                    // Of several messages that brought the same file the first one counts.
                    held.files.entry(path).or_insert(file);
                }
            }
        }
        Ok(held.files.get(below).cloned())
    }
}

/// A file, looked at.
pub(super) struct Known {
    pub path: PathBuf,
    /// With digest, size and type as they are now.
    pub record: File,
    /// What rules judge of the message.
    pub letter: Letter,
    /// Where the message lies now.
    pub message_path: Option<PathBuf>,
    pub message_sha256: Option<String>,
    /// Whether its message could be read.
    pub is_read: bool,
    /// From the message's bytes, else from the record; only ever shown, never judged.
    subject: Option<String>,
    date: Option<String>,
}

impl Subject {
    /// Takes an item; for a path the journal of its directory is asked, if there are `journals` to ask.
    pub fn find(item: Item, journals: Option<&mut Journals>) -> Result<Subject> {
        match item {
            Item::Record(record) => {
                let Some(path) = record.path.get().map(Path::to_path_buf) else {
                    return Err(Error::plain(Kind::Data, "a file record without a path"));
                };
                Ok(Subject { path: report::dotted(&path).into_owned(), record: *record, given: true })
            }
            Item::Path(path) => {
                let path = report::dotted(&path).into_owned();
                super::is_file(&path)?;
                let found = journals.map(|journals| journals.find(&path)).transpose()?.flatten();
                let mut record = found.unwrap_or_else(File::fresh);
                record.path = path.as_path().into();
                record.state = "present".into();
                Ok(Subject { path, record, given: false })
            }
            Item::Pause => Err(Error::plain(Kind::Internal, "a pause is nothing to act on")),
        }
    }

    /// Only that it is there.
    pub fn glance(&self) -> Result<Known> {
        super::is_file(&self.path)?;
        Ok(Known {
            path: self.path.clone(),
            record: self.record.clone(),
            letter: Letter::unknown("nobody looked"),
            message_path: None,
            message_sha256: None,
            is_read: false,
            subject: None,
            date: None,
        })
    }

    /// Reads the beginnings of the file and of its message: enough to see that no rule matches. Digests are not
    /// known then, and those that the records give not checked.
    pub fn peek(&self) -> Result<Known> {
        self.read(false)
    }

    /// Reads the file and its message whole.
    pub fn look(&self) -> Result<Known> {
        self.read(true)
    }

    fn read(&self, whole: bool) -> Result<Known> {
        super::is_file(&self.path)?;
        let bytes = Bytes::of_file(&self.path, whole)?;
        let mut record = self.record.clone();
        if whole && !record.sha256.is_empty() && record.sha256 != bytes.sha256 {
            if self.given {
                return Err(Error::new(
                    Kind::Data,
                    format!("cannot act on {}", self.path.display()),
                    "its bytes are not those that its record speaks of",
                )
                .hint("to act on it as it is now, give its path"));
            }
            // Somebody changed it: it is no longer what came in that message.
            record = File { path: record.path, state: record.state, ..File::fresh() };
        }
        record.sha256 = bytes.sha256;
        record.size = bytes.size;
        let told = sniff::sniff(&bytes.head).map(|kind| kind.mime);
        record.media_type = Some(told.unwrap_or_else(|| plain_type(&bytes.head)).to_string());
        Ok(Known::with_message(self.path.clone(), record, whole))
    }
}

impl Known {
    fn with_message(path: PathBuf, record: File, whole: bool) -> Known {
        let read = match &record.message {
            None => Err(Unread::because("it is not known which message it came in")),
            Some(message) => Opened::of(message, whole),
        };
        let (said, is_read) = (record.message.as_ref(), read.is_ok());
        let (letter, message_path, digest, summary) = match read {
            Ok(mail) => {
                (mail.letter(), Some(mail.path.clone()), Some(mail.sha256.clone()), Summary::of(&mail.head))
            }
            Err(unread) => (unread.letter(), unread.path, None, Summary::default()),
        };
        Known {
            path,
            letter,
            is_read,
            message_path,
            message_sha256: digest.or_else(|| said.and_then(|m| m.sha256.clone())),
            subject: summary.subject.or_else(|| said.and_then(|m| m.subject.clone())),
            date: summary.date.or_else(|| said.and_then(|m| m.date.clone())),
            record,
        }
    }

    /// The type by content.
    pub fn media_type(&self) -> &str {
        self.record.media_type.as_deref().unwrap_or("application/octet-stream")
    }

    /// The sender's address, or nothing.
    pub fn from(&self) -> &str {
        self.letter.from.as_deref().unwrap_or_default()
    }

    /// For placeholders; without the rule's name.
    pub fn values(&self) -> Values<'_> {
        Values {
            path: self.path.as_os_str().as_bytes(),
            name: template::name_of(&self.path),
            from: template::text(self.from()),
            subject: template::text(self.subject.as_deref().unwrap_or_default()),
            date: template::text(self.date.as_deref().unwrap_or_default()),
            sha256: self.record.sha256.clone(),
            rule: String::new(),
        }
    }
}

/// For what has no magic: text if it reads as text.
fn plain_type(head: &[u8]) -> &'static str {
    let is_text = |bytes: &[u8]| !bytes.iter().any(|b| *b < b' ' && !b"\t\n\r\x0c\x1b".contains(b));
    let whole = match std::str::from_utf8(head) {
        Ok(_) => true,
        // The last character may be cut.
        Err(why) => why.error_len().is_none(),
    };
    if whole && is_text(head) && !head.is_empty() { "text/plain" } else { "application/octet-stream" }
}
