//! What somebody says of a claim by hand, because they looked.

use super::line::Line;
use super::{End, Ledger, State};
use crate::error::{Error, Kind, Result};
use jiff::Timestamp;

impl Ledger {
    /// Settles a claim as somebody says; durable on return.
    ///
    /// 64 where there is no such claim, or a newer one of the same thing; 75 where a living process is at it.
    pub fn by_hand(&mut self, number: u64, end: End) -> Result<()> {
        let _lock = self.lock()?;
        let doing = || format!("cannot change claim {number}");
        let row = usize::try_from(number).ok().and_then(|n| self.rows.get(n.checked_sub(1)?));
        let Some(row) = row else {
            return Err(Error::new(Kind::Usage, doing(), "there is no such claim")
                .hint("`mail-loop history` shows all, with their numbers"));
        };
        if self.state_of(row.state, row.by.as_deref()) == State::Claimed {
            return Err(Error::new(Kind::Temporary, doing(), "a process is at it now"));
        }
        let newer = self.newer(number).filter(|_| row.state != State::Free);
        if let Some(newer) = newer {
            return Err(Error::new(
                Kind::Usage,
                doing(),
                format!("claim {newer} is of the same thing and newer"),
            ));
        }
        self.append(Line::Settle { v: 1, n: number, at: Timestamp::now(), end: End { asked: true, ..end } })
    }

    /// The newest claim of the same thing after this one, if there is one that may have happened.
    fn newer(&self, number: u64) -> Option<u64> {
        let row = self.rows.get(usize::try_from(number).ok()?.checked_sub(1)?)?;
        let numbers = self.by_file.values().find(|numbers| numbers.contains(&number))?;
        let is_newer = |n: &&u64| {
            let same = |other: &super::Row| {
                other.rule == row.rule && other.message == row.message && other.state != State::Free
            };
            **n > number && self.rows.get(**n as usize - 1).is_some_and(same)
        };
        numbers.iter().rev().find(is_newer).copied()
    }
}
