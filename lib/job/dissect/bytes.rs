//! The bytes of a message, never copied where they are many: small files are read, large ones mapped, and what has to
//! be decoded to be read lies in a file without a name once it is large. So memory does not grow with a message.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapOptions};

use crate::error::{Error, Kind, Result};
use crate::mail::part::{Held, Shelf};

/// Files up to this size are read: for them that is faster than mapping.
const SMALL: u64 = 16 * 1024;
/// Files up to this size are mapped with all their pages at once, which costs far less than a fault for each.
const AT_ONCE: u64 = 4 << 20;
/// How much of what was decoded one message may keep in memory.
const MEMORY: usize = 4 << 20;
/// What is decoded goes to a file once it is longer than this.
const PIECE: usize = 1 << 20;

/// Bytes in memory, or in a file as if they were.
#[derive(Debug)]
pub enum Bytes {
    /// Read.
    Read(Vec<u8>),
    /// Mapped.
    Mapped(Mmap),
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Bytes::Read(bytes) => bytes,
            Bytes::Mapped(map) => map,
        }
    }
}

impl Bytes {
    /// The bytes of a regular file; 66 for anything else.
    pub fn of_file(path: &Path) -> Result<Bytes> {
        let failed = |why| Error::reading(path, why);
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
        // Without NONBLOCK a FIFO in a Maildir would hold us for ever.
        let opened = rustix::fs::open(path, flags, rustix::fs::Mode::empty());
        let mut file = File::from(opened.map_err(|why| failed(why.into()))?);
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            let doing = format!("cannot read {}", path.display());
            return Err(Error::new(Kind::NoInput, doing, "not a regular file"));
        }
        if meta.len() > SMALL {
            return map(&file, meta.len()).map_err(failed);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0) + 1);
        file.read_to_end(&mut bytes).map_err(failed)?;
        Ok(Bytes::Read(bytes))
    }

    /// All of standard input: mapped where it is a file, else copied into one where it is long.
    pub fn of_stdin() -> Result<Bytes> {
        let failed = |why| Error::reading("standard input", why);
        let mut input = File::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?);
        let length = input.metadata().map_or(0, |meta| if meta.is_file() { meta.len() } else { 0 });
        if length > SMALL && input.stream_position().is_ok_and(|at| at == 0) {
            return map(&input, length).map_err(failed);
        }
        let mut spill = Spill::new(std::env::temp_dir());
        let mut aside = spill.begin();
        io::copy(&mut input, &mut aside).map_err(failed)?;
        aside.end().map_err(failed)
    }
}

fn map(file: &File, length: u64) -> io::Result<Bytes> {
    let mut options = MmapOptions::new();
    if length <= AT_ONCE {
        options.populate();
    }
    #[allow(
        unsafe_code,
        reason = "a message of any size in bounded memory; there is no safe way to map a file"
    )]
    // SAFETY: the map is read only and lives no longer than one message. Messages in a Maildir never change, and the
    // files of a Spill have no name by which anybody could change them. Where somebody does change another file under
    // us, we read either bytes as mail (any bytes are); one that is cut short ends us by SIGBUS, which is as a kill at
    // any other moment: nothing is lost, and nothing was said that is not true.
    let map = unsafe { options.map(file)? };
    if length > AT_ONCE {
        // Only advice.
        let _ = map.advise(memmap2::Advice::Sequential);
    }
    Ok(Bytes::Mapped(map))
}

/// A [`Shelf`] for one message: a little memory, then files without names in a directory.
pub struct Spill {
    dir: PathBuf,
    memory: usize,
}

impl Spill {
    /// Files go into `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Spill {
        Spill { dir: dir.into(), memory: MEMORY }
    }

    fn begin(&mut self) -> Aside<'_> {
        Aside { spill: self, start: Vec::new(), file: None }
    }
}

impl Shelf for Spill {
    fn keep(&mut self, fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<Held> {
        let mut aside = self.begin();
        fill(&mut aside)?;
        Ok(Box::new(aside.end()?))
    }
}

struct Aside<'a> {
    spill: &'a mut Spill,
    start: Vec<u8>,
    file: Option<File>,
}

impl Aside<'_> {
    fn end(self) -> io::Result<Bytes> {
        match self.file {
            Some(file) => {
                let length = file.metadata()?.len();
                map(&file, length)
            }
            None => {
                self.spill.memory -= self.start.len().min(self.spill.memory);
                Ok(Bytes::Read(self.start))
            }
        }
    }
}

impl Write for Aside<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(file) = &mut self.file {
            return file.write(bytes);
        }
        if self.start.len() + bytes.len() <= PIECE.min(self.spill.memory) {
            self.start.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        let mut file = tempfile::tempfile_in(&self.spill.dir)?;
        file.write_all(&std::mem::take(&mut self.start))?;
        let written = file.write(bytes)?;
        self.file = Some(file);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_lies_in_a_file() {
        let temp = tempfile::tempdir().unwrap();
        let mut spill = Spill::new(temp.path());
        let mut keep = |size: usize| {
            let chunk = vec![7; 1000];
            spill.keep(&mut |out| (0..size / 1000).try_for_each(|_| out.write_all(&chunk))).unwrap()
        };
        for size in [1000, PIECE / 1000 * 1000, 3 * PIECE / 1000 * 1000] {
            let held = keep(size);
            assert_eq!(((*held).as_ref().len(), (*held).as_ref()[size - 1]), (size, 7));
        }
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
        assert!(spill.memory < MEMORY);
    }
}
