//! What is acted on: paths, or records, from arguments or from stdin.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::error::{Error, Kind, Result};
use crate::lines::{Lines, Next};
use crate::record::File;
use crate::report::Form;

/// One thing to act on.
#[derive(Clone, Debug)]
pub enum Item {
    /// A file; what is known of its message stands in the journal beside it, if there is one.
    Path(PathBuf),
    /// A file and the message it came in.
    Record(Box<File>),
    /// Nothing more for the moment: what is in hand should be finished now.
    Pause,
}

/// Arguments are always paths.
pub fn from_paths(paths: Vec<PathBuf>) -> impl Iterator<Item = Result<Item>> {
    paths.into_iter().map(|path| Ok(Item::Path(path)))
}

/// Paths that end in a newline or NUL, or file records as JSON lines, as `form` says; never guessed; from `input` as they
/// come. A line that is no record is an error (65) and the next is taken. Ends when we are asked to end.
pub fn from_input(input: impl Read + AsFd, form: Form) -> impl Iterator<Item = Result<Item>> {
    Lines::new(input, form.end()).map(move |next| match next? {
        Next::Line(line) => read(line, form),
        Next::Pause => Ok(Item::Pause),
    })
}

/// [`from_input`] on standard input, read without a buffer of the standard library in between.
pub fn from_stdin(form: Form) -> Result<impl Iterator<Item = Result<Item>>> {
    let input = io::stdin().as_fd().try_clone_to_owned();
    let input = input.map_err(|why| Error::reading("standard input", why).with_kind(Kind::Io))?;
    Ok(from_input(fs::File::from(input), form))
}

fn read(line: Vec<u8>, form: Form) -> Result<Item> {
    if form != Form::Json {
        return Ok(Item::Path(OsString::from_vec(line).into()));
    }
    let line = String::from_utf8(line)
        .map_err(|why| Error::new(Kind::Data, "cannot read a file record", why.utf8_error()))?;
    File::read(&line).map(|file| Item::Record(Box::new(file)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn items(text: &[u8], form: Form) -> impl Iterator<Item = Result<Item>> {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(text).unwrap();
        from_input(reader, form)
    }

    fn paths(text: &[u8], form: Form) -> Vec<PathBuf> {
        let items = items(text, form).filter_map(|item| match item.unwrap() {
            Item::Path(path) => Some(path),
            Item::Record(file) => file.path.0,
            Item::Pause => None,
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
        let bad = items(b"{}\n\xff\n", Form::Json).filter_map(Result::err);
        assert_eq!(bad.map(|error| error.status()).collect::<Vec<_>>(), [65, 65]);
    }
}
