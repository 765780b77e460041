//! What one session has been told of its mailbox: which message has which number, and which are recent.
//!
//! Numbers change only when an EXPUNGE is sent, and that is not allowed at any time (RFC 3501 section 7.4.1).

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::sync::Arc;

use imap_codec::imap_types::sequence::{SeqOrUid, Sequence, SequenceSet};

use crate::sandbox::maildir::{Mailbox, Message};

/// The selected mailbox as this session sees it.
pub struct View {
    pub mailbox: Arc<Mailbox>,
    pub read_only: bool,
    /// The message with number n is at n-1.
    uids: Vec<u32>,
    recent: HashSet<u32>,
    highest: u32,
    at: u64,
    /// An expunge is still to be told.
    behind: bool,
    /// Flag changes of our own, by UID: the client knows of them.
    own: HashMap<u32, u64>,
}

/// A message the client asked for: its number and UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    pub number: u32,
    pub uid: u32,
}

impl View {
    /// Selects: everything that is there now is known, and what nobody saw before is recent to us.
    pub fn select(mailbox: Arc<Mailbox>, read_only: bool) -> io::Result<View> {
        let mut view = View {
            mailbox,
            read_only,
            uids: Vec::new(),
            recent: HashSet::new(),
            highest: 0,
            at: 0,
            behind: false,
            own: HashMap::new(),
        };
        view.mailbox.rescan()?;
        view.update(true, &mut io::sink())?;
        Ok(view)
    }

    pub fn len(&self) -> usize {
        self.uids.len()
    }

    pub fn recent_count(&self) -> usize {
        self.recent.len()
    }

    pub fn is_recent(&self, uid: u32) -> bool {
        self.recent.contains(&uid)
    }

    /// All messages with their numbers.
    pub fn all(&self) -> impl Iterator<Item = Named> + '_ {
        self.uids.iter().zip(1..).map(|(&uid, number)| Named { number, uid })
    }

    /// The number of a message that we know.
    pub fn number(&self, uid: u32) -> Option<u32> {
        self.uids.binary_search(&uid).ok().map(|at| at as u32 + 1)
    }

    /// The messages of a set, by number or UID; `None` if it holds a number that is not there.
    pub fn resolve(&self, set: &SequenceSet, by_uid: bool) -> Option<Vec<Named>> {
        let last = if by_uid { self.uids.last().copied().unwrap_or(0) } else { self.len() as u32 };
        let ranges = ranges(set, last);
        if !by_uid && last > 0 && ranges.iter().any(|(_, high)| *high > last) {
            return None;
        }
        let wanted = |n: u32| {
            let at = ranges.partition_point(|(_, high)| *high < n);
            ranges.get(at).is_some_and(|(low, _)| *low <= n)
        };
        Some(self.all().filter(|named| wanted(if by_uid { named.uid } else { named.number })).collect())
    }

    /// Remembers a flag change that the client asked for and need not be told again.
    pub fn mark_own(&mut self, message: &Message) {
        if message.changed > self.at {
            self.own.insert(message.uid, message.changed);
        }
    }

    /// Tells what changed: EXISTS and RECENT, flags, and where it is allowed EXPUNGE.
    pub fn update(&mut self, may_expunge: bool, out: &mut dyn Write) -> io::Result<()> {
        if self.mailbox.version() == self.at && !(self.behind && may_expunge) {
            return Ok(());
        }
        if !self.read_only {
            self.recent.extend(self.mailbox.claim_recent()?);
        }
        let mailbox = Arc::clone(&self.mailbox);
        let (gone, changed, new) = mailbox.look(|version, messages| self.compare(version, messages));
        self.behind = !gone.is_empty();
        if may_expunge {
            // From the end, so that the numbers of those before stay right.
            for at in gone.into_iter().rev() {
                let uid = self.uids.remove(at);
                self.recent.remove(&uid);
                write!(out, "* {} EXPUNGE\r\n", at + 1)?;
            }
            self.behind = false;
        }
        if !new.is_empty() {
            self.uids.extend(new);
            self.highest = self.uids.last().copied().unwrap_or(self.highest).max(self.highest);
            write!(out, "* {} EXISTS\r\n* {} RECENT\r\n", self.len(), self.recent.len())?;
        }
        for message in changed {
            if let Some(number) = self.number(message.uid) {
                let flags = self.flags(&message);
                write!(out, "* {number} FETCH (UID {} FLAGS ({flags}))\r\n", message.uid)?;
            }
        }
        Ok(())
    }

    /// The flags of a message as FETCH shows them.
    pub fn flags(&self, message: &Message) -> String {
        let recent = self.is_recent(message.uid).then_some("\\Recent");
        let keywords = message.keywords.iter().map(String::as_str);
        let mut all: Vec<&str> = message.flags.names().collect();
        all.extend(keywords.chain(recent));
        all.join(" ")
    }

    /// Places of messages that are gone, messages whose flags others changed, UIDs of new messages.
    fn compare(&mut self, version: u64, messages: &[Message]) -> (Vec<usize>, Vec<Message>, Vec<u32>) {
        let there = |uid: &u32| messages.binary_search_by_key(uid, |m| m.uid).is_ok();
        let gone = self.uids.iter().enumerate().filter(|(_, uid)| !there(uid)).map(|(at, _)| at).collect();
        let highest = self.highest;
        let changed = messages
            .iter()
            .filter(|m| m.uid <= highest && m.changed > self.at && self.own.get(&m.uid) != Some(&m.changed))
            .cloned()
            .collect();
        let new = messages.iter().map(|m| m.uid).filter(|uid| *uid > highest).collect();
        self.own.clear();
        self.at = version;
        (gone, changed, new)
    }
}

/// The ranges of a set, sorted and merged, `*` being `last`.
pub fn ranges(set: &SequenceSet, last: u32) -> Vec<(u32, u32)> {
    let value = |n: &SeqOrUid| match n {
        SeqOrUid::Asterisk => last,
        // NOTE: imap-codec sorts sets and turns a lone `*` into the largest number then.
        SeqOrUid::Value(n) if n.get() == u32::MAX => last,
        SeqOrUid::Value(n) => n.get(),
    };
    let range = |sequence: &Sequence| match sequence {
        Sequence::Single(n) => (value(n), value(n)),
        Sequence::Range(a, b) => (value(a).min(value(b)), value(a).max(value(b))),
    };
    let mut all: Vec<(u32, u32)> = set.0.as_ref().iter().map(range).collect();
    all.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::with_capacity(all.len());
    for (low, high) in all {
        match merged.last_mut() {
            Some((_, end)) if low <= end.saturating_add(1) => *end = high.max(*end),
            _ => merged.push((low, high)),
        }
    }
    merged
}

/// Writes numbers as a set: `1:3,7`.
pub fn set_of(numbers: &[u32]) -> String {
    let mut out = String::new();
    let mut rest = numbers;
    while let Some((&first, _)) = rest.split_first() {
        let run = rest.iter().zip(first..).take_while(|(n, want)| **n == *want).count();
        let last = first + run as u32 - 1;
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(&if run > 1 { format!("{first}:{last}") } else { first.to_string() });
        rest = rest.get(run..).unwrap_or(&[]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_short() {
        assert_eq!(set_of(&[1, 2, 3, 7, 9, 10]), "1:3,7,9:10");
        assert_eq!(set_of(&[]), "");
    }

    #[test]
    fn a_star_is_the_last_one_whatever_stands_before_it() {
        assert_eq!(ranges(&SequenceSet::try_from("559:*").unwrap(), 100), [(100, 559)]);
        assert_eq!(ranges(&SequenceSet::try_from("*").unwrap(), 7), [(7, 7)]);
        assert_eq!(ranges(&SequenceSet::try_from("9,1:3,2:5,6").unwrap(), 9), [(1, 6), (9, 9)]);
    }
}
