//! What other programs put into a mailbox, rename in it or remove from it.

use std::io;
use std::time::{Duration, Instant};

use super::{Flags, Mailbox, State, scan};

/// After a change of ours both directories are read once more, so long after it: a little less than IDLE's look.
const DOUBT: Duration = Duration::from_millis(900);

impl Mailbox {
    /// Looks for what other programs changed; cheap if the directories' dates are as they were.
    pub fn refresh(&self) -> io::Result<()> {
        self.scan(false)
    }

    /// The same whatever the dates say: they cannot tell two changes within one tick of the clock.
    pub fn rescan(&self) -> io::Result<()> {
        self.scan(true)
    }

    pub(super) fn scan(&self, always: bool) -> io::Result<()> {
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
    pub(super) fn adopt(&self, state: &mut State, strangers: scan::Found) -> io::Result<()> {
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

    /// After a change of our own the dates are ours again, unless there was a stranger's change before it.
    pub(super) fn restamp(&self, state: &mut State, fresh: bool) {
        if fresh {
            (state.stamp, state.doubt) = (scan::stamp(&self.dir), Some(Instant::now()));
        }
    }
}

impl State {
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
    use std::fs;

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
