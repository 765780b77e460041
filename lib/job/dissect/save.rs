//! One part that is wanted: found lying there already, or decoded into a file aside, and no more files open than a
//! process may have.

use std::fs::File;
use std::io;

use sha2::{Digest, Sha256};

use super::is_held;
use super::select::Looks;
use super::sink::{Compare, Sink};
use super::take::{Aside, Key, Seen, State, Taken, Taker};
use crate::durable;
use crate::error::{Error, Result};
use crate::mail::decode::{self, Decoded};
use crate::mail::name::SafeName;
use crate::mail::part::{Part, Tree};
use crate::mail::sniff;
use crate::record::{self, hex};

/// How many files of one message stay open until their group is synced; of more, all are synced when it is done.
pub(super) const OPEN: usize = 4;
/// How many files all threads together may have open while they take messages apart: few shells allow more than 1,024.
const OPEN_ALL: usize = 256;
/// A body up to this size is decoded in memory.
const SHORT: usize = 256 * 1024;

impl Taker<'_> {
    /// One part that is wanted: found, or written aside.
    pub(super) fn part(
        &self,
        taken: &mut Taken,
        tree: &Tree,
        part: &Part,
        looks: Looks,
        key: Key,
    ) -> Result<()> {
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
    pub(super) fn close_some(&self, taken: &mut Taken, most: usize) -> Result<()> {
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
        if let Err(why) = durable::write(&mut handle, &bytes) {
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

/// Puts what decoding told into the record.
fn note(aside: &mut Aside, part: &Part, decoded: &Decoded, digest: Sha256) {
    aside.record.size = decoded.size;
    aside.record.sha256 = hex(&digest.finalize());
    aside.record.notes = part.notes.clone();
    aside.record.notes.extend(decoded.notes.iter().filter(|note| !part.notes.contains(note)).cloned());
}
