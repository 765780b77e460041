//! Where files go and what they are called there: the group of messages that is made durable together.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::take::{Aside, State, Taken};
use crate::durable::{self, Dir, NotAppended};
use crate::error::{Error, Kind, Result};
use crate::mail::name::SafeName;
use crate::record::{self, RecordPath, hex};
use crate::store::journal::{Desk, Entry, Journal};

/// How many files are synced together; each keeps a descriptor open until then.
const GROUP_FILES: usize = 64;
/// How many messages, with or without files, are journalled together.
const GROUP_MESSAGES: usize = 256;
/// How many bytes are written before a sync.
const GROUP_BYTES: u64 = 64 << 20;

/// What files are laid into subdirectories by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The address in From.
    Sender,
    /// The day of the Date field, as the sender's clock had it.
    Date,
    /// The message: its Message-ID, else its digest.
    Message,
}

impl By {
    /// The subdirectory for files of a message.
    pub(super) fn name(self, message: &record::Message) -> SafeName {
        let digest = message.sha256.as_deref().and_then(|sha256| sha256.get(..16));
        let text = match self {
            By::Sender => message.from.first().map_or("unknown", |from| from.as_str()),
            By::Date => message.date.as_deref().and_then(|date| date.get(..10)).unwrap_or("undated"),
            By::Message => message.message_id.as_deref().or(digest).unwrap_or("message"),
        };
        // A separator here is part of a name; SafeName would take what stands after it.
        SafeName::new(Some(&text.replace(['/', '\\', '<', '>'], " ")), None)
    }
}

/// Messages that were taken apart and wait to be made durable together.
#[derive(Default)]
pub(super) struct Group {
    pub messages: Vec<Taken>,
    files: usize,
    bytes: u64,
}

impl Group {
    pub fn push(&mut self, taken: Taken) {
        self.files += taken.files.len();
        self.bytes += taken.files.iter().map(|file| file.record.size).sum::<u64>();
        self.messages.push(taken);
    }

    pub fn is_full(&self) -> bool {
        self.files >= GROUP_FILES || self.bytes >= GROUP_BYTES || self.messages.len() >= GROUP_MESSAGES
    }

    /// Makes the group durable: contents, names, journal. Gives what is finished; the error is what ended it early.
    pub fn commit(
        self,
        out: &Dir,
        journal: &mut Journal,
        sync: bool,
        failed: &mut dyn FnMut(&Error),
    ) -> (Vec<(Entry, Vec<record::File>)>, Result<()>) {
        let desk = journal.desk().clone();
        if sync && let Err(error) = self.sync_contents(out) {
            for taken in &self.messages {
                taken.discard(&desk);
                taken.lost(&error).iter().for_each(&mut *failed);
            }
            return (Vec::new(), Err(error));
        }
        let mut finished: Vec<(Taken, Vec<record::File>)> = Vec::with_capacity(self.messages.len());
        let mut dirs: Vec<Dir> = Vec::new();
        let mut placed: Vec<(Dir, SafeName)> = Vec::new();
        let mut broken = Ok(());
        for taken in self.messages {
            if let Err(error) = &broken {
                taken.discard(&desk);
                taken.lost(error).iter().for_each(&mut *failed);
                continue;
            }
            let before = placed.len();
            match settle(&taken, &desk, &mut placed) {
                Ok(files) => {
                    for file in &taken.files {
                        if !dirs.iter().any(|dir| dir.path() == file.dir.path()) {
                            dirs.push(file.dir.clone());
                        }
                    }
                    finished.push((taken, files));
                }
                Err(error) => {
                    taken.discard(&desk);
                    take_back(placed.split_off(before));
                    let error = taken.given_up(error);
                    match error.kind() {
                        // Whatever came after would get the names of what failed.
                        Kind::Io => broken = Err(error),
                        _ => failed(&error),
                    }
                }
            }
        }
        let durable = if sync { dirs.iter().try_for_each(Dir::sync) } else { Ok(()) };
        let entries: Vec<Entry> =
            finished.iter().map(|(taken, files)| for_journal(&taken.entry, files)).collect();
        let is_new = |at: usize| finished[at].1.iter().any(|file| file.state == "written");
        let durable = durable.map_err(NotAppended::from);
        if let Err(trouble) = durable.and_then(|()| journal.append(&entries, &is_new)) {
            let NotAppended { why: error, is_undone } = trouble;
            // A journal that may yet say that the messages are finished must not do so without their files.
            if is_undone {
                take_back(placed);
            }
            finished.iter().filter_map(|(taken, _)| taken.lost(&error)).for_each(|lost| failed(&lost));
            return (Vec::new(), Err(error));
        }
        (finished.into_iter().map(|(taken, files)| (taken.entry, files)).collect(), broken)
    }

    fn sync_contents(&self, out: &Dir) -> Result<()> {
        let files = self.messages.iter().flat_map(|taken| &taken.files);
        let handles: Vec<&File> = files
            .filter_map(|file| match &file.state {
                State::Aside(_, handle) => handle.as_ref(),
                State::Present(_) | State::Same(_) => None,
            })
            .collect();
        match handles.is_empty() {
            true => Ok(()),
            false => durable::sync_many(&handles).map_err(|why| Error::writing(out.path(), why)),
        }
    }
}

/// Removes files whose journal line could not be written: nobody is told of them now, and the next run would find them
/// `present` and not tell of them either. What can't be removed stays, and the next run's journal names it.
fn take_back(placed: Vec<(Dir, SafeName)>) {
    for (dir, name) in placed {
        let _ = dir.remove(name.as_str());
    }
}

/// Gives the files of a message their names, and notes in `placed` which of them are new.
fn settle(taken: &Taken, desk: &Desk, placed: &mut Vec<(Dir, SafeName)>) -> Result<Vec<record::File>> {
    let mut files: Vec<record::File> = Vec::with_capacity(taken.files.len());
    for file in &taken.files {
        let settled = match &file.state {
            State::Same(at) => {
                let path = files.get(*at).map(|first| first.path.clone()).unwrap_or_default();
                record::File { state: "present".into(), path, ..file.record.clone() }
            }
            State::Present(name) => named(file, name, "present"),
            State::Aside(temporary, _) => rename(file, temporary, desk, placed).map_err(|error| {
                error.context(format_args!("part {}", file.record.part.as_deref().unwrap_or_default()))
            })?,
        };
        files.push(settled);
    }
    Ok(files)
}

/// The name itself, or the same bytes under it already, or the name with ever more of the digest.
fn rename(
    file: &Aside,
    temporary: &str,
    desk: &Desk,
    placed: &mut Vec<(Dir, SafeName)>,
) -> Result<record::File> {
    let longer = file.longer_names();
    for name in std::iter::once(&file.name).chain(&longer) {
        match desk.place().rename_new(temporary, &file.dir, name) {
            Ok(()) => {
                placed.push((file.dir.clone(), name.clone()));
                return Ok(named(file, name, "written"));
            }
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {
                if is_held(&file.dir, name, &file.record) {
                    let gone = desk.discard(temporary);
                    gone.map_err(|why| Error::writing(desk.place().at(temporary), why))?;
                    return Ok(named(file, name, "present"));
                }
            }
            Err(why) => return Err(Error::creating(file.dir.at(name), why)),
        }
    }
    let doing = format!("cannot create {}", file.dir.at(&file.name).display());
    Err(Error::new(Kind::CannotCreate, doing, "every name for it is taken"))
}

/// The record under a name, which is relative to the output directory.
fn named(file: &Aside, name: &SafeName, state: &str) -> record::File {
    let path = match &file.sub {
        Some(sub) => PathBuf::from(sub.as_str()).join(name.as_str()),
        None => PathBuf::from(name.as_str()),
    };
    record::File { state: state.into(), path: RecordPath(Some(path)), ..file.record.clone() }
}

/// True if a regular file of that name has these bytes; never looks through a link.
pub(super) fn is_held(dir: &Dir, name: &SafeName, record: &record::File) -> bool {
    let Ok(mut file) = dir.open_file(name) else { return false };
    if !file.metadata().is_ok_and(|meta| meta.len() == record.size) {
        return false;
    }
    let mut digest = Sha256::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return hex(&digest.finalize()) == record.sha256,
            Ok(read) => digest.update(&chunk[..read]),
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

/// The journal's form: the same whether files were written now or lay there, since a crash may lie between.
fn for_journal(entry: &Entry, files: &[record::File]) -> Entry {
    let mut entry = entry.clone();
    if let Some(path) = entry.message.path.get()
        && let Ok(whole) = std::path::absolute(path)
    {
        entry.message.path = RecordPath(Some(whole));
    }
    let plain = |file: &record::File| record::File { state: "present".into(), ..file.clone() };
    entry.files = files.iter().map(plain).collect();
    entry
}
