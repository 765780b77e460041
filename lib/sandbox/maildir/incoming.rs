//! A message being written in `tmp/`: removed again unless it was linked into the mailbox.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Flags, NewMessage};

static COUNT: AtomicU64 = AtomicU64::new(0);
/// A file that lies in `tmp/` for so long belongs to nobody any more (maildir(5) says 36 hours).
const ORPHAN_AGE: Duration = Duration::from_secs(36 * 3600);

/// The file and its name.
#[derive(Debug)]
pub struct Incoming {
    file: BufWriter<File>,
    path: PathBuf,
    size: u64,
}

impl Incoming {
    pub(super) fn create(tmp: &Path) -> io::Result<Incoming> {
        let path = tmp.join(name());
        let file = File::create_new(&path)?;
        Ok(Incoming { file: BufWriter::with_capacity(256 * 1024, file), path, size: 0 })
    }

    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Makes the contents durable and, if wanted, dates the file; then it can be added.
    pub fn finish(&mut self, date: Option<SystemTime>) -> io::Result<NewMessage> {
        self.file.flush()?;
        if let Some(date) = date {
            self.file.get_ref().set_modified(date)?;
        }
        self.file.get_ref().sync_all()?;
        Ok(NewMessage {
            path: self.path.clone(),
            size: self.size,
            flags: Flags::default(),
            keywords: Vec::new(),
        })
    }
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Copies to another file system, synced.
pub(super) fn copy(from: &Path, tmp: &Path) -> io::Result<PathBuf> {
    let to = tmp.join(name());
    let mut out = File::create_new(&to)?;
    let mut source = File::open(from)?;
    io::copy(&mut source, &mut out)?;
    out.set_modified(source.metadata()?.modified()?)?;
    out.sync_all()?;
    Ok(to)
}

/// Removes what an earlier run, killed in the middle, left behind.
pub(super) fn sweep(tmp: &Path) -> io::Result<()> {
    for entry in fs::read_dir(tmp)? {
        let entry = entry?;
        let ours = entry.file_name().to_string_lossy().ends_with(".sandbox");
        let old = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|date| date.elapsed().ok());
        if ours || old.is_some_and(|age| age > ORPHAN_AGE) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}.M{}P{}Q{count}.sandbox", now.as_secs(), now.subsec_micros(), std::process::id())
}
