//! Where decoded bytes go: into a file, or against one that is there.

use std::fs::File;
use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use crate::durable;

/// A file that is hashed while it is written.
pub(super) struct Sink<'a> {
    pub file: &'a File,
    pub digest: Sha256,
    /// How many more bytes are allowed; 0 once there were too many.
    pub room: u64,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.room {
            self.room = 0;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let written = durable::step("write", || self.file.write(bytes))?;
        self.room -= written as u64;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes that are held against a file's, and hashed.
pub(super) struct Compare {
    /// What lies there, as long as it is the same.
    pub there: Option<File>,
    pub digest: Sha256,
    /// True to go on to the end for the digest when the bytes differ.
    pub to_the_end: bool,
    pub buffer: Vec<u8>,
}

impl Compare {
    /// True if all of the file was the same.
    pub fn is_at_end(&mut self) -> bool {
        self.there.as_mut().is_some_and(|file| matches!(file.read(&mut [0]), Ok(0)))
    }
}

impl Write for Compare {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(file) = &mut self.there {
            self.buffer.resize(bytes.len(), 0);
            if file.read_exact(&mut self.buffer).is_err() || self.buffer != bytes {
                self.there = None;
            }
        }
        if self.there.is_none() && !self.to_the_end {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.digest.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
