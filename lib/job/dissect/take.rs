//! One message taken apart: what is wanted is decoded into files beside, or found to lie there already. Threads do
//! this side by side; names are given later, in order.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::bytes::{Bytes, Spill};
use super::items::{Job, Source};
use super::select::Looks;
use super::sink::{Compare, Sink};
use super::{Options, is_held};
use crate::durable::{self, Dir};
use crate::error::{Error, Kind, Result};
use crate::mail::decode::{self, Decoded};
use crate::mail::name::SafeName;
use crate::mail::part::{Part, Tree};
use crate::mail::sniff;
use crate::mail::summary::Summary;
use crate::record::{self, hex};
use crate::store::journal::{Desk, Entry};

/// How many files of one message stay open until their group is synced; of more, all are synced when it is done.
const OPEN: usize = 4;
/// How many files all threads together may have open while they take messages apart: few shells allow more than 1,024.
const OPEN_ALL: usize = 256;
/// A message longer than this is hashed beside the rest of the work.
const LARGE: usize = 4 << 20;

/// A body up to this size is decoded in memory.
const SHORT: usize = 256 * 1024;

/// Which file of a message has a name and a digest.
type Seen = HashMap<(SafeName, String), usize>;
/// The key of a message, once somebody needs to know it.
type Key<'a> = &'a dyn Fn() -> String;

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
    open: usize,
    seen: Seen,
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
    fn damage(&mut self, why: String) {
        match &mut self.entry.trouble {
            Some(trouble) => *trouble = format!("{trouble}; {why}"),
            None => self.entry.trouble = Some(why),
        }
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
            let mut taken =
                Taken { shown, entry, files: Vec::new(), says: Vec::new(), open: 0, seen: HashMap::new() };
            let done = self.parts(&mut taken, bytes, &named);
            taken.entry.key = named();
            taken.entry.message.sha256 = Some(sha256.clone());
            let Err(error) = done else { return Ok(Some(taken)) };
            taken.discard(&self.desk);
            let error = error.context(&taken.shown);
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
                self.part(taken, &tree, part, looks, key)?;
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

    /// One part that is wanted: found, or written aside.
    fn part(&self, taken: &mut Taken, tree: &Tree, part: &Part, looks: Looks, key: Key) -> Result<()> {
        let extension = sniff::extension(looks.kind, &part.said);
        let name = SafeName::new(looks.sent.as_ref().map(|sent| sent.path.as_str()), extension);
        let sub = self.options.by.as_ref().map(|by| by.name(&taken.entry.message));
        let dir = match &sub {
            Some(sub) => self.out.subdir(sub, 0o777)?,
            None => self.out.clone(),
        };
        let record = record::File {
            name: looks.sent.map(|sent| sent.text),
            media_type: Some(looks.media_type),
            said: Some(part.said.clone()),
            part: Some(part.number.clone()),
            ..record::File::fresh()
        };
        let mut aside = Aside { dir, sub, name, record, state: State::Aside(String::new(), None) };
        if !self.look_for(&mut aside, key, tree, part)?
            && let Written::TooLong(limit) = self.write(&mut aside, &taken.seen, tree, part)?
        {
            taken.damage(format!("part {} is longer than {limit} bytes (--max-size)", part.number));
            return Ok(());
        }
        if aside.record.size == 0
            && !tree.body(part).trim_ascii().is_empty()
            && !matches!(aside.state, State::Present(_))
        {
            if let State::Aside(temporary, _) = &aside.state {
                let _ = self.desk.discard(temporary);
            }
            taken.damage(format!("part {} cannot be decoded", part.number));
            return Ok(());
        }
        if self.options.strict && !aside.record.notes.is_empty() {
            taken.damage(format!("part {}: {}", part.number, aside.record.notes.join(", ")));
        }
        let known = (aside.name.clone(), aside.record.sha256.clone());
        taken.seen.entry(known).or_insert(taken.files.len());
        taken.open += usize::from(matches!(aside.state, State::Aside(..)));
        taken.files.push(aside);
        self.close_some(taken, self.most_open(taken.open))
    }

    /// Keeps descriptors few, whatever a message has: syncs and closes its files once more than `most` are open.
    fn close_some(&self, taken: &mut Taken, most: usize) -> Result<()> {
        if taken.open <= if self.options.sync { most } else { 0 } {
            return Ok(());
        }
        let mut handles = Vec::with_capacity(taken.open);
        for file in taken.files.iter_mut().rev() {
            if let State::Aside(_, handle) = &mut file.state {
                handles.extend(handle.take());
            }
            if handles.len() == taken.open {
                break;
            }
        }
        taken.open = 0;
        if self.options.sync {
            let handles: Vec<&File> = handles.iter().collect();
            durable::sync_many(&handles).map_err(|why| Error::writing(self.out.path(), why))?;
        }
        Ok(())
    }

    /// How many files of a message may be open while it is taken apart.
    fn most_open(&self, open: usize) -> usize {
        if open <= OPEN { OPEN } else { (OPEN_ALL / self.options.threads()).clamp(OPEN, 64) }
    }

    /// True if the part's bytes lie there already; nothing is written to find that out. Where the message was seen
    /// before, also the longer names are looked at, which needs the digest of all of it.
    fn look_for(&self, aside: &mut Aside, key: Key, tree: &Tree, part: &Part) -> Result<bool> {
        if !aside.dir.has(&aside.name) {
            return Ok(false);
        }
        let there = aside.dir.open_file(&aside.name).ok();
        let known = self.desk.has(&key())?;
        if there.is_none() && !known {
            return Ok(false);
        }
        let mut sink = Compare { there, digest: Sha256::new(), to_the_end: known, buffer: Vec::new() };
        let Ok(decoded) = decode::decode(&part.encoding, tree.body(part), &mut sink) else {
            return Ok(false);
        };
        let is_same = sink.is_at_end();
        note(aside, part, &decoded, sink.digest);
        if is_same {
            aside.state = State::Present(aside.name.clone());
            return Ok(true);
        }
        for name in aside.longer_names() {
            if is_held(&aside.dir, &name, &aside.record) {
                aside.state = State::Present(name);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Decodes a part into a file beside: a short one at once, a longer one chunk by chunk.
    fn write(&self, aside: &mut Aside, seen: &Seen, tree: &Tree, part: &Part) -> Result<Written> {
        let body = tree.body(part);
        let room = self.options.max_size.unwrap_or(u64::MAX);
        if body.len() > SHORT {
            return self.stream(aside, part, body, room);
        }
        let mut bytes = Vec::new();
        // A Vec takes everything.
        let decoded = decode::decode(&part.encoding, body, &mut bytes).unwrap_or_default();
        note(aside, part, &decoded, Sha256::new_with_prefix(&bytes));
        if decoded.size > room {
            return Ok(Written::TooLong(room));
        }
        if let Some(same) = seen.get(&(aside.name.clone(), aside.record.sha256.clone())) {
            aside.state = State::Same(*same);
            return Ok(Written::Whole);
        }
        let (temporary, mut handle) = self.desk.begin()?;
        if let Err(why) = handle.write_all(&bytes) {
            let _ = self.desk.discard(&temporary);
            return Err(Error::writing(self.desk.place().at(&temporary), why));
        }
        aside.state = State::Aside(temporary, Some(handle));
        Ok(Written::Whole)
    }

    fn stream(&self, aside: &mut Aside, part: &Part, body: &[u8], room: u64) -> Result<Written> {
        let (temporary, handle) = self.desk.begin()?;
        let mut sink = Sink { file: &handle, digest: Sha256::new(), room };
        match decode::decode(&part.encoding, body, &mut sink) {
            Ok(decoded) => note(aside, part, &decoded, sink.digest),
            Err(why) => {
                let _ = self.desk.discard(&temporary);
                if why.kind() == io::ErrorKind::FileTooLarge && sink.room == 0 {
                    return Ok(Written::TooLong(room));
                }
                return Err(Error::writing(self.desk.place().at(&temporary), why));
            }
        }
        aside.state = State::Aside(temporary, Some(handle));
        Ok(Written::Whole)
    }
}

enum Written {
    Whole,
    TooLong(u64),
}

impl Aside {
    /// The names that are tried when others lie under its own: with ever more of the digest.
    pub fn longer_names(&self) -> [SafeName; 3] {
        [8, 16, 64].map(|digits| self.name.with_digest(&self.record.sha256[..digits]))
    }
}

/// Puts what decoding told into the record.
fn note(aside: &mut Aside, part: &Part, decoded: &Decoded, digest: Sha256) {
    aside.record.size = decoded.size;
    aside.record.sha256 = hex(&digest.finalize());
    aside.record.notes = part.notes.clone();
    aside.record.notes.extend(decoded.notes.iter().filter(|note| !part.notes.contains(note)).cloned());
}

/// The message's record: what was handed over, and what its bytes say, which wins.
pub(super) fn describe(record: record::Message, bytes: &[u8]) -> record::Message {
    let Summary { message_id, from, to, subject, date } = Summary::of(bytes);
    let state = if record.state.is_empty() { "delivered".to_string() } else { record.state };
    let (sha256, size) = (None, Some(bytes.len() as u64));
    record::Message { state, sha256, size, message_id, from, to, subject, date, ..record }
}
