//! What is known of a file when it is decided on: its own bytes as they are now, and its message's.
//!
//! What a rule judges (type, sender) is read from bytes, never believed from a record. That a file came out of a
//! message is what its record or the journal beside it says, as long as the digests there are those of the bytes.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::mail::sniff;
use crate::mail::summary::{Summary, outer_from};
use crate::record::{File, Message, hex};
use crate::report;
use crate::rules::Sender;
use crate::rules::template::{self, Values};
use crate::store::{journal, maildir};

use super::items::Item;

/// How much of a message is read for its header; a longer header is not judged.
const LONGEST_HEADER: u64 = 1 << 20;

/// Since when there is action on an account's mail.
#[derive(Clone, Debug)]
pub struct Start {
    /// The account's name, as it stands in records.
    pub account: String,
    /// Where its mail lies, for messages whose record names no account.
    pub maildir: Option<PathBuf>,
    /// Mail received before this is skipped.
    pub at: Timestamp,
}

impl Start {
    /// Those of a configuration.
    pub fn all(config: &Config) -> Vec<Start> {
        let accounts = config.account.iter();
        let start = |(name, account): (&String, &crate::config::Account)| {
            Some(Start { account: name.clone(), maildir: account.maildir.clone(), at: account.start? })
        };
        accounts.filter_map(start).collect()
    }
}

/// A file and the message it is said to come out of; nothing was read of them yet.
pub(super) struct Subject {
    pub path: PathBuf,
    pub record: File,
    /// Whether `record` was given, not found: then its bytes must be those it speaks of.
    given: bool,
}

/// The journals beside the files that were asked for, read again only for a name that they did not hold: a pipe of
/// many paths does not read them for each.
#[derive(Default)]
pub(super) struct Journals(HashMap<PathBuf, Beside>);

#[derive(Default)]
struct Beside {
    size: u64,
    files: HashMap<OsString, File>,
}

impl Journals {
    fn find(&mut self, path: &Path) -> Result<Option<File>> {
        let (Some(out), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
        let beside = self.0.entry(out.to_path_buf()).or_default();
        let size = journal::size(out);
        if !beside.files.contains_key(name) && size != beside.size {
            beside.size = size;
            beside.files.clear();
            for file in journal::files(out)? {
                if let Some(name) = file.path.get().and_then(Path::file_name) {
                    // Of several messages that brought the same file the first one counts.
                    beside.files.entry(name.to_os_string()).or_insert(file);
                }
            }
        }
        Ok(beside.files.get(name).cloned())
    }
}

/// A file, looked at.
pub(super) struct Known {
    pub path: PathBuf,
    /// With digest, size and type as they are now.
    pub record: File,
    pub sender: Sender,
    pub message_sha256: Option<String>,
    /// From the message's bytes, else from the record; only ever shown, never judged.
    subject: Option<String>,
    date: Option<String>,
}

impl Subject {
    /// Takes an item; for a path the journal beside it is asked, if there are `journals` to ask.
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
        }
    }

    /// Why there must be no action, if its message is from before its account's start.
    pub fn is_too_old(&self, starts: &[Start]) -> Option<String> {
        let message = self.record.message.as_ref()?;
        let start = start_of(message, starts)?;
        match received(message) {
            Some(at) if at >= start.at => None,
            Some(at) => Some(format!(
                "received at {at:.0}, before the start of account {}, {}",
                start.account, start.at
            )),
            None => {
                Some(format!("nobody knows when it was received, and account {} has a start", start.account))
            }
        }
    }

    /// Only that it is there.
    pub fn glance(self) -> Result<Known> {
        super::is_file(&self.path)?;
        let sender = Sender::Unknown("nobody looked".into());
        Ok(Known {
            path: self.path,
            record: self.record,
            sender,
            message_sha256: None,
            subject: None,
            date: None,
        })
    }

    /// Reads the file and its message.
    pub fn look(mut self) -> Result<Known> {
        super::is_file(&self.path)?;
        let bytes = digest(&self.path, sniff::HEAD as u64)?;
        if !self.record.sha256.is_empty() && self.record.sha256 != bytes.sha256 {
            if self.given {
                return Err(Error::new(
                    Kind::Data,
                    format!("cannot act on {}", self.path.display()),
                    "its bytes are not those that its record speaks of",
                )
                .hint("to act on it as it is now, give its path"));
            }
            // Somebody changed it: it is no longer what came in that message.
            self.record = File { path: self.record.path, state: self.record.state, ..File::fresh() };
        }
        self.record.sha256 = bytes.sha256;
        self.record.size = bytes.size;
        let told = sniff::sniff(&bytes.head).map(|kind| kind.mime.to_string());
        self.record.media_type = told.or_else(|| Some(plain_type(&bytes.head).to_string()));
        Ok(self.with_message())
    }

    fn with_message(self) -> Known {
        let Subject { path, record, .. } = self;
        let (letter, sender) = match &record.message {
            None => (None, Sender::Unknown("it is not known which message it came in".into())),
            Some(message) => match Letter::read(message) {
                Ok(letter) => {
                    let sender = letter.sender();
                    (Some(letter), sender)
                }
                Err(why) => (None, Sender::Unknown(why)),
            },
        };
        let said = record.message.as_ref();
        let message_sha256 = letter
            .as_ref()
            .map(|letter| letter.sha256.clone())
            .or_else(|| said.and_then(|m| m.sha256.clone()));
        let summary = letter.map(|letter| Summary::of(&letter.head)).unwrap_or_default();
        let subject = summary.subject.or_else(|| said.and_then(|m| m.subject.clone()));
        let date = summary.date.or_else(|| said.and_then(|m| m.date.clone()));
        Known { path, record, sender, message_sha256, subject, date }
    }
}

impl Known {
    /// The type by content.
    pub fn media_type(&self) -> &str {
        self.record.media_type.as_deref().unwrap_or("application/octet-stream")
    }

    /// The sender's address, or nothing.
    pub fn from(&self) -> &str {
        match &self.sender {
            Sender::Known(from) => from,
            Sender::Unknown(_) => "",
        }
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

/// A message's header and the digest of its bytes.
struct Letter {
    head: Vec<u8>,
    sha256: String,
    /// The header is longer than what was read of it.
    is_cut: bool,
}

impl Letter {
    fn read(message: &Message) -> Result<Letter, String> {
        let Some(said) = message.path.get() else { return Err("its record names no message file".into()) };
        let Some(path) = maildir::locate(said) else {
            return Err(format!("its message {} is gone", said.display()));
        };
        let bytes = digest(&path, LONGEST_HEADER).map_err(|error| error.to_string())?;
        if message.sha256.as_ref().is_some_and(|said| *said != bytes.sha256) {
            return Err(format!("{} is not the message that its record speaks of", path.display()));
        }
        let end_of_head =
            |bytes: &[u8]| bytes.windows(2).any(|w| w == b"\n\n") || bytes.windows(3).any(|w| w == b"\n\r\n");
        let is_cut = bytes.size > LONGEST_HEADER && !end_of_head(&bytes.head);
        Ok(Letter { head: bytes.head, sha256: bytes.sha256, is_cut })
    }

    fn sender(&self) -> Sender {
        if self.is_cut {
            return Sender::Unknown("its message's header is too long to judge".into());
        }
        let from = outer_from(&self.head);
        match from.only() {
            Some(address) => Sender::Known(address.into()),
            None => Sender::Unknown(format!(
                "its message has {} From fields with {} addresses; exactly one of each can be judged",
                from.fields,
                from.addresses.len()
            )),
        }
    }
}

struct Bytes {
    /// The beginning.
    head: Vec<u8>,
    sha256: String,
    size: u64,
}

/// Reads a file once, whatever its size, keeping its first `keep` bytes.
fn digest(path: &Path, keep: u64) -> Result<Bytes> {
    let failed = |why| Error::reading(path, why);
    let mut file = fs::File::open(path).map_err(failed)?;
    let mut head = Vec::new();
    (&mut file).take(keep).read_to_end(&mut head).map_err(failed)?;
    let mut digest = Sha256::new();
    digest.update(&head);
    let (mut size, mut buffer) = (head.len() as u64, vec![0; 64 * 1024]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                digest.update(&buffer[..n]);
                size += n as u64;
            }
            Err(why) if why.kind() == std::io::ErrorKind::Interrupted => {}
            Err(why) => return Err(failed(why)),
        }
    }
    Ok(Bytes { head, sha256: hex(&digest.finalize()), size })
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

fn start_of<'a>(message: &Message, starts: &'a [Start]) -> Option<&'a Start> {
    if let Some(account) = &message.account {
        return starts.iter().find(|start| start.account == *account);
    }
    let path = message.path.get().and_then(maildir::locate).and_then(|path| path.canonicalize().ok())?;
    starts.iter().find(|start| {
        let maildir = start.maildir.as_ref().and_then(|maildir| maildir.canonicalize().ok());
        maildir.is_some_and(|maildir| path.starts_with(maildir))
    })
}

/// When the server received it: as its record says, else as its name in the Maildir says, else the time of its file.
fn received(message: &Message) -> Option<Timestamp> {
    if let Some(at) = message.received.as_ref().and_then(|text| text.parse().ok()) {
        return Some(at);
    }
    let path = message.path.get().and_then(maildir::locate)?;
    let name =
        path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<maildir::Name>().ok());
    if let Some(name) = name {
        return Timestamp::from_second(name.seconds).ok();
    }
    fs::metadata(&path).ok()?.modified().ok()?.try_into().ok()
}
