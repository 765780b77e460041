//! The queue on disk: messages that were accepted and what is known of each of their recipients.
//!
//! ```text
//! queue/tmp/ID/     being written or being removed; rubbish once nobody holds its lock
//! queue/mail/ID/    accepted: the rename from tmp/ is the moment
//! queue/relay/      which servers are down, and how fast each may be fed (spool/relay.rs)
//! queue/failed/ID/  settled, with a recipient that was refused or given up; kept until dropped or released
//!
//! in each ID/:      message    the exact bytes        envelope   sender, Message-ID, the way (never a secret)
//!                   lock       held by who works on it
//!                   N.STATE    one file for each recipient N = 1, 2, …; its name tells what is known:
//!
//! N.due             to be tried, at once or when `next` in it has come
//! N.held            somebody asked to keep it back
//! N.trying          (alone) the final dot may have been sent; if nobody holds the lock, that process died: unknown
//! N.unknown         nobody knows whether the server took it; stays until released or dropped
//! N.done            the server took it
//! N.failed          refused for good, or given up
//! ```
//!
//! A crash can leave two files for one recipient; then the later in the order trying, due, held, unknown, failed, done
//! counts: the other was about to be removed. A message all of whose recipients are done is rubbish, also without its
//! other files. The spool knows no SMTP: a `run` marks `trying` before the final dot and settles after the answer.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use crate::durable::{self, Dir, Lock};
use crate::error::{Error, Kind, Result};
use crate::mail::address::Address;

mod entry;
mod relay;
mod text;

pub use entry::{Entry, Recipient, State};
pub use relay::{Down, Relays, is_down};
pub use text::{Envelope, Way};

/// So many files of a message are open at a time while it is written.
const OPEN: usize = 64;

/// The queue below a state directory.
#[derive(Clone, Debug)]
pub struct Spool {
    tmp: Dir,
    mail: Dir,
    failed: Dir,
    relays: Relays,
}

/// Where a message of the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Not settled yet.
    Mail,
    /// Settled, with a recipient that failed.
    Failed,
}

impl Spool {
    /// Opens the queue, making it where it is not there.
    pub fn open(state: &Dir) -> Result<Spool> {
        let queue = state.subdir("queue", 0o700)?;
        durable::check_private(queue.path())?;
        let sub = |name| queue.subdir(name, 0o700);
        let relays = Relays::open(sub("relay")?);
        Ok(Spool { tmp: sub("tmp")?, mail: sub("mail")?, failed: sub("failed")?, relays })
    }

    /// What is known of the servers.
    pub fn relays(&self) -> &Relays {
        &self.relays
    }

    /// Where accepted messages appear; worth watching.
    pub fn door(&self) -> &std::path::Path {
        self.mail.path()
    }

    /// Wakes who watches the door, though no message came.
    pub fn ring(&self) {
        // Only a hint: who watches also looks now and then.
        let name = format!(".ring-{}", std::process::id());
        if self.mail.create_new(&name, 0o600).is_ok() {
            let _ = self.mail.remove(&name);
        }
    }

    /// Accepts a message: durable on return, all of it or nothing. Gives its id.
    pub fn accept(
        &self,
        id: &str,
        envelope: &Envelope,
        to: &[Address],
        message: &mut dyn Read,
    ) -> Result<()> {
        check_id(id)?;
        let (dir, _lock) = self.begin(id)?;
        let accepted = self.write(&dir, envelope, to, message).and_then(|()| {
            self.tmp
                .rename_new(id, &self.mail, id)
                .map_err(|why| Error::creating(self.mail.at(id), why).with_kind(Kind::Io))?;
            self.mail.sync()
        });
        accepted.map_err(|error| {
            // Whoever is told that it failed sends it again, so it must not be sent from here.
            let _ = self.mail.rename_new(id, &self.tmp, id);
            let _ = remove_all(&dir, &self.tmp, id);
            match self.mail.has(id) {
                true => error.hint(format!("it lies in the queue all the same: mail-queue drop {id}")),
                false => error,
            }
        })
    }

    /// Makes the directory and takes its lock. A run that begins just now may take it for rubbish until it is locked
    /// ([`Spool::clean`]); then it is made once more.
    fn begin(&self, id: &str) -> Result<(Dir, Lock)> {
        let mut tries = 100;
        loop {
            tries -= 1;
            let dir = self.tmp.new_subdir(id, 0o700);
            let locked = dir.and_then(|dir| {
                let lock = Lock::take(&dir, "lock", Duration::from_secs(10))?;
                Ok((dir, lock))
            });
            match locked {
                Ok((dir, lock)) if dir.has("lock") => return Ok((dir, lock)),
                Ok(_) if tries > 0 => {}
                Err(error) if tries > 0 && error.kind() == Kind::CannotCreate && !self.tmp.has(id) => {}
                Ok((dir, _)) => {
                    let doing = format!("cannot keep {}", dir.path().display());
                    return Err(Error::new(Kind::Temporary, doing, "others remove it again and again"));
                }
                // What may be left of it is removed by the next run.
                Err(error) => return Err(error),
            }
        }
    }

    fn write(&self, dir: &Dir, envelope: &Envelope, to: &[Address], message: &mut dyn Read) -> Result<()> {
        let put = |name: &str, fill: &mut dyn FnMut(&mut File) -> Result<()>| {
            let mut file = dir.create_new(name, 0o600).map_err(|why| Error::creating(dir.at(name), why))?;
            fill(&mut file).map(|()| file)
        };
        let sync = |files: &[File]| {
            durable::sync_many(&files.iter().collect::<Vec<_>>())
                .map_err(|why| Error::writing(dir.path(), why))
        };
        let path = dir.at("message");
        let mut files = vec![put("message", &mut |file| copy(message, file, &path))?];
        let mut text = |name: &str, text: String| {
            if files.len() == OPEN {
                sync(&files)?;
                files.clear();
            }
            files.push(put(name, &mut |file| {
                durable::write(file, text.as_bytes()).map_err(|why| Error::writing(dir.at(name), why))
            })?);
            Ok(())
        };
        text("envelope", envelope.write()?)?;
        for (number, to) in to.iter().enumerate() {
            text(&format!("{}.due", number + 1), Recipient::new(number + 1, to.clone()).write())?;
        }
        sync(&files)?;
        dir.sync()
    }

    /// The ids of what is there, oldest first.
    pub fn ids(&self, place: Place) -> Result<Vec<String>> {
        let names = self.dir(place).names()?;
        let mut ids: Vec<String> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
        ids.retain(|id| check_id(id).is_ok());
        ids.sort_unstable();
        Ok(ids)
    }

    /// Where a message is; `None` if it is not there.
    pub fn find(&self, id: &str) -> Result<Option<Place>> {
        check_id(id)?;
        Ok([Place::Mail, Place::Failed].into_iter().find(|place| self.dir(*place).has(id)))
    }

    /// Reads a message's files without its lock: what it says may change meanwhile. `None` if it is gone.
    pub fn peek(&self, place: Place, id: &str) -> Result<Option<Entry>> {
        let Some(dir) = self.open_entry(place, id)? else { return Ok(None) };
        self.unless_gone(place, id, Entry::read(id, dir))
    }

    /// Takes a message in hand, waiting up to `limit` for who has it; `None` if it is gone.
    ///
    /// [`Kind::Temporary`] if somebody else keeps it. What a crash left doubled is tidied.
    pub fn take(&self, place: Place, id: &str, limit: Duration) -> Result<Option<Taken>> {
        let Some(dir) = self.open_entry(place, id)? else { return Ok(None) };
        let lock = match Lock::take(&dir, "lock", limit) {
            Ok(lock) => lock,
            Err(_) if !self.dir(place).has(id) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Who had it may have finished it while we waited.
        if !self.dir(place).has(id) {
            return Ok(None);
        }
        let Some(mut entry) = self.unless_gone(place, id, Entry::read(id, dir))? else { return Ok(None) };
        entry.tidy()?;
        Ok(Some(Taken { entry, place, _lock: lock }))
    }

    fn unless_gone(&self, place: Place, id: &str, entry: Result<Entry>) -> Result<Option<Entry>> {
        match entry {
            Err(_) if !self.dir(place).has(id) => Ok(None),
            other => other.map(Some),
        }
    }

    fn open_entry(&self, place: Place, id: &str) -> Result<Option<Dir>> {
        check_id(id)?;
        let parent = self.dir(place);
        match Dir::open(parent.at(id)) {
            Ok(dir) => Ok(Some(dir)),
            Err(_) if !parent.has(id) => Ok(None),
            Err(error) => Err(error.with_kind(Kind::Io)),
        }
    }

    /// Takes a message out of the queue for good; durable on return.
    pub fn drop(&self, taken: Taken) -> Result<()> {
        self.bury(&taken)?;
        self.dir(taken.place).sync()?;
        remove_all(&taken.entry.dir, &self.tmp, &taken.entry.id)
    }

    /// Puts a settled message where it belongs: away if all were taken, else to `failed/`, where it is kept.
    pub fn finish(&self, taken: Taken) -> Result<()> {
        let id = &taken.entry.id;
        if taken.entry.recipients.iter().all(|recipient| recipient.state == State::Done) {
            // Not synced: should the rename be lost, the files say that all is done.
            self.bury(&taken)?;
            return remove_all(&taken.entry.dir, &self.tmp, id);
        }
        self.relocate(&taken, Place::Failed)
    }

    /// Puts a message of `failed/` back among those to be sent; durable on return.
    pub fn revive(&self, taken: &Taken) -> Result<()> {
        self.relocate(taken, Place::Mail)
    }

    fn relocate(&self, taken: &Taken, place: Place) -> Result<()> {
        let (from, to, id) = (self.dir(taken.place), self.dir(place), &taken.entry.id);
        from.rename_new(id, to, id).map_err(|why| Error::writing(to.at(id), why))?;
        to.sync()?;
        from.sync()
    }

    fn bury(&self, taken: &Taken) -> Result<()> {
        let (from, id) = (self.dir(taken.place), &taken.entry.id);
        if self.tmp.has(id) {
            // An earlier crash left a half removed one of the same name; ours is the whole one.
            let _ = remove_all(&Dir::open(self.tmp.at(id))?, &self.tmp, id);
        }
        from.rename_new(id, &self.tmp, id).map_err(|why| Error::writing(from.at(id), why))
    }

    /// Removes what crashed processes left half written or half removed. Gives how many.
    pub fn clean(&self) -> Result<usize> {
        let mut count = 0;
        for name in self.tmp.names()? {
            let Some(id) = name.to_str().filter(|id| check_id(id).is_ok()) else { continue };
            let Ok(dir) = Dir::open(self.tmp.at(id)) else { continue };
            // Who writes it holds its lock; who has not got it yet just made the directory and will notice.
            let Ok(_lock) = Lock::take(&dir, "lock", Duration::ZERO) else { continue };
            if !self.tmp.has(id) {
                continue;
            }
            match remove_all(&dir, &self.tmp, id) {
                Ok(()) => count += 1,
                // Somebody made a lock of his own there in the last moment.
                Err(_) if dir.has("lock") => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// True if somebody has this message in hand.
    pub fn is_busy(&self, place: Place, id: &str) -> bool {
        let dir = Dir::open(self.dir(place).at(id));
        dir.is_ok_and(|dir| dir.has("lock") && Lock::take(&dir, "lock", Duration::ZERO).is_err())
    }

    /// Where a message lies, for people.
    pub fn path(&self, place: Place, id: &str) -> PathBuf {
        self.dir(place).at(id)
    }

    fn dir(&self, place: Place) -> &Dir {
        match place {
            Place::Mail => &self.mail,
            Place::Failed => &self.failed,
        }
    }
}

/// A message in hand: nobody else changes it until this is dropped.
#[derive(Debug)]
pub struct Taken {
    /// What is known of it.
    pub entry: Entry,
    place: Place,
    _lock: Lock,
}

/// Letters, digits and `-`, as our own ids are: never a path.
fn check_id(id: &str) -> Result<()> {
    let fits = !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match fits && !id.starts_with('-') {
        true => Ok(()),
        false => Err(Error::plain(Kind::Usage, format!("{id:?} is no id of the queue"))
            .hint("`mail-queue list` shows them")),
    }
}

fn copy(message: &mut dyn Read, file: &mut File, path: &std::path::Path) -> Result<()> {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let n = match message.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            Err(why) => return Err(Error::reading("the message", why)),
        };
        durable::write(file, &chunk[..n]).map_err(|why| Error::writing(path, why))?;
    }
}

/// Removes a directory of ours with all its files; the recipients last, since they tell that it is rubbish.
fn remove_all(dir: &Dir, parent: &Dir, id: &str) -> Result<()> {
    let failed = |why| Error::writing(dir.path(), why);
    let mut names = dir.names()?;
    names.sort_by_key(|name| {
        let first = name.as_encoded_bytes().first().copied().unwrap_or_default();
        (name == "lock", first.is_ascii_digit())
    });
    for name in names {
        dir.remove(&name).map_err(failed)?;
    }
    match parent.remove_dir(id) {
        // Somebody looked for its lock and made it anew; the next `clean` gets it.
        Err(why) if matches!(why.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => {
            Ok(())
        }
        done => done.map_err(failed),
    }
}

#[cfg(test)]
mod tests;
