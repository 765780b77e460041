//! What a process that looks again and again remembers from one look to the next: what it has said, and what it need not
//! look at. Nothing depends on it; without it everything is said, and looked at, each time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::record::File;
use crate::store::journal::Mark;
use crate::store::ledger::State;

/// After this long everything is looked at again: rules may ask for age, and mail may have been moved.
const WHOLE: Duration = Duration::from_secs(600);

/// A memory; copies share it. The default is none.
#[derive(Clone, Debug, Default)]
pub struct Memory(Option<Arc<Mutex<Inner>>>);

#[derive(Debug, Default)]
struct Inner {
    said: HashMap<u64, State>,
    rounds: HashMap<PathBuf, Round>,
}

/// What a look at a journal left.
#[derive(Clone, Debug)]
pub(super) struct Round {
    /// How far the journal was read.
    pub mark: Mark,
    /// Files that may need another look.
    pub open: Vec<File>,
    /// When all of the journal was looked at.
    pub whole: Instant,
    /// What [`crate::store::ledger::Ledger::hands`] said.
    pub hands: u64,
}

impl Memory {
    /// One that lasts as long as one of its copies.
    pub fn lasting() -> Memory {
        Memory(Some(Arc::default()))
    }

    /// True if something is remembered.
    pub(super) fn lasts(&self) -> bool {
        self.0.is_some()
    }

    fn inner(&self) -> Option<MutexGuard<'_, Inner>> {
        self.0.as_ref().map(|inner| inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// True if this was not the last that was said of the claim.
    pub(super) fn is_news(&self, number: u64, state: State) -> bool {
        self.inner().is_none_or(|mut inner| inner.said.insert(number, state) != Some(state))
    }

    /// What the last look at the journal of `out` left, if it can be gone on from.
    pub(super) fn round(&self, out: &Path, hands: u64) -> Option<Round> {
        let round = self.inner()?.rounds.remove(out)?;
        (round.hands == hands && round.whole.elapsed() < WHOLE).then_some(round)
    }

    /// Remembers a look that came to its end.
    pub(super) fn keep(&self, out: &Path, round: Round) {
        if let Some(mut inner) = self.inner() {
            inner.rounds.insert(out.to_path_buf(), round);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn said_once_for_each_change() {
        let memory = Memory::lasting();
        let news = |state| memory.clone().is_news(7, state);
        assert_eq!(
            [news(State::Unknown), news(State::Unknown), news(State::Held), news(State::Unknown)],
            [true, false, true, true]
        );
        assert!(memory.is_news(8, State::Unknown));
        let none = Memory::default();
        assert!(none.is_news(7, State::Held) && none.is_news(7, State::Held));
    }

    #[test]
    fn a_word_by_hand_or_long_ago_means_all() {
        let memory = Memory::lasting();
        let round = |whole| Round { mark: Mark::default(), open: Vec::new(), whole, hands: 3 };
        let out = Path::new("in");
        memory.keep(out, round(Instant::now()));
        assert!(memory.round(out, 4).is_none());
        memory.keep(out, round(Instant::now()));
        assert!(memory.round(out, 3).is_some() && memory.round(out, 3).is_none());
        if let Some(long_ago) = Instant::now().checked_sub(WHOLE) {
            memory.keep(out, round(long_ago));
            assert!(memory.round(out, 3).is_none());
        }
    }
}
