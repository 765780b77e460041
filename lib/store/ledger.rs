//! The once-only memory of act: what was claimed before it was done, and how it was settled after.
//!
//! `STATE/act/ledger` is a file of JSON lines that only grows. A *claim* is durable before its command starts, its
//! *settle* line once the command has ended. Line `n` of the claims has the number `n`; a settle line names it.
//!
//! | what stands there | state | acted on again? |
//! |---|---|---|
//! | nothing, or a claim settled as `free` | | yes: it surely did not happen |
//! | a claim whose process still lives | `claimed` | no, it is being done |
//! | a claim whose process is gone | `unknown` | only with *again* |
//! | settled as `later`, with a moment | that | from that moment on, or with *again* |
//! | settled as anything else | that | only with *again* |
//!
//! A claim's process holds a kernel lock on `STATE/act/live-…` as long as it lives, and the claim names that file:
//! pids come back, across containers too; a lock ends with its holder. The ledger's own lock is held while a claim
//! is decided and written, never while a command runs. Several processes, or threads with a `Ledger` each, may use
//! it at once.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::durable::{Dir, Lock, Log, check_private};
use crate::error::{Error, Kind, Result};

mod hand;
mod line;
mod living;
mod output;
pub use line::{Again, End, Entry, Key, Past, State};

use line::{Line, read};
use living::Living;

const FILE: &str = "ledger";
const LOCK: &str = "lock";

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
    /// How many claims of this rule there may be in an hour.
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
    /// The rule has had this many in the last hour.
    Held(u32),
}

/// What the decision about a claim needs of the claims before it.
#[derive(Debug)]
struct Row {
    rule: String,
    message: Option<String>,
    at: Timestamp,
    state: State,
    by: Option<String>,
    next: Option<Timestamp>,
    asked: bool,
}

impl Row {
    /// True if it is about the same thing; where the key knows no message, the claims of every message are.
    fn is_of(&self, key: &Key) -> bool {
        self.rule == key.rule && (key.message.is_none() || self.message == key.message)
    }

    fn end(&mut self, end: &End) {
        (self.state, self.next, self.asked) = (end.state, end.next, end.asked);
    }
}

/// The ledger, open for claiming.
#[derive(Debug)]
pub struct Ledger {
    dir: Dir,
    log: Log,
    rows: Vec<Row>,
    /// The numbers of the claims for a file's digest, oldest first.
    by_file: HashMap<String, Vec<u64>>,
    wait: Duration,
    living: Option<Living>,
}

impl Ledger {
    /// Opens the ledger in the state directory and makes what is missing; waits up to `wait` for its lock, each time.
    /// 78 where others can write to either directory.
    pub fn open(state: &Path, wait: Duration) -> Result<Ledger> {
        let state = Dir::create(state, 0o700)?;
        check_private(state.path())?;
        let dir = state.subdir("act", 0o700)?;
        check_private(dir.path())?;
        let lock = take_lock(&dir, wait)?;
        let (log, lines) = Log::open(&dir, FILE)?;
        drop(lock);
        let mut ledger = Ledger { dir, log, rows: Vec::new(), by_file: HashMap::new(), wait, living: None };
        ledger.take_in(&lines)?;
        Ok(ledger)
    }

    /// As [`Ledger::open`], but `None`, and nothing made, where there is no ledger yet.
    pub fn open_existing(state: &Path, wait: Duration) -> Result<Option<Ledger>> {
        match state.join("act").join(FILE).exists() {
            true => Ledger::open(state, wait).map(Some),
            false => Ok(None),
        }
    }

    /// Claims it, if nobody did before; durable on return.
    pub fn claim(&mut self, claim: Claim<'_>) -> Result<Claimed> {
        let _lock = self.lock()?;
        let now = Timestamp::now();
        if let Some(past) = self.latest(claim.key)
            && past.bars(claim.again, now)
        {
            return Ok(Claimed::Before(past));
        }
        if let Some(most) = claim.max_per_hour
            && self.within_an_hour(&claim.key.rule, now) >= most
        {
            return Ok(Claimed::Held(most));
        }
        let number = self.rows.len() as u64 + 1;
        let by = match claim.settle {
            Some(_) => None,
            None => Some(self.live()?),
        };
        let line = Line::Claim {
            v: 1,
            n: number,
            at: now,
            key: claim.key.clone(),
            path: claim.path.into(),
            argv: claim.argv,
            by,
            settled: claim.settle,
        };
        self.append(line)?;
        Ok(Claimed::Ours(number))
    }

    /// Says how a claim ended; durable on return. Settling again replaces what was said before.
    pub fn settle(&mut self, number: u64, end: End) -> Result<()> {
        let _lock = self.lock()?;
        self.append(Line::Settle { v: 1, n: number, at: Timestamp::now(), end })
    }

    /// The last claim of this key that may have happened, what other processes wrote included.
    ///
    /// Where the message is not known, the claims of every message count: better to ask than to act twice.
    pub fn before(&mut self, key: &Key) -> Result<Option<Past>> {
        let _lock = self.lock()?;
        Ok(self.latest(key))
    }

    /// How many claims of this key before `number` failed for now or were never settled, in a row, since somebody last
    /// asked for it.
    pub fn tries_before(&self, key: &Key, number: u64) -> u32 {
        let numbers = self.by_file.get(&key.file).into_iter().flatten().rev().filter(|n| **n < number);
        let rows = numbers
            .filter_map(|n| self.rows.get(*n as usize - 1))
            .filter(|row| row.state != State::Free && row.is_of(key));
        let in_vain =
            |row: &&Row| matches!(row.state, State::Later | State::Unknown | State::Claimed) && !row.asked;
        rows.take_while(in_vain).count() as u32
    }

    /// Every claim, oldest first, and what became of it.
    pub fn entries(&mut self) -> Result<Vec<Entry>> {
        let (_, lines) = {
            let _lock = take_lock(&self.dir, self.wait)?;
            Log::open(&self.dir, FILE)?
        };
        let mut entries: Vec<Entry> = Vec::new();
        for line in &lines {
            match read(line)? {
                Line::Claim { n, at, key, path, argv, by, settled, .. } => {
                    let mut entry = Entry {
                        number: n,
                        key,
                        claimed: at,
                        path: path.0,
                        argv,
                        state: self.state_of(State::Claimed, by.as_deref()),
                        settled: None,
                        exit: None,
                        signal: None,
                        why: None,
                        next: None,
                    };
                    settled.into_iter().for_each(|end| entry.end(at, end));
                    entries.push(entry);
                }
                Line::Settle { n, at, end, .. } => {
                    if let Some(entry) = entries.get_mut(n as usize - 1) {
                        entry.end(at, end);
                    }
                }
            }
        }
        Ok(entries)
    }

    /// Takes the lock and reads on, so that what follows is decided on all that was ever written.
    fn lock(&mut self) -> Result<Lock> {
        let lock = take_lock(&self.dir, self.wait)?;
        let lines = if self.log.is_stale() {
            let (log, lines) = Log::open(&self.dir, FILE)?;
            self.log = log;
            self.rows.clear();
            self.by_file.clear();
            lines
        } else {
            self.log.read_on()?
        };
        self.take_in(&lines)?;
        Ok(lock)
    }

    fn append(&mut self, line: Line) -> Result<()> {
        let text = serde_json::to_string(&line)
            .map_err(|why| Error::new(Kind::Internal, "cannot write a line of the ledger", why))?;
        self.log.append(&[text])?;
        self.enter(line)
    }

    fn take_in(&mut self, lines: &[String]) -> Result<()> {
        lines.iter().try_for_each(|line| self.enter(read(line)?))
    }

    fn enter(&mut self, line: Line) -> Result<()> {
        let gap = |n: u64| {
            let doing = format!("cannot use the ledger {}", self.dir.at(FILE).display());
            Error::new(Kind::Io, doing, format!("claim {n} is missing or out of its place"))
                .hint("look at it; what is lost from it might be done twice")
        };
        match line {
            Line::Claim { n, at, key, by, settled, .. } => {
                if n != self.rows.len() as u64 + 1 {
                    return Err(gap(n));
                }
                let state = State::Claimed;
                let (rule, message) = (key.rule, key.message);
                let mut row = Row { rule, message, at, state, by, next: None, asked: false };
                settled.iter().for_each(|end| row.end(end));
                self.rows.push(row);
                self.by_file.entry(key.file).or_default().push(n);
            }
            Line::Settle { n, end, .. } => {
                let row = usize::try_from(n).ok().and_then(|n| self.rows.get_mut(n.checked_sub(1)?));
                match row {
                    Some(row) => row.end(&end),
                    None => return Err(gap(n)),
                }
            }
        }
        Ok(())
    }

    fn latest(&self, key: &Key) -> Option<Past> {
        let numbers = self.by_file.get(&key.file)?.iter().rev();
        let mut rows = numbers.filter_map(|n| Some((*n, self.rows.get(*n as usize - 1)?)));
        let (number, row) = rows.find(|(_, row)| row.state != State::Free && row.is_of(key))?;
        let state = self.state_of(row.state, row.by.as_deref());
        Some(Past { number, state, at: row.at, next: row.next, asked: row.asked })
    }

    /// A claim that is not settled is one of a living process, or unknown.
    fn state_of(&self, state: State, by: Option<&str>) -> State {
        match state {
            State::Claimed if !by.is_some_and(|by| self.lives(by)) => State::Unknown,
            state => state,
        }
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

    /// How many claims of `rule` lie less than an hour from `now`. Those that a clock gone wrong dated far into the
    /// future count for nothing, or the rule would be held for ever.
    fn within_an_hour(&self, rule: &str, now: Timestamp) -> u32 {
        let hour = SignedDuration::from_hours(1);
        let recent = self.rows.iter().rev().take_while(|row| now.duration_since(row.at) < hour);
        let near = recent.filter(|row| row.at.duration_since(now) < hour);
        // What was held, or waits because somebody asked for it, is counted when it is done.
        let counts = |row: &&Row| match row.state {
            State::Free | State::Held => false,
            State::Later => !row.asked,
            _ => true,
        };
        near.filter(|row| row.rule == rule).filter(counts).count() as u32
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
