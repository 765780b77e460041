//! A hash table on disk: from the digest of a key to the number of the last claim that has it.
//!
//! Slots of 32 bytes, probed one after the other. Each says in its last bytes that we wrote it, an empty one too, so
//! that damage is never taken for "there is no such claim".

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::row::{Id, check};
use crate::durable::Dir;

const SLOT: usize = 32;
/// How many slots are read at once.
const GROUP: u64 = 8;

#[derive(Debug)]
pub(super) struct Table {
    file: File,
    /// Its size is two to the power of this.
    pub bits: u32,
    /// How many slots are taken.
    pub used: u64,
}

/// A table that cannot be read as one.
pub(super) fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is damaged")
}

impl Table {
    /// An empty one.
    pub fn create(dir: &Dir, name: &str, bits: u32) -> io::Result<Table> {
        dir.remove(name)?;
        let table = Table { file: dir.create_new(name, 0o600)?, bits, used: 0 };
        let mut at = 0;
        while at < table.slots() {
            let places = at..table.slots().min(at + 2048);
            let empty: Vec<u8> = places.clone().flat_map(|place| slot(place, &[0; 16], 0)).collect();
            table.file.write_all_at(&empty, at * SLOT as u64)?;
            at = places.end;
        }
        Ok(table)
    }

    pub fn open(dir: &Dir, name: &str, bits: u32, used: u64) -> io::Result<Table> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(dir.at(name), flags, Mode::empty())?);
        Ok(Table { file, bits, used })
    }

    fn slots(&self) -> u64 {
        1 << self.bits
    }

    /// True if more than half of it is taken: then a search takes long.
    pub fn is_full(&self) -> bool {
        self.used * 2 > self.slots()
    }

    /// The number that stands for this id.
    pub fn find(&self, id: &Id) -> io::Result<Option<u64>> {
        Ok(self.search(id)?.1)
    }

    /// Lets the id stand for this number from now on.
    pub fn put(&mut self, id: &Id, number: u64) -> io::Result<()> {
        let (place, before) = self.search(id)?;
        self.file.write_all_at(&slot(place, id, number), place * SLOT as u64)?;
        self.used += u64::from(before.is_none());
        Ok(())
    }

    /// The same in a table twice as large.
    pub fn doubled(&self, dir: &Dir, name: &str) -> io::Result<Table> {
        let mut table = Table::create(dir, name, self.bits + 1)?;
        let (mut at, mut bytes) = (0, vec![0; 2048 * SLOT]);
        while at < self.slots() {
            let many = (self.slots() - at).min(2048);
            let bytes = &mut bytes[..many as usize * SLOT];
            self.file.read_exact_at(bytes, at * SLOT as u64)?;
            for (place, bytes) in (at..).zip(bytes.chunks_exact(SLOT)) {
                if let (id, number @ 1..) = read(place, bytes)? {
                    table.put(&id, number)?;
                }
            }
            at += many;
        }
        Ok(table)
    }

    /// Where the id stands, or would, and its number.
    fn search(&self, id: &Id) -> io::Result<(u64, Option<u64>)> {
        let mask = self.slots() - 1;
        let start = u64::from_le_bytes([id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7]]) & mask;
        let mut bytes = [0; GROUP as usize * SLOT];
        let mut place = start;
        loop {
            // Groups do not straddle the end.
            let first = place & !(GROUP - 1);
            self.file.read_exact_at(&mut bytes, first * SLOT as u64)?;
            for (at, bytes) in (first..).zip(bytes.chunks_exact(SLOT)).skip((place - first) as usize) {
                match read(at, bytes)? {
                    (_, 0) => return Ok((at, None)),
                    (found, number) if found == *id => return Ok((at, Some(number))),
                    _ => {}
                }
            }
            place = (first + GROUP) & mask;
        }
    }
}

fn slot(place: u64, id: &Id, number: u64) -> [u8; SLOT] {
    let mut bytes = [0; SLOT];
    bytes[..16].copy_from_slice(id);
    bytes[16..24].copy_from_slice(&number.to_le_bytes());
    let sum = check(place, &bytes[..24]);
    bytes[24..].copy_from_slice(&sum);
    bytes
}

fn read(place: u64, bytes: &[u8]) -> io::Result<(Id, u64)> {
    let (body, sum) = bytes.split_last_chunk::<8>().ok_or_else(damaged)?;
    let (id, number) = body.split_first_chunk::<16>().ok_or_else(damaged)?;
    if check(place, body) != *sum {
        return Err(damaged());
    }
    Ok((*id, u64::from_le_bytes(number.try_into().map_err(|_| damaged())?)))
}
