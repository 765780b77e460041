//! The octets of a session, as they are or compressed (RFC 4978), counted as they go over the wire.
//!
//! What is inflated goes straight into the reader's buffer: however much a server packs into little, memory does not
//! grow, and the limits on lines and literals hold for what comes out.

use std::io::{self, Read, Write};
use std::time::Instant;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::tap::invalid;
use crate::net::Wire;

/// `Read + Write` over the wire.
pub(super) struct Line {
    wire: Wire,
    packed: Option<Box<Packed>>,
    /// Octets that came and went over the wire.
    pub traffic: (u64, u64),
}

struct Packed {
    inflate: Decompress,
    deflate: Compress,
    input: Box<[u8]>,
    from: usize,
    to: usize,
    /// The reader's buffer was full: more may come without more input.
    more: bool,
    output: Vec<u8>,
}

/// So many octets may come in a row that give none.
const MOST_VAIN: usize = 1 << 20;
/// So much is read at once.
const INPUT: usize = 64 << 10;

impl Line {
    pub fn new(wire: Wire) -> Line {
        Line { wire, packed: None, traffic: (0, 0) }
    }

    /// Both sides compress from now on; `ahead` came after the server's agreement already.
    pub fn pack(&mut self, ahead: &[u8]) {
        let mut input = vec![0; INPUT.max(ahead.len())].into_boxed_slice();
        input[..ahead.len()].copy_from_slice(ahead);
        self.packed = Some(Box::new(Packed {
            inflate: Decompress::new(false),
            deflate: Compress::new(Compression::default(), false),
            input,
            from: 0,
            to: ahead.len(),
            more: false,
            output: Vec::new(),
        }));
    }

    /// All reads together end by then, and each may take as long; `None` goes back to the usual limit of each.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.wire.set_limit(deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())));
        self.wire.set_deadline(deadline);
    }
}

impl Packed {
    /// What the input at hand gives; `None` where it gives nothing more.
    fn unpack(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if self.from == self.to && !self.more {
            return Ok(None);
        }
        let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
        let done = self.inflate.decompress(&self.input[self.from..self.to], buffer, FlushDecompress::Sync);
        let status = done.map_err(|_| invalid("the compressed data of the server is damaged"))?;
        let (taken, given) = (self.inflate.total_in() - before_in, self.inflate.total_out() - before_out);
        self.from += taken as usize;
        self.more = given as usize == buffer.len();
        match (taken, given, status) {
            (_, 1.., _) => Ok(Some(given as usize)),
            (_, 0, Status::StreamEnd) => Err(invalid("the compressed data of the server has ended")),
            (0, 0, _) if self.from < self.to => Err(invalid("the compressed data of the server is damaged")),
            _ => Ok(None),
        }
    }

    fn pack(&mut self, mut bytes: &[u8], flush: FlushCompress) -> io::Result<()> {
        loop {
            self.output.reserve(bytes.len() + 1024);
            let before = self.deflate.total_in();
            self.deflate.compress_vec(bytes, &mut self.output, flush).map_err(io::Error::other)?;
            bytes = &bytes[(self.deflate.total_in() - before) as usize..];
            if bytes.is_empty() && self.output.len() < self.output.capacity() {
                return Ok(());
            }
        }
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(packed) = &mut self.packed else {
            let n = self.wire.read(buffer)?;
            self.traffic.0 += n as u64;
            return Ok(n);
        };
        let mut vain = 0;
        loop {
            if let Some(n) = packed.unpack(buffer)? {
                return Ok(n);
            }
            if packed.from == packed.to {
                if vain > MOST_VAIN {
                    return Err(invalid("the compressed data of the server hold nothing"));
                }
                let n = self.wire.read(&mut packed.input)?;
                self.traffic.0 += n as u64;
                (packed.from, packed.to) = (0, n);
                vain += n;
                if n == 0 {
                    return Ok(0);
                }
            }
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = match &mut self.packed {
            None => {
                let n = self.wire.write(bytes)?;
                self.traffic.1 += n as u64;
                n
            }
            Some(packed) => {
                packed.pack(bytes, FlushCompress::None)?;
                bytes.len()
            }
        };
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(packed) = &mut self.packed {
            packed.pack(&[], FlushCompress::Sync)?;
            self.traffic.1 += packed.output.len() as u64;
            self.wire.write_all(&packed.output)?;
            packed.output.clear();
        }
        self.wire.flush()
    }
}
