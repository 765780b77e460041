//! What to take apart: arguments are paths, stdin holds paths or records, never guessed which.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::bytes::Bytes;
use crate::error::{Error, Result};
use crate::lines::{Lines, Next};
use crate::record;
use crate::report::Form;

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
    Lines::new(input, form.end()).filter_map(move |next| match next {
        Ok(Next::Line(line)) => read(line, form).transpose(),
        Ok(Next::Pause) => Some(Ok(Item::Pause)),
        Err(error) => Some(Err(error)),
    })
}

fn read(line: Vec<u8>, form: Form) -> Result<Option<Item>> {
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

    #[test]
    fn paths_and_records() {
        let items = |text: &[u8], form| {
            let (reader, mut writer) = io::pipe().unwrap();
            writer.write_all(text).unwrap();
            drop(writer);
            from_input(reader, form).collect::<Vec<_>>()
        };
        let got = items(b"one\n{}\n", Form::Lines);
        assert!(matches!(&got[..], [Ok(Item::Path(a)), Ok(Item::Path(b))] if a == "one" && b == "{}"));
        let here = br#"{"v":1,"kind":"message","path":"./x","state":"new"}"#;
        let skipped = br#"{"v":1,"kind":"message","state":"skipped"}"#;
        let got = items(&[&here[..], b"\n", skipped, b"\n", b"no record\n"].concat(), Form::Json);
        assert!(matches!(&got[..], [Ok(Item::Record(_)), Err(_)]));
    }
}
