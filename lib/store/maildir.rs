//! A Maildir that we deliver into: `tmp/` while it is written, `new/` (or `cur/` with flags) once it is durable.
//!
//! A message's unique name says what it is, so that the same message always gets the same name:
//! `SECONDS.V<UIDVALIDITY>U<UID>.<SOURCE>,S=<SIZE>`, where SECONDS is the server's INTERNALDATE and SOURCE a digest of
//! account and mailbox. The file's modification time is the INTERNALDATE too (as Dovecot keeps it).
//!
//! | where | name | means |
//! |---|---|---|
//! | `tmp/` | `mailloop.SOURCE.N` | being written; an orphan unless its writer holds the lock |
//! | `new/` | unique name | delivered, no reader saw it |
//! | `cur/` | unique name`:2,`flags | delivered; the server had flags, or a reader took it |
//!
//! Files are 0600, directories 0700.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::durable::Dir;
use crate::error::{Error, Kind, Result};
use crate::record::hex;

mod listing;
mod name;
pub use listing::Messages;
pub use name::Name;

/// An open Maildir.
#[derive(Clone, Debug)]
pub struct Maildir {
    /// The directory itself.
    pub dir: Dir,
    tmp: Dir,
    new: Dir,
    cur: Dir,
}

/// Where account and mailbox end in names: the first 16 hex digits of a digest.
pub fn source(account: &str, mailbox: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(account.as_bytes());
    digest.update([0]);
    digest.update(mailbox.as_bytes());
    hex(&digest.finalize()[..8])
}

/// The part of a file name that stays when a reader moves it or changes its flags.
pub fn unique(file_name: &str) -> &str {
    file_name.split_once(":2,").map_or(file_name, |(unique, _)| unique)
}

/// True if `path` looks like a Maildir.
pub fn is_maildir(path: &Path) -> bool {
    ["cur", "new", "tmp"].iter().all(|name| path.join(name).is_dir())
}

/// Where a message lies now: the path itself, or the file of its unique name in `cur/` or `new/` beside it.
pub fn locate(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path.to_path_buf());
    }
    let place = path.parent()?.file_name()?;
    if place != "new" && place != "cur" {
        return None;
    }
    let maildir = Maildir::open(path.parent()?.parent()?).ok()?;
    let name = path.file_name()?.to_str()?;
    maildir.find(unique(name))
}

impl Maildir {
    /// Opens it; 66 if it is none.
    pub fn open(path: impl Into<PathBuf>) -> Result<Maildir> {
        let dir = Dir::open(path)?;
        let sub = |name| {
            Dir::open(dir.at(name)).map_err(|_| {
                Error::plain(
                    Kind::NoInput,
                    format!("{} is no Maildir: it has no {name}/", dir.path().display()),
                )
            })
        };
        Ok(Maildir { tmp: sub("tmp")?, new: sub("new")?, cur: sub("cur")?, dir })
    }

    /// Opens it, made first where it is missing (73 if that cannot be).
    pub fn create(path: impl Into<PathBuf>) -> Result<Maildir> {
        let dir = Dir::create(path, 0o700)?;
        Maildir::complete(dir)
    }

    /// Opens or makes the Maildir++ directory of a mailbox in it (`.a.b`).
    pub fn subfolder(&self, directory: &str) -> Result<Maildir> {
        let dir = self.dir.subdir(directory, 0o700)?;
        let sub = Maildir::complete(dir)?;
        if !sub.dir.has("maildirfolder") {
            // Maildir++: tells mail servers that this is a folder and no Maildir of its own.
            match sub.dir.create_new("maildirfolder", 0o600) {
                Err(why) if why.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::creating(sub.dir.at("maildirfolder"), why));
                }
                _ => sub.dir.sync()?,
            }
        }
        Ok(sub)
    }

    fn complete(dir: Dir) -> Result<Maildir> {
        Ok(Maildir {
            tmp: dir.subdir("tmp", 0o700)?,
            new: dir.subdir("new", 0o700)?,
            cur: dir.subdir("cur", 0o700)?,
            dir,
        })
    }

    /// Creates the file that message `number` from `source` is written to; its name in `tmp/` comes with it.
    pub fn begin(&self, source: &str, number: u64) -> io::Result<(String, File)> {
        let name = format!("mailloop.{source}.{number}");
        Ok((name.clone(), self.tmp.create_new(&name, 0o600)?))
    }

    /// Removes a file from `tmp/`.
    pub fn discard(&self, temporary: &str) -> io::Result<()> {
        self.tmp.remove(temporary)
    }

    /// The directory that a message with these flags is delivered to, and its file name there.
    fn target(&self, name: &str, flags: &str) -> (&Dir, String) {
        match flags.is_empty() {
            true => (&self.new, name.to_string()),
            false => (&self.cur, format!("{name}:2,{flags}")),
        }
    }

    /// Where a message with this name and these flags is delivered to.
    pub fn path_of(&self, name: &str, flags: &str) -> PathBuf {
        let (dir, name) = self.target(name, flags);
        dir.at(name)
    }

    /// Renames a message from `tmp/` to where it belongs. Its contents must be synced already; the name is durable
    /// after [`Maildir::sync`]. True if it was still in `tmp/`.
    pub fn deliver(&self, temporary: &str, name: &str, flags: &str) -> Result<bool> {
        let (dir, target) = self.target(name, flags);
        match self.tmp.rename_new(temporary, dir, &target) {
            Ok(()) => Ok(true),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {
                // The same message of the same server under the same name: one of the two is enough.
                self.discard(temporary).map_err(|why| Error::writing(dir.at(&target), why))?;
                Ok(true)
            }
            Err(why) => Err(Error::writing(dir.at(&target), why)),
        }
    }

    /// Makes the names in `tmp/` durable. Before a journal speaks of them: a synced file whose name a power cut took
    /// would look like one that was renamed already.
    pub fn sync_tmp(&self) -> Result<()> {
        self.tmp.sync()
    }

    /// Makes all renames so far durable.
    pub fn sync(&self, with_flags: bool) -> Result<()> {
        self.new.sync()?;
        if with_flags {
            self.cur.sync()?;
        }
        Ok(())
    }

    /// Removes what a delivery from `source` left in `tmp/`; the caller holds that source's lock.
    pub fn sweep(&self, source: &str) -> Result<()> {
        let prefix = format!("mailloop.{source}.");
        for name in self.tmp.names()? {
            if name.as_bytes().starts_with(prefix.as_bytes()) {
                self.tmp.remove(&name).map_err(|why| Error::writing(self.tmp.at(&name), why))?;
            }
        }
        Ok(())
    }

    /// The file that has this unique name now.
    pub fn find(&self, unique_name: &str) -> Option<PathBuf> {
        if self.new.has(unique_name) {
            return Some(self.new.at(unique_name));
        }
        let is_it = |name: &OsString| name.to_str().is_some_and(|name| unique(name) == unique_name);
        [&self.cur, &self.new].into_iter().find_map(|dir| {
            let found = dir.names().ok()?.into_iter().find(is_it)?;
            Some(dir.at(found))
        })
    }

    /// All messages, `new/` and `cur/`, in the order of their names (by time, for names that begin with it).
    pub fn messages(&self) -> Result<Messages> {
        Messages::list([&self.new, &self.cur])
    }

    /// The directories in which messages appear; worth watching.
    pub fn doors(&self) -> [PathBuf; 2] {
        [self.new.path().to_path_buf(), self.cur.path().to_path_buf()]
    }
}
