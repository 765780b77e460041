//! One mailbox: a Maildir, the UIDs of its messages, and whoever waits for it to change.
//!
//! A message lies in `new/` until an IMAP session has it selected, then in `cur/` with its flags in the name. Names
//! given here hold UIDVALIDITY and UID (`TIME.V…U….sandbox,S=SIZE`), so the rename that stores a message commits its
//! UID too; other names get theirs through `uidlist`. The date of a file is the message's INTERNALDATE. What other
//! programs put in, rename or remove is found by a scan when the directories' dates have changed.

mod flags;
mod incoming;
mod scan;
mod uidlist;

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// After a change of ours both directories are read once more, so long after it: a little less than IDLE's look.
const DOUBT: Duration = Duration::from_millis(900);

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

    /// A file in `tmp/` to write a message into.
    pub fn incoming(&self) -> io::Result<Incoming> {
        Incoming::create(&self.dir.join("tmp"))
    }

    /// Links synced files in as new messages, all or none, and gives their UIDs; durable on return.
    pub fn add(&self, pieces: &[NewMessage]) -> io::Result<Vec<u32>> {
        let mut state = self.lock();
        if state.retired {
            return Err(io::ErrorKind::NotFound.into());
        }
        let fresh = scan::is_fresh(&self.dir, &state.stamp);
        let mut added: Vec<Message> = Vec::new();
        for piece in pieces {
            let uid = state.uidnext + added.len() as u32;
            match self.link(piece, uid) {
                Ok(message) => added.push(message),
                Err(why) => {
                    for message in &added {
                        let _ = fs::remove_file(self.path(message));
                    }
                    return Err(why);
                }
            }
        }
        state.uidnext += added.len() as u32;
        state.version += 1;
        let (uids, version) = (added.iter().map(|m| m.uid).collect(), state.version);
        for message in &mut added {
            message.changed = version;
        }
        let _ = state.list.append(added.iter().map(|m| (m.uid, m.base.as_str(), m.keywords.as_slice())));
        state.messages.extend(added);
        self.restamp(&mut state, fresh);
        // Others may look while the disk works.
        drop(state);
        let (plain, flagged) = pieces.iter().fold((false, false), |(plain, flagged), piece| {
            (plain || piece.flags.is_empty(), flagged || !piece.flags.is_empty())
        });
        if plain {
            sync_dir(&self.dir.join("new"))?;
        }
        if flagged {
            sync_dir(&self.dir.join("cur"))?;
        }
        self.ring();
        Ok(uids)
    }

    /// Changes the flags of messages: `change` gets the present ones and gives the new ones. What was changed, as it
    /// is then; messages that are gone are passed over.
    pub fn store(
        &self,
        uids: &[u32],
        change: impl Fn(Flags, &[String]) -> (Flags, Vec<String>),
    ) -> io::Result<Vec<Message>> {
        let mut state = self.lock();
        let fresh = scan::is_fresh(&self.dir, &state.stamp);
        let mut stored = Vec::with_capacity(uids.len());
        let mut changed = false;
        for &uid in uids {
            let version = state.version + 1;
            let State { messages, list, stamp, .. } = &mut *state;
            let Ok(at) = messages.binary_search_by_key(&uid, |m| m.uid) else { continue };
            let Some(message) = messages.get_mut(at) else { continue };
            let (flags, keywords) = change(message.flags, &message.keywords);
            if flags != message.flags && !self.rename(message, flags)? {
                *stamp = None;
                continue;
            }
            if keywords != message.keywords {
                message.keywords = keywords;
                list.append(std::iter::once((uid, message.base.as_str(), message.keywords.as_slice())))?;
                message.changed = version;
            }
            if flags != message.flags {
                message.flags = flags;
                message.changed = version;
            }
            changed |= message.changed == version;
            stored.push(message.clone());
        }
        if changed {
            state.version += 1;
            let fresh = fresh && state.stamp.is_some();
            self.restamp(&mut state, fresh);
            drop(state);
            self.ring();
        }
        Ok(stored)
    }

    /// Removes these messages.
    pub fn expunge(&self, uids: &HashSet<u32>) -> io::Result<()> {
        let mut state = self.lock();
        let fresh = scan::is_fresh(&self.dir, &state.stamp);
        let mut done = Ok(());
        let before = state.messages.len();
        state.messages.retain(|message| {
            if !uids.contains(&message.uid) {
                return true;
            }
            match fs::remove_file(self.path(message)) {
                Err(why) if why.kind() != io::ErrorKind::NotFound => {
                    done = Err(why);
                    true
                }
                _ => false,
            }
        });
        if state.messages.len() != before {
            state.version += 1;
            self.restamp(&mut state, fresh);
            drop(state);
            self.ring();
        }
        done
    }

    /// Moves what lies in `new/` to `cur/` and gives the UIDs: they are recent for the caller and nobody else.
    pub fn claim_recent(&self) -> io::Result<Vec<u32>> {
        let mut state = self.lock();
        if state.messages.iter().all(|m| m.info.is_some()) {
            return Ok(Vec::new());
        }
        let fresh = scan::is_fresh(&self.dir, &state.stamp);
        let (mut claimed, mut missed) = (Vec::new(), false);
        for message in state.messages.iter_mut().filter(|m| m.info.is_none()) {
            let flags = message.flags;
            match self.rename(message, flags)? {
                true => claimed.push(message.uid),
                false => missed = true,
            }
        }
        self.restamp(&mut state, fresh);
        if missed {
            state.stamp = None;
        }
        Ok(claimed)
    }

    /// Looks for what other programs changed; cheap if the directories' dates are as they were.
    pub fn refresh(&self) -> io::Result<()> {
        self.scan(false)
    }

    /// The same whatever the dates say: they cannot tell two changes within one tick of the clock.
    pub fn rescan(&self) -> io::Result<()> {
        self.scan(true)
    }

    fn scan(&self, always: bool) -> io::Result<()> {
        let mut state = self.lock();
        let is_sure = state.doubt.is_none_or(|since| since.elapsed() < DOUBT);
        if state.retired || (!always && is_sure && scan::is_fresh(&self.dir, &state.stamp)) {
            return Ok(());
        }
        let version = state.version;
        let (mut found, mut stamp) = scan::read(&self.dir)?;
        if state.messages.iter().any(|m| !found.contains_key(&m.base)) {
            // A file renamed while the directory is read can be missed: only one missing twice is gone.
            let (again, later) = scan::read(&self.dir)?;
            found.extend(again);
            stamp = later;
        }
        state.take_in(&mut found);
        self.adopt(&mut state, found)?;
        (state.stamp, state.doubt) = (stamp, None);
        if state.version != version {
            drop(state);
            self.ring();
        }
        Ok(())
    }

    /// Gives UIDs to files that have none, in the order of their names.
    fn adopt(&self, state: &mut State, strangers: scan::Found) -> io::Result<()> {
        if strangers.is_empty() {
            return Ok(());
        }
        state.version += 1;
        let mut strangers: Vec<_> = strangers.into_iter().collect();
        strangers.sort_by(|a, b| a.0.cmp(&b.0));
        for (base, file) in strangers {
            let message = file.into_message(base, state.uidnext, state.version);
            state.uidnext += 1;
            state.list.append(std::iter::once((message.uid, message.base.as_str(), &[][..])))?;
            state.messages.push(message);
        }
        Ok(())
    }

    fn link(&self, piece: &NewMessage, uid: u32) -> io::Result<Message> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let base = format!("{seconds}.V{}U{uid}.sandbox,S={}", self.uidvalidity, piece.size);
        let info = (!piece.flags.is_empty()).then(|| piece.flags.to_info());
        let NewMessage { size, flags, keywords, .. } = piece.clone();
        let message = Message { uid, flags, keywords, size, changed: 0, base, info };
        let path = self.path(&message);
        match fs::hard_link(&piece.path, &path) {
            // Another file system, or as many links to one file as this one allows (65,000 on ext4).
            Err(why) if matches!(why.kind(), io::ErrorKind::CrossesDevices | io::ErrorKind::TooManyLinks) => {
                let copied = incoming::copy(&piece.path, &self.dir.join("tmp"))?;
                fs::rename(copied, &path)?;
            }
            done => done?,
        }
        Ok(message)
    }

    /// Gives the file its new name; it is in `cur/` then. False if another program moved it since the last scan: the
    /// caller forgets the dates, and the next scan finds it.
    fn rename(&self, message: &mut Message, flags: Flags) -> io::Result<bool> {
        let from = self.path(message);
        let info = flags.to_info();
        match fs::rename(from, self.dir.join("cur").join(format!("{}:{info}", message.base))) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(false),
            done => done?,
        }
        message.info = Some(info);
        Ok(true)
    }

    fn path(&self, message: &Message) -> PathBuf {
        match &message.info {
            None => self.dir.join("new").join(&message.base),
            Some(info) if info.is_empty() => self.dir.join("cur").join(&message.base),
            Some(info) => self.dir.join("cur").join(format!("{}:{info}", message.base)),
        }
    }

    /// After a change of our own the dates are ours again, unless there was a stranger's change before it.
    fn restamp(&self, state: &mut State, fresh: bool) {
        if fresh {
            (state.stamp, state.doubt) = (scan::stamp(&self.dir), Some(Instant::now()));
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

    /// Takes known files out of `found`, notes new names and flags, and drops messages whose file is gone.
    fn take_in(&mut self, found: &mut scan::Found) {
        let next = self.version + 1;
        let before = self.messages.len();
        let mut changed = false;
        self.messages.retain_mut(|message| {
            let Some(file) = found.remove(&message.base) else { return false };
            let flags = Flags::from_info(file.info.as_deref().unwrap_or(""));
            if flags != message.flags {
                message.flags = flags;
                message.changed = next;
                changed = true;
            }
            message.info = file.info;
            true
        });
        if changed || self.messages.len() != before {
            self.version = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_file_that_came_with_a_change_of_ours_is_found() {
        let home = tempfile::tempdir().unwrap();
        for sub in ["tmp", "new", "cur"] {
            fs::create_dir(home.path().join(sub)).unwrap();
        }
        let mailbox = Mailbox::open(home.path().to_path_buf(), || 1).unwrap();
        fs::write(home.path().join("new/stranger"), "Subject: x\r\n\r\n").unwrap();
        // What a change of ours does that began before and ends only now.
        mailbox.restamp(&mut mailbox.lock(), true);
        mailbox.lock().doubt = Instant::now().checked_sub(DOUBT);
        mailbox.refresh().unwrap();
        assert_eq!(mailbox.lock().messages.len(), 1);
    }
}
