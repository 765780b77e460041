//! What the sandbox itself does to a mailbox: adds, marks, removes. Durable on return.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Flags, Incoming, Mailbox, Message, NewMessage, State, incoming, scan, sync_dir};

impl Mailbox {
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
}
