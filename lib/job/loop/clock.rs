//! When a loop looks at everything that is pending again: its time has come, or somebody spoke by hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use super::plan::Plan;
use super::work::{AFTER_TROUBLE, LOOK_ANYWAY, stamp};
use crate::error::{Result, Status};
use crate::store::ledger::{Entry, Ledger, State, is_due};

/// When everything that is pending is to be looked at again.
pub(super) struct Clock {
    at: Option<Instant>,
    /// The state directory, where the ledger lies.
    ledger: PathBuf,
    stamp: Vec<SystemTime>,
    /// How often somebody spoke by hand, as of that stamp.
    hands: Option<u64>,
    looked: Instant,
}

impl Clock {
    /// At once.
    pub fn new(plan: &Plan) -> Clock {
        let ledger = plan.act.state.clone();
        let mut clock = Clock {
            at: Some(Instant::now()),
            ledger,
            stamp: Vec::new(),
            hands: None,
            looked: Instant::now(),
        };
        clock.somebody_spoke();
        clock
    }

    /// How long to wait for something new.
    pub fn wait(&self) -> Duration {
        let now = Instant::now();
        self.at.map_or(LOOK_ANYWAY, |at| at.saturating_duration_since(now)).min(LOOK_ANYWAY)
    }

    /// True if everything is to be looked at: its time has come, or somebody else wrote to the ledger.
    pub fn is_due(&mut self) -> bool {
        if self.looked.elapsed() >= LOOK_ANYWAY {
            self.looked = Instant::now();
            if self.somebody_spoke() {
                return true;
            }
        }
        self.at.is_some_and(|at| at <= Instant::now())
    }

    /// It ran, over everything or not.
    pub fn ran(&mut self, plan: &Plan, all: bool, done: &Result<Status>) {
        let (first, _) = AFTER_TROUBLE;
        let trouble = !matches!(done, Ok(status) if *status == Status::DONE);
        if !all && !trouble {
            return;
        }
        let due =
            due(plan).map(|at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default());
        let held = (due.is_none() && matches!(done, Ok(status) if status.code() == 75)).then_some(first * 2);
        let broken = done.is_err().then_some(first);
        let next = [due, held, broken].into_iter().flatten().min();
        let next = next.map(|wait| Instant::now() + wait.max(Duration::from_secs(1)));
        // What was not looked at now may be due before.
        let before = self.at.filter(|_| !all);
        self.at = next.into_iter().chain(before).min();
    }

    /// True if somebody said something by hand since the last question, whatever was written there besides.
    fn somebody_spoke(&mut self) -> bool {
        let stamp = ledger_stamp(&self.ledger);
        if stamp == self.stamp {
            return false;
        }
        // Where somebody holds the ledger just now, the next question finds it changed all the same.
        let Ok(ledger) = Ledger::open_existing(&self.ledger, Duration::ZERO) else { return false };
        let Ok(hands) = ledger.map_or(Ok(0), |mut ledger| ledger.hands()) else { return false };
        self.stamp = stamp;
        self.hands.replace(hands) != Some(hands)
    }
}

/// Changes with the ledger of this state directory.
pub(super) fn ledger_stamp(state: &Path) -> Vec<SystemTime> {
    stamp(std::iter::once(state.join("act/ledger").as_path()))
}

/// When the next action that failed for now is to be tried again, or the next that is held has room: what is held of one
/// rule waits for the same, and what was held last says for when.
fn due(plan: &Plan) -> Option<Timestamp> {
    let mut ledger = Ledger::open_existing(&plan.act.state, plan.act.wait).ok()??;
    let (mut later, mut held, now) = (None, BTreeMap::new(), Timestamp::now());
    let mut look = |entry: Entry| {
        let Some(next) = entry.next.filter(|_| plan.rules.contains(&entry.key.rule)) else { return };
        let next = if is_due(next, now) { now } else { next };
        match entry.state {
            State::Later => later = later.into_iter().chain([next]).min(),
            State::Held => {
                let last = held.entry(entry.key.rule).or_insert(next);
                *last = next.max(*last);
            }
            _ => {}
        }
    };
    ledger.each_open(&mut look).ok()?;
    later.into_iter().chain(held.into_values()).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ledger::{Again, Claim, Claimed, End, Key};

    #[test]
    fn a_word_by_hand_is_heard_among_writes_of_our_own() {
        let temp = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(temp.path(), Duration::from_secs(5)).unwrap();
        let mut clock = Clock {
            at: None,
            ledger: temp.path().into(),
            stamp: Vec::new(),
            hands: None,
            looked: Instant::now(),
        };
        clock.somebody_spoke();
        let claim = |file: &str, ledger: &mut Ledger| {
            let key = Key { rule: "r".into(), file: file.into(), message: None };
            let settle = Some(End::of(State::Failed));
            let path = Path::new("a");
            let wish =
                Claim { key: &key, path, argv: Vec::new(), again: Again::No, max_per_hour: None, settle };
            match ledger.claim(wish).unwrap() {
                Claimed::Ours(number) => number,
                other => panic!("{other:?}"),
            }
        };
        let number = claim("one", &mut ledger);
        assert!(!clock.somebody_spoke(), "what the loop itself writes is no news");
        ledger.by_hand(number, End { next: Some(Timestamp::now()), ..End::of(State::Later) }).unwrap();
        claim("two", &mut ledger);
        assert!(clock.somebody_spoke(), "a word before our own write");
        assert!(!clock.somebody_spoke());
    }
}
