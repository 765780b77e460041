//! Noticing that a directory changed. A hint only: the reader scans and decides what is new.
//!
//! Events are filtered to names that appear (our own reads raise events too), and an overflow of the kernel's queue
//! counts as a hint. Changes made by other machines (NFS and the like) raise no events at all, so a reader also
//! scans now and then by itself.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{EventKind, RecursiveMode, Watcher};

use crate::error::{Error, Kind, Result};
use crate::stop::{self, Woken};

/// Watches some directories, not what is below them.
pub struct Watch {
    watcher: Mutex<notify::RecommendedWatcher>,
    names: Arc<Mutex<Names>>,
    ring: UnixStream,
    ear: UnixStream,
}

/// What appeared, by its path. Hints as everything here: a name may have gone again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Moved in whole, or closed after it was written.
    pub whole: BTreeSet<PathBuf>,
    /// Created or written to, and not closed since.
    pub open: BTreeSet<PathBuf>,
    /// More happened than could be kept: only a scan tells.
    pub lost: bool,
}

/// So many names are kept between two looks.
const MOST: usize = 4096;

impl Names {
    fn note(&mut self, event: &notify::Event) {
        use EventKind::{Access, Create, Modify, Remove};
        self.lost |= event.need_rescan() || matches!(event.kind, Remove(notify::event::RemoveKind::Folder));
        let whole = match event.kind {
            Access(AccessKind::Close(AccessMode::Write)) => true,
            Modify(ModifyKind::Name(RenameMode::To)) => true,
            Create(_) | Modify(ModifyKind::Data(_)) => false,
            _ => return,
        };
        for path in &event.paths {
            self.tell(path.clone(), whole);
        }
    }

    fn tell(&mut self, path: PathBuf, whole: bool) {
        let (to, from) = match whole {
            true => (&mut self.whole, &mut self.open),
            false => (&mut self.open, &mut self.whole),
        };
        from.remove(&path);
        to.insert(path);
        if self.whole.len() + self.open.len() > MOST {
            *self = Names { lost: true, ..Names::default() };
        }
    }
}

/// Wakes a [`Watch`] by hand; for another thread that knows of news.
pub struct Bell {
    ring: UnixStream,
    names: Arc<Mutex<Names>>,
}

impl Bell {
    /// Ends the watch's present or next wait.
    pub fn ring(&self) {
        use std::io::Write;
        // A full pipe already means "scan".
        let _ = (&self.ring).write(b"!");
    }

    /// The same, for files that are there whole.
    pub fn tell(&self, paths: impl IntoIterator<Item = PathBuf>) {
        {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            paths.into_iter().for_each(|path| names.tell(path, true));
        }
        self.ring();
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
        let names = Arc::<Mutex<Names>>::default();
        let noted = names.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            use std::io::Write;
            let is_news = event.as_ref().map_or(true, is_news);
            {
                let mut names = noted.lock().unwrap_or_else(PoisonError::into_inner);
                match &event {
                    Ok(event) => names.note(event),
                    Err(_) => names.lost = true,
                }
            }
            if is_news {
                // A full pipe already means "scan".
                let _ = (&ring).write(b"!");
            }
        })
        .map_err(|why| failed(&why))?;
        let watch = Watch { watcher: Mutex::new(watcher), names, ring: by_hand, ear };
        dirs.into_iter().try_for_each(|dir| watch.add(dir))?;
        Ok(watch)
    }

    /// Watches this directory too; one that is watched already may be named again.
    pub fn add(&self, dir: &Path) -> Result<()> {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        watcher
            .watch(dir, RecursiveMode::NonRecursive)
            .map_err(|why| Error::new(Kind::Io, format!("cannot watch {} for new files", dir.display()), why))
    }

    /// What appeared since this was last asked.
    pub fn names(&self) -> Names {
        std::mem::take(&mut *self.names.lock().unwrap_or_else(PoisonError::into_inner))
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
        Ok(Bell { ring: self.ring.try_clone().map_err(failed)?, names: self.names.clone() })
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
                | EventKind::Access(AccessKind::Close(AccessMode::Write))
        )
}

/// True where other machines may change files without the kernel's word: a network file system, or one that some
/// program serves.
pub fn is_remote(dir: &Path) -> bool {
    const REMOTE: [u32; 9] = [
        0x6969,      // NFS
        0xff53_4d42, // CIFS
        0xfe53_4d42, // SMB2
        0x517b,      // SMB
        0x0102_1997, // 9P
        0x6573_5546, // FUSE
        0x5346_414f, // AFS
        0x00c3_6400, // Ceph
        0x7375_7245, // Coda
    ];
    rustix::fs::statfs(dir).is_ok_and(|fs| REMOTE.contains(&(fs.f_type as u32)))
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
        assert_eq!(watch.names(), Names { whole: [new.join("m")].into(), ..Names::default() });
        std::fs::read(new.join("m")).unwrap();
        assert_eq!(watch.wait(Duration::from_millis(100)), Woken::Late);
        assert!(!is_remote(temp.path()));
    }

    #[test]
    fn a_file_is_whole_when_it_is_closed_and_too_many_are_lost() {
        use std::io::Write;
        let temp = tempfile::tempdir().unwrap();
        let watch = Watch::new([temp.path()]).unwrap();
        let path = temp.path().join("f");
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(b"x").unwrap();
        assert_eq!(watch.wait(Duration::from_secs(10)), Woken::Ready);
        assert!(!watch.names().whole.contains(&path));
        drop(file);
        assert_eq!(watch.wait(Duration::from_secs(10)), Woken::Ready);
        assert!(watch.names().whole.contains(&path));
        watch.bell().unwrap().tell((0..=MOST).map(|n| temp.path().join(n.to_string())));
        assert_eq!(watch.wait(Duration::from_secs(10)), Woken::Ready);
        assert!(watch.names().lost);
    }
}
