//! What a program says: records on stdout, words for people on stderr.
//!
//! stdout carries records only, one a line; a reader that has gone away is noticed ([`reader_gone`]) and lets the
//! program finish what it has in hand. Everything shown to people has control, escape and bidi characters
//! escaped, so that a stranger's file name cannot drive a terminal.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI8, Ordering};

use serde::Serialize;

use crate::error::{Error, Kind, Result};

static VOICE: AtomicI8 = AtomicI8::new(0);
static PROGRESS: AtomicBool = AtomicBool::new(false);
static READER_GONE: AtomicBool = AtomicBool::new(false);

/// How much is said on stderr: below 0 errors only, 0 the usual, 1 and 2 more.
pub fn set_voice(level: i8) {
    VOICE.store(level, Ordering::Relaxed);
}

/// The level set with [`set_voice`].
pub fn voice() -> i8 {
    VOICE.load(Ordering::Relaxed)
}

/// One line of trouble on stderr; said also with `-q`.
pub fn trouble(text: impl fmt::Display) {
    line(&text.to_string());
}

/// One line on stderr, left out with `-q`.
pub fn say(text: impl fmt::Display) {
    if voice() >= 0 {
        line(&text.to_string());
    }
}

/// One line on stderr with `-v`.
pub fn detail(text: impl fmt::Display) {
    if voice() >= 1 {
        line(&text.to_string());
    }
}

/// One line on stderr with `-vv`: what went over the wire, secrets already taken out.
pub fn trace(text: impl fmt::Display) {
    if voice() >= 2 {
        line(&text.to_string());
    }
}

/// Says whether a line of progress may stand at the bottom of the terminal: what is written then takes its place, and
/// it comes again below.
pub fn set_progress(yes: bool) {
    PROGRESS.store(yes, Ordering::Relaxed);
}

/// Goes to the beginning of the line and empties it.
const CLEAR_LINE: &str = "\r\x1b[2K";

fn line(text: &str) {
    let program = std::env::args_os().next().map(PathBuf::from);
    let name = program.as_deref().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
    let clear = if PROGRESS.load(Ordering::Relaxed) { CLEAR_LINE } else { "" };
    let text = format!("{clear}{}: {}\n", name.as_deref().unwrap_or("mailloop"), printable(text));
    // Nobody can be told when stderr itself is gone.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Text fit for a terminal: control, escape, line-separator and bidi characters become `\u{…}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// True for characters that can change how a terminal or an editor shows the rest.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{061c}' | '\u{feff}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// How records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// A path a line.
    #[default]
    Lines,
    /// Paths that end in NUL.
    Nul,
    /// One JSON object a line.
    Json,
}

impl Form {
    /// The byte that ends each record.
    pub fn end(self) -> u8 {
        if self == Form::Nul { 0 } else { b'\n' }
    }
}

/// True once a write to stdout found that nobody reads it any more: finish what is in hand, then end by SIGPIPE.
pub fn reader_gone() -> bool {
    READER_GONE.load(Ordering::Relaxed)
}

/// Where a job hands its records; `bin` gives stdout, tests and the loop give a `Vec`.
pub struct Records<'a> {
    out: Box<dyn Write + Send + 'a>,
    form: Form,
    gone: bool,
    is_stdout: bool,
}

impl<'a> Records<'a> {
    /// Records go to `out` in this form.
    pub fn new(out: impl Write + Send + 'a, form: Form) -> Self {
        Records { out: Box::new(out), form, gone: false, is_stdout: false }
    }

    /// Records to stdout.
    pub fn stdout(form: Form) -> Records<'static> {
        Records { is_stdout: true, ..Records::new(io::BufWriter::new(io::stdout()), form) }
    }

    /// The form asked for.
    pub fn form(&self) -> Form {
        self.form
    }

    /// True with [`Form::Json`].
    pub fn is_json(&self) -> bool {
        self.form == Form::Json
    }

    /// True once a write found the reader gone.
    pub fn gone(&self) -> bool {
        self.gone
    }

    /// Writes one path as a record: absolute or `./…`, so that it never looks like an option.
    ///
    /// A path with a newline in it cannot be told apart in [`Form::Lines`]; it is refused there with a hint at `-0`.
    pub fn path(&mut self, path: &Path) -> Result<()> {
        let shown = dotted(path);
        let bytes = shown.as_os_str().as_bytes();
        match self.form {
            Form::Nul => self.put(&[bytes, b"\0"]),
            _ if bytes.contains(&b'\n') => {
                Err(Error::plain(Kind::Data, format!("the path {} has a newline in it", shown.display()))
                    .hint("use -0 or --json"))
            }
            _ => self.put(&[bytes, b"\n"]),
        }
    }

    /// Writes one JSON object and a newline.
    pub fn json(&mut self, record: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec(record)
            .map_err(|why| Error::new(Kind::Internal, "cannot write a record", why))?;
        text.push(b'\n');
        self.put(&[&text])
    }

    /// Writes one line as it is, a command for instance, which need not be UTF-8.
    pub fn text(&mut self, text: impl AsRef<[u8]>) -> Result<()> {
        self.put(&[text.as_ref(), b"\n"])
    }

    /// Writes bytes as they are, such as a message.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.put(&[bytes])
    }

    /// Hands everything written so far to the reader.
    pub fn flush(&mut self) -> Result<()> {
        if self.is_stdout && PROGRESS.load(Ordering::Relaxed) && io::stdout().is_terminal() {
            let _ = io::stderr().write_all(CLEAR_LINE.as_bytes());
        }
        let done = self.out.flush();
        self.check(done)
    }

    fn put(&mut self, parts: &[&[u8]]) -> Result<()> {
        for part in parts {
            if self.gone {
                return Ok(());
            }
            let done = self.out.write_all(part);
            self.check(done)?;
        }
        Ok(())
    }

    fn check(&mut self, done: io::Result<()>) -> Result<()> {
        match done {
            Err(why) if why.kind() == io::ErrorKind::BrokenPipe => {
                self.gone = true;
                if self.is_stdout {
                    READER_GONE.store(true, Ordering::Relaxed);
                }
                Ok(())
            }
            Err(why) => Err(Error::writing("standard output", why)),
            Ok(()) => Ok(()),
        }
    }
}

/// The path as it stands in a record: absolute, or beginning with `./` or `../`.
pub fn dotted(path: &Path) -> Cow<'_, Path> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.starts_with(b"/") || bytes.starts_with(b"./") || bytes.starts_with(b"../") {
        Cow::Borrowed(path)
    } else {
        Cow::Owned(Path::new(".").join(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_drive_a_terminal() {
        assert_eq!(printable("a\x1b[31m\u{202e}b\n"), "a\\u{1b}[31m\\u{202e}b\\u{a}");
        assert!(matches!(printable("résumé.pdf"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_path_never_looks_like_an_option() {
        let mut out = Vec::new();
        Records::new(&mut out, Form::Lines).path(Path::new("-rf")).unwrap();
        assert_eq!(out, b"./-rf\n");
    }
}
