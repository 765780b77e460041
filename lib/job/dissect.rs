//! mail-dissect: files out of messages, each durable before it is said, each message finished once.
//!
//! The way of a file: decoded into `OUT/.mailloop/new.N`; the group synced; renamed into OUT, never over another
//! file; OUT synced; the message's line appended to the journal; the record printed. After a crash anywhere the
//! message is simply not in the journal: a rerun finds the bytes that made it under their names (`present`), writes
//! the others, and removes what lay aside.

use std::path::PathBuf;
use std::time::Duration;

use crate::durable::Dir;
use crate::error::{Error, Kind, Result, Status};
use crate::mail::part::Limits;
use crate::record::{self, RecordPath};
use crate::report::{self, Records};
use crate::stop;
use crate::store::journal::{Entry, Journal};

pub(super) mod bytes;
mod items;
mod list;
mod messages;
mod place;
mod pool;
mod save;
mod select;
mod sink;
mod take;

pub use items::{Item, from_arguments, from_input, from_stdin};
pub use list::{View, list, print};
pub use place::By;
use place::{Group, is_held};
use pool::{Done, Pool};
use select::Numbers;
pub use select::Select;
use take::{Taker, Trouble};

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the files go; made if it is not there.
    pub out: PathBuf,
    /// Which parts are wanted.
    pub select: Select,
    /// Lay files into subdirectories.
    pub by: Option<By>,
    /// Leave out messages that the journal holds as finished.
    pub pending: bool,
    /// With `pending`: take finished ones too.
    pub again: bool,
    /// False for scratch work: nothing waits for the disk.
    pub sync: bool,
    /// Take every repair for damage.
    pub strict: bool,
    /// A part that is longer is not saved.
    pub max_size: Option<u64>,
    /// How many messages are taken apart side by side; 0 for as many as there are processors.
    pub jobs: usize,
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
            select: Select::default(),
            by: None,
            pending: false,
            again: false,
            sync: true,
            strict: false,
            max_size: None,
            jobs: 0,
            timeout: crate::cli::TIMEOUT,
            limits: Limits::default(),
        }
    }

    /// How many threads that makes.
    fn threads(&self) -> usize {
        match self.jobs {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            jobs => jobs,
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
    keep(options, items, records, &mut |_| {})
}

/// As [`run`], for items that go on for long: at each [`Item::Pause`], once everything before it is done, the status of
/// what came since the last one is told.
pub fn keep(
    options: &Options,
    items: impl IntoIterator<Item = Result<Item>>,
    records: &mut Records<'_>,
    told: &mut dyn FnMut(Status),
) -> Result<Status> {
    let mut all = Status::DONE;
    let out = Dir::create(&options.out, 0o777)?;
    let journal = Journal::open(&out, options.timeout, options.sync)?;
    let taker = Taker { options, out: out.clone(), desk: journal.desk().clone() };
    std::thread::scope(|scope| {
        let pool = Pool::new(scope, &taker);
        let (group, numbers) = (Group::default(), Numbers::new(&options.select));
        let mut work = Work { options, out, journal, records, pool, group, numbers, status: Status::DONE };
        let ended = work.all(items, &mut |since| {
            all.merge(since);
            told(since);
        });
        // The group in hand comes before what failed.
        let committed = work.commit();
        if let Err(error) = ended.and(committed) {
            work.discard(&error);
            return Err(error);
        }
        if !work.is_over()
            && let Some(error) = work.numbers.error()
        {
            work.fail(&error);
        }
        all.merge(work.status);
        Ok(all)
    })
}

struct Work<'a, 'r, 'scope, 'env> {
    options: &'a Options,
    out: Dir,
    journal: Journal,
    records: &'a mut Records<'r>,
    pool: Pool<'scope, 'env>,
    group: Group,
    numbers: Numbers,
    status: Status,
}

impl Work<'_, '_, '_, '_> {
    fn is_over(&self) -> bool {
        stop::requested() || self.records.gone()
    }

    fn fail(&mut self, error: &Error) {
        report::trouble(error);
        self.status.add(error.kind());
    }

    /// Works through the items; at each pause `told` gets the status of what came since the last one.
    fn all(
        &mut self,
        items: impl IntoIterator<Item = Result<Item>>,
        told: &mut dyn FnMut(Status),
    ) -> Result<()> {
        for item in items {
            let is_pause = matches!(item, Ok(Item::Pause));
            self.item(item)?;
            if is_pause {
                told(std::mem::take(&mut self.status));
            }
            if self.is_over() {
                break;
            }
        }
        self.collect(true)
    }

    fn item(&mut self, item: Result<Item>) -> Result<()> {
        match item {
            Ok(Item::Pause) => {
                self.collect(true)?;
                self.commit()?;
                // Others may work here while we wait for input.
                self.journal.release();
                Ok(())
            }
            Ok(item) => messages::messages(item, &mut |job| {
                match job {
                    Ok(job) => {
                        self.journal.lock(self.options.timeout)?;
                        self.pool.submit(job);
                        self.collect(false)?;
                    }
                    Err(error) => self.in_order(&error)?,
                }
                Ok(!self.is_over())
            }),
            Err(error) => self.in_order(&error),
        }
    }

    /// Tells of an item that is none, after those before it.
    fn in_order(&mut self, error: &Error) -> Result<()> {
        self.collect(true)?;
        self.fail(error);
        Ok(())
    }

    /// Takes in the messages that are done; with `wait`, all that are on the way.
    fn collect(&mut self, wait: bool) -> Result<()> {
        while let Some(done) = self.pool.next(wait) {
            self.done(done)?;
        }
        Ok(())
    }

    /// Puts one message into the group; trouble with it is told here. An error is trouble with the disk, which ends the
    /// run: whatever came after would get the names of what failed.
    fn done(&mut self, (shown, taken): Done) -> Result<()> {
        let taken = match taken {
            Ok(Some(taken)) => taken,
            Ok(None) => {
                self.numbers.pass();
                return Ok(());
            }
            Err(Trouble::Disk(error)) => return Err(error),
            Err(Trouble::Message(error)) => {
                self.numbers.pass();
                self.fail(&error);
                return Ok(());
            }
        };
        self.numbers.read(&taken.numbers);
        for line in &taken.says {
            report::say(line);
        }
        for note in &taken.entry.notes {
            report::detail(format_args!("{shown}: {note}"));
        }
        if let Some(trouble) = &taken.entry.trouble {
            self.fail(&Error::new(Kind::Data, format!("cannot save all of {shown}"), trouble));
        }
        self.group.push(taken);
        if self.group.is_full() { self.commit() } else { Ok(()) }
    }

    /// Lets go of what is on the way, and says of each message what is not saved of it.
    fn discard(&mut self, why: &Error) {
        while let Some((_, done)) = self.pool.next(true) {
            match done {
                Ok(Some(taken)) => {
                    if let Some(error) = taken.lost(why) {
                        self.fail(&error);
                    }
                    taken.discard(self.journal.desk());
                }
                Ok(None) => {}
                Err(Trouble::Disk(error) | Trouble::Message(error)) => self.fail(&error),
            }
        }
    }

    /// Makes the group durable, then says so.
    fn commit(&mut self) -> Result<()> {
        let group = std::mem::take(&mut self.group);
        if group.messages.is_empty() {
            return self.records.flush();
        }
        let status = &mut self.status;
        let (finished, broken) =
            group.commit(&self.out, &mut self.journal, self.options.sync, &mut |error| {
                report::trouble(error);
                status.add(error.kind());
            });
        for (entry, files) in finished {
            self.tell(entry, files)?;
        }
        self.records.flush()?;
        broken
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
