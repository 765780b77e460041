//! The once-only memory of act: what was claimed before it was done, and how it was settled after.
//!
//! `STATE/act/ledger` is a file of JSON lines that only grows. A *claim* is durable before its command starts, its
//! *settle* line once the command has ended. Line `n` of the claims has the number `n`; a settle line names it. It is
//! the truth and never rewritten; what finds a claim in it without reading it is the `index`, which can be made anew.
//!
//! | what stands there | state | acted on again? |
//! |---|---|---|
//! | nothing, or a claim settled as `free` | | yes: it surely did not happen |
//! | a claim whose process still lives | `claimed` | no, it is being done |
//! | a claim whose process is gone | `unknown` | only with *again* |
//! | settled as `later` or `held`, with a moment | that | from that moment on, or with *again* |
//! | settled as anything else | that | only with *again* |
//!
//! A claim's process holds a kernel lock on `STATE/act/live-…` as long as it lives, and the claim names that file:
//! pids come back, across containers too; a lock ends with its holder. The ledger's own lock is held while a claim
//! is decided and written, never while a command runs. Several processes, or threads with a `Ledger` each, may use
//! it at once.
//!
//! A last line that a crash cut short never became true and is taken off. Anything else in the log that makes no sense
//! is an error (74), and nothing is claimed.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::durable::{Dir, Lock, Log, check_private};
use crate::error::{Error, Kind, Result};
use crate::report;

mod claim;
mod hand;
mod head;
mod index;
mod line;
mod living;
mod output;
mod row;
mod scan;
mod table;
pub use claim::{Claim, Claimed};
pub use line::{Again, End, Entry, Key, Past, State, is_due};
pub use scan::Wanted;

use index::Index;
use line::Line;
use living::Living;
use row::{By, Ids, Row};

const FILE: &str = "ledger";
const LOCK: &str = "lock";

/// The ledger, open for claiming.
#[derive(Debug)]
pub struct Ledger {
    dir: Dir,
    log: Log,
    /// None where it must be opened anew.
    index: Option<Index>,
    wait: Duration,
    living: Option<Living>,
}

impl Ledger {
    /// Opens the ledger in the state directory and makes what is missing; waits up to `wait` for its lock, each time.
    /// 78 where others can write to either directory; 74 where the ledger is damaged.
    pub fn open(state: &Path, wait: Duration) -> Result<Ledger> {
        let state = Dir::create(state, 0o700)?;
        check_private(state.path())?;
        let dir = state.subdir("act", 0o700)?;
        check_private(dir.path())?;
        let _lock = take_lock(&dir, wait)?;
        let log = Log::open_unread(&dir, FILE)?;
        let index = Index::open(&dir, &log)?;
        tell_cut(&dir, log.cut());
        Ok(Ledger { dir, log, index: Some(index), wait, living: None })
    }

    /// As [`Ledger::open`], but `None`, and nothing made, where there is no ledger yet.
    pub fn open_existing(state: &Path, wait: Duration) -> Result<Option<Ledger>> {
        match state.join("act").join(FILE).exists() {
            true => Ledger::open(state, wait).map(Some),
            false => Ok(None),
        }
    }

    /// Says how a claim ended; durable on return. Settling again replaces what was said before.
    pub fn settle(&mut self, number: u64, end: End) -> Result<()> {
        let _lock = self.lock()?;
        self.append(&[Line::Settle { v: 1, n: number, at: Timestamp::now(), end }])
    }

    /// The same for many, in one write.
    pub fn settle_all(&mut self, numbers: &[u64], end: &End) -> Result<()> {
        let _lock = self.lock()?;
        let at = Timestamp::now();
        let lines: Vec<Line> =
            numbers.iter().map(|n| Line::Settle { v: 1, n: *n, at, end: end.clone() }).collect();
        self.append(&lines)
    }

    /// Remembers that somebody was told of this claim for good; durable on return.
    pub fn told(&mut self, number: u64) -> Result<()> {
        let _lock = self.lock()?;
        self.append(&[Line::Told { v: 1, n: number, at: Timestamp::now() }])
    }

    /// True if somebody was told of this claim for good.
    pub fn was_told(&mut self, number: u64) -> Result<bool> {
        let _lock = self.lock()?;
        Ok(self.index()?.row(number)?.is_some_and(|row| row.told))
    }

    /// The last claim of this key that may have happened, what other processes wrote included.
    ///
    /// Where the message is not known, the claims of every message count: better to ask than to act twice.
    pub fn before(&mut self, key: &Key) -> Result<Option<Past>> {
        let _lock = self.lock()?;
        Ok(self.latest(key)?.map(|(past, _)| past))
    }

    /// How many claims of the same key before `number` failed for now or were never settled, in a row, since somebody
    /// last asked for it.
    pub fn tries_before(&mut self, number: u64) -> Result<u32> {
        let _lock = self.lock()?;
        Ok(self.index()?.row(number)?.map_or(0, |row| row.tries))
    }

    /// Takes the lock and learns what others wrote, so that what follows is decided on all that was ever written.
    fn lock(&mut self) -> Result<Lock> {
        let lock = take_lock(&self.dir, self.wait)?;
        if self.log.is_stale() {
            self.log = Log::open_unread(&self.dir, FILE)?;
            self.index = None;
        } else {
            self.log.pass_on()?;
        }
        self.index = Some(Index::refresh(self.index.take(), &self.dir, &self.log)?);
        Ok(lock)
    }

    /// Under the lock: brought up to the end of the log.
    fn index(&mut self) -> Result<&Index> {
        let index = match self.index.take() {
            Some(index) => index,
            None => Index::open(&self.dir, &self.log)?,
        };
        Ok(self.index.insert(index))
    }

    /// Under the lock: durable on return, all of it.
    fn append(&mut self, lines: &[Line]) -> Result<()> {
        let texts: Vec<String> = lines
            .iter()
            .map(serde_json::to_string)
            .collect::<Result<_, _>>()
            .map_err(|why| Error::new(Kind::Internal, "cannot write a line of the ledger", why))?;
        let cut = self.log.cut();
        self.log.append(&texts)?;
        tell_cut(&self.dir, self.log.cut() - cut);
        let Some(mut index) = self.index.take() else { return Ok(()) };
        let mut at = self.log.end() - texts.iter().map(|text| text.len() as u64 + 1).sum::<u64>();
        let mut taken = Ok(());
        for (text, line) in texts.iter().zip(lines) {
            taken = taken.and_then(|()| index.apply(at, text.as_bytes(), line));
            at += text.len() as u64 + 1;
        }
        // What is durable counts. An index that could not take it in is brought up from the log by whoever is next.
        if taken.and_then(|()| index.commit()).is_ok() {
            self.index = Some(index);
        }
        Ok(())
    }

    /// The last claim of the key that may have happened.
    fn latest(&mut self, key: &Key) -> Result<Option<(Past, Row)>> {
        let (ids, by) = (Ids::of(key), if key.message.is_none() { By::File } else { By::Key });
        let index = self.index()?;
        let mut row = index.last(ids.get(by))?;
        while let Some(found) = &row
            && found.state == State::Free
        {
            row = index.row(found.before[by as usize])?;
        }
        let Some(row) = row else { return Ok(None) };
        let state = self.state_of(&row)?;
        let Row { number, at, next, asked, told, .. } = row;
        Ok(Some((Past { number, state, at, next, asked, told }, row)))
    }

    /// A claim that is not settled is one of a living process, or unknown.
    fn state_of(&self, row: &Row) -> Result<State> {
        if row.state != State::Claimed {
            return Ok(row.state);
        }
        let lives = self.claim_line(row)?.by.is_some_and(|by| self.lives(&by));
        Ok(if lives { State::Claimed } else { State::Unknown })
    }

    fn lives(&self, by: &str) -> bool {
        self.living.as_ref().is_some_and(|ours| ours.name() == by) || living::lives(&self.dir, by)
    }

    /// The name of our life sign, made when it is first needed; the caller holds the lock.
    fn live(&mut self) -> Result<String> {
        let living = match self.living.take() {
            Some(living) => living,
            None => Living::begin(&self.dir)?,
        };
        Ok(self.living.insert(living).name().to_string())
    }
}

fn tell_cut(dir: &Dir, bytes: u64) {
    if bytes > 0 {
        report::say(format_args!(
            "{}: took off {bytes} bytes of a line that a crash cut short; what it said never came true",
            dir.at(FILE).display()
        ));
    }
}

/// Waits also while we are asked to end: what has been done must still be settled.
fn take_lock(dir: &Dir, wait: Duration) -> Result<Lock> {
    let end = Instant::now() + wait;
    loop {
        match Lock::take(dir, LOCK, Duration::ZERO) {
            Err(error) if error.kind() == Kind::Temporary && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(3));
            }
            taken => return taken,
        }
    }
}

#[cfg(test)]
mod tests;
