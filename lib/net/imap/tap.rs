//! Between the socket and the imap crate: message literals go to a [`Sink`], never through the crate's memory.
//!
//! The crate holds a whole response in memory, re-parses it line by line, and cannot go on after a line it does not
//! know. So FETCH and LIST data, warnings, BYE, capabilities and whatever is unknown are taken out here; the crate sees
//! tagged answers, continuations, and the few untagged lines that it can read. Lines and literals have limits; nothing
//! is allocated by what a server announces.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use super::fetched::{self, Body, Fetched};
use super::value::SPOOLED;
use crate::net::Wire;
use crate::report;

/// Where messages go.
pub trait Sink {
    /// A message of this many octets begins. False: it is not wanted, and its octets are passed over.
    fn begin(&mut self, size: u64) -> io::Result<bool>;
    /// The next of its octets.
    fn write(&mut self, octets: &[u8]) -> io::Result<()>;
    /// All of them came, and this is what the server says of the message.
    fn end(&mut self, message: Fetched) -> io::Result<()>;
    /// What was begun belongs to no message after all.
    fn forget(&mut self);
    /// The server has this message and does not give it (`BODY[] NIL`).
    fn withheld(&mut self, message: Fetched);
}

/// What both sides of the tap share.
#[derive(Default)]
pub(super) struct Shared {
    /// Takes the messages of the FETCH under way.
    pub sink: Option<Box<dyn Sink>>,
    /// Takes other FETCH, LIST and STATUS responses, whole and without `* `, while it is there.
    pub collected: Option<Vec<Vec<u8>>>,
    /// Octets of messages that came.
    pub octets: u64,
    /// Upper-case capabilities of the last CAPABILITY data.
    pub capabilities: Vec<String>,
    /// Messages in the mailbox, by the last EXISTS.
    pub exists: Option<u32>,
    /// True once an EXISTS came since this was last set to false.
    pub news: bool,
    /// The last tagged answer, without its tag.
    pub status: String,
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
/// A response without its messages: names and flags.
const LONGEST_RESPONSE: usize = 1 << 20;
/// RFC 3501: `number` has 32 bits. Larger literals (RFC 9051 allows 63) are no mail that anybody sends.
const LARGEST_MESSAGE: u64 = u32::MAX as u64;

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
    /// What came of that response, message literals left out.
    head: Vec<u8>,
    /// The sink has a message of that response.
    begun: bool,
    /// Lines held back until IDLE has been answered.
    held: Vec<u8>,
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
            head: Vec::new(),
            begun: false,
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
                shared.octets += n as u64;
                let sink =
                    shared.sink.as_mut().ok_or_else(|| io::Error::other("nobody takes this message"))?;
                sink.write(&self.buffer[self.from..self.from + n])?;
                *left -= n as u64;
                self.from += n;
                if *left == 0 {
                    self.state = State::Line;
                }
            }
            State::Collect(left) => {
                let n = clamp(*left, available);
                self.head.extend_from_slice(&self.buffer[self.from..self.from + n]);
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
        match self.response {
            Response::None => {
                self.out.extend_from_slice(&line);
                return Ok(());
            }
            Response::Text => self.response = Response::None,
            Response::Dropped => match literal(&line)? {
                Some((_, size)) => self.state = drop_or_line(size),
                None => self.response = Response::None,
            },
            Response::Fetch | Response::Collected => self.collect(&line)?,
        }
        Ok(())
    }

    /// One more line of a response that is read here.
    fn collect(&mut self, line: &[u8]) -> io::Result<()> {
        let literal = literal(line)?;
        let message = match literal {
            Some((at, _)) => self.response == Response::Fetch && is_message(&line[..at]),
            None => false,
        };
        let kept = literal.filter(|_| message).map_or(line, |(at, _)| &line[..at]);
        // RFC 3516: `~{5}` announces octets that may be NUL.
        let kept = if message { kept.strip_suffix(b"~").unwrap_or(kept) } else { kept };
        let small = literal.filter(|_| !message).map_or(0, |(_, size)| size);
        if self.head.len() as u64 + kept.len() as u64 + small > LONGEST_RESPONSE as u64 {
            return Err(invalid("the server sent a response of more than 1 MiB besides the message"));
        }
        self.head.extend(kept.iter().filter(|byte| **byte != SPOOLED));
        match literal {
            None => return self.respond(),
            Some((_, size)) if message => self.divert(size)?,
            Some((_, 0)) => {}
            Some((_, size)) => self.state = State::Collect(size),
        }
        Ok(())
    }

    /// A message literal begins.
    fn divert(&mut self, size: u64) -> io::Result<()> {
        let mut shared = self.shared.borrow_mut();
        let sink = shared.sink.as_mut().ok_or_else(|| io::Error::other("nobody takes this message"))?;
        if self.begun || !sink.begin(size)? {
            self.state = drop_or_line(size);
            return Ok(());
        }
        self.begun = true;
        self.head.push(SPOOLED);
        if size > 0 {
            self.state = State::Message(size);
        }
        Ok(())
    }

    /// A response that is read here has ended.
    fn respond(&mut self) -> io::Result<()> {
        let head = std::mem::take(&mut self.head);
        let head = head.trim_ascii_end();
        let begun = std::mem::replace(&mut self.begun, false);
        let response = std::mem::replace(&mut self.response, Response::None);
        let mut shared = self.shared.borrow_mut();
        if response == Response::Collected {
            if let Some(collected) = &mut shared.collected {
                collected.push(head.to_vec());
            }
            return Ok(());
        }
        let Some(sink) = shared.sink.as_mut() else { return Ok(()) };
        match fetched::read(head) {
            Some((message, Body::Spooled)) if begun => sink.end(message)?,
            Some((message, Body::Here(text))) if !begun && sink.begin(text.len() as u64)? => {
                sink.write(&text)?;
                sink.end(message)?;
            }
            Some((message, Body::Withheld)) if !begun => sink.withheld(message),
            _ if begun => sink.forget(),
            _ => {}
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
                soothe(line, &mut shared);
            }
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
                "FETCH" if shared.sink.is_some() => self.reading(line, Response::Fetch),
                "FETCH" if shared.collected.is_some() => self.reading(line, Response::Collected),
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
                Response::Text
            }
            "NO" | "BAD" => {
                let said = String::from_utf8_lossy(&line[2..]).trim_end().to_string();
                report::detail(format_args!("the server says: {said}"));
                Response::Text
            }
            "OK" if shared.idling || shared.idle_starts => Response::Text,
            _ if shared.idling || shared.idle_starts => Response::Dropped,
            "OK" if second.starts_with("[UIDVALIDITY") || second.starts_with("[UIDNEXT") => {
                // QUIRK: some servers say more after the bracket than the crate can read.
                let end = memchr::memchr(b']', line).map_or(line.len(), |at| at + 1);
                line.truncate(end);
                line.extend_from_slice(b" done\r\n");
                Response::None
            }
            "OK" => {
                if let Some((_, _, words)) = bracketed(&text) {
                    shared.capabilities = words;
                }
                Response::Text
            }
            "LIST" | "STATUS" if shared.collected.is_some() => self.reading(line, Response::Collected),
            "SEARCH" => {
                if let Some(at) = memchr::memmem::find(line, b" (MODSEQ") {
                    line.truncate(at);
                    line.extend_from_slice(b"\r\n");
                }
                Response::None
            }
            _ => Response::Dropped,
        }
    }

    /// The response is read here; its `* ` is of no more use.
    fn reading(&mut self, line: &mut Vec<u8>, response: Response) -> Response {
        line.drain(..2);
        (self.begun, self.head) = (false, Vec::new());
        response
    }

    fn pass_or_hold(&mut self, line: &[u8], shared: &Shared) -> Response {
        match shared.idle_starts {
            true => self.held.extend_from_slice(line),
            false => self.out.extend_from_slice(line),
        }
        Response::Dropped
    }
}

/// Status lines: capabilities and the text are kept for us; codes and texts that the crate cannot parse are left out.
fn soothe(line: &mut Vec<u8>, shared: &mut Shared) {
    let text = String::from_utf8_lossy(line).into_owned();
    if let Some((_, _, words)) = bracketed(&text.to_ascii_uppercase()) {
        shared.capabilities = words;
    }
    shared.status = text.split_once(' ').map_or("", |(_, rest)| rest).trim().to_string();
    let mut words = shared.status.splitn(2, ' ');
    let tag = text.split(' ').next().unwrap_or_default();
    let (status, rest) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().trim());
    let said = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((_, said)) => said.trim(),
        None => rest,
    };
    let said: String = said.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect();
    // The crate wants some text, and it reads a bracket as a code.
    let said = if said.is_empty() { "done" } else { said.trim_start_matches('[') };
    *line = format!("{tag} {} {said}\r\n", status.to_ascii_uppercase()).into_bytes();
}

/// Where `[CAPABILITY …]` begins and ends in a line in upper case, and the words in it.
pub(super) fn bracketed(upper: &str) -> Option<(usize, usize, Vec<String>)> {
    let at = upper.find("[CAPABILITY ")?;
    let end = at + upper.get(at..)?.find(']')?;
    let words = upper.get(at + 12..end)?.split_whitespace().map(String::from).collect();
    Some((at, end + 1, words))
}

/// True if the literal after this is a message.
fn is_message(before: &[u8]) -> bool {
    let end = before.len().saturating_sub(8);
    let before = before[end..].to_ascii_uppercase();
    before.ends_with(b"BODY[] ") || before.ends_with(b"BODY[] ~")
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
    let size = size.filter(|size| *size <= LARGEST_MESSAGE);
    size.map(|size| Some((at, size))).ok_or_else(|| invalid("the server announced more than 4 GiB at once"))
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
