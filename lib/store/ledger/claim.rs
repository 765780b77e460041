//! Deciding who may act: claims, one by one or many in one write.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::line::{Again, End, Key, Line, Past, State};
use super::row::{By, Ids, Row};
use super::{Ledger, row::Id};
use crate::error::Result;

/// What is to be claimed.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// What it is.
    pub key: &'a Key,
    /// Where the file lies, for history.
    pub path: &'a Path,
    /// The command, for history.
    pub argv: Vec<String>,
    /// What may be claimed once more.
    pub again: Again,
    /// How many claims of this rule there may be in an hour; what somebody asked for by hand is not counted out.
    pub max_per_hour: Option<u32>,
    /// Settle it at once, in the same line, as this.
    pub settle: Option<End>,
}

/// What became of the wish to claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It is ours, under this number; settle it.
    Ours(u64),
    /// It was claimed before, and that stands in the way.
    Before(Past),
    /// The rule has had this many in the last hour: it stands as held, and is due again from a moment on.
    Held {
        /// Under this number.
        number: u64,
        /// How many there may be.
        most: u32,
        /// From when on there may be one more.
        until: Timestamp,
        /// False where it was held before.
        news: bool,
    },
}

/// What is decided and not written yet.
#[derive(Default)]
pub(super) struct Batch {
    lines: Vec<Line>,
    claims: u64,
    keys: HashSet<Id>,
    files: HashSet<Id>,
    by_rule: BTreeMap<String, u32>,
}

impl Batch {
    /// True if a decision about this key depends on what is not written yet.
    fn touches(&self, key: &Key, ids: &Ids) -> bool {
        self.keys.contains(ids.get(By::Key))
            || (key.message.is_none() && self.files.contains(ids.get(By::File)))
    }
}

impl Ledger {
    /// Claims it, if nobody did before; durable on return.
    pub fn claim(&mut self, claim: Claim<'_>) -> Result<Claimed> {
        let _lock = self.lock()?;
        let mut batch = Batch::default();
        let claimed = self.decide(claim, &mut batch)?;
        self.write(&mut batch)?;
        Ok(claimed)
    }

    /// Claims many with few writes: what became of each, in their order, all of it durable. Where writing fails in the
    /// middle there are fewer answers than claims, at least one; nothing was claimed for the rest.
    pub fn claim_all(&mut self, claims: Vec<Claim<'_>>) -> Result<Vec<Claimed>> {
        let _lock = self.lock()?;
        let (mut decided, mut written, mut batch) = (Vec::with_capacity(claims.len()), 0, Batch::default());
        for claim in claims {
            let ids = Ids::of(claim.key);
            if batch.touches(claim.key, &ids) {
                match self.write(&mut batch) {
                    Ok(()) => written = decided.len(),
                    Err(error) if written == 0 => return Err(error),
                    Err(_) => break,
                }
            }
            match self.decide(claim, &mut batch) {
                Ok(claimed) => decided.push(claimed),
                Err(error) if decided.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        match self.write(&mut batch) {
            Ok(()) => written = decided.len(),
            Err(error) if written == 0 => return Err(error),
            Err(_) => {}
        }
        decided.truncate(written);
        Ok(decided)
    }

    fn write(&mut self, batch: &mut Batch) -> Result<()> {
        let batch = std::mem::take(batch);
        self.append(&batch.lines)
    }

    fn decide(&mut self, claim: Claim<'_>, batch: &mut Batch) -> Result<Claimed> {
        let now = Timestamp::now();
        let before = self.latest(claim.key)?;
        if let Some((past, _)) = before.as_ref().filter(|(past, _)| past.bars(claim.again, now)) {
            return Ok(Claimed::Before(*past));
        }
        let was_asked = before.as_ref().is_some_and(|(past, _)| past.state == State::Later && past.asked);
        let most = claim.max_per_hour.filter(|_| !was_asked);
        if let Some(most) = most
            && let Some(until) = self.full_until(claim.key, most, now, batch)?
        {
            let row = before.filter(|(past, _)| past.state == State::Held).map(|(_, row)| row);
            return self.hold(claim, most, until, row, batch);
        }
        let by = match claim.settle {
            Some(_) => None,
            None => Some(self.live()?),
        };
        let number = self.enter(claim, by, batch)?;
        Ok(Claimed::Ours(number))
    }

    fn enter(&mut self, claim: Claim<'_>, by: Option<String>, batch: &mut Batch) -> Result<u64> {
        batch.claims += 1;
        let number = self.index()?.claims() + batch.claims;
        let ids = Ids::of(claim.key);
        batch.keys.insert(*ids.get(By::Key));
        batch.files.insert(*ids.get(By::File));
        if !claim.settle.as_ref().is_some_and(|end| matches!(end.state, State::Free | State::Held)) {
            *batch.by_rule.entry(claim.key.rule.clone()).or_default() += 1;
        }
        batch.lines.push(Line::Claim {
            v: 1,
            n: number,
            at: Timestamp::now(),
            key: claim.key.clone(),
            path: claim.path.into(),
            argv: claim.argv,
            by,
            settled: claim.settle,
        });
        Ok(number)
    }

    /// Too many in this hour: said in the ledger, so that somebody sees it and nobody asks before its time.
    fn hold(
        &mut self,
        claim: Claim<'_>,
        most: u32,
        until: Timestamp,
        held: Option<Row>,
        batch: &mut Batch,
    ) -> Result<Claimed> {
        let why = format!("held: rule {} may act {most} times an hour", claim.key.rule);
        let end = End { next: Some(until), ..End::because(State::Held, why) };
        match held.filter(|row| row.ids == Ids::of(claim.key)) {
            Some(row) => {
                batch.keys.insert(*row.ids.get(By::Key));
                batch.files.insert(*row.ids.get(By::File));
                batch.lines.push(Line::Settle { v: 1, n: row.number, at: Timestamp::now(), end });
                Ok(Claimed::Held { number: row.number, most, until, news: false })
            }
            None => {
                let number = self.enter(Claim { settle: Some(end), ..claim }, None, batch)?;
                Ok(Claimed::Held { number, most, until, news: true })
            }
        }
    }

    /// Where the rule has had as many in the hour before `now` as it may: when it may have one more. Those that a clock
    /// gone wrong dated far into the future count for nothing, or the rule would be held for ever.
    pub(super) fn full_until(
        &mut self,
        key: &Key,
        most: u32,
        now: Timestamp,
        batch: &Batch,
    ) -> Result<Option<Timestamp>> {
        let hour = SignedDuration::from_hours(1);
        let wanted = most.saturating_sub(batch.by_rule.get(&key.rule).copied().unwrap_or_default());
        let index = self.index()?;
        let (mut found, mut oldest) = (0, now);
        let mut row = index.last(Ids::of(key).get(By::Rule))?;
        while let Some(one) = row.filter(|row| found < wanted && now.duration_since(row.at) < hour) {
            if one.at.duration_since(now) < hour && one.counts() {
                (found, oldest) = (found + 1, one.at);
            }
            row = index.row(one.before[By::Rule as usize])?;
        }
        Ok((found >= wanted).then(|| oldest.checked_add(hour).unwrap_or(now)))
    }
}
