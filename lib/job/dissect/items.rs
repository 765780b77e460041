//! What to take apart: arguments are paths, stdin holds paths or records, never guessed which.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use super::bytes::Bytes;
use crate::error::{Error, Result};
use crate::record;
use crate::report::Form;
use crate::stop::{self, Woken};

/// One thing to do next.
#[derive(Debug)]
pub enum Item {
    /// A message in a file, or a Maildir.
    Path(PathBuf),
    /// A message that somebody else told us of; what a rule judges is read from its bytes again.
    Record(Box<record::Message>),
    /// The bytes of a message.
    Bytes(Bytes),
    /// Nothing more for the moment: what is in hand should be finished now.
    Pause,
}

/// Arguments as items; `-` is a message on stdin.
pub fn from_arguments(paths: Vec<PathBuf>) -> impl Iterator<Item = Result<Item>> {
    paths.into_iter().map(|path| {
        if path.as_os_str() != "-" {
            return Ok(Item::Path(path));
        }
        Bytes::of_stdin().map(Item::Bytes)
    })
}

/// [`from_input`] on standard input, read without a buffer of the standard library in between.
pub fn from_stdin(form: Form) -> Result<impl Iterator<Item = Result<Item>>> {
    let input =
        io::stdin().as_fd().try_clone_to_owned().map_err(|why| Error::reading("standard input", why))?;
    Ok(from_input(File::from(input), form))
}

/// Paths, or with [`Form::Json`] message records, from `input`, as they come. Ends when we are asked to end.
pub fn from_input(input: impl Read + AsFd, form: Form) -> impl Iterator<Item = Result<Item>> {
    Lines { input, form, buffer: Vec::new(), taken: 0, ended: false, paused: false }
}

struct Lines<R> {
    input: R,
    form: Form,
    buffer: Vec<u8>,
    taken: usize,
    ended: bool,
    paused: bool,
}

impl<R: Read + AsFd> Iterator for Lines<R> {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Result<Item>> {
        loop {
            while let Some(line) = self.line() {
                if let Some(item) = read(line, self.form).transpose() {
                    self.paused = false;
                    return Some(item);
                }
            }
            if self.ended {
                return None;
            }
            let limit = if self.paused { Duration::from_secs(3600) } else { Duration::ZERO };
            match stop::wait(&[self.input.as_fd()], limit) {
                Ok(Woken::Late) if !self.paused => {
                    self.paused = true;
                    return Some(Ok(Item::Pause));
                }
                Ok(Woken::Late) => {}
                Ok(Woken::Stopped) => return None,
                Ok(Woken::Ready) => {
                    if let Err(why) = self.fill() {
                        self.ended = true;
                        return Some(Err(Error::reading("standard input", why)));
                    }
                }
                Err(why) => {
                    self.ended = true;
                    return Some(Err(Error::reading("standard input", why)));
                }
            }
        }
    }
}

impl<R: Read + AsFd> Lines<R> {
    fn line(&mut self) -> Option<Vec<u8>> {
        let end = if self.form == Form::Nul { 0 } else { b'\n' };
        let rest = &self.buffer[self.taken..];
        let (line, used) = match memchr::memchr(end, rest) {
            Some(at) => (rest[..at].to_vec(), at + 1),
            None if self.ended && !rest.is_empty() => (rest.to_vec(), rest.len()),
            None => return None,
        };
        self.taken += used;
        Some(line)
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
}

fn read(line: Vec<u8>, form: Form) -> Result<Option<Item>> {
    if line.is_empty() {
        return Ok(None);
    }
    if form != Form::Json {
        return Ok(Some(Item::Path(OsString::from_vec(line).into())));
    }
    let message = record::Message::read(&String::from_utf8_lossy(&line))?;
    // What fetch passed over has no bytes to take apart.
    let is_there = message.path.get().is_some() && message.state != "skipped";
    Ok(is_there.then(|| Item::Record(Box::new(message))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::path::Path;

    #[test]
    fn lines_come_as_they_are_written() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut items = from_input(reader, Form::Lines);
        writer.write_all(b"one\n\ntw").unwrap();
        assert!(matches!(items.next(), Some(Ok(Item::Path(path))) if path == Path::new("one")));
        assert!(matches!(items.next(), Some(Ok(Item::Pause))));
        writer.write_all(b"o\nlast").unwrap();
        drop(writer);
        assert!(matches!(items.next(), Some(Ok(Item::Path(path))) if path == Path::new("two")));
        assert!(matches!(items.next(), Some(Ok(Item::Path(path))) if path == Path::new("last")));
        assert!(items.next().is_none());
    }
}
