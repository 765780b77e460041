//! Between the socket and the imap crate: message literals go to a [`Sink`], never through the crate's memory.
//!
//! The crate holds a whole response in memory, re-parses it line by line, and cannot go on after a line it does not
//! know. So all untagged data are read here; the crate sees tagged answers and continuations. Lines and literals have
//! limits; nothing is allocated by what a server announces.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::rc::Rc;

use super::fetched::Fetched;
use super::found;
use super::line::Line;
use crate::net::Wire;
use crate::net::hidden::Hidden;
use crate::report;

mod idle;
mod judge;
mod measure;
mod response;

pub(super) use idle::Idle;
pub(super) use judge::bracketed;
use measure::Measure;

/// Where messages go.
pub trait Sink {
    /// A message of this many octets begins. False: it is not wanted, and its octets are passed over.
    fn begin(&mut self, size: u64) -> io::Result<bool>;
    /// The next of its octets.
    fn write(&mut self, octets: &[u8]) -> io::Result<()>;
    /// All of them came, and this is what the server says of the message. True if it is one that was wanted.
    fn end(&mut self, message: Fetched) -> io::Result<bool>;
    /// What was begun belongs to no message after all.
    fn forget(&mut self);
}

/// What both sides of the tap share.
#[derive(Default)]
pub(super) struct Shared {
    /// Takes the messages of the FETCH under way.
    pub sink: Option<Box<dyn Sink>>,
    /// Takes other FETCH, LIST and STATUS responses, whole and without `* `, while it is there.
    pub collected: Option<Vec<Vec<u8>>>,
    /// Takes what a SEARCH finds, while it is there.
    pub found: Option<Vec<u32>>,
    /// Octets that came and went over the wire.
    pub traffic: (u64, u64),
    /// COMPRESS is under way: an OK means that what follows it is compressed.
    pub packing: bool,
    /// Upper-case capabilities of the last CAPABILITY data.
    pub capabilities: Vec<String>,
    /// What ENABLE has switched on, in upper case.
    pub enabled: Vec<String>,
    /// Messages in the mailbox, by the last EXISTS.
    pub exists: Option<u32>,
    /// UIDVALIDITY and UIDNEXT of the mailbox, as its opening said.
    pub numbers: (Option<u32>, Option<u32>),
    /// True once an EXISTS came since this was last set to false.
    pub news: bool,
    /// The last tagged answer, without its tag.
    pub status: String,
    /// What the server said in BYE.
    pub bye: Option<String>,
    /// Where we stand with IDLE.
    pub idle: Idle,
    /// While we log in the trace shows only what kind of lines go to and fro.
    pub hush: bool,
    /// What of the server's words is not shown.
    pub hidden: Hidden,
}

impl Shared {
    fn take(&mut self, octets: &[u8]) -> io::Result<()> {
        self.sink.as_mut().ok_or_else(nobody)?.write(octets)
    }
}

/// A line of a legal response is short, but for what a SEARCH finds.
const LONGEST_LINE: usize = 1 << 20;

enum State {
    Line,
    /// Octets left for the sink.
    Message(u64),
    /// Octets left of a literal that is part of the collected response.
    Collect(u64),
    /// Octets left of a literal that nobody wants.
    Drop(u64),
}

/// `Read + Write` for the crate on one side, the wire on the other.
pub(super) struct Tap {
    line: Line,
    shared: Rc<RefCell<Shared>>,
    buffer: Box<[u8]>,
    from: usize,
    to: usize,
    partial: Vec<u8>,
    out: Vec<u8>,
    out_from: usize,
    state: State,
    /// The response that the present line belongs to goes on after a literal.
    response: Response,
    /// What came of that response, message literals left out.
    head: Vec<u8>,
    /// The sink has a message of that response, of so many octets.
    begun: Option<u64>,
    measure: Measure,
}

#[derive(Clone, Copy, PartialEq)]
enum Response {
    /// One line for the crate.
    None,
    Fetch,
    Collected,
    Dropped,
    /// Dropped, and its text may end in `{5}` without a literal behind it.
    Text,
}

impl Tap {
    pub fn new(wire: Wire) -> (Tap, Rc<RefCell<Shared>>) {
        let shared = Rc::new(RefCell::new(Shared::default()));
        let tap = Tap {
            line: Line::new(wire),
            shared: shared.clone(),
            buffer: vec![0; 256 << 10].into_boxed_slice(),
            from: 0,
            to: 0,
            partial: Vec::new(),
            out: Vec::new(),
            out_from: 0,
            state: State::Line,
            response: Response::None,
            head: Vec::new(),
            begun: None,
            measure: Measure::default(),
        };
        (tap, shared)
    }

    fn fill(&mut self) -> io::Result<bool> {
        if self.from == self.to {
            self.from = 0;
            self.to = 0;
            self.to = self.receive()?;
            self.shared.borrow_mut().traffic = self.line.traffic;
        }
        Ok(self.from < self.to)
    }

    /// Moves on by one piece of input; afterwards there may be something in `out`.
    fn advance(&mut self) -> io::Result<()> {
        let (State::Message(left) | State::Collect(left) | State::Drop(left)) = &mut self.state else {
            return self.take_line();
        };
        let n = clamp(*left, self.to - self.from);
        *left -= n as u64;
        let (piece, over) = (&self.buffer[self.from..self.from + n], *left == 0);
        match self.state {
            State::Message(_) => self.shared.borrow_mut().take(piece)?,
            State::Collect(_) => self.head.extend_from_slice(piece),
            State::Drop(_) | State::Line => {}
        }
        self.from += n;
        if over {
            self.state = State::Line;
        }
        Ok(())
    }

    /// The server has agreed to COMPRESS: what came behind its agreement is compressed already.
    fn pack(&mut self) {
        self.line.pack(&self.buffer[self.from..self.to]);
        self.from = self.to;
    }

    fn take_line(&mut self) -> io::Result<()> {
        let available = &self.buffer[self.from..self.to];
        let end = memchr::memchr(b'\n', available);
        let n = end.map_or(available.len(), |at| at + 1);
        self.partial.extend_from_slice(&available[..n]);
        self.from += n;
        if self.partial.len() > LONGEST_LINE {
            // What a SEARCH over a huge mailbox finds is taken in by pieces.
            let is_ours = self.response == Response::None && available[..n].is_ascii();
            let piece = if is_ours { found::cut(&mut self.partial) } else { None };
            let piece = piece.ok_or_else(|| invalid("the server sent a line of more than 1 MiB"))?;
            self.judge(piece)?;
        }
        if end.is_some() {
            let line = std::mem::take(&mut self.partial);
            self.judge(line)?;
        }
        Ok(())
    }
}

fn clamp(left: u64, available: usize) -> usize {
    usize::try_from(left).map_or(available, |left| left.min(available))
}

fn nobody() -> io::Error {
    io::Error::other("nobody takes this message")
}

pub(super) fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.out_from == self.out.len() {
            self.out.clear();
            self.out_from = 0;
            if !self.fill()? {
                return Ok(0);
            }
            self.advance()?;
        }
        let n = buffer.len().min(self.out.len() - self.out_from);
        buffer[..n].copy_from_slice(&self.out[self.out_from..self.out_from + n]);
        self.out_from += n;
        Ok(n)
    }
}

impl Write for Tap {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.shared.borrow().hush {
            report::trace(format_args!("C: {}", String::from_utf8_lossy(bytes).trim_end()));
        }
        self.line.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.line.flush()?;
        self.shared.borrow_mut().traffic = self.line.traffic;
        Ok(())
    }
}
