//! The parts of a message: every leaf, and every message inside the message, as a flat list in order.
//!
//! One pass over the bytes with a stack of open boundaries, so that time is linear whatever the nesting; limits
//! on depth, parts and heads. Nothing is copied but what has to be decoded before it can be read (a message that was
//! sent encoded, `winmail.dat`), and that goes onto a [`Shelf`], which need not be memory.

use std::io::{self, Write};
use std::ops::Range;

use super::boundary::{self, Boundaries};
use super::decode::{self, Encoding};
use super::name::{self, Sent};
use super::words;

mod bounds;
mod contain;
mod said;
mod walk;

use walk::Walk;

/// Where reading stops; beyond a limit what was found so far is kept and [`Tree::cut`] says so.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Parts within parts.
    pub depth: usize,
    /// Parts in a message.
    pub parts: usize,
    /// Bytes of one head.
    pub head: usize,
    /// False to leave TNEF, signed S/MIME and uuencode in texts closed.
    pub containers: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { depth: 100, parts: 10_000, head: 1 << 20, containers: true }
    }
}

/// One part: a leaf, or a message that was sent inside this one.
#[derive(Debug, Clone)]
pub struct Part {
    /// `2.1`, numbered as IMAP does (RFC 9051 section 6.4.5.1).
    pub number: String,
    /// How many parts lie around it.
    pub depth: usize,
    /// `type/subtype` in lower case as the sender said it; `text/plain` where nothing usable was said.
    pub said: String,
    /// `attachment`, `inline` or what else was said, in lower case.
    pub disposition: Option<String>,
    /// How the body is encoded.
    pub encoding: Encoding,
    /// True for a message inside the message; its own parts follow.
    pub is_message: bool,
    /// True for TNEF and S/MIME that was opened: what it holds follows.
    pub is_container: bool,
    /// Oddities that did not stop us.
    pub notes: Vec<String>,
    /// The name that a container gives it.
    named: Option<Sent>,
    buffer: usize,
    head: Range<usize>,
    body: Range<usize>,
}

/// Bytes that lie on a [`Shelf`].
pub type Held = Box<dyn AsRef<[u8]> + Send>;

/// Where bytes go that had to be decoded to be read.
pub trait Shelf {
    /// Keeps what `fill` writes. An error is trouble with the shelf, or what `fill` gave.
    fn keep(&mut self, fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<Held>;
}

/// The simplest shelf: memory.
#[derive(Debug, Default)]
pub struct Memory;

impl Shelf for Memory {
    fn keep(&mut self, fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<Held> {
        let mut bytes = Vec::new();
        fill(&mut bytes)?;
        Ok(Box::new(bytes))
    }
}

/// The parts of one message.
#[derive(Default)]
pub struct Tree<'a> {
    /// Leaves and inner messages in the order in which they stand.
    pub parts: Vec<Part>,
    /// Oddities of the message as a whole.
    pub notes: Vec<String>,
    /// What was there and could not be opened, as encrypted parts are.
    pub closed: Vec<String>,
    /// Why reading stopped before the end, if it did: something may be missing.
    pub cut: Option<String>,
    /// What went wrong with the shelf; parts may be missing that another run would find.
    pub broken: Option<io::Error>,
    /// True once there are as many parts as are allowed: nothing more is read.
    full: bool,
    buffers: Vec<Buffer<'a>>,
}

/// The message itself, or what was decoded from it.
#[derive(Default)]
enum Buffer<'a> {
    #[default]
    Empty,
    Given(&'a [u8]),
    Kept(Held),
}

impl Buffer<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Buffer::Empty => &[],
            Buffer::Given(bytes) => bytes,
            Buffer::Kept(held) => (**held).as_ref(),
        }
    }
}

impl<'a> Tree<'a> {
    /// Takes a message apart; never fails: whatever the bytes are, they are at least one leaf.
    pub fn parse(message: &'a [u8], limits: &Limits) -> Tree<'a> {
        Tree::parse_onto(message, limits, &mut Memory)
    }

    /// The same with a shelf of one's own.
    pub fn parse_onto(message: &'a [u8], limits: &Limits, shelf: &mut dyn Shelf) -> Tree<'a> {
        let mut tree = Tree { buffers: vec![Buffer::Empty], ..Tree::default() };
        let buffer = match has_lone_returns(message).then(|| with_line_feeds(message, shelf)) {
            Some(Ok(repaired)) => {
                tree.notes.push("line ends were lone carriage returns".to_string());
                Buffer::Kept(repaired)
            }
            Some(Err(why)) => {
                tree.broken = Some(why);
                Buffer::Given(message)
            }
            None => Buffer::Given(message),
        };
        let bytes = buffer.bytes();
        let mut walk = Walk::over_message(&mut tree, limits, shelf, bytes);
        walk.run(skip_envelope(bytes), bytes.len(), Boundaries::default(), 0);
        tree.buffers[0] = buffer;
        tree
    }

    /// The head of a part, without the empty line.
    pub fn head(&self, part: &Part) -> &[u8] {
        &self.buffers[part.buffer].bytes()[part.head.clone()]
    }

    /// The body of a part, still encoded.
    pub fn body(&self, part: &Part) -> &[u8] {
        &self.buffers[part.buffer].bytes()[part.body.clone()]
    }

    /// The file name as the sender gave it, decoded but not made safe.
    pub fn name(&self, part: &Part) -> Option<Sent> {
        if part.named.is_some() {
            return part.named.clone();
        }
        name::sent(self.head(part)).or_else(|| match part.encoding {
            Encoding::Uuencode => {
                let text = words::guess(&decode::uu_name(self.body(part))?).into_owned();
                Some(Sent { path: text.clone(), text })
            }
            _ => None,
        })
    }
}

impl Part {
    /// True for a leaf that has a name, or is said to be an attachment, or is no text: what `--all` takes.
    pub fn is_attachment(&self, has_name: bool) -> bool {
        let family = self.said.split('/').next().unwrap_or_default();
        !self.is_message
            && (has_name
                || self.disposition.as_deref() == Some("attachment")
                || !matches!(family, "text" | "message" | "multipart"))
    }
}

/// The head of a message: what stands before the first empty line, at most 1 MiB.
pub fn head(message: &[u8]) -> &[u8] {
    let start = skip_envelope(message);
    let found =
        boundary::read_head(message, start, message.len(), Limits::default().head, &Boundaries::default());
    &message[found.range]
}

/// QUIRK: leading empty lines and an mbox `From ` line before the first field.
fn skip_envelope(message: &[u8]) -> usize {
    let blank = message.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let rest = &message[blank..];
    let is_envelope = |start: &[u8]| rest.starts_with(start) && rest.get(start.len()) != Some(&b':');
    if is_envelope(b"From ") || is_envelope(b">From ") {
        return memchr::memchr(b'\n', rest).map_or(message.len(), |end| blank + end + 1);
    }
    blank
}

/// QUIRK: a message with lone carriage returns as line ends (old Macs).
fn has_lone_returns(message: &[u8]) -> bool {
    memchr::memchr(b'\n', message).is_none() && memchr::memchr(b'\r', message).is_some()
}

fn with_line_feeds(message: &[u8], shelf: &mut dyn Shelf) -> io::Result<Held> {
    shelf.keep(&mut |out| {
        let mut chunk = Vec::with_capacity(64 * 1024);
        for piece in message.chunks(64 * 1024) {
            chunk.clear();
            chunk.extend(piece.iter().map(|b| if *b == b'\r' { b'\n' } else { *b }));
            out.write_all(&chunk)?;
        }
        Ok(())
    })
}

fn is_message(said: &str) -> bool {
    matches!(said, "message/rfc822" | "message/global" | "message/news")
}

#[cfg(test)]
mod tests;
