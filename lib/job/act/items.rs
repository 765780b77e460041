//! What is acted on: paths, or records, from arguments or from stdin.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::record::File;
use crate::report::Form;
use crate::stop::{self, Woken};

/// One thing to act on.
#[derive(Clone, Debug)]
pub enum Item {
    /// A file; what is known of its message stands in the journal beside it, if there is one.
    Path(PathBuf),
    /// A file and the message it came in.
    Record(Box<File>),
}

/// Arguments are always paths.
pub fn from_paths(paths: Vec<PathBuf>) -> impl Iterator<Item = Result<Item>> {
    paths.into_iter().map(|path| Ok(Item::Path(path)))
}

/// Paths that end in a newline or NUL, or file records as JSON lines, as `form` says; never guessed. A line that is
/// no record is an error (65) and the next is taken.
pub fn from_reader(reader: impl BufRead, form: Form) -> impl Iterator<Item = Result<Item>> {
    let end = if form == Form::Nul { b'\0' } else { b'\n' };
    let pieces = reader.split(end).filter(|piece| !piece.as_ref().is_ok_and(Vec::is_empty));
    pieces.map(move |piece| {
        let bytes = piece.map_err(|why| Error::reading("standard input", why).with_kind(Kind::Io))?;
        if form != Form::Json {
            return Ok(Item::Path(OsString::from_vec(bytes).into()));
        }
        let line = String::from_utf8(bytes)
            .map_err(|why| Error::new(Kind::Data, "cannot read a file record", why.utf8_error()))?;
        File::read(&line).map(|file| Item::Record(Box::new(file)))
    })
}

/// stdin, which ends, as at the end of a file, once we are asked to end, instead of waiting for more.
pub fn stdin() -> Result<impl BufRead> {
    let own = io::stdin().as_fd().try_clone_to_owned();
    let own = own.map_err(|why| Error::reading("standard input", why).with_kind(Kind::Io))?;
    Ok(BufReader::new(Patient(own.into())))
}

struct Patient(fs::File);

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let year = Duration::from_secs(365 * 24 * 3600);
        match stop::wait(&[self.0.as_fd()], year)? {
            Woken::Stopped => Ok(0),
            _ => self.0.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &[u8], form: Form) -> Vec<PathBuf> {
        let items = from_reader(text, form).map(|item| match item.unwrap() {
            Item::Path(path) => path,
            Item::Record(file) => file.path.0.unwrap(),
        });
        items.collect()
    }

    #[test]
    fn lines_nuls_and_records() {
        assert_eq!(paths(b"./a b\n\n./c", Form::Lines), ["./a b", "./c"].map(PathBuf::from));
        assert_eq!(paths(b"./a\nb\0./c\0", Form::Nul), ["./a\nb", "./c"].map(PathBuf::from));
        assert_eq!(paths(br#"{"v":1,"kind":"file","path":"./x"}"#, Form::Json), [PathBuf::from("./x")]);
        // A name that looks like a record is a name.
        assert_eq!(paths(b"{\"v\":1}", Form::Lines), [PathBuf::from("{\"v\":1}")]);
        let bad = from_reader(&b"{}\n\xff\n"[..], Form::Json).filter_map(Result::err);
        assert_eq!(bad.map(|error| error.status()).collect::<Vec<_>>(), [65, 65]);
    }
}
