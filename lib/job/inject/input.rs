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

/// Ends at a line that is a dot alone, as sendmail's input does without `-i`.
pub(super) struct DotEnded<R> {
    inner: R,
    line: Vec<u8>,
    taken: usize,
    ended: bool,
}

impl<R: BufRead> DotEnded<R> {
    pub(super) fn new(inner: R) -> Self {
        DotEnded { inner, line: Vec::new(), taken: 0, ended: false }
    }
}

impl<R: BufRead> Read for DotEnded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.line.len() && !self.ended {
            self.line.clear();
            self.taken = 0;
            self.inner.read_until(b'\n', &mut self.line)?;
            if matches!(&self.line[..], b"" | b".\n" | b".\r\n" | b".") {
                self.ended = true;
                self.line.clear();
            }
        }
        let n = (&self.line[self.taken..]).read(buffer)?;
        self.taken += n;
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
