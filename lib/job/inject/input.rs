//! What the options of mail-inject mean: header fields, the text, paths, and what makes a message unique.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, BufRead, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Text;
use crate::error::{Error, Kind, Result};
use crate::mail::outgoing::Stamp;
use crate::record;
use crate::report::Form;

/// The longest text of a body; what is longer is an attachment.
const LONGEST_BODY: u64 = 64 << 20;

pub(super) fn field(line: &str) -> Result<(String, String)> {
    let (name, value) = line.split_once(':').ok_or_else(|| {
        Error::plain(Kind::Usage, format!("{line:?} is no header field")).hint("write 'Name: value'")
    })?;
    Ok((name.to_string(), value.trim_matches([' ', '\t']).to_string()))
}

pub(super) fn body(text: &Text, input: &mut dyn Read) -> Result<Option<String>> {
    let Some(path) = &text.body_file else { return Ok(text.body.clone()) };
    text_file(path, input).map(Some)
}

pub(super) fn html(text: &Text, input: &mut dyn Read) -> Result<Option<String>> {
    text.html.as_deref().map(|path| text_file(path, input)).transpose()
}

fn text_file(path: &Path, input: &mut dyn Read) -> Result<String> {
    let mut bytes = Vec::new();
    let read = match path.as_os_str() == "-" {
        true => input.take(LONGEST_BODY + 1).read_to_end(&mut bytes),
        false => {
            std::fs::File::open(path).and_then(|file| file.take(LONGEST_BODY + 1).read_to_end(&mut bytes))
        }
    };
    read.map_err(|why| Error::reading(path, why))?;
    let wrong = |why: &str| {
        Error::new(Kind::Data, format!("cannot use {} as text", path.display()), why).hint("use --attach")
    };
    if bytes.len() as u64 > LONGEST_BODY {
        return Err(wrong("it is too long"));
    }
    String::from_utf8(bytes).map_err(|_| wrong("it is no UTF-8"))
}

/// Ends at a line that is a dot alone, as sendmail's input does without `-i`; lines may be of any length.
pub(super) struct DotEnded<R> {
    inner: R,
    at_start: bool,
    /// What was read to know whether a line that begins with a dot is more than that.
    held: &'static [u8],
    ended: bool,
}

impl<R: BufRead> DotEnded<R> {
    pub(super) fn new(inner: R) -> Self {
        DotEnded { inner, at_start: true, held: b"", ended: false }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.inner.fill_buf() {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                chunk => return Ok(chunk?.first().copied()),
            }
        }
    }

    /// Takes a line's dot, and what must follow it to end the message.
    fn take_dot(&mut self) -> io::Result<()> {
        self.inner.consume(1);
        match self.peek()? {
            None | Some(b'\n') => self.ended = true,
            Some(b'\r') => {
                self.inner.consume(1);
                match self.peek()? {
                    Some(b'\n') => self.ended = true,
                    _ => self.held = b".\r",
                }
            }
            Some(_) => self.held = b".",
        }
        Ok(())
    }
}

impl<R: BufRead> Read for DotEnded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let next = if self.ended || !self.held.is_empty() { None } else { self.peek()? };
        if self.at_start && next == Some(b'.') {
            self.take_dot()?;
        }
        if self.ended {
            return Ok(0);
        }
        if !self.held.is_empty() {
            let n = self.held.read(buffer)?;
            self.at_start = false;
            return Ok(n);
        }
        let chunk = self.inner.fill_buf()?;
        // As far as no line begins with a dot.
        let n = memchr::memmem::find(chunk, b"\n.").map_or(chunk.len(), |at| at + 1).min(buffer.len());
        buffer[..n].copy_from_slice(&chunk[..n]);
        self.inner.consume(n);
        if let Some(last) = buffer[..n].last() {
            self.at_start = *last == b'\n';
        }
        Ok(n)
    }
}

pub(super) fn path_of(line: Vec<u8>, form: Form) -> Result<PathBuf> {
    if form != Form::Json {
        return Ok(std::ffi::OsString::from_vec(line).into());
    }
    let record = record::Message::read(&String::from_utf8_lossy(&line))?;
    let path = record.path.get().map(Path::to_path_buf);
    path.ok_or_else(|| Error::plain(Kind::Data, "a message record holds no path"))
}

/// Now, and letters that no other message has.
pub(super) fn stamp() -> Stamp {
    let date = Timestamp::now().to_zoned(zone());
    Stamp { date, unique: format!("{:016x}{:08x}", random(), random() as u32) }
}

/// The machine's time zone. Its name is of no use to us, and looking for it means reading all of /usr/share/zoneinfo,
/// which takes longer than sending a small message.
fn zone() -> TimeZone {
    let is_told = std::env::var_os("TZ").is_some_and(|zone| !zone.is_empty());
    let local = || TimeZone::tzif("Local", &std::fs::read("/etc/localtime").ok()?).ok();
    if is_told { TimeZone::system() } else { local().unwrap_or_else(TimeZone::system) }
}

/// Different at each call and in each process: std keys each `RandomState` from the system's source.
pub(super) fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.write_i128(Timestamp::now().as_nanosecond());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::DotEnded;

    #[test]
    fn a_dot_alone_ends_it_wherever_the_chunks_do() {
        for (text, wanted) in [
            ("", ""),
            (".", ""),
            (".\nx", ""),
            (".\r\nx", ""),
            ("a\n.\nb\n", "a\n"),
            ("a\r\n.\r\nb", "a\r\n"),
            ("a\n.", "a\n"),
            ("a\n..\n.b\n.\rc\n.\r", "a\n..\n.b\n.\rc\n.\r"),
            ("a.\nb.\n .\n", "a.\nb.\n .\n"),
            ("\n\n.\n", "\n\n"),
        ] {
            for size in 1..9 {
                let mut read = Vec::new();
                let mut ended = DotEnded::new(BufReader::with_capacity(size, text.as_bytes()));
                let mut chunk = vec![0; 1 + size % 3];
                loop {
                    match ended.read(&mut chunk).unwrap() {
                        0 => break,
                        n => read.extend_from_slice(&chunk[..n]),
                    }
                }
                assert_eq!(String::from_utf8(read).unwrap(), wanted, "{text:?} by {size}");
            }
        }
    }
}
