//! Lines from a pipe, as they come: what one write of the other side brought is read before we say that nothing more is
//! there, so that a reader can do many things together and still answer at once whoever waits.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::stop::{self, Woken};

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A line, without its end; empty ones are passed over.
    Line(Vec<u8>),
    /// Nothing more for the moment: what is in hand should be finished now. Never twice in a row.
    Pause,
}

/// Pieces of an input that end in one byte; the last may lack it. Ends with the input, or when we are asked to end.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    end: u8,
    buffer: Vec<u8>,
    taken: usize,
    ended: bool,
    paused: bool,
}

impl<R: Read + AsFd> Lines<R> {
    /// Reads `input`, whose lines end in `end`. Nothing else may read ahead of it.
    pub fn new(input: R, end: u8) -> Lines<R> {
        // Before the first line nothing is in hand.
        Lines { input, end, buffer: Vec::new(), taken: 0, ended: false, paused: true }
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            let rest = &self.buffer[self.taken..];
            let (line, used) = match memchr::memchr(self.end, rest) {
                Some(at) => (&rest[..at], at + 1),
                None if self.ended && !rest.is_empty() => (rest, rest.len()),
                None => return None,
            };
            let line = line.to_vec();
            self.taken += used;
            if !line.is_empty() {
                return Some(line);
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let start = self.buffer.len();
        self.buffer.resize(start + 64 * 1024, 0);
        let read = loop {
            match self.input.read(&mut self.buffer[start..]) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                done => break done,
            }
        };
        self.buffer.truncate(start + *read.as_ref().unwrap_or(&0));
        self.ended = read? == 0;
        Ok(())
    }

    fn failed(&mut self, why: io::Error) -> Option<Result<Next>> {
        self.ended = true;
        self.buffer.clear();
        self.taken = 0;
        Some(Err(Error::reading("standard input", why)))
    }
}

impl<R: Read + AsFd> Iterator for Lines<R> {
    type Item = Result<Next>;

    fn next(&mut self) -> Option<Result<Next>> {
        loop {
            if let Some(line) = self.line() {
                self.paused = false;
                return Some(Ok(Next::Line(line)));
            }
            if self.ended {
                return None;
            }
            let limit = if self.paused { Duration::from_secs(3600) } else { Duration::ZERO };
            match stop::wait(&[self.input.as_fd()], limit) {
                Ok(Woken::Late) if !self.paused => {
                    self.paused = true;
                    return Some(Ok(Next::Pause));
                }
                Ok(Woken::Late) => {}
                Ok(Woken::Stopped) => return None,
                Ok(Woken::Ready) => {
                    if let Err(why) = self.fill() {
                        return self.failed(why);
                    }
                }
                Err(why) => return self.failed(why),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn lines_come_as_they_are_written() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut lines = Lines::new(reader, b'\n').map(Result::unwrap);
        let line = |text: &str| Some(Next::Line(text.into()));
        writer.write_all(b"one\n\ntwo\nth").unwrap();
        assert_eq!([lines.next(), lines.next(), lines.next()], [line("one"), line("two"), Some(Next::Pause)]);
        writer.write_all(b"ree\n\nlast").unwrap();
        drop(writer);
        assert_eq!([lines.next(), lines.next(), lines.next()], [line("three"), line("last"), None]);
    }

    #[test]
    fn another_byte_may_end_them() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"a\nb\0c\0").unwrap();
        drop(writer);
        let lines = Lines::new(reader, 0).map(Result::unwrap);
        assert!(lines.eq([Next::Line(b"a\nb".to_vec()), Next::Line(b"c".to_vec())]));
    }
}
