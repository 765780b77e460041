//! The messages of a Maildir in order, listed so that a hundred thousand of them take little room.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::durable::Dir;
use crate::error::Result;

/// The paths of messages, made one by one.
#[derive(Debug)]
pub struct Messages {
    dirs: [PathBuf; 2],
    /// All names, one after the other.
    bytes: Vec<u8>,
    places: std::vec::IntoIter<Place>,
}

/// Where a name stands, and in which directory it is.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: u32,
    length: u16,
    dir: u8,
}

impl Messages {
    /// Those in the two directories, in the order of their names.
    pub(super) fn list(dirs: [&Dir; 2]) -> Result<Messages> {
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        for (at, dir) in dirs.iter().enumerate() {
            dir.each_name(&mut |name| {
                // Beyond four gigabytes of names nobody has a Maildir.
                if let (Ok(start), Ok(length)) = (u32::try_from(bytes.len()), u16::try_from(name.len()))
                    && !name.starts_with(b".")
                {
                    bytes.extend_from_slice(name);
                    places.push(Place { start, length, dir: at as u8 });
                }
            })?;
        }
        places
            .sort_unstable_by(|one, other| (one.name(&bytes), one.dir).cmp(&(other.name(&bytes), other.dir)));
        let dirs = dirs.map(|dir| dir.path().to_path_buf());
        Ok(Messages { dirs, bytes, places: places.into_iter() })
    }
}

impl Place {
    fn name<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start as usize..self.start as usize + usize::from(self.length)]
    }
}

impl Iterator for Messages {
    type Item = PathBuf;

    fn next(&mut self) -> Option<PathBuf> {
        let place = self.places.next()?;
        Some(self.dirs[usize::from(place.dir)].join(OsStr::from_bytes(place.name(&self.bytes))))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.places.size_hint()
    }
}

impl ExactSizeIterator for Messages {}

#[cfg(test)]
mod tests {
    use super::super::Maildir;

    #[test]
    fn by_name_whatever_the_directory() {
        let temp = tempfile::tempdir().unwrap();
        let maildir = Maildir::create(temp.path()).unwrap();
        for name in ["new/2", "cur/1:2,S", "new/.hidden", "cur/3", "new/3", "tmp/0"] {
            std::fs::write(temp.path().join(name), "x").unwrap();
        }
        let messages = maildir.messages().unwrap();
        assert_eq!(messages.len(), 4);
        let wanted = ["cur/1:2,S", "new/2", "new/3", "cur/3"].map(|name| temp.path().join(name));
        assert_eq!(messages.collect::<Vec<_>>(), wanted);
    }
}
