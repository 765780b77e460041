//! What commands printed: one file for each claim in `STATE/act/log/`, for whoever wants to know why it failed.
//!
//! Nothing depends on these: they are not synced, and only those of the last thousand claims are kept.

use super::Ledger;
use crate::durable::Dir;
use crate::error::{Error, Result};

const DIR: &str = "log";

/// How many are kept.
pub(super) const KEPT: u64 = 1000;

impl Ledger {
    /// Keeps what the command of a claim printed.
    pub fn keep_output(&self, number: u64, printed: &[u8]) -> Result<()> {
        let dir = match self.dir.has(DIR) {
            true => Dir::open(self.dir.at(DIR))?,
            false => self.dir.subdir(DIR, 0o700)?,
        };
        if let Some(old) = number.checked_sub(KEPT) {
            dir.remove(old.to_string()).map_err(|why| Error::writing(dir.at(old.to_string()), why))?;
        }
        dir.replace_soon(&number.to_string(), printed, 0o600)
    }

    /// What the command of a claim printed, if it is still known.
    pub fn output(&self, number: u64) -> Result<Option<Vec<u8>>> {
        match self.dir.has(DIR) {
            true => Dir::open(self.dir.at(DIR))?.read(number.to_string()),
            false => Ok(None),
        }
    }
}
