//! Responses that are read here and not by the imap crate: their literals go to the sink or into the response.

use std::io;

use super::{Response, State, Tap, invalid, nobody};
use crate::net::imap::fetched::{self, Body};
use crate::net::imap::value::SPOOLED;

/// A response without its messages: names and flags.
const LONGEST_RESPONSE: usize = 1 << 20;
/// RFC 3501: `number` has 32 bits. Larger literals (RFC 9051 allows 63) are no mail that anybody sends.
const LARGEST_MESSAGE: u64 = u32::MAX as u64;

impl Tap {
    /// One more line of a response that is read here.
    pub(super) fn collect(&mut self, line: &[u8]) -> io::Result<()> {
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
            Some((_, size)) => {
                self.measure.said(size)?;
                self.state = if size == 0 { State::Line } else { State::Collect(size) };
            }
        }
        Ok(())
    }

    /// A message literal begins.
    fn divert(&mut self, size: u64) -> io::Result<()> {
        let mut shared = self.shared.borrow_mut();
        let sink = shared.sink.as_mut().ok_or_else(nobody)?;
        if self.begun.is_some() || !sink.begin(size)? {
            self.measure.said(size)?;
            self.state = drop_or_line(size);
            return Ok(());
        }
        self.begun = Some(size);
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
        let begun = self.begun.take();
        let response = std::mem::replace(&mut self.response, Response::None);
        let mut shared = self.shared.borrow_mut();
        if response == Response::Collected {
            if let Some(collected) = &mut shared.collected {
                self.measure.kept()?;
                collected.push(head.to_vec());
            }
            return Ok(());
        }
        let Some(sink) = shared.sink.as_mut() else { return Ok(()) };
        let wanted = match fetched::read(head) {
            Some((message, Body::Spooled)) if begun.is_some() => sink.end(message)?,
            Some((message, Body::Here(text))) if begun.is_none() && sink.begin(text.len() as u64)? => {
                sink.write(&text)?;
                sink.end(message)?
            }
            _ if begun.is_some() => {
                sink.forget();
                false
            }
            _ => false,
        };
        match wanted {
            true => self.measure.forward(),
            // What nobody asked for is paid like idle talk.
            false => self.measure.said(begun.unwrap_or(0))?,
        }
        Ok(())
    }
}

/// True if the literal after this is a message.
fn is_message(before: &[u8]) -> bool {
    let end = before.len().saturating_sub(8);
    let before = before[end..].to_ascii_uppercase();
    before.ends_with(b"BODY[] ") || before.ends_with(b"BODY[] ~")
}

/// The octet count that ends this line, and where its brace stands.
pub(super) fn literal(line: &[u8]) -> io::Result<Option<(usize, u64)>> {
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

pub(super) fn drop_or_line(size: u64) -> State {
    if size == 0 { State::Line } else { State::Drop(size) }
}
