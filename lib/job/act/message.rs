//! A file's message as it lies there now: what rules judge of it, and the digest of its bytes.

use std::path::PathBuf;

use crate::record::Message;
use crate::rules::letter::Letter;
use crate::store::maildir;

use super::bytes::{Bytes, has_end_of_header};

/// A message's header and the digest of its bytes.
pub(super) struct Opened {
    pub path: PathBuf,
    pub head: Vec<u8>,
    pub sha256: String,
    /// The header is longer than what was read of it.
    is_cut: bool,
}

/// A message of which nothing can be judged.
pub(super) struct Unread {
    why: String,
    /// Where it lies, though it is not what it should be.
    pub path: Option<PathBuf>,
}

impl Unread {
    pub fn because(why: impl Into<String>) -> Unread {
        Unread { why: why.into(), path: None }
    }

    /// What lies there but can't be judged may be a bounce; what is gone, or was never known, is what a file without
    /// a message is: nothing is known of it.
    pub fn letter(&self) -> Letter {
        let brake = self.path.as_ref().map(|_| format!("cannot be judged: {}", self.why));
        Letter { brake, ..Letter::unknown(&self.why) }
    }
}

impl Opened {
    pub fn of(message: &Message, whole: bool) -> Result<Opened, Unread> {
        let Some(said) = message.path.get() else {
            return Err(Unread::because("its record names no message file"));
        };
        let Some(path) = maildir::locate(said) else {
            return Err(Unread::because(format!("its message {} is gone", said.display())));
        };
        let doubt = |why: String| Unread { why, path: Some(path.clone()) };
        let bytes = Bytes::of_message(&path, whole).map_err(|error| doubt(error.to_string()))?;
        if whole && message.sha256.as_ref().is_some_and(|said| *said != bytes.sha256) {
            let why = format!("{} is not the message that its record speaks of", path.display());
            return Err(doubt(why));
        }
        let is_cut = bytes.size > bytes.head.len() as u64 && !has_end_of_header(&bytes.head);
        Ok(Opened { path, head: bytes.head, sha256: bytes.sha256, is_cut })
    }

    pub fn letter(&self) -> Letter {
        match self.is_cut {
            false => Letter::of(&self.head),
            true => {
                let brake = Some("has a header too long to judge".to_string());
                Letter { brake, ..Letter::unknown("its message's header is too long to judge") }
            }
        }
    }
}
