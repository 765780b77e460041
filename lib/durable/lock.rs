//! A kernel lock that one process has at a time.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::Dir;
use crate::error::{Error, Kind, Result};

/// A kernel lock on a file of its own; released when dropped or when the process dies. The file stays.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits up to `limit` for the lock `name` in `dir`; [`Kind::Temporary`] if somebody else keeps it.
    pub fn take(dir: &Dir, name: &str, limit: Duration) -> Result<Lock> {
        let path = dir.at(name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&*dir.handle, name, flags, Mode::from(0o600))
            .map(File::from)
            .map_err(|why| Error::creating(&path, why.into()))?;
        let end = Instant::now() + limit;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(fs::TryLockError::WouldBlock) if Instant::now() < end => {
                    if !crate::stop::sleep(Duration::from_millis(20).min(limit)) {
                        return Err(Error::new(
                            Kind::Temporary,
                            format!("cannot lock {}", path.display()),
                            "asked to end while waiting for it",
                        ));
                    }
                }
                Err(fs::TryLockError::WouldBlock) => {
                    return Err(Error::new(
                        Kind::Temporary,
                        format!("cannot lock {}", path.display()),
                        "another process is at work there",
                    )
                    .hint("wait for it, or raise --timeout"));
                }
                Err(fs::TryLockError::Error(why)) => return Err(Error::writing(&path, why)),
            }
        }
    }
}
