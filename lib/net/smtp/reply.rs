//! What a server answers: `250-2.1.0 ok`, several lines perhaps (RFC 5321 section 4.2), with a bound on how much.

use std::fmt;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use crate::net::hidden::{Hidden, shortened};
use crate::record::Outcome;

/// The longest line we take; RFC 5321 section 4.5.3.1.5 allows 512.
const LONGEST_LINE: usize = 8 * 1024;

/// The most lines of one reply, and the most octets in all of them.
const MOST_LINES: usize = 500;
const MOST_OCTETS: usize = 256 * 1024;

/// So much of a reply is shown and kept.
const LONGEST_SHOWN: usize = 2000;

/// A whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// The text of each line, without the code.
    pub lines: Vec<String>,
}

impl Reply {
    /// 2xx.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// What it means for a recipient.
    pub fn outcome(&self) -> Outcome {
        match self.code / 100 {
            2 => Outcome::Done,
            5 => Outcome::Never,
            _ => Outcome::Later,
        }
    }
}

impl fmt::Display for Reply {
    /// On one line, not longer than anybody reads; an enhanced code that every line repeats is shown once.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        let mut left = LONGEST_SHOWN;
        let enhanced =
            self.lines.first().and_then(|line| line.split(' ').next()).filter(|word| is_enhanced(word));
        for (number, line) in self.lines.iter().enumerate() {
            let rest = match enhanced {
                Some(code) if number > 0 => line.strip_prefix(code).unwrap_or(line).trim_start(),
                _ => line,
            };
            if !rest.is_empty() && left > 0 {
                write!(f, " {}", shortened(rest, left))?;
                left = left.saturating_sub(rest.len());
            }
        }
        Ok(())
    }
}

/// `5.1.1` (RFC 3463 section 2).
fn is_enhanced(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    parts.len() == 3 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

/// Takes replies out of a stream; what was read ahead stays here.
#[derive(Default)]
pub struct Replies {
    ahead: Vec<u8>,
    /// What is not shown of what a server says.
    pub(in crate::net) hidden: Hidden,
}

impl Replies {
    /// True if nothing was read ahead.
    pub fn is_empty(&self) -> bool {
        self.ahead.is_empty()
    }

    /// Reads one reply. [`io::ErrorKind::InvalidData`] if it is none, [`io::ErrorKind::TimedOut`] if it is not whole
    /// within `limit`, [`io::ErrorKind::UnexpectedEof`] if the stream ends.
    pub fn read(&mut self, stream: &mut impl Read, limit: Duration) -> io::Result<Reply> {
        let end = Instant::now() + limit;
        let (mut reply, mut octets) = (Reply { code: 0, lines: Vec::new() }, 0);
        loop {
            let line = self.line(stream, end)?;
            let (code, goes_on, text) = parse(&line).ok_or_else(|| self.wrong(&line))?;
            octets += line.len();
            let is_long = reply.lines.len() >= MOST_LINES || octets > MOST_OCTETS;
            if is_long || (reply.code != 0 && reply.code != code) {
                return Err(self.wrong(&line));
            }
            reply.code = code;
            reply.lines.push(text);
            if !goes_on {
                return Ok(reply);
            }
        }
    }

    fn wrong(&self, line: &[u8]) -> io::Error {
        let shown = shortened(&self.hidden.cover(&String::from_utf8_lossy(line)), 60);
        io::Error::new(io::ErrorKind::InvalidData, format!("{shown:?} is no SMTP reply"))
    }

    fn line(&mut self, stream: &mut impl Read, end: Instant) -> io::Result<Vec<u8>> {
        let mut looked = 0;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.ahead[looked..]) {
                let mut line: Vec<u8> = self.ahead.drain(..=looked + at).collect();
                while matches!(line.last(), Some(b'\n' | b'\r')) {
                    line.pop();
                }
                return Ok(line);
            }
            looked = self.ahead.len();
            if looked > LONGEST_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without an end"));
            }
            if Instant::now() > end {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.ahead.extend_from_slice(&chunk[..n]),
            }
        }
    }
}

/// `Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF`
fn parse(line: &[u8]) -> Option<(u16, bool, String)> {
    let (digits, rest) = line.split_at_checked(3)?;
    let code: u16 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let goes_on = match rest.first() {
        None | Some(b' ') => false,
        Some(b'-') => true,
        Some(_) => return None,
    };
    let text = String::from_utf8_lossy(rest.get(1..).unwrap_or_default()).trim().to_string();
    (200..600).contains(&code).then_some((code, goes_on, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<String, io::ErrorKind> {
        let mut stream = text;
        let reply = Replies::default().read(&mut stream, Duration::from_secs(9));
        reply.map(|reply| reply.to_string()).map_err(|why| why.kind())
    }

    #[test]
    fn replies_on_one_line() {
        assert_eq!(read(b"250 ok\r\n").unwrap(), "250 ok");
        assert_eq!(read(b"250\n").unwrap(), "250");
        assert_eq!(
            read(b"550-5.1.1 no such\r\n550-5.1.1  user\r\n550 5.1.1 here\r\n").unwrap(),
            "550 5.1.1 no such user here"
        );
        assert_eq!(read(b"250-a\r\n250 \xff\r\n").unwrap(), "250 a \u{fffd}");
    }

    #[test]
    fn garbage_is_told_from_silence() {
        use io::ErrorKind::{InvalidData, UnexpectedEof};
        for text in [
            &b"hello\r\n"[..],
            b"250-a\r\n251 b\r\n",
            b"25\r\n",
            b"2500 x\r\n",
            b"-50 x\r\n",
            b"999 x\r\n",
            b"\r\n",
        ] {
            assert_eq!(read(text), Err(InvalidData), "{text:?}");
        }
        assert_eq!(read(&b"2".repeat(100_000)), Err(InvalidData));
        assert_eq!(read(&b"250-a\r\n".repeat(100_000)), Err(InvalidData));
        let long = [&b"250-"[..], &b"a".repeat(8000), b"\r\n"].concat();
        assert_eq!(read(&[&long.repeat(100)[..], b"250 a\r\n"].concat()), Err(InvalidData));
        assert_eq!(read(b"250-a\r\n250"), Err(UnexpectedEof));
    }

    #[test]
    fn what_was_read_ahead_is_kept() {
        let mut stream = &b"220 go\r\n250 injected\r\n"[..];
        let mut replies = Replies::default();
        assert_eq!(replies.read(&mut stream, Duration::from_secs(9)).unwrap().code, 220);
        assert!(!replies.is_empty());
    }
}
