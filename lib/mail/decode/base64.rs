//! Base64 (RFC 2045 section 6.8), lenient: junk, missing padding, several pieces one after the other, text after its end.

use std::io::{self, Write};

use base64_simd::{Out, STANDARD};

use super::{CHUNK, Sink, next_line};

/// Decodes base64 into `sink`; gives what was repaired.
pub(super) fn base64(body: &[u8], sink: &mut Sink<impl Write>) -> io::Result<Vec<String>> {
    let room = body.len().min(2 * CHUNK);
    let mut reader = Base64 { pending: Vec::with_capacity(room), out: vec![0; room], ..Base64::default() };
    let mut rest = body;
    let mut some = false;
    let mut was_blank = false;
    while let Some((line, _)) = next_line(&mut rest) {
        let line = line.trim_ascii();
        // Only the first of many blank lines looks ahead, or a flood of them would cost quadratic time.
        let ends = if line.is_empty() { !was_blank } else { reader.is_closed() };
        if some && ends && reader.is_footer(line, rest) {
            reader.footer = true;
            break;
        }
        was_blank = line.is_empty();
        some |= !was_blank;
        reader.pending.extend_from_slice(line);
        if reader.pending.len() >= CHUNK {
            reader.drain(sink)?;
        }
    }
    reader.drain(sink)?;
    reader.finish(sink)?;
    Ok(reader.notes())
}

#[derive(Default)]
struct Base64 {
    pending: Vec<u8>,
    out: Vec<u8>,
    junk: u64,
    unpadded: bool,
    lost: bool,
    footer: bool,
}

impl Base64 {
    /// True where an encoder could have stopped with padding.
    fn is_closed(&self) -> bool {
        self.pending.last() == Some(&b'=')
    }

    /// QUIRK: list servers and scanners append text after the base64 of a part; what follows padding or a blank
    /// line and is no base64 itself is such text, not data.
    fn is_footer(&self, line: &[u8], rest: &[u8]) -> bool {
        let mut rest = rest;
        let mut line = line;
        while line.is_empty() {
            match next_line(&mut rest) {
                Some((next, _)) => line = next.trim_ascii(),
                None => return false,
            }
        }
        let foreign = line.iter().filter(|b| VALUES[usize::from(**b)] > 63 && **b != b'=').count();
        foreign * 8 > line.len()
    }

    /// Decodes whole groups of four; up to three characters stay pending.
    fn drain(&mut self, sink: &mut Sink<impl Write>) -> io::Result<()> {
        let whole = self.pending.len() / 4 * 4;
        let room = Out::from_slice(&mut self.out);
        if let Ok(bytes) = STANDARD.decode(&self.pending[..whole], room) {
            sink.put(bytes)?;
            self.pending.drain(..whole);
            return Ok(());
        }
        self.drain_slowly(sink)
    }

    /// The same for damaged data: skips what is no base64, takes padding in the middle as the end of a group.
    fn drain_slowly(&mut self, sink: &mut Sink<impl Write>) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let mut bytes = Vec::with_capacity(pending.len() / 4 * 3 + 3);
        for byte in pending {
            match byte {
                b'=' => self.close_group(&mut bytes, true),
                b'\t' | b' ' | b'\r' => {}
                other if VALUES[usize::from(other)] > 63 => self.junk += 1,
                other => {
                    self.pending.push(other);
                    if self.pending.len() == 4 {
                        push_group(&self.pending, &mut bytes);
                        self.pending.clear();
                    }
                }
            }
        }
        sink.put(&bytes)
    }

    /// Ends a group of fewer than four characters.
    fn close_group(&mut self, bytes: &mut Vec<u8>, padded: bool) {
        let have = self.pending.len();
        match have {
            0 => return,
            1 => self.lost = true,
            _ => {
                self.unpadded |= !padded;
                let mut group = std::mem::take(&mut self.pending);
                group.resize(4, b'A');
                let keep = bytes.len() + have - 1;
                push_group(&group, bytes);
                bytes.truncate(keep);
            }
        }
        self.pending.clear();
    }

    fn finish(&mut self, sink: &mut Sink<impl Write>) -> io::Result<()> {
        if self.pending.contains(&b'=') {
            self.drain_slowly(sink)?;
        }
        if self.pending.iter().any(|b| VALUES[usize::from(*b)] > 63) {
            self.drain_slowly(sink)?;
        }
        let mut bytes = Vec::new();
        self.close_group(&mut bytes, false);
        sink.put(&bytes)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.junk > 0 {
            notes.push(format!("base64: {} foreign bytes skipped", self.junk));
        }
        if self.unpadded {
            notes.push("base64: padding missing at the end".to_string());
        }
        if self.lost {
            notes.push("base64: a lone character at the end of a group dropped".to_string());
        }
        if self.footer {
            notes.push("base64: text after its end left out".to_string());
        }
        notes
    }
}

fn push_group(group: &[u8], bytes: &mut Vec<u8>) {
    let bits = group.iter().fold(0u32, |bits, b| bits << 6 | u32::from(VALUES[usize::from(*b)] & 63));
    bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
}

/// The value of each base64 character, 64 for all others.
const VALUES: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut values = [64; 256];
    let mut at = 0;
    while at < 64 {
        values[alphabet[at] as usize] = at as u8;
        at += 1;
    }
    values
};
