//! One message taken apart: what is wanted is decoded into files beside, or found to lie there already. Threads do
//! this side by side; names are given later, in order.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::fs::File;
use std::io;

use sha2::{Digest, Sha256};

use super::Options;
use super::bytes::{Bytes, Spill};
use super::messages::{Job, Source};
use super::save::OPEN;
use super::select::Looks;
use crate::durable::Dir;
use crate::error::{Error, Kind, Result};
use crate::mail::decode;
use crate::mail::name::SafeName;
use crate::mail::part::Tree;
use crate::mail::sniff;
use crate::mail::summary::Summary;
use crate::record::{self, hex};
use crate::store::journal::{Desk, Entry};

/// A message longer than this is hashed beside the rest of the work.
const LARGE: usize = 4 << 20;

/// Which file of a message has a name and a digest.
pub(super) type Seen = HashMap<(SafeName, String), usize>;
/// The key of a message, once somebody needs to know it.
pub(super) type Key<'a> = &'a dyn Fn() -> String;

/// What takes messages apart; shared by threads.
pub(super) struct Taker<'a> {
    pub options: &'a Options,
    pub out: Dir,
    pub desk: Desk,
}

/// Why a message gave nothing.
pub(super) enum Trouble {
    /// It cannot be read or placed; the next one may.
    Message(Error),
    /// The disk we write to: the next one would fare no better.
    Disk(Error),
}

/// One message that was taken apart.
pub(super) struct Taken {
    pub shown: String,
    pub entry: Entry,
    pub files: Vec<Aside>,
    /// For people, said once.
    pub says: Vec<String>,
    /// How many of the files are open.
    pub open: usize,
    pub seen: Seen,
    /// Which of the parts asked for by number it has.
    pub numbers: Vec<String>,
}

/// One file, written aside or lying there already.
pub(super) struct Aside {
    pub dir: Dir,
    /// Its subdirectory, if it has one.
    pub sub: Option<SafeName>,
    pub name: SafeName,
    pub record: record::File,
    pub state: State,
}

pub(super) enum State {
    /// Written under a temporary name; open as long as it is not synced.
    Aside(String, Option<File>),
    /// The same bytes lie under this name.
    Present(SafeName),
    /// The same name and bytes as an earlier file of the message.
    Same(usize),
}

impl Taken {
    /// Something that was selected cannot be saved, now or later.
    pub fn damage(&mut self, why: String) {
        match &mut self.entry.trouble {
            Some(trouble) => *trouble = format!("{trouble}; {why}"),
            None => self.entry.trouble = Some(why),
        }
    }

    /// That what was written aside is given up, if there was something.
    pub fn lost(&self, why: &Error) -> Option<Error> {
        let aside = self.files.iter().filter(|file| matches!(file.state, State::Aside(..)));
        let parts: Vec<&str> = aside.filter_map(|file| file.record.part.as_deref()).collect();
        let doing = || format!("cannot save part {} of {}", parts.join(", "), self.shown);
        (!parts.is_empty()).then(|| Error::new(why.kind(), doing(), why))
    }

    /// The error for the whole message when one part of it failed.
    pub fn given_up(&self, error: Error) -> Error {
        self.lost(&error).unwrap_or_else(|| error.context(&self.shown))
    }

    /// Removes what was written aside.
    pub fn discard(&self, desk: &Desk) {
        for file in &self.files {
            if let State::Aside(temporary, _) = &file.state {
                // What stays is removed by the next run.
                let _ = desk.discard(temporary);
            }
        }
    }
}

impl Taker<'_> {
    /// Takes one message apart; `None` if it was finished before and only others are asked for.
    pub fn take(&self, job: Job) -> Result<Option<Taken>, Trouble> {
        if let Some(key) = &job.key
            && self.is_finished(key).map_err(Trouble::Disk)?
        {
            return Ok(None);
        }
        let Job { source, key, record, shown } = job;
        match source {
            Source::Path(path) => {
                let bytes = Bytes::of_file(&path).map_err(Trouble::Message)?;
                self.message(key, record, shown, bytes.as_ref())
            }
            Source::Bytes(bytes, range) => self.message(key, record, shown, &(*bytes).as_ref()[range]),
        }
    }

    fn is_finished(&self, key: &str) -> Result<bool> {
        Ok(self.options.pending && !self.options.again && self.desk.has(key)?)
    }

    fn message(
        &self,
        key: Option<String>,
        record: record::Message,
        shown: String,
        bytes: &[u8],
    ) -> Result<Option<Taken>, Trouble> {
        std::thread::scope(|scope| {
            let sha256: LazyCell<String, Box<dyn FnOnce() -> String + '_>> =
                LazyCell::new(if bytes.len() > LARGE && self.options.jobs != 1 {
                    // Half of the time of a large message would go into its digest.
                    let hashing = scope.spawn(|| hex(&Sha256::digest(bytes)));
                    Box::new(|| hashing.join().unwrap_or_else(|_| hex(&Sha256::digest(bytes))))
                } else {
                    Box::new(|| hex(&Sha256::digest(bytes)))
                });
            let named = || key.clone().unwrap_or_else(|| sha256.clone());
            if self.options.pending && self.is_finished(&named()).map_err(Trouble::Disk)? {
                return Ok(None);
            }
            let mut message = describe(record, bytes);
            if self.options.by.is_some() {
                message.sha256 = Some(sha256.clone());
            }
            let entry = Entry::new(String::new(), message);
            let mut taken = Taken {
                shown,
                entry,
                files: Vec::new(),
                says: Vec::new(),
                open: 0,
                seen: HashMap::new(),
                numbers: Vec::new(),
            };
            let done = self.parts(&mut taken, bytes, &named);
            taken.entry.key = named();
            taken.entry.message.sha256 = Some(sha256.clone());
            let Err(error) = done else { return Ok(Some(taken)) };
            taken.discard(&self.desk);
            let error = taken.given_up(error);
            Err(if error.kind() == Kind::Io { Trouble::Disk(error) } else { Trouble::Message(error) })
        })
    }

    fn parts(&self, taken: &mut Taken, bytes: &[u8], key: Key) -> Result<()> {
        let mut shelf = Spill::new(self.desk.place().path());
        let tree = Tree::parse_onto(bytes, &self.options.limits, &mut shelf);
        if let Some(why) = &tree.broken {
            let why = io::Error::new(why.kind(), why.to_string());
            return Err(Error::writing(self.desk.place().path(), why));
        }
        taken.numbers = self.options.select.numbers(&tree);
        for part in &tree.parts {
            let head = decode::decode_head(&part.encoding, tree.body(part), sniff::HEAD);
            let looks = Looks::of(&tree, part, &head);
            if looks.is_false_pdf(part) {
                let note = format!("part {} is called a PDF and is none", part.number);
                if !self.options.select.takes(part, &looks) && !self.desk.has(&key())? {
                    taken.says.push(format!("{}: {note}; --trust-label takes it", taken.shown));
                }
                taken.entry.notes.push(note);
            }
            if self.options.select.takes(part, &looks) {
                let saved = self.part(taken, &tree, part, looks, key);
                saved.map_err(|error| error.context(format_args!("part {}", part.number)))?;
            }
        }
        self.close_some(taken, OPEN)?;
        taken.entry.notes.extend(tree.notes.iter().chain(&tree.closed).cloned());
        if self.options.strict && !tree.notes.is_empty() {
            taken.damage(tree.notes.join("; "));
        }
        if let Some(cut) = &tree.cut {
            taken.damage(format!("{cut}; what lies beyond was not saved"));
        }
        Ok(())
    }
}

impl Aside {
    /// The names that are tried when others lie under its own: with ever more of the digest.
    pub fn longer_names(&self) -> [SafeName; 3] {
        [8, 16, 64].map(|digits| self.name.with_digest(&self.record.sha256[..digits]))
    }
}

/// The message's record: what was handed over, and what its bytes say, which wins.
pub(super) fn describe(record: record::Message, bytes: &[u8]) -> record::Message {
    let Summary { message_id, from, to, subject, date } = Summary::of(bytes);
    let state = if record.state.is_empty() { "delivered".to_string() } else { record.state };
    let (sha256, size) = (None, Some(bytes.len() as u64));
    record::Message { state, sha256, size, message_id, from, to, subject, date, ..record }
}
