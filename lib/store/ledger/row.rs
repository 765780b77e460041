//! What a decision needs of one claim, in 128 bytes: a row of the index.

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::line::{Key, State};

/// A row's length on disk.
pub(super) const LENGTH: usize = 128;

/// A digest that stands for a key.
pub(super) type Id = [u8; 16];

/// One claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub number: u64,
    /// Where its line begins in the log.
    pub claim: u64,
    /// Where the line that settled it last begins; its own where it was settled at once.
    pub settle: Option<u64>,
    pub at: Timestamp,
    pub next: Option<Timestamp>,
    pub state: State,
    pub asked: bool,
    /// Somebody was told of it for good.
    pub told: bool,
    /// How many claims of its key failed for now, in a row, before it.
    pub tries: u32,
    pub ids: Ids,
    /// The claims before it with the same ids; 0 where it is the first.
    pub before: [u64; 3],
}

/// By what a claim is found: all of its key; its rule and file; its rule. In this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ids(pub [Id; 3]);

/// Which of the ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Key = 0,
    File = 1,
    Rule = 2,
}

impl Ids {
    pub fn of(key: &Key) -> Ids {
        let message = key.message.as_deref();
        Ids([
            id(&[b"key", key.rule.as_bytes(), key.file.as_bytes(), message.unwrap_or("-").as_bytes()]),
            id(&[b"file", key.rule.as_bytes(), key.file.as_bytes()]),
            id(&[b"rule", key.rule.as_bytes()]),
        ])
    }

    pub fn get(&self, by: By) -> &Id {
        &self.0[by as usize]
    }
}

fn id(parts: &[&[u8]]) -> Id {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let mut id = [0; 16];
    id.copy_from_slice(&digest.finalize()[..16]);
    id
}

/// Tells bytes that we wrote from all others.
pub(super) fn check(place: u64, bytes: &[u8]) -> [u8; 8] {
    let mut check = [0; 8];
    let digest = Sha256::new().chain_update(place.to_le_bytes()).chain_update(bytes).finalize();
    check.copy_from_slice(&digest[..8]);
    check
}

impl Row {
    /// True if what was claimed may have failed for now, and nobody has asked for the next try.
    pub fn was_in_vain(&self) -> bool {
        matches!(self.state, State::Later | State::Unknown | State::Claimed) && !self.asked
    }

    /// True if it counts among what a rule may do in an hour. What was held, or waits because somebody asked for it, is
    /// counted when it is done.
    pub fn counts(&self) -> bool {
        match self.state {
            State::Free | State::Held => false,
            State::Later => !self.asked,
            _ => true,
        }
    }

    pub fn write(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let mut at = 0;
        let mut put = |part: &[u8]| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        put(&self.number.to_le_bytes());
        put(&self.claim.to_le_bytes());
        put(&self.settle.map_or(0, |settle| settle + 1).to_le_bytes());
        put(&self.at.as_microsecond().to_le_bytes());
        put(&self.next.map_or(i64::MIN, Timestamp::as_microsecond).to_le_bytes());
        self.before.iter().for_each(|before| put(&before.to_le_bytes()));
        put(&self.tries.to_le_bytes());
        let state = State::ALL.iter().position(|state| *state == self.state).unwrap_or_default();
        put(&[state as u8, self.asked.into(), self.told.into(), 0]);
        self.ids.0.iter().for_each(|id| put(id));
        let check = check(self.number, &bytes[..LENGTH - 8]);
        bytes[LENGTH - 8..].copy_from_slice(&check);
        bytes
    }

    /// The row of this number, if these bytes are one that was written whole.
    pub fn read(number: u64, bytes: &[u8]) -> Option<Row> {
        let (body, sum) = bytes.split_last_chunk::<8>()?;
        if bytes.len() != LENGTH || check(number, body) != *sum {
            return None;
        }
        let word = |at: usize| Some(u64::from_le_bytes(body.get(at * 8..at * 8 + 8)?.try_into().ok()?));
        let moment = |at: usize| Timestamp::from_microsecond(word(at)? as i64).ok();
        let id = |at: usize| body.get(at..at + 16)?.try_into().ok();
        Some(Row {
            number: word(0).filter(|found| *found == number)?,
            claim: word(1)?,
            settle: word(2)?.checked_sub(1),
            at: moment(3)?,
            next: moment(4),
            before: [word(5)?, word(6)?, word(7)?],
            tries: u32::from_le_bytes(body.get(64..68)?.try_into().ok()?),
            state: *State::ALL.get(usize::from(*body.get(68)?))?,
            asked: *body.get(69)? != 0,
            told: *body.get(70)? != 0,
            ids: Ids([id(72)?, id(88)?, id(104)?]),
        })
    }
}
