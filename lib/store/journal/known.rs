//! Which messages a journal holds, as far as that is kept in mind: all of them while many are asked for, and in a process
//! that lasts only what takes the same room however long it lasts.
//!
//! What is kept for long is a gist, which tells for nearly every message that is new that it is, and the last few
//! thousand lines, since one message is often told of twice. Only for an old message the journal itself has to be read.

use std::collections::HashMap;

use super::line::{digest, key_of, short};

/// The line of each finished message, both as short digests: a journal of a million messages fits into memory.
pub(super) type All = HashMap<[u8; 16], u64>;

/// So many lines are kept twice over.
const RECENT: usize = 4096;
/// The bits of the gist, a power of two: 1 MiB. With a million messages in the journal it is wrong for one new message
/// in fifty.
const BITS: u32 = 1 << 23;

/// What is kept in mind. Only as long as it learns every line that is added.
#[derive(Debug)]
pub(super) struct Known {
    all: Option<All>,
    recent: [All; 2],
    gist: Vec<u64>,
}

/// What is known of a message without reading the journal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The digest of its last line.
    Finished(u64),
    /// It is not in the journal.
    New,
    /// The journal must be read.
    Perhaps,
}

impl Known {
    /// Of a journal without a line.
    pub fn new() -> Known {
        Known {
            all: Some(All::new()),
            recent: [All::new(), All::new()],
            gist: vec![0; BITS as usize / u64::BITS as usize],
        }
    }

    /// From now on every line that is learned is kept; the journal is to be read from its beginning.
    pub fn begin_all(&mut self) {
        self.all = Some(All::new());
    }

    /// Lets go of what grows with the journal.
    pub fn release(&mut self) {
        self.all = None;
    }

    /// A line of the journal.
    pub fn learn(&mut self, line: &[u8]) {
        if let Some(key) = key_of(line) {
            self.insert(&key, digest(line));
        }
    }

    /// A message is finished, with a line of this digest.
    pub fn insert(&mut self, key: &str, digest: u64) {
        let id = short(key);
        if let Some(all) = &mut self.all {
            all.insert(id, digest);
        }
        for bit in bits(&id) {
            self.gist[bit / 64] |= 1 << (bit % 64);
        }
        if self.recent[0].len() >= RECENT {
            self.recent.swap(0, 1);
            self.recent[0].clear();
        }
        self.recent[0].insert(id, digest);
    }

    /// How many lines are kept.
    #[cfg(test)]
    pub fn counts(&self) -> usize {
        self.recent.iter().chain(&self.all).map(All::len).sum()
    }

    pub fn find(&self, key: &str) -> Told {
        let id = short(key);
        if let Some(all) = &self.all {
            return all.get(&id).map_or(Told::New, |digest| Told::Finished(*digest));
        }
        if let Some(digest) = self.recent.iter().find_map(|recent| recent.get(&id)) {
            return Told::Finished(*digest);
        }
        match bits(&id).all(|bit| self.gist[bit / 64] & (1 << (bit % 64)) != 0) {
            true => Told::Perhaps,
            false => Told::New,
        }
    }
}

/// Four places in the gist.
fn bits(id: &[u8; 16]) -> impl Iterator<Item = usize> + use<> {
    let words = u128::from_le_bytes(*id);
    (0..4).map(move |at| (words >> (32 * at)) as usize % BITS as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_long_does_not_grow() {
        let mut known = Known::new();
        let many = 100_000_u64;
        (0..many).for_each(|n| known.insert(&n.to_string(), n));
        assert_eq!(known.find("7"), Told::Finished(7));
        known.release();
        assert!(known.counts() <= 2 * RECENT);
        assert_eq!(known.find(&(many - 1).to_string()), Told::Finished(many - 1), "one of the last");
        assert_eq!(known.find("7"), Told::Perhaps, "an old one");
        let wrong = (many..2 * many).filter(|n| known.find(&n.to_string()) != Told::New).count();
        assert!(wrong < 100, "{wrong} of {many} new ones are not known to be new");
        known.begin_all();
        (0..many).for_each(|n| known.insert(&n.to_string(), n));
        assert_eq!((known.find("7"), known.find("x")), (Told::Finished(7), Told::New));
    }

    #[test]
    fn the_last_line_counts() {
        let mut known = Known::new();
        known.insert("a", 1);
        (0..RECENT).for_each(|n| known.insert(&n.to_string(), 0));
        known.insert("a", 2);
        known.release();
        assert_eq!(known.find("a"), Told::Finished(2));
    }
}
