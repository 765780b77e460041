//! Noticing that a directory changed. A hint only: the reader scans and decides what is new.
//!
//! Events are filtered to names that appear (our own reads raise events too), and an overflow of the kernel's queue
//! counts as a hint. Changes made by other machines (NFS and the like) raise no events at all, so a reader also
//! scans now and then by itself.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use notify::event::{ModifyKind, RenameMode};
use notify::{EventKind, RecursiveMode, Watcher};

use crate::error::{Error, Kind, Result};
use crate::stop::{self, Woken};

/// Watches some directories, not what is below them.
pub struct Watch {
    _watcher: notify::RecommendedWatcher,
    ring: UnixStream,
    ear: UnixStream,
}

/// Wakes a [`Watch`] by hand; for another thread that knows of news.
pub struct Bell(UnixStream);

impl Bell {
    /// Ends the watch's present or next wait.
    pub fn ring(&self) {
        use std::io::Write;
        // A full pipe already means "scan".
        let _ = (&self.0).write(b"!");
    }
}

impl Watch {
    /// Starts watching; directories that are there already only.
    pub fn new<'a>(dirs: impl IntoIterator<Item = &'a Path>) -> Result<Watch> {
        let failed = |why: &dyn std::fmt::Display| Error::new(Kind::Io, "cannot watch for new files", why);
        let (ring, ear) = UnixStream::pair().map_err(|why| failed(&why))?;
        for end in [&ring, &ear] {
            end.set_nonblocking(true).map_err(|why| failed(&why))?;
        }
        let by_hand = ring.try_clone().map_err(|why| failed(&why))?;
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            use std::io::Write;
            if event.as_ref().map_or(true, is_news) {
                // A full pipe already means "scan".
                let _ = (&ring).write(b"!");
            }
        })
        .map_err(|why| failed(&why))?;
        for dir in dirs {
            watcher.watch(dir, RecursiveMode::NonRecursive).map_err(|why| failed(&why))?;
        }
        Ok(Watch { _watcher: watcher, ring: by_hand, ear })
    }

    /// Waits for a change, at most this long. A burst of changes is one hint.
    pub fn wait(&self, limit: Duration) -> Woken {
        let woken = stop::wait(&[self.ear.as_fd()], limit).unwrap_or(Woken::Late);
        self.drain();
        woken
    }

    /// Something to wake this watch with.
    pub fn bell(&self) -> Result<Bell> {
        let failed = |why| Error::new(Kind::Io, "cannot watch for new files", why);
        self.ring.try_clone().map(Bell).map_err(failed)
    }

    fn drain(&self) {
        use std::io::Read;
        let mut sink = [0; 256];
        while matches!((&self.ear).read(&mut sink), Ok(1..)) {}
    }
}

fn is_news(event: &notify::Event) -> bool {
    event.need_rescan()
        || matches!(
            event.kind,
            EventKind::Create(_)
                | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Any | RenameMode::Both))
                | EventKind::Remove(notify::event::RemoveKind::Folder)
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_into_the_directory_is_a_hint_and_reading_is_none() {
        let temp = tempfile::tempdir().unwrap();
        let (new, tmp) = (temp.path().join("new"), temp.path().join("tmp"));
        std::fs::create_dir(&new).unwrap();
        std::fs::create_dir(&tmp).unwrap();
        let watch = Watch::new([new.as_path()]).unwrap();
        std::fs::write(tmp.join("m"), "x").unwrap();
        std::fs::rename(tmp.join("m"), new.join("m")).unwrap();
        assert_eq!(watch.wait(Duration::from_secs(10)), Woken::Ready);
        std::fs::read(new.join("m")).unwrap();
        assert_eq!(watch.wait(Duration::from_millis(100)), Woken::Late);
    }
}
