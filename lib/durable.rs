//! The few disk moves that survive a power cut, each a numbered step at which a test can stop the process.
//!
//! A *step* is one move after which the disk looks different to a reader or to the next run: creating a name,
//! writing and syncing contents, renaming, removing, syncing a directory, appending to a log. In builds with debug assertions
//! three variables drive them (a release build has none of this):
//!
//! - `MAILLOOP_STEPS=FILE` appends `NUMBER NAME` to FILE for each step;
//! - `MAILLOOP_STOP=7-` or `7+` kills the process (SIGKILL) before or after step 7;
//! - `MAILLOOP_FAIL=7` lets step 7 fail as a full disk does (ENOSPC), `7+` the same although it is done, `7..` it and all
//!   that follow; with `MAILLOOP_FAIL_WITH=EIO` as a broken one.
//!
//! Everything goes through [`Dir`], a handle on an open directory: names are single path components, files are
//! created with `O_EXCL|O_NOFOLLOW`, and the last rename never replaces.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Kind, Result};

mod dir;
mod lock;
mod log;
mod step;
pub use dir::Dir;
pub use lock::Lock;
pub use log::{Log, NotAppended};
pub use step::{step, write};

/// Makes a file's contents durable.
pub fn sync(file: &File) -> io::Result<()> {
    step("sync", || file.sync_all())
}

/// How many files are synced side by side: file systems write one journal for all that wait at the same time.
const SIDE_BY_SIDE: usize = 16;

/// Makes the contents of many files durable, several at a time: a disk syncs several nearly as fast as one.
pub fn sync_many(files: &[&File]) -> io::Result<()> {
    step("sync-group", || {
        if let [file] = files {
            return file.sync_all();
        }
        let width = files.len().clamp(1, SIDE_BY_SIDE);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..width)
                .map(|k| {
                    scope.spawn(move || files.iter().skip(k).step_by(width).try_for_each(|f| f.sync_all()))
                })
                .collect();
            workers
                .into_iter()
                .try_for_each(|w| w.join().unwrap_or_else(|_| Err(io::Error::other("a sync thread died"))))
        })
    })
}

/// Refuses a directory that somebody else owns or may write to: what lies there decides what we run.
pub fn check_private(path: &Path) -> Result<()> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(why) => return Err(Error::reading(path, why).with_kind(Kind::Config)),
    };
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me && meta.uid() != 0 {
        return Err(Error::plain(Kind::Config, format!("{} belongs to another user", path.display()))
            .hint("use a directory of your own"));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(Error::plain(Kind::Config, format!("{} can be written to by others", path.display()))
            .hint(format!("chmod go-w {}", path.display())));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
