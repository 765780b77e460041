//! What finds claims without reading the ledger: `act/rows` and `act/slots-N`, made from it and never the truth.
//!
//! `rows` holds a head and then a row for each claim, by its number; the slots find the last claim of a key, and each row
//! names the one before it. Both are changed after the log was synced and are not synced themselves: after a reboot, or
//! where anything in them is not as we wrote it, they are made anew from the whole log. Where a process died half way the
//! next one goes on from where the head says they are; doing a line twice comes to the same.
//!
//! All of this happens under the ledger's lock.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use jiff::Timestamp;

use super::head::{Head, boot};
use super::line::{End, Line, State, read};
use super::row::{By, Id, Ids, LENGTH, Row, check};
use super::table::{Table, damaged};
use crate::durable::{Dir, Log};
use crate::error::{Error, Kind, Result};

const ROWS: &str = "rows";
const SLOTS: &str = "slots-";
/// Two to the power of this is the size of the first table.
const BITS: u32 = 10;

#[derive(Debug)]
pub(super) struct Index {
    dir: Dir,
    rows: File,
    head: Head,
    table: Table,
}

impl Index {
    /// The index as it is on disk, brought up to the end of the log; made anew where it cannot be used.
    pub fn open(dir: &Dir, log: &Log) -> Result<Index> {
        if let Ok(Some(mut index)) = Index::found(dir, log)
            && index.catch_up(log).is_ok()
        {
            return Ok(index);
        }
        Index::ask_for_what_was_there(dir, log)?;
        Index::build(dir, log)
    }

    /// 74 where the log had more once, as an index knows that cannot be used otherwise: it is written after the log was
    /// synced, so it is never ahead. What was taken off would be done again.
    fn ask_for_what_was_there(dir: &Dir, log: &Log) -> Result<()> {
        let head = dir.open_file(ROWS).and_then(|rows| Head::of(&rows));
        let Some(head) = head.ok().flatten() else { return Ok(()) };
        if head.stands_in(log)? {
            return Ok(());
        }
        let what = format!("it held {} claims, and not all of that is there any more", head.claims);
        Err(Error::new(Kind::Io, format!("cannot use the ledger in {}", dir.path().display()), what).hint(
            "put the file `ledger` back; or remove `rows` beside it: then what is lost from it is done again",
        ))
    }

    /// Takes in what others appended; what cannot be used any more is opened, or made, anew.
    pub fn refresh(index: Option<Index>, dir: &Dir, log: &Log) -> Result<Index> {
        if let Some(mut index) = index
            && index.is_current().is_ok_and(|current| current)
            && index.head.applied <= log.end()
            && index.catch_up(log).is_ok()
        {
            return Ok(index);
        }
        Index::open(dir, log)
    }

    fn found(dir: &Dir, log: &Log) -> io::Result<Option<Index>> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let rows = File::from(rustix::fs::open(dir.at(ROWS), flags, Mode::empty())?);
        let Some(head) = Head::of(&rows)? else { return Ok(None) };
        let is_its = log.identity().is_ok_and(|identity| identity == head.log);
        if !is_its || Some(head.boot) != boot() || !head.stands_in(log).map_err(io::Error::other)? {
            return Ok(None);
        }
        let table = Table::open(dir, &format!("{SLOTS}{}", head.table), head.bits, head.used)?;
        Ok(Some(Index { dir: dir.clone(), rows, head, table }))
    }

    /// Reads the whole log. 74 where a line of it cannot be used: what is lost from it might be done twice.
    fn build(dir: &Dir, log: &Log) -> Result<Index> {
        let failed = |why| Error::creating(dir.at(ROWS), why);
        let old: Vec<String> = dir.names()?.iter().filter_map(|name| slots(name.to_str()?)).collect();
        let number = |name: &String| name.strip_prefix(SLOTS).and_then(|number| number.parse().ok());
        let table: u64 = old.iter().filter_map(number).max().unwrap_or(0) + 1;
        let aside = format!("{ROWS}.new");
        dir.remove(&aside).map_err(failed)?;
        let rows = dir.create_new(&aside, 0o600).map_err(failed)?;
        let slots = Table::create(dir, &format!("{SLOTS}{table}"), BITS).map_err(failed)?;
        let boot = boot().unwrap_or_default();
        let (log_is, none) = (log.identity()?, [0; 8]);
        let head = Head {
            log: log_is,
            boot,
            applied: 0,
            last: 0,
            last_check: none,
            claims: 0,
            table,
            bits: BITS,
            used: 0,
            hands: 0,
        };
        let mut index = Index { dir: dir.clone(), rows, head, table: slots };
        index.catch_up(log)?;
        index.write_head().map_err(failed)?;
        dir.remove(ROWS).map_err(failed)?;
        dir.rename_new(&aside, dir, ROWS).map_err(failed)?;
        let ours = format!("{SLOTS}{}", index.head.table);
        for name in old.iter().filter(|name| **name != ours) {
            // What stays is only space.
            let _ = dir.remove(name);
        }
        Ok(index)
    }

    /// True if this is still the index that others use; learns what they did to it.
    fn is_current(&mut self) -> io::Result<bool> {
        let (mine, now) = (self.rows.metadata()?, std::fs::metadata(self.dir.at(ROWS))?);
        let Some(head) = Head::of(&self.rows)? else { return Ok(false) };
        if (mine.dev(), mine.ino()) != (now.dev(), now.ino()) {
            return Ok(false);
        }
        if head != self.head {
            if head.table != self.head.table {
                let name = format!("{SLOTS}{}", head.table);
                self.table = Table::open(&self.dir, &name, head.bits, head.used)?;
            }
            self.table.used = head.used;
            self.head = head;
        }
        Ok(true)
    }

    fn catch_up(&mut self, log: &Log) -> Result<()> {
        if self.head.applied == log.end() {
            return Ok(());
        }
        let mut taken = Ok(());
        log.each_from(self.head.applied, &mut |at, line| {
            if taken.is_ok() {
                taken = read(at, line).and_then(|parsed| self.apply(at, line, &parsed));
            }
        })?;
        taken?;
        self.head.applied = log.end();
        self.write_head().map_err(|why| self.trouble(why))
    }

    /// Takes in a line of the log that begins at `at`. [`Index::commit`] once all are.
    pub fn apply(&mut self, at: u64, text: &[u8], line: &Line) -> Result<()> {
        match line {
            Line::Claim { n, at: moment, key, settled, .. } => {
                if *n != self.head.claims + 1 {
                    return Err(gap(*n, at));
                }
                let ids = Ids::of(key);
                self.enter(*n, at, *moment, ids, settled.as_ref(), key.message.is_none())
                    .map_err(|why| self.trouble(why))?;
                self.head.claims = *n;
            }
            Line::Settle { n, end, .. } => {
                let mut row = self.row_for(*n, at)?;
                row.end(at, end);
                self.head.hands += u64::from(end.asked);
                self.write_row(&row).map_err(|why| self.trouble(why))?;
            }
            Line::Told { n, .. } => {
                let mut row = self.row_for(*n, at)?;
                row.told = true;
                self.write_row(&row).map_err(|why| self.trouble(why))?;
            }
        }
        self.head.last = at;
        self.head.last_check = check(at, text);
        self.head.applied = at + text.len() as u64 + 1;
        Ok(())
    }

    /// Says how far the index goes now.
    pub fn commit(&mut self) -> Result<()> {
        self.write_head().map_err(|why| self.trouble(why))
    }

    fn row_for(&self, number: u64, at: u64) -> Result<Row> {
        self.row(number)?.ok_or_else(|| gap(number, at))
    }

    fn enter(
        &mut self,
        number: u64,
        claim: u64,
        at: Timestamp,
        ids: Ids,
        settled: Option<&End>,
        is_any: bool,
    ) -> io::Result<()> {
        // Where a process died at this very line, the slots may speak of it already and have forgotten what was before.
        let half = self.read_row(number).ok().flatten().filter(|row| row.claim == claim && row.ids == ids);
        let mut row = match half {
            Some(row) => row,
            None => self.fresh(number, claim, at, ids, is_any)?,
        };
        (row.state, row.settle, row.next, row.asked, row.told) = (State::Claimed, None, None, false, false);
        settled.iter().for_each(|end| row.end(claim, end));
        self.write_row(&row)?;
        if self.table.is_full() {
            self.grow()?;
        }
        ids.0.iter().try_for_each(|id| self.table.put(id, number))
    }

    fn fresh(&self, number: u64, claim: u64, at: Timestamp, ids: Ids, is_any: bool) -> io::Result<Row> {
        let last = |by| self.table.find(ids.get(by)).map(Option::unwrap_or_default);
        let mut before = [last(By::Key)?, last(By::File)?, last(By::Rule)?];
        // What is held does not count in the hour, and there may be a thousand of them.
        while let Some(row) = self.read_some(before[By::Rule as usize])?
            && row.state == State::Held
        {
            before[By::Rule as usize] = row.before[By::Rule as usize];
        }
        let by = if is_any { By::File } else { By::Key };
        let mut past = self.read_some(before[by as usize])?;
        while let Some(row) = &past
            && row.state == State::Free
        {
            past = self.read_some(row.before[by as usize])?;
        }
        let tries = past.filter(Row::was_in_vain).map_or(0, |row| row.tries.saturating_add(1));
        let state = State::Claimed;
        Ok(Row {
            number,
            claim,
            settle: None,
            at,
            next: None,
            state,
            asked: false,
            told: false,
            tries,
            ids,
            before,
        })
    }

    fn grow(&mut self) -> io::Result<()> {
        let number = self.head.table + 1;
        self.table = self.table.doubled(&self.dir, &format!("{SLOTS}{number}"))?;
        let old = format!("{SLOTS}{}", self.head.table);
        (self.head.table, self.head.bits) = (number, self.table.bits);
        self.write_head()?;
        let _ = self.dir.remove(old);
        Ok(())
    }

    /// How many claims there are.
    pub fn claims(&self) -> u64 {
        self.head.claims
    }

    /// Another number after each word by hand.
    pub fn hands(&self) -> u64 {
        self.head.hands
    }

    /// The row of a claim, if there is one.
    pub fn row(&self, number: u64) -> Result<Option<Row>> {
        match number {
            0 => Ok(None),
            number if number > self.head.claims => Ok(None),
            number => self.read_some(number).map_err(|why| self.trouble(why)),
        }
    }

    /// The rows of so many claims from `first` on, at most those there are.
    pub fn rows(&self, first: u64, many: u64) -> Result<Vec<Row>> {
        let many = many.min((self.head.claims + 1).saturating_sub(first));
        let mut bytes = vec![0; many as usize * LENGTH];
        self.rows.read_exact_at(&mut bytes, first * LENGTH as u64).map_err(|why| self.trouble(why))?;
        let rows = (first..).zip(bytes.chunks_exact(LENGTH)).map(|(n, bytes)| Row::read(n, bytes));
        rows.collect::<Option<_>>().ok_or_else(|| self.trouble(damaged()))
    }

    /// The last claim with this id.
    pub fn last(&self, id: &Id) -> Result<Option<Row>> {
        let number = self.table.find(id).map_err(|why| self.trouble(why))?;
        number.map_or(Ok(None), |number| self.row(number))
    }

    fn read_some(&self, number: u64) -> io::Result<Option<Row>> {
        match number {
            0 => Ok(None),
            number => self.read_row(number)?.ok_or_else(damaged).map(Some),
        }
    }

    /// `None` where no whole row stands.
    fn read_row(&self, number: u64) -> io::Result<Option<Row>> {
        let mut bytes = [0; LENGTH];
        match self.rows.read_exact_at(&mut bytes, number * LENGTH as u64) {
            Ok(()) => Ok(Row::read(number, &bytes)),
            Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(why) => Err(why),
        }
    }

    fn write_row(&self, row: &Row) -> io::Result<()> {
        self.rows.write_all_at(&row.write(), row.number * LENGTH as u64)
    }

    fn write_head(&mut self) -> io::Result<()> {
        self.head.used = self.table.used;
        self.rows.write_all_at(&self.head.write(), 0)
    }

    /// An index that cannot be used goes; the next to need one makes it anew.
    fn trouble(&self, why: io::Error) -> Error {
        let doing = format!("cannot use {}", self.dir.at(ROWS).display());
        if why.kind() == io::ErrorKind::InvalidData || why.kind() == io::ErrorKind::UnexpectedEof {
            let _ = self.dir.remove(ROWS);
            return Error::new(Kind::Temporary, doing, why)
                .hint("the next run makes it anew from the ledger");
        }
        Error::writing(self.dir.at(ROWS), why)
    }
}

impl Row {
    fn end(&mut self, at: u64, end: &End) {
        (self.state, self.next, self.asked, self.settle) = (end.state, end.next, end.asked, Some(at));
    }
}

fn gap(number: u64, at: u64) -> Error {
    Error::new(
        Kind::Io,
        "cannot use the ledger",
        format!("claim {number}, at byte {at}, is missing or out of its place"),
    )
    .hint("look at act/ledger in the state directory; what is lost from it might be done twice")
}

fn slots(name: &str) -> Option<String> {
    let number = name.strip_prefix(SLOTS)?;
    number.parse::<u64>().is_ok().then(|| name.to_string())
}
