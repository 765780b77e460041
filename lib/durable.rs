//! The few disk moves that survive a power cut, each a numbered step at which a test can stop the process.
//!
//! A *step* is one move after which the disk looks different to a reader or to the next run: creating a name,
//! syncing contents, renaming, removing, syncing a directory, appending to a log. In builds with debug assertions
//! three variables drive them (a release build has none of this):
//!
//! - `MAILLOOP_STEPS=FILE` appends `NUMBER NAME` to FILE for each step;
//! - `MAILLOOP_STOP=7-` or `7+` kills the process (SIGKILL) before or after step 7;
//! - `MAILLOOP_FAIL=7` lets step 7 fail as a full disk does (ENOSPC).
//!
//! Everything goes through [`Dir`], a handle on an open directory: names are single path components, files are
//! created with `O_EXCL|O_NOFOLLOW`, and the last rename never replaces.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};

use crate::error::{Error, Kind, Result};

mod step;
pub use step::step;

/// An open directory; every name is relative to it, so renaming or replacing a parent cannot lead a write astray.
#[derive(Clone, Debug)]
pub struct Dir {
    handle: Arc<OwnedFd>,
    path: PathBuf,
}

impl Dir {
    /// Opens a directory that is there.
    pub fn open(path: impl Into<PathBuf>) -> Result<Dir> {
        let path = path.into();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle =
            rustix::fs::open(&path, flags, Mode::empty()).map_err(|why| Error::reading(&path, why.into()))?;
        Ok(Dir { handle: Arc::new(handle), path })
    }

    /// Opens a directory, making it and its missing parents first (mode for what is made, e.g. `0o700`);
    /// what was made is durable on return.
    pub fn create(path: impl Into<PathBuf>, mode: u32) -> Result<Dir> {
        let path = path.into();
        make_dirs(&path, mode)?;
        Dir::open(path).map_err(|error| error.with_kind(Kind::CannotCreate))
    }

    /// Opens or makes the directory `name` in this one (never through a symbolic link).
    pub fn subdir(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<Dir> {
        let name = name.as_ref();
        let path = self.path.join(name);
        let made = step("mkdir", || Ok(rustix::fs::mkdirat(&*self.handle, name, Mode::from(mode))?));
        match made {
            Ok(()) => self.sync()?,
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
            Err(why) => return Err(Error::creating(path, why)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&*self.handle, name, flags, Mode::empty())
            .map_err(|why| Error::creating(&path, why.into()))?;
        Ok(Dir { handle: Arc::new(handle), path })
    }

    /// Makes the directory `name` in this one; it must not be there, and is durable once this one is synced.
    pub fn new_subdir(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<Dir> {
        let (name, path) = (name.as_ref(), self.path.join(name.as_ref()));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        step("mkdir", || Ok(rustix::fs::mkdirat(&*self.handle, name, Mode::from(mode))?))
            .and_then(|()| Ok(rustix::fs::openat(&*self.handle, name, flags, Mode::empty())?))
            .map(|handle| Dir { handle: Arc::new(handle), path: path.clone() })
            .map_err(|why| Error::creating(&path, why))
    }

    /// The path it was opened by, for messages and records.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `name` in it.
    pub fn at(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.path.join(name.as_ref())
    }

    /// Creates a file that was not there: `O_EXCL|O_NOFOLLOW`; [`io::ErrorKind::AlreadyExists`] otherwise.
    pub fn create_new(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        step("create", || {
            Ok(File::from(rustix::fs::openat(&*self.handle, name.as_ref(), flags, Mode::from(mode))?))
        })
    }

    /// Opens a regular file for reading, never through a symbolic link.
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&*self.handle, name.as_ref(), flags, Mode::empty())?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("not a regular file")),
        }
    }

    /// Reads a small file whole; `None` if it is not there.
    pub fn read(&self, name: impl AsRef<OsStr>) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        match self.open_file(&name).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Ok(_) => Ok(Some(bytes)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(Error::reading(self.at(&name), why)),
        }
    }

    /// True if something of that name is there, a dangling link included.
    pub fn has(&self, name: impl AsRef<OsStr>) -> bool {
        rustix::fs::statat(&*self.handle, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Renames within or between directories and never replaces: [`io::ErrorKind::AlreadyExists`] instead.
    /// Durable once both directories are synced ([`Dir::sync`]).
    pub fn rename_new(&self, from: impl AsRef<OsStr>, to_dir: &Dir, to: impl AsRef<OsStr>) -> io::Result<()> {
        step("rename", || {
            let (from, to) = (from.as_ref(), to.as_ref());
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(&*self.handle, from, &*to_dir.handle, to, flags) {
                // QUIRK: some file systems (NFS, old overlays) know no flags: link and unlink never replace either.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                    rustix::fs::linkat(&*self.handle, from, &*to_dir.handle, to, AtFlags::empty())?;
                    Ok(rustix::fs::unlinkat(&*self.handle, from, AtFlags::empty())?)
                }
                done => Ok(done?),
            }
        })
    }

    /// Removes a file; that it was not there is no error.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        step("remove", || match rustix::fs::unlinkat(&*self.handle, name.as_ref(), AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) => Ok(()),
            done => Ok(done?),
        })
    }

    /// Removes an empty directory in it.
    pub fn remove_dir(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        step("rmdir", || Ok(rustix::fs::unlinkat(&*self.handle, name.as_ref(), AtFlags::REMOVEDIR)?))
    }

    /// Makes the names in it durable.
    pub fn sync(&self) -> Result<()> {
        step("sync-dir", || Ok(rustix::fs::fsync(&*self.handle)?))
            .map_err(|why| Error::writing(&self.path, why))
    }

    /// Writes `name` whole: aside, synced, renamed over the old one, directory synced. After a crash it holds
    /// the old bytes or the new ones, never a mixture. Only one process may do this at a time (hold a [`Lock`]).
    pub fn replace(&self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let aside = format!("{name}.new");
        let path = self.at(name);
        self.remove(&aside).map_err(|why| Error::writing(&path, why))?;
        let mut file = self.create_new(&aside, mode).map_err(|why| Error::creating(&path, why))?;
        file.write_all(bytes).map_err(|why| Error::writing(&path, why))?;
        sync(&file).map_err(|why| Error::writing(&path, why))?;
        step("rename", || Ok(rustix::fs::renameat(&*self.handle, aside.as_str(), &*self.handle, name)?))
            .map_err(|why| Error::writing(&path, why))?;
        self.sync()
    }

    /// The same without syncing anything: whole for every reader, but a power cut may bring the old bytes back or leave
    /// none. For what is cheap to learn anew.
    pub fn replace_soon(&self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let aside = format!("{name}.new");
        let path = self.at(name);
        self.remove(&aside).map_err(|why| Error::writing(&path, why))?;
        let mut file = self.create_new(&aside, mode).map_err(|why| Error::creating(&path, why))?;
        file.write_all(bytes).map_err(|why| Error::writing(&path, why))?;
        step("rename", || Ok(rustix::fs::renameat(&*self.handle, aside.as_str(), &*self.handle, name)?))
            .map_err(|why| Error::writing(&path, why))
    }

    /// The names in it, unsorted, without `.` and `..`.
    pub fn names(&self) -> Result<Vec<std::ffi::OsString>> {
        let listing = |why: rustix::io::Errno| Error::reading(&self.path, why.into());
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&*self.handle).map_err(listing)? {
            let entry = entry.map_err(listing)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_os_string());
            }
        }
        Ok(names)
    }
}

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

fn make_dirs(path: &Path, mode: u32) -> Result<()> {
    let failed = |why| Error::creating(path, why);
    if path.is_dir() || path.as_os_str().is_empty() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_dirs(parent, mode)?;
    match step("mkdir", || fs::DirBuilder::new().mode(mode).create(path)) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => return Err(failed(why)),
        _ => {}
    }
    Dir::open(parent)?.sync()
}

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

/// An append-only file of lines: what [`Log::append`] was given is durable on return, all of it or none.
///
/// A line that a crash cut short (no newline at the end) is cut off at the next open. A group of lines that must
/// stand or fall together is one append; a torn group is told by its missing last newline only if it was one
/// line, so put what must be atomic into one line. The caller holds a [`Lock`] while appending.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
    len: u64,
}

impl Log {
    /// Opens or creates the log and gives the whole lines it holds.
    pub fn open(dir: &Dir, name: &str) -> Result<(Log, Vec<String>)> {
        let mut lines = Vec::new();
        let mut log = Log::at_start(dir, name)?;
        log.read_each(&mut |line| lines.push(String::from_utf8_lossy(line).into_owned()))?;
        log.truncate()?;
        Ok((log, lines))
    }

    fn at_start(dir: &Dir, name: &str) -> Result<Log> {
        let path = dir.at(name);
        let file = match dir.create_new(name, 0o600) {
            Ok(file) => {
                dir.sync()?;
                file
            }
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {
                let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(&*dir.handle, name, flags, Mode::empty())
                    .map(File::from)
                    .map_err(|why| Error::reading(&path, why.into()).with_kind(Kind::Io))?
            }
            Err(why) => return Err(Error::creating(&path, why)),
        };
        Ok(Log { file, path, len: 0 })
    }

    /// A crash cut the last append short; what it said never became true.
    fn truncate(&mut self) -> Result<()> {
        let written = self.file.metadata().map_err(|why| Error::reading(&self.path, why))?.len();
        if written > self.len {
            step("truncate", || self.file.set_len(self.len))
                .map_err(|why| Error::writing(&self.path, why))?;
        }
        Ok(())
    }

    /// Goes to the end of the last whole line without reading those before it.
    fn skip(&mut self) -> Result<()> {
        use std::os::unix::fs::FileExt;
        let failed = |why| Error::reading(&self.path, why);
        let mut end = self.file.metadata().map_err(failed)?.len();
        let mut chunk = vec![0; 4096];
        while end > self.len {
            let length = usize::try_from(end - self.len).unwrap_or(usize::MAX).min(chunk.len());
            let start = end - length as u64;
            self.file.read_exact_at(&mut chunk[..length], start).map_err(failed)?;
            if let Some(at) = memchr::memrchr(b'\n', &chunk[..length]) {
                self.len = start + at as u64 + 1;
                break;
            }
            end = start;
        }
        Ok(())
    }

    /// As [`Log::open`], reading nothing but the end; [`Log::each`] gives the lines when they are wanted.
    pub fn open_unread(dir: &Dir, name: &str) -> Result<Log> {
        let mut log = Log::at_start(dir, name)?;
        log.skip()?;
        log.truncate()?;
        Ok(log)
    }

    /// All whole lines up to where we are, one by one.
    pub fn each(&self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.read_range(0, self.len, each).map(drop)
    }

    /// Passes over what was appended since the last read, by this or another process.
    pub fn pass_on(&mut self) -> Result<()> {
        self.skip()
    }

    /// Whole lines that were appended since the last read, by this or another process.
    pub fn read_on(&mut self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        self.read_each(&mut |line| lines.push(String::from_utf8_lossy(line).into_owned()))?;
        Ok(lines)
    }

    /// As [`Log::read_on`], line by line.
    pub fn read_each(&mut self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let size = self.file.metadata().map_err(|why| Error::reading(&self.path, why))?.len();
        self.len = self.read_range(self.len, size, each)?;
        Ok(())
    }

    /// Hands over the whole lines of a range that begins with one, piece by piece; gives where the last one ends.
    fn read_range(&self, start: u64, end: u64, each: &mut dyn FnMut(&[u8])) -> Result<u64> {
        use std::os::unix::fs::FileExt;
        let (mut buffer, mut at, mut done) = (Vec::new(), start, start);
        while at < end {
            let kept = buffer.len();
            let room = usize::try_from(end - at).unwrap_or(usize::MAX).min(128 * 1024);
            buffer.resize(kept + room, 0);
            self.file
                .read_exact_at(&mut buffer[kept..], at)
                .map_err(|why| Error::reading(&self.path, why))?;
            at += room as u64;
            let mut rest = buffer.as_slice();
            while let Some(length) = memchr::memchr(b'\n', rest) {
                if length > 0 {
                    each(&rest[..length]);
                }
                rest = &rest[length + 1..];
            }
            let left = rest.len();
            done = at - left as u64;
            buffer.drain(..buffer.len() - left);
        }
        Ok(done)
    }

    /// Appends `lines` (each without its newline) and syncs once; on an error the log is as it was before.
    pub fn append(&mut self, lines: &[String]) -> Result<()> {
        self.append_with(lines, true)
    }

    /// As [`Log::append`]; without `sync` nothing waits for the disk, and a power cut can lose the lines.
    pub fn append_with(&mut self, lines: &[String], sync: bool) -> Result<()> {
        use std::os::unix::fs::FileExt;
        if lines.is_empty() {
            return Ok(());
        }
        let mut text = lines.join("\n");
        text.push('\n');
        let written = step("append", || {
            self.file.write_all_at(text.as_bytes(), self.len)?;
            if sync { self.file.sync_data() } else { Ok(()) }
        });
        if let Err(why) = written {
            let _ = self.file.set_len(self.len);
            return Err(Error::writing(&self.path, why));
        }
        self.len += text.len() as u64;
        Ok(())
    }

    /// True if the file under this name is another one by now (it was compacted or removed).
    pub fn is_stale(&self) -> bool {
        let Ok(mine) = self.file.metadata() else { return true };
        fs::metadata(&self.path).map_or(true, |now| (now.dev(), now.ino()) != (mine.dev(), mine.ino()))
    }
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
