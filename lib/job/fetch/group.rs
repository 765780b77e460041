//! A commit group: messages that become durable together and are told together.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::known::Known;
use crate::durable;
use crate::error::{Error, Kind, Result, Status};
use crate::job::message;
use crate::mail::uids::Uids;
use crate::net::imap::{Fetched, Imap, Sink};
use crate::report::{self, Records};
use crate::store::cursor::{Cursor, Pending};
use crate::store::maildir::{Maildir, Name};

/// Where one mailbox's messages go, and how far it was read.
pub(super) struct Group {
    pub maildir: Maildir,
    pub source: String,
    pub cursor: Cursor,
    spool: Rc<RefCell<Spool>>,
}

/// Files in `tmp/` by the number that the IMAP layer knows them by.
struct Spool {
    maildir: Maildir,
    source: String,
    next: u64,
    open: Option<File>,
    whole: HashMap<u64, Spooled>,
    trouble: Option<Error>,
}

struct Spooled {
    tmp: String,
    file: File,
    size: u64,
}

/// What a download brought.
pub(super) struct Filled {
    /// What the server said of each message.
    pub fetched: Vec<Fetched>,
    /// Those that came whole.
    pub whole: Vec<Whole>,
    /// What ended it early; the connection is spent then.
    pub trouble: Option<Error>,
}

impl Filled {
    /// How much came.
    pub fn octets(&self) -> u64 {
        self.whole.iter().map(|one| one.size).sum()
    }
}

/// A message that is whole in `tmp/` and knows its name.
pub(super) struct Whole {
    pending: Pending,
    file: File,
    size: u64,
    received: Option<i64>,
}

impl Group {
    pub fn new(maildir: Maildir, source: String, cursor: Cursor) -> Group {
        let spool = Spool {
            maildir: maildir.clone(),
            source: source.clone(),
            next: 0,
            open: None,
            whole: HashMap::new(),
            trouble: None,
        };
        Group { maildir, source, cursor, spool: Rc::new(RefCell::new(spool)) }
    }

    /// Finishes what a process that died had announced, and tells it; removes its orphans.
    pub fn recover(&mut self, records: &mut Records) -> Result<()> {
        let pending = self.cursor.pending().to_vec();
        if !pending.is_empty() {
            report::detail(format_args!("finishing the delivery of {} messages", pending.len()));
            self.rename_and_tell(&pending, records)?;
        }
        self.maildir.sweep(&self.source)
    }

    /// Downloads these messages into `tmp/`. What came whole is given back also when trouble ended the download.
    pub fn fill(&mut self, imap: &mut Imap, uids: &Uids, uidvalidity: u32) -> Filled {
        let sink = Box::new(SpoolSink(self.spool.clone()));
        let (fetched, trouble) = match imap.download(uids, sink) {
            Ok(fetched) => (fetched, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let mut spool = self.spool.borrow_mut();
        let whole = fetched.iter().filter_map(|one| spool.name(one, uidvalidity)).collect();
        let trouble = spool.trouble.take().or(trouble);
        spool.clear();
        Filled { fetched, whole, trouble }
    }

    /// Says which messages the server announced but did not give; they are asked for again next time.
    pub fn complain(&self, fetched: &[Fetched], account: &str, mailbox: &str) -> Status {
        let mut status = Status::DONE;
        for one in fetched.iter().filter(|one| one.number.is_none()) {
            report::trouble(format_args!(
                "{account}: message UID {} of {mailbox:?} skipped: the server gave no body; it is asked for again next time",
                one.uid
            ));
            status.add(Kind::Protocol);
        }
        status
    }

    /// Makes the messages durable under their names, then marks them and `gone` as taken, then tells them.
    pub fn commit(
        &mut self,
        whole: &[Whole],
        gone: Uids,
        known: &mut Known,
        records: &mut Records,
    ) -> Result<()> {
        let (mut taken, mut matched, mut new) = (gone, Vec::new(), Vec::new());
        for one in whole {
            match known.has(&one.pending.name, &one.file, &mut matched)? {
                true => taken.insert(one.pending.uid),
                false => new.push(one),
            }
        }
        // What lies here already is taken first: its file in `tmp/` is an orphan from then on, swept or not.
        if !taken.is_empty() {
            self.cursor.take(&taken, matched)?;
        }
        for one in whole.iter().filter(|one| taken.contains(one.pending.uid)) {
            self.maildir
                .discard(&one.pending.tmp)
                .map_err(|why| Error::writing(self.maildir.dir.path(), why))?;
        }
        if new.is_empty() {
            return Ok(());
        }
        let failed = |why| Error::writing(self.maildir.dir.path(), why);
        for one in &new {
            one.stamp().map_err(failed)?;
        }
        durable::sync_many(&new.iter().map(|one| &one.file).collect::<Vec<_>>()).map_err(failed)?;
        let pending: Vec<Pending> = new.iter().map(|one| one.pending.clone()).collect();
        self.cursor.announce(pending.clone())?;
        self.rename_and_tell(&pending, records)
    }

    fn rename_and_tell(&mut self, pending: &[Pending], records: &mut Records) -> Result<()> {
        let mut taken = Uids::default();
        for one in pending {
            self.maildir.deliver(&one.tmp, &one.name, &one.flags)?;
            taken.insert(one.uid);
        }
        self.maildir.sync(pending.iter().any(|one| !one.flags.is_empty()))?;
        self.cursor.take(&taken, Vec::new())?;
        for one in pending {
            self.tell(one, records)?;
        }
        records.flush()
    }

    fn tell(&self, one: &Pending, records: &mut Records) -> Result<()> {
        let path = self.maildir.path_of(&one.name, &one.flags);
        // A reader may have moved it on since; then its new place is told.
        let path = if path.exists() { Some(path) } else { self.maildir.find(&one.name) };
        let Some(path) = path else { return Ok(()) };
        match records.is_json() {
            true => records.json(&message::record_of_file(&path)?),
            false => records.path(&path),
        }
    }
}

impl Whole {
    /// The file's modification time becomes the time when the server received the message.
    fn stamp(&self) -> io::Result<()> {
        let Some(seconds) = self.received.and_then(|seconds| u64::try_from(seconds).ok()) else {
            return Ok(());
        };
        self.file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }
}

impl Spool {
    /// Joins what the server said about a message with its file.
    fn name(&mut self, one: &Fetched, uidvalidity: u32) -> Option<Whole> {
        let Spooled { tmp, file, size } = self.whole.remove(&one.number?)?;
        let seconds = one.received.unwrap_or(0);
        let name = Name { seconds, uidvalidity, uid: one.uid, source: self.source.clone(), size }.to_string();
        let pending = Pending { uid: one.uid, tmp, name, flags: one.flags.clone() };
        Some(Whole { pending, file, size, received: one.received })
    }

    /// Removes what nobody claimed; what cannot be removed is swept next time.
    fn clear(&mut self) {
        self.open = None;
        for (_, spooled) in self.whole.drain() {
            let _ = self.maildir.discard(&spooled.tmp);
        }
    }
}

/// The sink of a download: every message becomes a file in `tmp/`.
struct SpoolSink(Rc<RefCell<Spool>>);

impl Sink for SpoolSink {
    fn begin(&mut self, size: u64) -> io::Result<u64> {
        let mut spool = self.0.borrow_mut();
        let number = spool.next;
        spool.next += 1;
        let begun = spool.maildir.begin(&spool.source, number);
        let (tmp, file) = begun.map_err(|why| spool.fail("cannot create a file in", why))?;
        let written = file.try_clone().map_err(|why| spool.fail("cannot create a file in", why))?;
        spool.open = Some(written);
        spool.whole.insert(number, Spooled { tmp, file, size });
        Ok(number)
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        let mut spool = self.0.borrow_mut();
        let Some(mut file) = spool.open.as_ref() else { return Err(io::Error::other("no message is open")) };
        let written = file.write_all(octets);
        written.map_err(|why| spool.fail("cannot write a message into", why))
    }

    fn end(&mut self) -> io::Result<()> {
        self.0.borrow_mut().open = None;
        Ok(())
    }
}

impl Spool {
    /// Keeps the true cause: the IMAP layer only learns that something went wrong.
    fn fail(&mut self, doing: &str, why: io::Error) -> io::Error {
        let doing = format!("{doing} {}/tmp", self.maildir.dir.path().display());
        self.trouble =
            Some(Error::new(Kind::Io, doing, &why).hint("what was fetched before is kept; run it again"));
        io::Error::other(why.to_string())
    }
}
