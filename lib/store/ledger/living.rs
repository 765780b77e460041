//! Life signs: a file that a process keeps locked as long as it lives, so that others can tell its claims from those
//! of the dead. All of this happens under the ledger's lock.

use std::time::Duration;

use jiff::Timestamp;

use crate::durable::{Dir, Lock};
use crate::error::{Kind, Result};

const PREFIX: &str = "live-";

/// Our own life sign: gone when dropped.
#[derive(Debug)]
pub(super) struct Living {
    name: String,
    dir: Dir,
    _lock: Lock,
}

impl Living {
    /// Makes one and removes those of the dead.
    pub fn begin(dir: &Dir) -> Result<Living> {
        for name in dir.names()? {
            if let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX) && !lives(dir, name)) {
                // What stays is no trouble: it is not locked.
                let _ = std::fs::remove_file(dir.at(name));
            }
        }
        let name = format!("{PREFIX}{}-{}", std::process::id(), Timestamp::now().as_nanosecond());
        let lock = Lock::take(dir, &name, Duration::ZERO)?;
        Ok(Living { name, dir: dir.clone(), _lock: lock })
    }

    /// What claims call it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.dir.at(&self.name));
    }
}

/// True if the process that made this life sign is there.
pub(super) fn lives(dir: &Dir, name: &str) -> bool {
    // A name from the ledger is opened only if it is one that we may have made.
    let ours =
        name.strip_prefix(PREFIX).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'-'));
    ours && dir.has(name)
        && Lock::take(dir, name, Duration::ZERO).is_err_and(|error| error.kind() == Kind::Temporary)
}
