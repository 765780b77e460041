//! What somebody says of a claim by hand, because they looked.

use super::line::Line;
use super::{End, Ledger, State};
use crate::error::{Error, Kind, Result};
use jiff::Timestamp;

impl Ledger {
    /// Another number whenever somebody said something by hand: what was settled may wait again.
    pub fn hands(&mut self) -> Result<u64> {
        let _lock = self.lock()?;
        Ok(self.index()?.hands())
    }

    /// True if a newer claim of the same thing says how that stands.
    pub fn is_overtaken(&mut self, number: u64) -> Result<bool> {
        let _lock = self.lock()?;
        let row = self.index()?.row(number)?;
        Ok(row.map(|row| self.newer(&row)).transpose()?.flatten().is_some())
    }

    /// Settles a claim as somebody says; durable on return.
    ///
    /// 64 where there is no such claim, or a newer one of the same thing; 75 where a living process is at it.
    pub fn by_hand(&mut self, number: u64, end: End) -> Result<()> {
        let _lock = self.lock()?;
        let doing = || format!("cannot change claim {number}");
        let row = self.index()?.row(number)?;
        let Some(row) = row else {
            return Err(Error::new(Kind::Usage, doing(), "there is no such claim")
                .hint("`mail-loop history` shows all, with their numbers"));
        };
        if self.state_of(&row)? == State::Claimed {
            return Err(Error::new(Kind::Temporary, doing(), "a process is at it now"));
        }
        if let Some(newer) = self.newer(&row)? {
            return Err(Error::new(
                Kind::Usage,
                doing(),
                format!("claim {newer} is of the same thing and newer"),
            ));
        }
        self.append(&[Line::Settle {
            v: 1,
            n: number,
            at: Timestamp::now(),
            end: End { asked: true, ..end },
        }])
    }
}
