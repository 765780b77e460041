//! Looking through the claims, a piece at a time: history, and what is not over.

use jiff::Timestamp;

use super::Ledger;
use super::line::{Entry, Key, Line, State, read};
use super::row::{By, Row};
use crate::error::{Error, Kind, Result};
use crate::record::RecordPath;

/// How many rows are read at once.
const PIECE: u64 = 512;

/// Which claims are looked for; all where nothing is asked.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// These, by their numbers.
    pub numbers: Vec<u64>,
    /// Those in one of these states.
    pub states: Vec<State>,
    /// Those not older than this moment.
    pub since: Option<Timestamp>,
    /// The newest first; else the oldest.
    pub newest_first: bool,
}

/// The line of a claim.
pub(super) struct ClaimLine {
    pub key: Key,
    pub path: RecordPath,
    pub argv: Vec<String>,
    pub by: Option<String>,
    settled: Option<super::End>,
}

impl Ledger {
    /// Hands over the claims that are wanted until `each` says false. Memory does not grow with the ledger, and no lock
    /// is held while `each` runs.
    pub fn each(&mut self, wanted: &Wanted, each: &mut dyn FnMut(Entry) -> Result<bool>) -> Result<()> {
        if !wanted.numbers.is_empty() {
            let mut numbers = wanted.numbers.clone();
            numbers.sort_unstable();
            numbers.dedup();
            if wanted.newest_first {
                numbers.reverse();
            }
            for number in numbers {
                let row = {
                    let _lock = self.lock()?;
                    self.index()?.row(number)?
                };
                if !self.pass(wanted, row.into_iter().collect(), each)? {
                    return Ok(());
                }
            }
            return Ok(());
        }
        let (mut first, mut last) = (1, {
            let _lock = self.lock()?;
            self.index()?.claims()
        });
        while first <= last {
            let start = if wanted.newest_first { last.saturating_sub(PIECE - 1).max(first) } else { first };
            let many = PIECE.min(last + 1 - start);
            let mut rows = {
                let _lock = self.lock()?;
                self.index()?.rows(start, many)?
            };
            if wanted.newest_first {
                rows.reverse();
                last = start - 1;
            } else {
                first = start + many;
            }
            if !self.pass(wanted, rows, each)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn pass(
        &mut self,
        wanted: &Wanted,
        rows: Vec<Row>,
        each: &mut dyn FnMut(Entry) -> Result<bool>,
    ) -> Result<bool> {
        for row in rows {
            if wanted.since.is_some_and(|since| row.at < since) {
                continue;
            }
            let state = self.state_of(&row)?;
            if !wanted.states.is_empty() && !wanted.states.contains(&state) {
                continue;
            }
            if !each(self.entry(&row, state)?)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Hands over what is not over: of several claims of the same key the last that may have happened, where it is being
    /// done, or is unknown, failed, dead, held, or to be tried again.
    pub fn each_open(&mut self, each: &mut dyn FnMut(Entry)) -> Result<()> {
        let mut first = 1;
        loop {
            let _lock = self.lock()?;
            let rows = self.index()?.rows(first, PIECE)?;
            if rows.is_empty() {
                return Ok(());
            }
            first += rows.len() as u64;
            for row in rows {
                let is_over =
                    matches!(row.state, State::Done | State::Emitted | State::Skipped | State::Free);
                if !is_over && self.is_last(&row)? {
                    let state = self.state_of(&row)?;
                    each(self.entry(&row, state)?);
                }
            }
        }
    }

    /// True if no newer claim of its key may have happened.
    pub(super) fn is_last(&mut self, row: &Row) -> Result<bool> {
        Ok(self.newer(row)?.is_none())
    }

    /// The newest claim of the same key that may have happened, where it is another.
    pub(super) fn newer(&mut self, row: &Row) -> Result<Option<u64>> {
        let index = self.index()?;
        let mut last = index.last(row.ids.get(By::Key))?;
        while let Some(one) = last.filter(|one| one.number > row.number) {
            if one.state != State::Free {
                return Ok(Some(one.number));
            }
            last = index.row(one.before[By::Key as usize])?;
        }
        Ok(None)
    }

    pub(super) fn claim_line(&self, row: &Row) -> Result<ClaimLine> {
        match read(row.claim, &self.log.line_at(row.claim)?)? {
            Line::Claim { n, key, path, argv, by, settled, .. } if n == row.number => {
                Ok(ClaimLine { key, path, argv, by, settled })
            }
            _ => Err(not_there(row.number, row.claim)),
        }
    }

    fn entry(&self, row: &Row, state: State) -> Result<Entry> {
        let claim = self.claim_line(row)?;
        let mut entry = Entry {
            number: row.number,
            key: claim.key,
            claimed: row.at,
            path: claim.path.0,
            argv: claim.argv,
            state,
            settled: None,
            exit: None,
            signal: None,
            why: None,
            next: None,
        };
        match row.settle {
            None => {}
            Some(at) if at == row.claim => claim.settled.into_iter().for_each(|end| entry.end(row.at, end)),
            Some(at) => match read(at, &self.log.line_at(at)?)? {
                Line::Settle { n, at, end, .. } if n == row.number => entry.end(at, end),
                _ => return Err(not_there(row.number, at)),
            },
        }
        Ok(entry)
    }
}

fn not_there(number: u64, at: u64) -> Error {
    Error::new(Kind::Io, "cannot use the ledger", format!("claim {number} does not stand at byte {at}"))
        .hint("look at act/ledger in the state directory: something changed it")
}
