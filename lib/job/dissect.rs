//! mail-dissect: files out of messages, each durable before it is said, each message finished once.
//!
//! The way of a file: decoded into `OUT/.mailloop/new.N`; the group synced; renamed into OUT, never over another
//! file; OUT synced; the message's line appended to the journal; the record printed. After a crash anywhere the
//! message is simply not in the journal: a rerun finds the bytes that made it under their names (`present`), writes
//! the others, and removes what lay aside.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::durable::{self, Dir};
use crate::error::{Error, Kind, Result, Status};
use crate::mail::decode;
use crate::mail::name::SafeName;
use crate::mail::part::{Limits, Part, Tree};
use crate::mail::sniff;
use crate::mail::summary::Summary;
use crate::record::{self, RecordPath, hex};
use crate::report::{self, Records};
use crate::stop;
use crate::store::journal::{Entry, Journal};
use crate::store::maildir;

mod items;
mod select;

pub use items::{Item, from_arguments, from_input, from_stdin};
use select::Looks;
pub use select::Select;

/// How many files are synced together; each keeps a descriptor open until then.
const GROUP_FILES: usize = 64;
/// How many messages, with or without files, are journalled together.
const GROUP_MESSAGES: usize = 256;
/// How many bytes are written before a sync.
const GROUP_BYTES: u64 = 64 << 20;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the files go; made if it is not there.
    pub out: PathBuf,
    /// Which parts are wanted.
    pub select: Select,
    /// Leave out messages that the journal holds as finished.
    pub pending: bool,
    /// With `pending`: take finished ones too.
    pub again: bool,
    /// False for scratch work: nothing waits for the disk.
    pub sync: bool,
    /// How long to wait for another process at work in `out`.
    pub timeout: Duration,
    /// Where reading a message stops.
    pub limits: Limits,
}

impl Options {
    /// PDFs into `out`, synced.
    pub fn new(out: impl Into<PathBuf>) -> Options {
        Options {
            out: out.into(),
            select: Select::Pdf,
            pending: false,
            again: false,
            sync: true,
            timeout: crate::cli::TIMEOUT,
            limits: Limits::default(),
        }
    }
}

/// Takes each item's messages apart and gives the records of their files, in the order of the items.
///
/// One bad item is a line on stderr, and the status remembers it. An error is trouble with `out` itself. Ends after
/// the group in hand when we are asked to end or the records' reader has gone.
pub fn run(
    options: &Options,
    items: impl IntoIterator<Item = Result<Item>>,
    records: &mut Records<'_>,
) -> Result<Status> {
    let out = Dir::create(&options.out, 0o777)?;
    let journal = Journal::open(&out, options.timeout)?;
    let mut work = Work { options, out, journal, records, group: Group::default(), status: Status::DONE };
    for item in items {
        let done = match item {
            Ok(item) => work.item(item),
            Err(error) => {
                work.fail(&error);
                Ok(())
            }
        };
        if let Err(error) = done {
            // The group in hand comes before what failed.
            work.commit()?;
            return Err(error);
        }
        if work.is_over() {
            break;
        }
    }
    work.commit()?;
    Ok(work.status)
}

struct Work<'a, 'r> {
    options: &'a Options,
    out: Dir,
    journal: Journal,
    records: &'a mut Records<'r>,
    group: Group,
    status: Status,
}

/// Messages that were taken apart and wait to be made durable together.
#[derive(Default)]
struct Group {
    messages: Vec<Taken>,
    files: usize,
    bytes: u64,
}

/// One message that was taken apart.
struct Taken {
    shown: String,
    entry: Entry,
    files: Vec<Aside>,
}

/// One file that was written aside.
struct Aside {
    temporary: String,
    handle: File,
    name: SafeName,
    record: record::File,
}

impl Work<'_, '_> {
    fn is_over(&self) -> bool {
        stop::requested() || self.records.gone()
    }

    fn fail(&mut self, error: &Error) {
        report::trouble(error);
        self.status.add(error.kind());
    }

    fn item(&mut self, item: Item) -> Result<()> {
        match item {
            Item::Pause => {
                self.commit()?;
                // Others may work here while we wait for input.
                self.journal.release();
                return Ok(());
            }
            Item::Bytes(bytes) => {
                self.journal.lock(self.options.timeout)?;
                self.message(None, record::Message::fresh(), &bytes)?;
            }
            Item::Record(record) => match record.path.get().map(Path::to_path_buf) {
                Some(path) => self.path(&path, *record)?,
                None => return Ok(()),
            },
            Item::Path(path) if path.is_dir() => match items::in_maildirs(&path) {
                Ok(messages) => {
                    for message in messages {
                        if self.is_over() {
                            break;
                        }
                        self.path(&message, record::Message::fresh())?;
                    }
                }
                Err(error) => self.fail(&error),
            },
            Item::Path(path) => self.path(&path, record::Message::fresh())?,
        }
        Ok(())
    }

    /// One message file; where it left `new/` meanwhile it is found in `cur/`.
    fn path(&mut self, path: &Path, record: record::Message) -> Result<()> {
        self.journal.lock(self.options.timeout)?;
        let key = maildir_key(path);
        if key.as_ref().is_some_and(|key| self.is_finished(key)) {
            return Ok(());
        }
        let found = maildir::locate(path);
        let path = found.as_deref().unwrap_or(path);
        match read_message(path) {
            Ok(bytes) => {
                let record = record::Message { path: RecordPath::from(path), ..record };
                self.message(key, record, &bytes)?;
            }
            Err(error) => self.fail(&error),
        }
        if self.group.is_full() { self.commit() } else { Ok(()) }
    }

    fn is_finished(&self, key: &str) -> bool {
        self.options.pending && !self.options.again && self.journal.has(key)
    }

    /// Takes one message apart and puts it into the group; trouble with it is told here. An error is trouble with
    /// the disk, which ends the run: whatever came after would get the names of what failed.
    fn message(&mut self, key: Option<String>, record: record::Message, bytes: &[u8]) -> Result<()> {
        let sha256 = hex(&Sha256::digest(bytes));
        let key = key.unwrap_or_else(|| sha256.clone());
        if self.is_finished(&key) {
            return Ok(());
        }
        let shown = record.path.get().map_or("standard input".to_string(), |path| path.display().to_string());
        let mut taken =
            Taken { shown, entry: Entry::new(key, describe(record, sha256, bytes)), files: Vec::new() };
        match self.take_apart(&mut taken, bytes) {
            Ok(()) => {
                self.group.files += taken.files.len();
                self.group.bytes += taken.files.iter().map(|file| file.record.size).sum::<u64>();
                self.group.messages.push(taken);
                Ok(())
            }
            Err(error) => self.give_up(&taken, error),
        }
    }

    fn give_up(&mut self, taken: &Taken, error: Error) -> Result<()> {
        self.discard(taken);
        let error = error.context(&taken.shown);
        if error.kind() == Kind::Io {
            return Err(error);
        }
        self.fail(&error);
        Ok(())
    }

    fn take_apart(&mut self, taken: &mut Taken, bytes: &[u8]) -> Result<()> {
        let tree = Tree::parse(bytes, &self.options.limits);
        for part in &tree.parts {
            let head = decode::decode_head(&part.encoding, tree.body(part), sniff::HEAD);
            let looks = Looks::of(&tree, part, &head);
            if !self.options.select.takes(&tree, part, &looks) {
                if select::claims_pdf(&tree, part) && !looks.is_pdf() {
                    report::say(format_args!(
                        "{}: part {} is called a PDF and is none; --all takes it",
                        taken.shown, part.number
                    ));
                }
                continue;
            }
            let aside = self.write_aside(&tree, part, looks)?;
            if aside.record.size == 0 && !tree.body(part).trim_ascii().is_empty() {
                let _ = self.journal.discard(&aside.temporary);
                taken.damage(format!("part {} cannot be decoded", part.number));
                continue;
            }
            taken.files.push(aside);
        }
        if let Some(cut) = &tree.cut {
            taken.damage(format!("{cut}; what lies beyond was not saved"));
        }
        if let Some(trouble) = &taken.entry.trouble {
            self.fail(&Error::new(Kind::Data, format!("cannot save all of {}", taken.shown), trouble));
        }
        Ok(())
    }

    /// Decodes a part into a file beside, chunk by chunk.
    fn write_aside(&mut self, tree: &Tree, part: &Part, looks: Looks) -> Result<Aside> {
        let (temporary, handle) = self.journal.begin()?;
        let mut sink = Sink { file: &handle, digest: Sha256::new() };
        let decoded = match decode::decode(&part.encoding, tree.body(part), &mut sink) {
            Ok(decoded) => decoded,
            Err(why) => {
                let _ = self.journal.discard(&temporary);
                return Err(Error::writing(self.journal.place().at(&temporary), why));
            }
        };
        let sent = tree.name(part);
        let extension = sniff::extension(looks.kind, &part.said);
        let name = SafeName::new(sent.as_ref().map(|sent| sent.path.as_str()), extension);
        let mut notes = part.notes.clone();
        notes.extend(decoded.notes.into_iter().filter(|note| !part.notes.contains(note)));
        let record = record::File {
            name: sent.map(|sent| sent.text),
            media_type: Some(looks.media_type),
            said: Some(part.said.clone()),
            part: Some(part.number.clone()),
            size: decoded.size,
            sha256: hex(&sink.digest.finalize()),
            notes,
            ..record::File::fresh()
        };
        Ok(Aside { temporary, handle, name, record })
    }

    fn discard(&self, taken: &Taken) {
        for file in &taken.files {
            // What stays is removed by the next run.
            let _ = self.journal.discard(&file.temporary);
        }
    }

    /// Makes the group durable: contents, names, journal; then says so.
    fn commit(&mut self) -> Result<()> {
        let group = std::mem::take(&mut self.group);
        if group.messages.is_empty() {
            return self.records.flush();
        }
        if self.options.sync {
            let handles: Vec<&File> =
                group.messages.iter().flat_map(|taken| taken.files.iter().map(|file| &file.handle)).collect();
            if !handles.is_empty() {
                durable::sync_many(&handles).map_err(|why| Error::writing(self.out.path(), why))?;
            }
        }
        let mut finished = Vec::with_capacity(group.messages.len());
        let mut broken = Ok(());
        for taken in group.messages {
            if broken.is_err() {
                self.discard(&taken);
                continue;
            }
            match self.settle(&taken) {
                Ok(files) => finished.push((taken.entry, files)),
                Err(error) => broken = self.give_up(&taken, error),
            }
        }
        if self.options.sync && group.files > 0 {
            self.out.sync()?;
        }
        let entries: Vec<Entry> = finished.iter().map(|(entry, files)| for_journal(entry, files)).collect();
        self.journal.append(&entries)?;
        for (entry, files) in finished {
            self.tell(entry, files)?;
        }
        self.records.flush()?;
        broken
    }

    /// Gives the files of a message their names.
    fn settle(&self, taken: &Taken) -> Result<Vec<record::File>> {
        taken.files.iter().map(|file| self.rename(file)).collect()
    }

    /// The name itself, or the same bytes under it already, or the name with ever more of the digest.
    fn rename(&self, file: &Aside) -> Result<record::File> {
        let sha256 = &file.record.sha256;
        let longer = [8, 16, 64].map(|digits| file.name.with_digest(&sha256[..digits]));
        for name in std::iter::once(&file.name).chain(&longer) {
            let state = match self.journal.place().rename_new(&file.temporary, &self.out, name) {
                Ok(()) => "written",
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {
                    if !self.holds(name, &file.record) {
                        continue;
                    }
                    let gone = self.journal.discard(&file.temporary);
                    gone.map_err(|why| Error::writing(self.journal.place().at(&file.temporary), why))?;
                    "present"
                }
                Err(why) => return Err(Error::creating(self.out.at(name), why)),
            };
            let path = RecordPath(Some(PathBuf::from(name.as_str())));
            return Ok(record::File { state: state.into(), path, ..file.record.clone() });
        }
        let path = self.out.at(&file.name);
        Err(Error::new(
            Kind::CannotCreate,
            format!("cannot create {}", path.display()),
            "every name for it is taken",
        ))
    }

    /// True if a regular file of that name has these bytes; never looks through a link.
    fn holds(&self, name: &SafeName, record: &record::File) -> bool {
        let Ok(mut file) = self.out.open_file(name) else { return false };
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

    fn tell(&mut self, entry: Entry, files: Vec<record::File>) -> Result<()> {
        for mut file in files {
            let path = file.path.get().map(|name| self.out.at(name)).unwrap_or_default();
            if self.records.is_json() {
                file.path = RecordPath::from(path.as_path());
                file.message = Some(entry.message.clone());
                self.records.json(&file)?;
            } else if file.state == "written" {
                if let Err(error) = self.records.path(&path) {
                    self.fail(&error);
                }
            } else {
                report::detail(format_args!("{} is there already", path.display()));
            }
        }
        Ok(())
    }
}

impl Group {
    fn is_full(&self) -> bool {
        self.files >= GROUP_FILES || self.bytes >= GROUP_BYTES || self.messages.len() >= GROUP_MESSAGES
    }
}

impl Taken {
    /// Something that was selected cannot be saved, now or later.
    fn damage(&mut self, why: String) {
        match &mut self.entry.trouble {
            Some(trouble) => *trouble = format!("{trouble}; {why}"),
            None => self.entry.trouble = Some(why),
        }
    }
}

/// A file that is hashed while it is written.
struct Sink<'a> {
    file: &'a File,
    digest: Sha256,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The unique name of a message that lies in a Maildir: it stays when a reader moves the file.
fn maildir_key(path: &Path) -> Option<String> {
    let place = path.parent()?;
    let is_place = matches!(place.file_name()?.to_str()?, "new" | "cur");
    let name = path.file_name()?.to_str()?;
    (is_place && maildir::is_maildir(place.parent()?)).then(|| maildir::unique(name).to_string())
}

fn read_message(path: &Path) -> Result<Vec<u8>> {
    let failed = |why| Error::reading(path, why);
    let meta = fs::metadata(path).map_err(failed)?;
    if !meta.is_file() {
        return Err(Error::new(
            Kind::NoInput,
            format!("cannot read {}", path.display()),
            "not a regular file",
        ));
    }
    fs::read(path).map_err(failed)
}

/// The message's record: what was handed over, and what its bytes say, which wins.
fn describe(record: record::Message, sha256: String, bytes: &[u8]) -> record::Message {
    let Summary { message_id, from, to, subject, date } = Summary::of(bytes);
    let state = if record.state.is_empty() { "delivered".to_string() } else { record.state };
    let (sha256, size) = (Some(sha256), Some(bytes.len() as u64));
    record::Message { state, sha256, size, message_id, from, to, subject, date, ..record }
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
