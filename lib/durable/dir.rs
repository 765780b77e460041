//! An open directory and the moves within it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};

use super::{step, sync, write};
use crate::error::{Error, Kind, Result};

/// An open directory; every name is relative to it, so renaming or replacing a parent cannot lead a write astray.
#[derive(Clone, Debug)]
pub struct Dir {
    pub(super) handle: Arc<OwnedFd>,
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
        write(&mut file, bytes).map_err(|why| Error::writing(&path, why))?;
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
        write(&mut file, bytes).map_err(|why| Error::writing(&path, why))?;
        step("rename", || Ok(rustix::fs::renameat(&*self.handle, aside.as_str(), &*self.handle, name)?))
            .map_err(|why| Error::writing(&path, why))
    }

    /// Writes over the bytes of a file that is there, which needs no room on a full disk; what is left of longer ones
    /// becomes spaces. A reader may see half of it, and nothing is synced.
    pub fn overwrite_soon(&self, name: &str, bytes: &[u8]) -> Result<()> {
        use std::os::unix::fs::FileExt;
        let path = self.at(name);
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let written = rustix::fs::openat(&*self.handle, name, flags, Mode::empty());
        let written = written.map_err(io::Error::from).map(File::from).and_then(|file| {
            let length = file.metadata()?.len() as usize;
            let mut all = bytes.to_vec();
            all.resize(length.max(bytes.len()), b' ');
            step("overwrite", || file.write_all_at(&all, 0))
        });
        written.map_err(|why| Error::writing(&path, why))
    }

    /// The names in it, unsorted, without `.` and `..`.
    pub fn names(&self) -> Result<Vec<std::ffi::OsString>> {
        let mut names = Vec::new();
        self.each_name(&mut |name| names.push(OsStr::from_bytes(name).to_os_string()))?;
        Ok(names)
    }

    /// The same, one by one: a directory may hold more than should be kept.
    pub fn each_name(&self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let listing = |why: rustix::io::Errno| Error::reading(&self.path, why.into());
        for entry in rustix::fs::Dir::read_from(&*self.handle).map_err(listing)? {
            let entry = entry.map_err(listing)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                each(name);
            }
        }
        Ok(())
    }
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
