//! Between the socket and the imap crate: message literals go to a [`Sink`], never through the crate's memory.
//!
//! The crate holds a whole response in memory, re-parses it line by line, and cannot go on after a line it does not
//! know. So it sees a message as a tiny literal that holds a number, and lines that would upset it (warnings, BYE,
//! capabilities, unknown data) are taken out here. Lines and literals have limits; nothing is allocated by what a
//! server announces.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use crate::net::Wire;
use crate::report;

/// Where message literals go.
pub trait Sink {
    /// A message of this many octets begins; the number comes back with its other data.
    fn begin(&mut self, size: u64) -> io::Result<u64>;
    /// The next of its octets.
    fn write(&mut self, octets: &[u8]) -> io::Result<()>;
    /// All of them came.
    fn end(&mut self) -> io::Result<()>;
}

/// What both sides of the tap share.
#[derive(Default)]
pub(super) struct Shared {
    /// Takes the bodies of the FETCH under way.
    pub sink: Option<Box<dyn Sink>>,
    /// Upper-case capabilities of the last CAPABILITY data.
    pub capabilities: Vec<String>,
    /// Messages in the mailbox, by the last EXISTS.
    pub exists: Option<u32>,
    /// True once an EXISTS came since this was last set to false.
    pub news: bool,
    /// What the server said in BYE.
    pub bye: Option<String>,
    /// Between IDLE and its continuation: other lines wait, or the crate would take them for the answer.
    pub idle_starts: bool,
    /// True while IDLE runs: only changes of the mailbox pass.
    pub idling: bool,
    /// While a password may be in what we send, the trace shows nothing of it.
    pub hush: bool,
}

/// A line of a legal response is short; a SEARCH answer over a huge mailbox is the longest.
const LONGEST_LINE: usize = 16 << 20;
/// Literals that the crate itself sees (names, mostly).
const LARGEST_SMALL_LITERAL: u64 = 1 << 20;

enum State {
    Line,
    /// Octets left for the sink.
    Message(u64),
    /// Octets left for the crate.
    Pass(u64),
    /// Octets left of a literal in a response that the crate must not see.
    Drop(u64),
}

/// `Read + Write` for the crate on one side, the wire on the other.
pub(super) struct Tap {
    wire: Wire,
    shared: Rc<RefCell<Shared>>,
    buffer: Box<[u8]>,
    from: usize,
    to: usize,
    line: Vec<u8>,
    out: Vec<u8>,
    out_from: usize,
    state: State,
    /// The response that the present line belongs to goes on after a literal.
    response: Response,
    /// Lines held back until IDLE has been answered.
    held: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum Response {
    None,
    Fetch,
    Other,
    Dropped,
}

impl Tap {
    pub fn new(wire: Wire) -> (Tap, Rc<RefCell<Shared>>) {
        let shared = Rc::new(RefCell::new(Shared::default()));
        let tap = Tap {
            wire,
            shared: shared.clone(),
            buffer: vec![0; 256 << 10].into_boxed_slice(),
            from: 0,
            to: 0,
            line: Vec::new(),
            out: Vec::new(),
            out_from: 0,
            state: State::Line,
            response: Response::None,
            held: Vec::new(),
        };
        (tap, shared)
    }

    fn fill(&mut self) -> io::Result<bool> {
        if self.from == self.to {
            self.from = 0;
            self.to = 0;
            self.to = self.wire.read(&mut self.buffer)?;
        }
        Ok(self.from < self.to)
    }

    /// Moves on by one piece of input; afterwards there may be something in `out`.
    fn advance(&mut self) -> io::Result<()> {
        let available = self.to - self.from;
        match &mut self.state {
            State::Line => return self.take_line(),
            State::Message(left) => {
                let n = clamp(*left, available);
                let mut shared = self.shared.borrow_mut();
                let sink =
                    shared.sink.as_mut().ok_or_else(|| io::Error::other("nobody takes this message"))?;
                sink.write(&self.buffer[self.from..self.from + n])?;
                *left -= n as u64;
                self.from += n;
                if *left == 0 {
                    sink.end()?;
                    self.state = State::Line;
                }
            }
            State::Pass(left) => {
                let n = clamp(*left, available);
                self.out.extend_from_slice(&self.buffer[self.from..self.from + n]);
                *left -= n as u64;
                self.from += n;
                if *left == 0 {
                    self.state = State::Line;
                }
            }
            State::Drop(left) => {
                let n = clamp(*left, available);
                *left -= n as u64;
                self.from += n;
                if *left == 0 {
                    self.state = State::Line;
                }
            }
        }
        Ok(())
    }

    fn take_line(&mut self) -> io::Result<()> {
        let available = &self.buffer[self.from..self.to];
        let end = memchr::memchr(b'\n', available);
        let n = end.map_or(available.len(), |at| at + 1);
        if self.line.len() + n > LONGEST_LINE {
            return Err(invalid("the server sent a line of more than 16 MiB"));
        }
        self.line.extend_from_slice(&available[..n]);
        self.from += n;
        match end {
            None => Ok(()),
            Some(_) => {
                let line = std::mem::take(&mut self.line);
                self.judge(line)
            }
        }
    }

    /// Decides about one whole line: pass it, change it, keep it from the crate.
    fn judge(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        // QUIRK: a server that ends lines with LF alone would confuse the crate.
        if !line.ends_with(b"\r\n") {
            line.pop();
            line.extend_from_slice(b"\r\n");
        }
        report::trace(format_args!("S: {}", String::from_utf8_lossy(&line).trim_end()));
        if self.response == Response::None {
            self.response = self.classify(&mut line);
        }
        let literal = match self.response {
            Response::None => None,
            _ => literal(&line)?,
        };
        let response = self.response;
        if literal.is_none() {
            self.response = Response::None;
        }
        match (response, literal) {
            (Response::Dropped, Some((_, size))) => self.state = drop_or_line(size),
            (Response::Dropped, None) => {}
            (Response::Fetch, Some((at, size))) if self.is_message(&line[..at]) => {
                self.divert(&line[..at], size)?
            }
            (_, Some((_, size))) if size > LARGEST_SMALL_LITERAL => {
                return Err(invalid("the server sent a literal of more than 1 MiB where a name belongs"));
            }
            (_, Some((_, size))) => {
                self.out.extend_from_slice(&line);
                if size > 0 {
                    self.state = State::Pass(size);
                }
            }
            (_, None) => self.out.extend_from_slice(&line),
        }
        Ok(())
    }

    fn is_message(&self, before: &[u8]) -> bool {
        self.shared.borrow().sink.is_some() && before.to_ascii_uppercase().ends_with(b"BODY[] ")
    }

    fn divert(&mut self, before: &[u8], size: u64) -> io::Result<()> {
        let mut shared = self.shared.borrow_mut();
        let sink = shared.sink.as_mut().ok_or_else(|| io::Error::other("nobody takes this message"))?;
        let number = sink.begin(size)?.to_string();
        self.out.extend_from_slice(before);
        write!(self.out, "{{{}}}\r\n{number}", number.len())?;
        match size {
            0 => sink.end()?,
            _ => self.state = State::Message(size),
        }
        Ok(())
    }

    /// What kind of response begins with this line. Lines that the crate needs no more become `Dropped`.
    fn classify(&mut self, line: &mut Vec<u8>) -> Response {
        let shared = self.shared.clone();
        let mut shared = shared.borrow_mut();
        if !line.starts_with(b"* ") {
            if line.starts_with(b"+") && shared.idle_starts {
                shared.idle_starts = false;
                shared.idling = true;
                self.out.extend_from_slice(line);
                self.out.append(&mut self.held);
                return Response::Dropped;
            }
            if !line.starts_with(b"+") {
                (shared.idle_starts, shared.idling) = (false, false);
            }
            soothe(line, &mut shared);
            return Response::None;
        }
        let text = String::from_utf8_lossy(&line[2..]).trim_end().to_ascii_uppercase();
        let mut words = text.split(' ');
        let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if let Ok(number) = first.parse::<u32>() {
            return match second {
                "EXISTS" => {
                    (shared.exists, shared.news) = (Some(number), true);
                    self.pass_or_hold(line, &shared)
                }
                "RECENT" | "EXPUNGE" => self.pass_or_hold(line, &shared),
                "FETCH" if shared.sink.is_some() => Response::Fetch,
                // Flags that changed elsewhere are of no use to a one-way fetch.
                _ => Response::Dropped,
            };
        }
        match first {
            "CAPABILITY" => {
                shared.capabilities = text.split(' ').skip(1).map(String::from).collect();
                Response::Dropped
            }
            "BYE" => {
                shared.bye = Some(String::from_utf8_lossy(&line[2..]).trim_end().to_string());
                Response::Dropped
            }
            "NO" | "BAD" => {
                report::detail(format_args!(
                    "the server says: {}",
                    String::from_utf8_lossy(&line[2..]).trim_end()
                ));
                Response::Dropped
            }
            _ if shared.idling || shared.idle_starts => Response::Dropped,
            "OK" => {
                soothe(line, &mut shared);
                Response::None
            }
            "LIST" | "LSUB" | "STATUS" => Response::Other,
            "SEARCH" => {
                if let Some(at) = memchr::memmem::find(line, b" (MODSEQ") {
                    line.truncate(at);
                    line.extend_from_slice(b"\r\n");
                }
                Response::None
            }
            "FLAGS" => Response::None,
            _ => Response::Dropped,
        }
    }

    fn pass_or_hold(&mut self, line: &[u8], shared: &Shared) -> Response {
        match shared.idle_starts {
            true => self.held.extend_from_slice(line),
            false => self.out.extend_from_slice(line),
        }
        Response::Dropped
    }
}

/// Status lines: capabilities are kept for us, codes and texts that the crate cannot parse are made harmless.
fn soothe(line: &mut Vec<u8>, shared: &mut Shared) {
    let text = String::from_utf8_lossy(line).to_ascii_uppercase();
    if let Some(at) = text.find("[CAPABILITY ") {
        let end = text[at..].find(']').map_or(text.len(), |end| at + end);
        shared.capabilities = text[at + 12..end].split_whitespace().map(String::from).collect();
        let mut tail = line.split_off(end.saturating_add(1).min(line.len()));
        line.truncate(at);
        let rest = tail.iter().position(|b| *b != b' ').unwrap_or(0);
        line.extend(tail.drain(rest..));
        if line.ends_with(b" \r\n") {
            line.truncate(line.len() - 2);
            line.extend_from_slice(b"done\r\n"); // the crate wants some text
        }
    }
    for byte in line.iter_mut().filter(|byte| !byte.is_ascii()) {
        *byte = b'?';
    }
}

/// The octet count that ends this line, and where its brace stands.
fn literal(line: &[u8]) -> io::Result<Option<(usize, u64)>> {
    let Some(body) = line.strip_suffix(b"}\r\n") else { return Ok(None) };
    let Some(at) = memchr::memrchr(b'{', body) else { return Ok(None) };
    let digits = &body[at + 1..];
    let digits = digits.strip_suffix(b"+").unwrap_or(digits);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Ok(None);
    }
    let size = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    // RFC 9051: number64; what does not even fit there is no message.
    size.map(|size| Some((at, size))).ok_or_else(|| invalid("the server announced an impossible size"))
}

fn drop_or_line(size: u64) -> State {
    if size == 0 { State::Line } else { State::Drop(size) }
}

fn clamp(left: u64, available: usize) -> usize {
    usize::try_from(left).map_or(available, |left| left.min(available))
}

fn invalid(why: &str) -> io::Error {
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
        self.wire.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wire.flush()
    }
}

impl imap::extensions::idle::SetReadTimeout for Tap {
    fn set_read_timeout(&mut self, limit: Option<Duration>) -> imap::error::Result<()> {
        self.wire.set_limit(limit);
        Ok(())
    }
}
