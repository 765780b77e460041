//! The beginning of a file, and if it is wanted the digest of all of it, in one reading.

use std::fs;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::mail::sniff;
use crate::record::hex;

/// How much of a message is read for its header; a longer header is not judged.
const LONGEST_HEADER: usize = 1 << 20;

/// What was read of a file.
pub(super) struct Bytes {
    /// The beginning.
    pub head: Vec<u8>,
    /// Of all of it; empty where only the beginning was read.
    pub sha256: String,
    /// Of all of it.
    pub size: u64,
}

impl Bytes {
    /// Enough of a file to tell its type.
    pub fn of_file(path: &Path, whole: bool) -> Result<Bytes> {
        Bytes::read(path, whole, |head| head.len() >= sniff::HEAD)
    }

    /// A message's header, or as much of it as is judged.
    pub fn of_message(path: &Path, whole: bool) -> Result<Bytes> {
        Bytes::read(path, whole, |head| has_end_of_header(head) || head.len() >= LONGEST_HEADER)
    }

    /// Reads a file once, whatever its size, keeping its beginning until that is `enough`.
    fn read(path: &Path, whole: bool, enough: impl Fn(&[u8]) -> bool) -> Result<Bytes> {
        let failed = |why| Error::reading(path, why);
        let mut file = fs::File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut bytes = Bytes { head: Vec::new(), sha256: String::new(), size };
        let (mut digest, mut read, mut is_enough) = (Sha256::new(), 0, false);
        let mut buffer = vec![0; 32 * 1024];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    read += n as u64;
                    if !is_enough {
                        bytes.head.extend_from_slice(&buffer[..n]);
                        is_enough = enough(&bytes.head);
                    }
                    if whole {
                        digest.update(&buffer[..n]);
                    } else if is_enough {
                        return Ok(bytes);
                    }
                }
                Err(why) if why.kind() == std::io::ErrorKind::Interrupted => {}
                Err(why) => return Err(failed(why)),
            }
        }
        if whole {
            (bytes.sha256, bytes.size) = (hex(&digest.finalize()), read);
        }
        Ok(bytes)
    }
}

/// True if the empty line stands in it.
pub(super) fn has_end_of_header(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"\n\n").is_some() || memchr::memmem::find(bytes, b"\n\r\n").is_some()
}
