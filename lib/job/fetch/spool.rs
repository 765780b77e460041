//! Where a download goes: every message becomes a file in `tmp/`, and whole ones go on in groups to be made durable.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::rc::Rc;
use std::sync::mpsc::{SyncSender, TrySendError};

use super::descriptors;
use super::group::Whole;
use super::progress::Progress;
use crate::durable;
use crate::error::{Error, Kind};
use crate::mail::uids::Uids;
use crate::net::imap::{Fetched, Sink};
use crate::store::maildir::Maildir;

/// A group this large is handed over as soon as somebody is free to take it; until then it grows to the largest.
const SMALL_GROUP: usize = 16;
const LARGEST_GROUP: usize = 384;
const SMALL_OCTETS: u64 = 4 << 20;
/// What a kill costs at most, twice: one group that grows and one that is being made durable.
const LARGEST_OCTETS: u64 = 32 << 20;

/// What was asked for and what came of it.
pub(super) struct Spool {
    maildir: Maildir,
    source: String,
    uidvalidity: u32,
    asked: Uids,
    got: Uids,
    /// Came with nothing in them; most servers that say so cannot read the message just now.
    empty: BTreeMap<u32, Fetched>,
    /// Messages of more octets than this are not stored.
    most: u64,
    /// Those that came and were too large, with their sizes.
    large: BTreeMap<u32, u64>,
    next: u64,
    open: Option<(String, File, u64)>,
    /// The size of one that passes by without being stored.
    passing: Option<u64>,
    group: Vec<Whole>,
    octets: u64,
    /// Gone once everything has been handed over.
    takers: Option<SyncSender<Vec<Whole>>>,
    progress: Progress,
    /// What kept us from storing, here; the IMAP layer only learns that something went wrong.
    trouble: Option<Error>,
    /// Nobody takes groups any more.
    over: bool,
}

/// The spool as the IMAP layer sees it.
pub(super) struct SpoolSink(pub Rc<RefCell<Spool>>);

impl Spool {
    pub fn new(
        maildir: &Maildir,
        source: &str,
        uidvalidity: u32,
        most: Option<u64>,
        takers: SyncSender<Vec<Whole>>,
        progress: Progress,
    ) -> Spool {
        Spool {
            maildir: maildir.clone(),
            source: source.to_string(),
            uidvalidity,
            asked: Uids::default(),
            got: Uids::default(),
            empty: BTreeMap::new(),
            most: most.unwrap_or(u64::MAX),
            large: BTreeMap::new(),
            next: 0,
            open: None,
            passing: None,
            group: Vec::new(),
            octets: 0,
            takers: Some(takers),
            progress,
            trouble: None,
            over: false,
        }
    }

    /// These are what the server is asked for next.
    pub fn ask(&mut self, uids: &Uids) {
        self.asked.extend(uids);
    }

    /// What came whole, or would have.
    pub fn got(&self) -> &Uids {
        &self.got
    }

    /// What was too large.
    pub fn large(&self) -> &BTreeMap<u32, u64> {
        &self.large
    }

    /// Which of these came empty.
    pub fn empty(&self, uids: &Uids) -> Uids {
        self.empty.keys().copied().filter(|uid| uids.contains(*uid) && !self.got.contains(*uid)).collect()
    }

    /// This one is empty indeed.
    pub fn believe_empty(&mut self, uid: u32) -> io::Result<()> {
        let Some(message) = self.empty.remove(&uid) else { return Ok(()) };
        self.begin(0)?;
        self.keep(message);
        Ok(())
    }

    /// True if going on makes no sense: the disk, or who takes the groups, failed.
    pub fn is_over(&self) -> bool {
        self.over || self.trouble.is_some()
    }

    /// Hands over what is left; gives what went wrong here.
    pub fn finish(&mut self) -> Option<Error> {
        self.drop_open();
        self.hand_over(true);
        self.takers = None;
        self.trouble.take()
    }

    /// The line broke: what came only in part is of no use.
    pub fn drop_open(&mut self) {
        self.passing = None;
        if let Some((tmp, _, _)) = self.open.take() {
            // What cannot be removed is swept next time.
            let _ = self.maildir.discard(&tmp);
        }
    }

    fn begin(&mut self, size: u64) -> io::Result<bool> {
        self.drop_open();
        if self.over {
            return Err(io::Error::other("nobody takes messages any more"));
        }
        if size > self.most {
            self.passing = Some(size);
            return Ok(true);
        }
        let number = self.next;
        self.next += 1;
        let begun = self.maildir.begin(&self.source, number);
        let (tmp, file) = begun.map_err(|why| self.fail("cannot create a file in", why))?;
        self.open = Some((tmp, file, size));
        Ok(true)
    }

    fn end(&mut self, message: Fetched) -> bool {
        if let Some(size) = self.passing.take() {
            self.pass(message.uid, size)
        } else if let Some((_, _, 0)) = self.open {
            self.drop_open();
            self.asked.contains(message.uid) && self.empty.insert(message.uid, message).is_none()
        } else {
            self.keep(message)
        }
    }

    /// It came, and is too large to be kept.
    fn pass(&mut self, uid: u32, size: u64) -> bool {
        let is_new = self.asked.contains(uid) && !self.got.contains(uid);
        if is_new {
            self.got.insert(uid);
            self.large.insert(uid, size);
            self.progress.message();
        }
        is_new
    }

    fn keep(&mut self, message: Fetched) -> bool {
        let Some((tmp, file, size)) = self.open.take() else { return false };
        if !self.asked.contains(message.uid) || self.got.contains(message.uid) {
            // Nobody asked for it: a server that is confused about UIDs, or worse.
            let _ = self.maildir.discard(&tmp);
            return false;
        }
        self.got.insert(message.uid);
        self.progress.message();
        self.octets += size;
        self.group.push(Whole::new(&self.source, self.uidvalidity, &message, tmp, file, size));
        self.hand_over(false);
        true
    }

    /// Groups go when somebody waits for one, or when they are so large that we wait for somebody.
    fn hand_over(&mut self, at_once: bool) {
        let most = descriptors::largest_group(LARGEST_GROUP);
        let large = self.group.len() >= most || self.octets >= LARGEST_OCTETS;
        let small = self.group.len() < SMALL_GROUP.min(most) && self.octets < SMALL_OCTETS;
        if self.group.is_empty() || small && !at_once {
            return;
        }
        let Some(takers) = &self.takers else { return };
        let group = std::mem::take(&mut self.group);
        let sent = match large || at_once {
            true => takers.send(group).map_err(|_| TrySendError::Disconnected(Vec::new())),
            false => takers.try_send(group),
        };
        match sent {
            Ok(()) => self.octets = 0,
            Err(TrySendError::Full(group)) => self.group = group,
            Err(TrySendError::Disconnected(_)) => self.over = true,
        }
    }

    fn fail(&mut self, doing: &str, why: io::Error) -> io::Error {
        let doing = format!("{doing} {}/tmp", self.maildir.dir.path().display());
        self.trouble =
            Some(Error::new(Kind::Io, doing, &why).hint("what was fetched before is kept; run it again"));
        io::Error::other(why.to_string())
    }
}

impl Sink for SpoolSink {
    fn begin(&mut self, size: u64) -> io::Result<bool> {
        self.0.borrow_mut().begin(size)
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        let mut spool = self.0.borrow_mut();
        if spool.passing.is_some() {
            return Ok(());
        }
        let Some((_, file, _)) = &mut spool.open else { return Err(io::Error::other("no message is open")) };
        let written = durable::write(file, octets);
        spool.progress.octets(octets.len());
        written.map_err(|why| spool.fail("cannot write a message into", why))
    }

    fn end(&mut self, message: Fetched) -> io::Result<bool> {
        Ok(self.0.borrow_mut().end(message))
    }

    fn forget(&mut self) {
        self.0.borrow_mut().drop_open();
    }
}
