//! Line ends for the wire: whatever comes in, lines that end in CRLF come out, dots doubled where SMTP wants it.
//!
//! Pure and chunk by chunk. A bare LF or CR never gets out, so a message cannot smuggle a second one behind a
//! server that reads line ends differently (RFC 5321 section 2.3.8).

use std::io::{self, Read};

/// The longest line a message may have, without its end (RFC 5322 section 2.1.1).
pub const LONGEST_LINE: usize = 998;

/// Brings bytes into lines, chunk by chunk.
#[derive(Debug)]
pub struct Lines {
    doubled_dots: bool,
    at_start: bool,
    after_cr: bool,
    bare: u64,
}

impl Lines {
    /// For a file: line ends only.
    pub fn plain() -> Lines {
        Lines { doubled_dots: false, at_start: true, after_cr: false, bare: 0 }
    }

    /// For the body of a DATA command: dots that begin a line are doubled (RFC 5321 section 4.5.2).
    pub fn for_smtp() -> Lines {
        Lines { doubled_dots: true, ..Lines::plain() }
    }

    /// Appends what `bytes` become to `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        if let (Some(first), true) = (rest.first(), self.after_cr) {
            self.after_cr = false;
            match first {
                b'\n' => rest = &rest[1..],
                _ => self.bare += 1,
            }
            self.end_line(out);
        }
        // So much of the rest can go as it is, in one piece.
        let mut good = 0;
        loop {
            if self.at_start && self.doubled_dots && rest.get(good) == Some(&b'.') {
                out.extend_from_slice(&rest[..good]);
                out.push(b'.');
                rest = &rest[good..];
                good = 0;
            }
            let Some(end) = memchr::memchr2(b'\r', b'\n', &rest[good..]).map(|at| good + at) else { break };
            match (rest[end], rest.get(end + 1)) {
                (b'\r', Some(b'\n')) => {
                    good = end + 2;
                    self.at_start = true;
                }
                (b'\r', None) => {
                    out.extend_from_slice(&rest[..end]);
                    self.after_cr = true;
                    return;
                }
                _ => {
                    out.extend_from_slice(&rest[..end]);
                    self.bare += 1;
                    self.end_line(out);
                    rest = &rest[end + 1..];
                    good = 0;
                }
            }
        }
        self.at_start &= good == rest.len();
        out.extend_from_slice(rest);
    }

    /// Ends the last line if it has no end.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.after_cr) {
            self.bare += 1;
            self.end_line(out);
        }
        if !self.at_start {
            self.end_line(out);
        }
    }

    /// How many line ends were put right so far.
    pub fn bare(&self) -> u64 {
        self.bare
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
        self.at_start = true;
    }
}

/// What a server must be told of a message, or refuses it for; fed with what [`Lines::plain`] gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    /// In bytes, with CRLF line ends.
    pub size: u64,
    /// True if bytes above 127 are in it.
    pub eight_bit: bool,
    /// The longest line in bytes, without its end.
    pub longest_line: u64,
    line: u64,
}

impl Measure {
    /// Of all that `message` gives.
    pub fn read(message: &mut dyn Read) -> io::Result<Measure> {
        let mut measure = Measure::default();
        let mut chunk = vec![0; 64 * 1024];
        loop {
            match message.read(&mut chunk) {
                Ok(0) => return Ok(measure),
                Ok(n) => measure.feed(&chunk[..n]),
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
    }

    /// Takes in the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.eight_bit |= !bytes.is_ascii();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            self.line += (end - start) as u64;
            // Its CR was counted.
            self.longest_line = self.longest_line.max(self.line.saturating_sub(1));
            self.line = 0;
            start = end + 1;
        }
        self.line += (bytes.len() - start) as u64;
        self.longest_line = self.longest_line.max(self.line.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(mut lines: Lines, chunks: &[&[u8]]) -> (Vec<u8>, u64) {
        let mut out = Vec::new();
        for chunk in chunks {
            lines.feed(chunk, &mut out);
        }
        lines.finish(&mut out);
        (out, lines.bare())
    }

    #[test]
    fn any_line_end_becomes_crlf_wherever_chunks_break() {
        let text = b"a\r\nb\nc\rd\r\r\n\n.\r\n..e\n.\r.f\r";
        let wanted = b"a\r\nb\r\nc\r\nd\r\n\r\n\r\n.\r\n..e\r\n.\r\n.f\r\n";
        let dotted = b"a\r\nb\r\nc\r\nd\r\n\r\n\r\n..\r\n...e\r\n..\r\n..f\r\n";
        for cut in 0..=text.len() {
            let (left, right) = text.split_at(cut);
            assert_eq!(lines(Lines::plain(), &[left, right]), (wanted.to_vec(), 7));
            assert_eq!(lines(Lines::for_smtp(), &[left, right]), (dotted.to_vec(), 7));
        }
    }

    #[test]
    fn the_last_line_gets_its_end() {
        assert_eq!(lines(Lines::for_smtp(), &[b"."]).0, b"..\r\n");
        assert_eq!(lines(Lines::for_smtp(), &[b""]).0, b"");
        assert_eq!(lines(Lines::for_smtp(), &[b"a\r\n"]).0, b"a\r\n");
    }

    proptest::proptest! {
        #[test]
        fn nothing_bare_gets_out(text in "[a.\r\n]{0,40}", cut in 0usize..40) {
            let (left, right) = text.as_bytes().split_at(cut.min(text.len()));
            let (out, _) = lines(Lines::for_smtp(), &[left, right]);
            let text = String::from_utf8(out).unwrap();
            let bare = text.replace("\r\n", "");
            proptest::prop_assert!(!bare.contains(['\r', '\n']));
            proptest::prop_assert!(!text.split("\r\n").any(|line| line == "."));
        }
    }

    #[test]
    fn measured() {
        let mut measure = Measure::default();
        measure.feed(b"abc\r");
        measure.feed(b"\nabcdef\r\n\xff\r\n");
        assert_eq!((measure.size, measure.eight_bit, measure.longest_line), (16, true, 6));
    }
}
