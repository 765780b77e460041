//! A message on its way out: stretches of bytes and files that, one after the other, are the message.
//!
//! Attachments and bodies stay on disk. What can be read only once (a pipe) is copied to an unnamed file first, so
//! that everything is known to be readable before the first byte goes out.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::mail::address::{self, Address, Mailbox};
use crate::mail::compose::{self, Attachment, Base64Lines, Draft, Piece};
use crate::mail::convert::{Converted, Plan, Survey, Want};
use crate::mail::lines::{LONGEST_LINE, Lines, Measure};
use crate::mail::outgoing::{self, LONGEST_HEADER, Stamp};
use crate::mail::sniff;

/// Bodies up to this size are kept in memory.
const SMALL: u64 = 64 * 1024;

/// A message and its envelope.
pub struct Outbound {
    /// The envelope's sender; `None` for one that nobody wants to hear of again.
    pub from: Option<Address>,
    /// The envelope's recipients, each once.
    pub to: Vec<Address>,
    /// With its angle brackets.
    pub message_id: String,
    /// Its size and what else a server is told.
    pub measure: Measure,
    /// What is odd about it, and did not stop us.
    pub note: Option<String>,
    stretches: Vec<Stretch>,
    /// Parts with lines that are too long are encoded anew.
    plan: Option<Plan>,
}

enum Stretch {
    Bytes(Vec<u8>),
    /// As base64 lines.
    Encoded(Source),
    /// With CRLF line ends.
    Lines(Source),
}

/// A part of a file that stays open.
#[derive(Clone)]
struct Source {
    file: Arc<File>,
    start: u64,
    end: u64,
    path: PathBuf,
}

impl Source {
    /// Opens a file to be attached. 66 where it cannot be read.
    fn open(path: &Path) -> Result<Source> {
        let failed = |why| Error::reading(path, why);
        let mut file = File::open(path).map_err(failed)?;
        let mut meta = file.metadata().map_err(failed)?;
        if meta.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        if !meta.is_file() {
            file = unnamed_copy(&mut file, path)?;
            meta = file.metadata().map_err(failed)?;
        }
        Ok(Source { file: Arc::new(file), start: 0, end: meta.len(), path: path.to_path_buf() })
    }

    fn reader(&self) -> SourceReader<'_> {
        SourceReader { source: self, at: self.start }
    }
}

struct SourceReader<'a> {
    source: &'a Source,
    at: u64,
}

impl Read for SourceReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.source.end.saturating_sub(self.at);
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let n = self.source.file.read_at(&mut buffer[..most], self.at)?;
        if n == 0 {
            let what = format!("{} became shorter while it was being read", self.source.path.display());
            return Err(io::Error::other(what));
        }
        self.at += n as u64;
        Ok(n)
    }
}

/// Line ends put right on the way.
struct LinesReader<R> {
    inner: R,
    lines: Lines,
    out: Vec<u8>,
    taken: usize,
    ended: bool,
}

impl<R: Read> Read for LinesReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.out.len() && !self.ended {
            self.out.clear();
            self.taken = 0;
            let mut chunk = [0; 16 * 1024];
            match self.inner.read(&mut chunk)? {
                0 => {
                    self.ended = true;
                    self.lines.finish(&mut self.out);
                }
                n => self.lines.feed(&chunk[..n], &mut self.out),
            }
        }
        let n = (&self.out[self.taken..]).read(buffer)?;
        self.taken += n;
        Ok(n)
    }
}

/// One stretch after the other.
struct InTurn<'a> {
    rest: std::slice::Iter<'a, Stretch>,
    current: Option<Box<dyn Read + 'a>>,
}

impl Read for InTurn<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(current) = &mut self.current else {
                let Some(next) = self.rest.next() else { return Ok(0) };
                self.current = Some(next.open());
                continue;
            };
            match current.read(buffer)? {
                0 if !buffer.is_empty() => self.current = None,
                n => return Ok(n),
            }
        }
    }
}

impl Stretch {
    fn open(&self) -> Box<dyn Read + '_> {
        match self {
            Stretch::Bytes(bytes) => Box::new(&bytes[..]),
            Stretch::Encoded(source) => Box::new(Base64Lines::new(source.reader())),
            Stretch::Lines(source) => {
                let (lines, out) = (Lines::plain(), Vec::new());
                Box::new(LinesReader { inner: source.reader(), lines, out, taken: 0, ended: false })
            }
        }
    }

    fn measure(&self, measure: &mut Measure) -> Result<()> {
        match self {
            Stretch::Bytes(bytes) => measure.feed(bytes),
            Stretch::Encoded(source) => measure.size += compose::base64_len(source.end - source.start),
            Stretch::Lines(source) => {
                let mut reader = self.open();
                let mut chunk = vec![0; 64 * 1024];
                loop {
                    match reader.read(&mut chunk).map_err(|why| Error::reading(&source.path, why))? {
                        0 => break,
                        n => measure.feed(&chunk[..n]),
                    }
                }
            }
        }
        Ok(())
    }
}

impl Outbound {
    /// Reads the message from its start; as often as wanted.
    pub fn open(&self) -> Box<dyn Read + '_> {
        let whole = InTurn { rest: self.stretches.iter(), current: None };
        match &self.plan {
            None => Box::new(whole),
            Some(plan) => Box::new(Converted::new(whole, plan)),
        }
    }

    /// Lines over 998 bytes (RFC 5322 section 2.1.1), which a relay may refuse or break, go into parts that are encoded
    /// anew; where that would break a signature they stay.
    fn shorten(&mut self) -> Result<()> {
        let reading = |why| Error::reading("the message", why);
        let longest = self.measure.longest_line;
        if longest <= LONGEST_LINE as u64 {
            return Ok(());
        }
        let plan = Survey::read(Want::ShortLines, &mut self.open()).map_err(reading)?.plan();
        let what = match plan {
            Ok(plan) if plan.count() > 0 => {
                let count = plan.count();
                self.plan = Some(plan);
                let measure = Measure::read(&mut self.open());
                self.measure = measure.map_err(reading)?;
                format!("{count} part(s) go as quoted-printable")
            }
            Ok(_) => "it stays, since it is in a header".to_string(),
            Err(why) => format!("it stays, since {why}"),
        };
        self.note = Some(format!("{} has a line of {longest} bytes: {what}", self.message_id));
        Ok(())
    }

    /// Composes a message; attachments are opened now and read when it is sent.
    pub fn compose(draft: Draft, files: &[PathBuf], to: Vec<Address>, stamp: &Stamp) -> Result<Outbound> {
        let mut draft = draft;
        let mut sources = Vec::with_capacity(files.len());
        for path in files {
            let source = Source::open(path)?;
            draft.attachments.push(attachment(path, &source)?);
            sources.push(source);
        }
        let composed = compose::compose(&draft, stamp)?;
        let pieces = composed.pieces.into_iter().filter_map(|piece| match piece {
            Piece::Bytes(bytes) => Some(Stretch::Bytes(bytes)),
            Piece::Attachment(number) => sources.get(number).cloned().map(Stretch::Encoded),
        });
        Outbound::of(pieces.collect(), Some(draft.from.address), to, composed.message_id)
    }

    fn of(
        stretches: Vec<Stretch>,
        from: Option<Address>,
        to: Vec<Address>,
        message_id: String,
    ) -> Result<Outbound> {
        let mut measure = Measure::default();
        stretches.iter().try_for_each(|stretch| stretch.measure(&mut measure))?;
        let (to, note, plan) = (address::each_once(to), None, None);
        Ok(Outbound { from, to, message_id, measure, note, stretches, plan })
    }
}

/// A finished message whose header was read, but not made fit yet.
pub struct Finished {
    source: Source,
    header: Vec<u8>,
    body: u64,
}

/// What the envelope and the header of a finished message are made from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Envelope<'a> {
    /// In place of From; `Some(None)` is the empty sender.
    pub from: Option<Option<&'a Address>>,
    /// In place of, or with `adds` beside what the header says.
    pub to: &'a [Address],
    /// The header's recipients too.
    pub adds: bool,
    /// The sender where nothing else says it; in From where that is missing.
    pub usual: Option<&'a Mailbox>,
    /// As sendmail: what a name without a domain means.
    pub home: Option<&'a Address>,
}

impl Finished {
    /// From a file.
    pub fn file(path: &Path) -> Result<Finished> {
        Source::open(path).and_then(Finished::of).map_err(|error| error.context(path.display()))
    }

    /// From a stream, copied to an unnamed file first.
    pub fn stream(input: &mut dyn Read) -> Result<Finished> {
        let path = PathBuf::from("standard input");
        let file = unnamed_copy(input, &path)?;
        let end = file.metadata().map_err(|why| Error::reading(&path, why))?.len();
        Finished::of(Source { file: Arc::new(file), start: 0, end, path })
    }

    fn of(source: Source) -> Result<Finished> {
        let (header, body) = header_of(&source)?;
        Ok(Finished { source, header, body })
    }

    /// Who wrote it.
    pub fn author(&self) -> Option<Address> {
        outgoing::author(&self.header)
    }

    /// Makes it fit to be sent.
    pub fn prepare(self, envelope: &Envelope<'_>, stamp: &Stamp) -> Result<Outbound> {
        let name = self.source.path.clone();
        self.prepared(envelope, stamp).map_err(|error| error.context(name.display()))
    }

    fn prepared(self, envelope: &Envelope<'_>, stamp: &Stamp) -> Result<Outbound> {
        let Envelope { usual, home, .. } = *envelope;
        let given = envelope.from.flatten().map(|address| Mailbox { name: None, address: address.clone() });
        let header = outgoing::prepare(&self.header, stamp, given.as_ref().or(usual), home)?;
        let from = match envelope.from {
            Some(from) => from.cloned(),
            None => Some(
                header
                    .from
                    .or_else(|| usual.map(|usual| usual.address.clone()))
                    .ok_or_else(|| Error::plain(Kind::Data, "the message has no From"))?,
            ),
        };
        let mut to = envelope.to.to_vec();
        if to.is_empty() || envelope.adds {
            to.extend(header.to);
        }
        if to.is_empty() {
            return Err(Error::plain(Kind::Data, "the message has no recipient")
                .hint("it needs To, Cc or Bcc, or use --to"));
        }
        let body = Source { start: self.body, ..self.source };
        let stretches = match body.end - body.start <= SMALL {
            // Read once in place of twice, and once for all if there are several attempts.
            true => {
                let mut whole = header.header;
                let path = body.path.clone();
                let read = Stretch::Lines(body).open().read_to_end(&mut whole);
                read.map_err(|why| Error::reading(path, why))?;
                vec![Stretch::Bytes(whole)]
            }
            false => vec![Stretch::Bytes(header.header), Stretch::Lines(body)],
        };
        let mut out = Outbound::of(stretches, from, to, header.message_id)?;
        out.shorten()?;
        Ok(out)
    }
}

/// The header, and where in the file the body begins.
fn header_of(source: &Source) -> Result<(Vec<u8>, u64)> {
    let mut bytes = Vec::new();
    let mut reader = source.reader();
    let mut chunk = [0; 16 * 1024];
    loop {
        let n = reader.read(&mut chunk).map_err(|why| Error::reading(&source.path, why))?;
        bytes.extend_from_slice(&chunk[..n]);
        if let Some((end, body)) = outgoing::header_end(&bytes) {
            bytes.truncate(end);
            return Ok((bytes, source.start + body as u64));
        }
        if n == 0 {
            return Ok((bytes, source.end));
        }
        if bytes.len() > LONGEST_HEADER {
            return Err(Error::plain(Kind::Data, "its header is longer than a megabyte"));
        }
    }
}

/// A file that vanishes with us.
fn unnamed_copy(input: &mut dyn Read, name: &Path) -> Result<File> {
    let mut file = tempfile::tempfile()
        .map_err(|why| Error::creating(std::env::temp_dir(), why).context("a temporary file"))?;
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match input.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => {
                io::Write::write_all(&mut file, &chunk[..n])
                    .map_err(|why| Error::writing(std::env::temp_dir(), why).context("a temporary file"))?;
            }
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(Error::reading(name, why)),
        }
    }
    file.rewind().map_err(|why| Error::reading(name, why))?;
    Ok(file)
}

/// Its name, and its type by its bytes, else by its name.
fn attachment(path: &Path, source: &Source) -> Result<Attachment> {
    let mut head = vec![0; sniff::HEAD];
    let mut have = 0;
    let mut reader = source.reader();
    while have < head.len() {
        match reader.read(&mut head[have..]).map_err(|why| Error::reading(path, why))? {
            0 => break,
            n => have += n,
        }
    }
    head.truncate(have);
    let by_content = sniff::sniff(&head).map(|kind| kind.mime);
    // A PDF is known for certain; what else begins like a zip may be an office document, as its name says.
    let media_type = by_content
        .filter(|mime| *mime == sniff::PDF.mime)
        .or_else(|| mime_guess::from_path(path).first_raw())
        .or(by_content)
        .or_else(|| (!head.is_empty() && is_text(&head)).then_some("text/plain"))
        .unwrap_or("application/octet-stream")
        .to_string();
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(Attachment { name, media_type })
}

fn is_text(head: &[u8]) -> bool {
    let plain = |b: &u8| *b >= 32 || matches!(b, b'\t' | b'\r' | b'\n' | 12);
    match std::str::from_utf8(head) {
        Ok(_) => head.iter().all(plain),
        // The chunk may end inside of a character.
        Err(why) => why.error_len().is_none() && head.iter().all(plain),
    }
}
