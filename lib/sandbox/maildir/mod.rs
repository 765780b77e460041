//! One mailbox: a Maildir, the UIDs of its messages, and whoever waits for it to change.
//!
//! A message lies in `new/` until an IMAP session has it selected, then in `cur/` with its flags in the name. Names
//! given here hold UIDVALIDITY and UID (`TIME.V…U….sandbox,S=SIZE`), so the rename that stores a message commits its
//! UID too; other names get theirs through `uidlist`. The date of a file is the message's INTERNALDATE. What other
//! programs put in, rename or remove is found by a scan when the directories' dates have changed.

mod change;
mod flags;
mod incoming;
mod scan;
mod strangers;
mod uidlist;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub use flags::Flags;
pub use incoming::Incoming;
use scan::Stamp;
use uidlist::UidList;

use super::wire::Waker;

/// One message as it is known now.
#[derive(Clone, Debug)]
pub struct Message {
    pub uid: u32,
    pub flags: Flags,
    pub keywords: Vec<String>,
    /// In bytes.
    pub size: u64,
    /// The mailbox version at which its flags last changed.
    pub changed: u64,
    base: String,
    /// What stands after the colon of its name, as found; `None` in `new/`.
    info: Option<String>,
}

/// A file that is to become a message here: linked, or moved if it is no longer wanted where it is.
#[derive(Clone, Debug)]
pub struct NewMessage {
    pub path: PathBuf,
    pub size: u64,
    pub flags: Flags,
    pub keywords: Vec<String>,
}

/// One mailbox, shared by all sessions.
#[derive(Debug)]
pub struct Mailbox {
    dir: PathBuf,
    uidvalidity: u32,
    state: Mutex<State>,
    watchers: Mutex<Vec<Weak<Waker>>>,
}

#[derive(Debug)]
struct State {
    uidnext: u32,
    messages: Vec<Message>,
    version: u64,
    retired: bool,
    stamp: Stamp,
    /// When we last dated a change of our own: a stranger's that came while it was made has the same date.
    doubt: Option<Instant>,
    list: UidList,
}

/// The numbers that STATUS and SELECT tell.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    pub messages: usize,
    pub recent: usize,
    pub unseen: usize,
    pub deleted: usize,
    pub uidnext: u32,
    pub uidvalidity: u32,
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

impl Mailbox {
    /// Opens the Maildir, making what is missing; `validity` is asked only if it has no UIDs yet.
    pub fn open(dir: PathBuf, validity: impl FnOnce() -> u32) -> io::Result<Mailbox> {
        for sub in ["tmp", "new", "cur"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        incoming::sweep(&dir.join("tmp"))?;
        let listed = uidlist::read(&dir)?;
        let uidvalidity = listed.as_ref().map_or_else(validity, |listed| listed.uidvalidity);
        let (mut uidnext, entries) = listed.map_or((1, Default::default()), |l| (l.uidnext, l.entries));
        let (found, stamp) = scan::read(&dir)?;
        let (messages, strangers) = scan::match_up(found, entries, uidvalidity);
        uidnext = messages.iter().map(|m| m.uid + 1).max().unwrap_or(1).max(uidnext);
        let kept = messages.iter().map(|m| (m.uid, m.base.as_str(), m.keywords.as_slice()));
        let list = UidList::write(&dir, uidvalidity, uidnext, kept)?;
        let state = State { uidnext, messages, version: 1, retired: false, stamp, doubt: None, list };
        let mailbox = Mailbox { dir, uidvalidity, state: Mutex::new(state), watchers: Mutex::default() };
        mailbox.adopt(&mut mailbox.lock(), strangers)?;
        Ok(mailbox)
    }

    /// UIDs of another value mean nothing here.
    pub fn uidvalidity(&self) -> u32 {
        self.uidvalidity
    }

    /// True once it was deleted or renamed: whoever has it selected must go.
    pub fn is_retired(&self) -> bool {
        self.lock().retired
    }

    /// Tells everybody who has it selected that it is gone.
    pub fn retire(&self) {
        self.lock().retired = true;
        self.ring();
    }

    /// Rings this waker at each change, as long as it lives.
    pub fn watch(&self, waker: &Arc<Waker>) {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(waker));
    }

    /// A change counter: as long as it stays, nothing changed.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// The numbers for STATUS.
    pub fn counts(&self) -> Counts {
        let state = self.lock();
        let with = |test: &dyn Fn(&Message) -> bool| state.messages.iter().filter(|m| test(m)).count();
        Counts {
            messages: state.messages.len(),
            recent: with(&|m| m.info.is_none()),
            unseen: with(&|m| !m.flags.has(Flags::SEEN)),
            deleted: with(&|m| m.flags.has(Flags::DELETED)),
            uidnext: state.uidnext,
            uidvalidity: self.uidvalidity,
        }
    }

    /// All keywords in use, sorted.
    pub fn keywords(&self) -> BTreeSet<String> {
        self.lock().messages.iter().flat_map(|m| m.keywords.iter().cloned()).collect()
    }

    /// All messages in the order of their UIDs.
    pub fn snapshot(&self) -> Vec<Message> {
        self.lock().messages.clone()
    }

    /// The message with this UID, if it is still there.
    pub fn message(&self, uid: u32) -> Option<Message> {
        self.lock().find(uid).cloned()
    }

    /// Calls `with` for the version and all messages while nothing can change.
    pub fn look<T>(&self, with: impl FnOnce(u64, &[Message]) -> T) -> T {
        let state = self.lock();
        with(state.version, &state.messages)
    }

    /// Opens the file of a message; `None` if it is gone.
    pub fn open_message(&self, uid: u32) -> io::Result<Option<File>> {
        for attempt in 0.. {
            let Some(path) = self.message(uid).map(|message| self.path(&message)) else { return Ok(None) };
            match File::open(path) {
                // Another program renamed it since the last scan, to set a flag for instance.
                Err(why) if why.kind() == io::ErrorKind::NotFound && attempt < 3 => self.scan(true)?,
                done => return done.map(Some),
            }
        }
        Ok(None)
    }

    /// When it arrived: the date of its file.
    pub fn date(&self, message: &Message) -> SystemTime {
        fs::metadata(self.path(message)).and_then(|meta| meta.modified()).unwrap_or(UNIX_EPOCH)
    }

    /// What [`Mailbox::add`] elsewhere needs to take this message over.
    pub fn as_new(&self, message: &Message) -> NewMessage {
        let Message { size, flags, keywords, .. } = message.clone();
        NewMessage { path: self.path(message), size, flags, keywords }
    }

    fn path(&self, message: &Message) -> PathBuf {
        match &message.info {
            None => self.dir.join("new").join(&message.base),
            Some(info) if info.is_empty() => self.dir.join("cur").join(&message.base),
            Some(info) => self.dir.join("cur").join(format!("{}:{info}", message.base)),
        }
    }

    fn ring(&self) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| match watcher.upgrade() {
            Some(waker) => {
                waker.wake();
                true
            }
            None => false,
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&self, uid: u32) -> Option<&Message> {
        self.messages.binary_search_by_key(&uid, |m| m.uid).ok().and_then(|at| self.messages.get(at))
    }
}
