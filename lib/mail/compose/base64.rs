//! Bytes as base64 lines, read in bounded memory.

use std::io::{self, Read};

/// Reads bytes as base64 lines of 76 characters, without a line end after the last (RFC 2045 section 6.8).
pub struct Base64Lines<R> {
    inner: R,
    encoded: Vec<u8>,
    out: Vec<u8>,
    taken: usize,
    ended: bool,
    begun: bool,
}

/// A line holds so many bytes of the file.
const PER_LINE: usize = 57;

/// So many lines are encoded at a time.
const LINES: usize = 512;

impl<R: Read> Base64Lines<R> {
    /// Encodes what `inner` gives.
    pub fn new(inner: R) -> Self {
        Base64Lines { inner, encoded: Vec::new(), out: Vec::new(), taken: 0, ended: false, begun: false }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut bytes = [0; PER_LINE * LINES];
        let mut have = 0;
        while have < bytes.len() {
            match self.inner.read(&mut bytes[have..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(n) => have += n,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
        self.out.clear();
        self.taken = 0;
        // In one go and then cut into lines: line by line the encoder would spend most time on beginning.
        self.encoded.clear();
        base64_simd::STANDARD.encode_append(&bytes[..have], &mut self.encoded);
        for line in self.encoded.chunks(PER_LINE / 3 * 4) {
            if std::mem::replace(&mut self.begun, true) {
                self.out.extend_from_slice(b"\r\n");
            }
            self.out.extend_from_slice(line);
        }
        Ok(())
    }
}

impl<R: Read> Read for Base64Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.out.len() && !self.ended {
            self.fill()?;
        }
        let rest = &self.out[self.taken..];
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        self.taken += n;
        Ok(n)
    }
}

/// How long `len` bytes are as [`Base64Lines`].
pub fn base64_len(len: u64) -> u64 {
    let lines = len.div_ceil(PER_LINE as u64);
    len.div_ceil(3) * 4 + lines.saturating_sub(1) * 2
}
