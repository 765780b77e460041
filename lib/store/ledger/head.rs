//! The head of the index: how far it goes, and whether it can be believed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::row::{LENGTH, check};
use crate::durable::Log;
use crate::error::Result;

/// The words that a head begins with; another format has another number.
const MAGIC: u64 = 0x31_78_64_6e_69_6c_6d;

/// How far the index goes, and where its parts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Device and inode of the log.
    pub log: (u64, u64),
    /// Which boot of the machine this was written in.
    pub boot: [u8; 16],
    /// Up to where the log is in it.
    pub applied: u64,
    /// Where the last line begins that is in it, and what it was.
    pub last: u64,
    pub last_check: [u8; 8],
    pub claims: u64,
    /// Which file the slots are in.
    pub table: u64,
    pub bits: u32,
    pub used: u64,
    /// How many words by hand there were, at least.
    pub hands: u64,
}

impl Head {
    pub fn write(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let words = [
            MAGIC,
            self.log.0,
            self.log.1,
            self.applied,
            self.last,
            self.claims,
            self.table,
            u64::from(self.bits),
            self.used,
        ];
        for (at, word) in words.iter().enumerate() {
            bytes[at * 8..at * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
        bytes[72..88].copy_from_slice(&self.boot);
        bytes[88..96].copy_from_slice(&self.last_check);
        bytes[96..104].copy_from_slice(&self.hands.to_le_bytes());
        let sum = check(0, &bytes[..LENGTH - 8]);
        bytes[LENGTH - 8..].copy_from_slice(&sum);
        bytes
    }

    pub fn of(rows: &File) -> io::Result<Option<Head>> {
        let mut bytes = [0; LENGTH];
        match rows.read_exact_at(&mut bytes, 0) {
            Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        Ok(Head::read(&bytes))
    }

    /// True if the log still holds what this says of it: it is as long, and the last line is the same.
    pub fn stands_in(&self, log: &Log) -> Result<bool> {
        if self.claims == 0 {
            return Ok(true);
        }
        Ok(self.applied <= log.end() && check(self.last, &log.line_at(self.last)?) == self.last_check)
    }

    fn read(bytes: &[u8; LENGTH]) -> Option<Head> {
        let (body, sum) = bytes.split_last_chunk::<8>()?;
        let word = |at: usize| Some(u64::from_le_bytes(body.get(at * 8..at * 8 + 8)?.try_into().ok()?));
        if check(0, body) != *sum || word(0) != Some(MAGIC) {
            return None;
        }
        Some(Head {
            log: (word(1)?, word(2)?),
            applied: word(3)?,
            last: word(4)?,
            claims: word(5)?,
            table: word(6)?,
            bits: u32::try_from(word(7)?).ok().filter(|bits| *bits < 48)?,
            used: word(8)?,
            boot: body.get(72..88)?.try_into().ok()?,
            last_check: body.get(88..96)?.try_into().ok()?,
            hands: word(12)?,
        })
    }
}

/// Which boot of the machine this is: what was not synced before another one is not believed. `None` where nobody
/// knows; then nothing is believed that an earlier process wrote.
pub(super) fn boot() -> Option<[u8; 16]> {
    static BOOT: std::sync::OnceLock<Option<[u8; 16]>> = std::sync::OnceLock::new();
    *BOOT.get_or_init(|| {
        let text = std::fs::read("/proc/sys/kernel/random/boot_id").ok()?;
        let mut boot = [0; 16];
        boot[..8].copy_from_slice(&check(0, &text));
        boot[8..].copy_from_slice(&check(1, &text));
        Some(boot)
    })
}
