//! An append-only file of lines.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use super::{Dir, step};
use crate::error::{Error, Kind, Result};

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
    cut: u64,
}

/// Why lines were not appended.
#[derive(Debug)]
pub struct NotAppended {
    /// What happened.
    pub why: Error,
    /// True if the log is, durably where that was asked for, as it was before. If not, the lines may yet be found in it.
    pub is_undone: bool,
}

impl From<Error> for NotAppended {
    /// Nothing was written.
    fn from(why: Error) -> NotAppended {
        NotAppended { why, is_undone: true }
    }
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
        Ok(Log { file, path, len: 0, cut: 0 })
    }

    /// A crash cut the last append short; what it said never became true.
    fn truncate(&mut self) -> Result<()> {
        let written = self.file.metadata().map_err(|why| Error::reading(&self.path, why))?.len();
        if written > self.len {
            step("truncate", || self.file.set_len(self.len))
                .map_err(|why| Error::writing(&self.path, why))?;
            self.cut += written - self.len;
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
        self.read_range(0, self.len, &mut |_, line| each(line)).map(drop)
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
        self.len = self.read_range(self.len, size, &mut |_, line| each(line))?;
        Ok(())
    }

    /// Hands over the whole lines of a range that begins with one, piece by piece, each with where it begins; gives
    /// where the last one ends.
    fn read_range(&self, start: u64, end: u64, each: &mut dyn FnMut(u64, &[u8])) -> Result<u64> {
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
                    each(done, &rest[..length]);
                }
                done += length as u64 + 1;
                rest = &rest[length + 1..];
            }
            let left = rest.len();
            buffer.drain(..buffer.len() - left);
        }
        Ok(done)
    }

    /// Appends `lines` (each without its newline) and syncs once; on an error the log is as it was before, if the disk
    /// lets us.
    pub fn append(&mut self, lines: &[String]) -> Result<()> {
        self.append_with(lines, true).map_err(|failed| failed.why)
    }

    /// As [`Log::append`]; without `sync` nothing waits for the disk, and a power cut can lose the lines. The error tells
    /// whether the lines are gone for good.
    pub fn append_with(&mut self, lines: &[String], sync: bool) -> Result<(), NotAppended> {
        use std::os::unix::fs::FileExt;
        if lines.is_empty() {
            return Ok(());
        }
        // Another process may have died while it appended, after we read on.
        self.truncate()?;
        let mut text = lines.join("\n");
        text.push('\n');
        let written = step("append", || self.file.write_all_at(text.as_bytes(), self.len))
            .and_then(|()| if sync { step("sync", || self.file.sync_data()) } else { Ok(()) });
        if let Err(why) = written {
            let is_undone = self.undo(sync).is_ok();
            return Err(NotAppended { why: Error::writing(&self.path, why), is_undone });
        }
        self.len += text.len() as u64;
        Ok(())
    }

    /// Cuts off what was appended in vain. A failed sync does not say what reached the disk, so this is synced as well.
    fn undo(&self, sync: bool) -> io::Result<()> {
        step("undo", || self.file.set_len(self.len))?;
        if sync { step("sync-undo", || self.file.sync_all()) } else { Ok(()) }
    }

    /// True if the file under this name is another one by now (it was compacted or removed), or has been shortened.
    pub fn is_stale(&self) -> bool {
        let Ok(mine) = self.file.metadata() else { return true };
        let is_other = |now: fs::Metadata| (now.dev(), now.ino()) != (mine.dev(), mine.ino());
        mine.len() < self.len || fs::metadata(&self.path).map_or(true, is_other)
    }

    /// Where the last whole line ends that we know of: the next is appended there.
    pub fn end(&self) -> u64 {
        self.len
    }

    /// How many bytes of a line that a crash cut short were taken off.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// Which file it is: device and inode.
    pub fn identity(&self) -> Result<(u64, u64)> {
        let meta = self.file.metadata().map_err(|why| Error::reading(&self.path, why))?;
        Ok((meta.dev(), meta.ino()))
    }

    /// The line that begins at `start`, without its newline; what stands there up to the next newline.
    pub fn line_at(&self, start: u64) -> Result<Vec<u8>> {
        use std::os::unix::fs::FileExt;
        let (mut line, mut chunk) = (Vec::new(), [0; 2048]);
        loop {
            let read = self.file.read_at(&mut chunk, start + line.len() as u64);
            let read = read.map_err(|why| Error::reading(&self.path, why))?;
            let piece = &chunk[..read];
            match memchr::memchr(b'\n', piece) {
                Some(end) => {
                    line.extend_from_slice(&piece[..end]);
                    return Ok(line);
                }
                None if read == 0 => return Ok(line),
                None => line.extend_from_slice(piece),
            }
        }
    }

    /// The whole lines from `start`, where one begins, up to where we are, each with where it begins.
    pub fn each_from(&self, start: u64, each: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
        self.read_range(start, self.len, each).map(drop)
    }
}
