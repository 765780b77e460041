//! One transaction: MAIL, RCPT for each recipient, DATA, the message, the dot; an answer for each recipient.

use std::io::{self, Read};

use super::{Reply, Smtp};
use crate::error::{Error, Kind, Result};
use crate::mail::address::Address;
use crate::mail::class::{Class, NOT_SENT};
use crate::mail::dsn::Dsn;
use crate::mail::lines::Lines;
use crate::record::Outcome;
use crate::report;
use crate::stop;

/// So much of a message is in memory at a time.
const CHUNK: usize = 64 * 1024;

/// The envelope of a message and what the server is told beforehand.
#[derive(Clone, Copy, Debug)]
pub struct Mail<'a> {
    /// Where bounces go; `None` is the empty reverse-path.
    pub from: Option<&'a Address>,
    /// At least one. A server must take 100 (RFC 5321 section 4.5.3.1.8).
    pub to: &'a [Address],
    /// In bytes, with CRLF line ends.
    pub size: u64,
    /// Bytes above 127 are in it.
    pub eight_bit: bool,
    /// What the server shall report; left out where it can't (RFC 3461).
    pub dsn: Dsn,
}

/// What became of one recipient, and the server's or our word on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Done, later, never or unknown.
    pub outcome: Outcome,
    /// `250 2.0.0 queued`, or why there is no reply.
    pub reply: String,
}

impl Answer {
    fn of(reply: &Reply) -> Answer {
        Answer { outcome: reply.outcome(), reply: reply.to_string() }
    }

    /// What the refusal is about; `None` where it is none.
    pub fn class(&self) -> Option<Class> {
        (self.outcome != Outcome::Done).then(|| Class::of_reply(&self.reply)).flatten()
    }
}

/// Why a transaction ended before each recipient had its answer.
enum Halt {
    /// The line broke or the other side talks nonsense.
    Line(io::Error),
    /// It closes the connection (421), or refused what the rest depends on.
    Said(Reply),
    /// Our own trouble: the message cannot be read, the mark cannot be set, we are asked to end.
    Ours(Error),
}

impl From<io::Error> for Halt {
    fn from(why: io::Error) -> Self {
        Halt::Line(why)
    }
}

impl Smtp {
    /// Sends one message; an answer for each recipient, in their order.
    ///
    /// `before_dot` is called with the numbers of the accepted recipients when all but the final dot is sent; if it
    /// fails, or `body` cannot be read to its end, the connection is dropped, nothing was delivered, and that error is
    /// returned. Everything the network or the server does is an answer, not an error: what broke before the dot is
    /// `later`, after it `unknown`. Look at [`Smtp::is_usable`] before the next message.
    pub fn send(
        &mut self,
        mail: &Mail<'_>,
        body: &mut dyn Read,
        before_dot: &mut dyn FnMut(&[usize]) -> Result<()>,
    ) -> Result<Vec<Answer>> {
        if let Some(why) = self.refusal(mail) {
            return Ok(vec![Answer { outcome: Outcome::Never, reply: why }; mail.to.len()]);
        }
        let mut talk = Transaction { answers: vec![None; mail.to.len()], begun: false, dot_sent: false };
        let done = talk.run(self, mail, body, before_dot);
        // A 421 that is not about time (Postfix says 4.4.2) asks us to come later, not at once over another connection.
        let is_patient = |reply: &Reply| {
            let text = reply.to_string().to_ascii_lowercase();
            !(text.contains("4.4.2")
                || text.contains("timeout")
                || text.contains("timed out")
                || text.contains("idle"))
        };
        let told_to_wait = matches!(&done, Err(Halt::Said(reply)) if is_patient(reply));
        self.was_gone = !talk.begun && !self.usable && !told_to_wait;
        let rest = match done {
            Ok(reply) => Answer::of(&reply),
            Err(Halt::Said(reply)) => Answer::of(&reply),
            Err(Halt::Line(why)) => {
                self.usable = false;
                let outcome = if talk.dot_sent { Outcome::Unknown } else { Outcome::Later };
                Answer { outcome, reply: self.broken("the connection broke", why).to_string() }
            }
            Err(Halt::Ours(error)) => {
                self.usable = false;
                return Err(error);
            }
        };
        if !talk.dot_sent && self.usable {
            // What was begun must not be in the way of the next message.
            self.usable = self.ask("RSET").is_ok_and(|reply| reply.is_positive()) && self.usable;
        }
        Ok(talk.answers.into_iter().map(|answer| answer.unwrap_or_else(|| rest.clone())).collect())
    }

    /// False if it must be converted first: it has bytes above 127, and the server did not offer to take them.
    pub fn takes(&self, mail: &Mail<'_>) -> bool {
        self.abilities.eight_bit
            || !mail.eight_bit
            || self.refusal(&Mail { eight_bit: false, ..*mail }).is_some()
    }

    /// What can be known to be refused without asking.
    fn refusal(&self, mail: &Mail<'_>) -> Option<String> {
        if let Some(limit) = self.abilities.size.filter(|limit| mail.size > *limit) {
            return Some(format!(
                "{NOT_SENT}5.3.4 {} bytes, but the server takes at most {limit}",
                mail.size
            ));
        }
        let why = match (needs_utf8(mail), mail.eight_bit) {
            (true, _) if !self.abilities.utf8 => {
                "5.6.7 an address is not ASCII, and the server knows no SMTPUTF8"
            }
            (_, true) if !self.abilities.eight_bit => {
                "5.6.3 it has bytes above 127, and the server offers no 8BITMIME"
            }
            _ => return None,
        };
        Some(format!("{NOT_SENT}{why}"))
    }

    fn mail_command(&self, mail: &Mail<'_>) -> String {
        let mut command = format!("MAIL FROM:<{}>", mail.from.map_or("", Address::as_str));
        if self.abilities.declares_size {
            command.push_str(&format!(" SIZE={}", mail.size));
        }
        if mail.eight_bit {
            command.push_str(" BODY=8BITMIME");
        }
        if needs_utf8(mail) {
            command.push_str(" SMTPUTF8");
        }
        if let (Some(ret), true) = (mail.dsn.ret, self.abilities.dsn) {
            command.push_str(&format!(" RET={ret}"));
        }
        command
    }

    fn rcpt_command(&self, mail: &Mail<'_>, to: &Address) -> String {
        match mail.dsn.notify.filter(|_| self.abilities.dsn) {
            Some(notify) => format!("RCPT TO:<{to}> NOTIFY={notify}"),
            None => format!("RCPT TO:<{to}>"),
        }
    }
}

fn needs_utf8(mail: &Mail<'_>) -> bool {
    !mail.from.is_none_or(Address::is_ascii) || !mail.to.iter().all(Address::is_ascii)
}

struct Transaction {
    /// `None` while it is open or accepted so far.
    answers: Vec<Option<Answer>>,
    /// The server answered MAIL, and not by closing.
    begun: bool,
    dot_sent: bool,
}

impl Transaction {
    /// The reply that counts for every recipient without an answer of its own.
    fn run(
        &mut self,
        session: &mut Smtp,
        mail: &Mail<'_>,
        body: &mut dyn Read,
        before_dot: &mut dyn FnMut(&[usize]) -> Result<()>,
    ) -> Result<Reply, Halt> {
        let is_chunked = session.abilities.chunking;
        let go = match session.abilities.pipelining {
            true => self.envelope_at_once(session, mail)?,
            false => self.envelope_stepwise(session, mail)?,
        };
        let accepted: Vec<usize> = (0..mail.to.len()).filter(|n| self.answers[*n].is_none()).collect();
        if accepted.is_empty() {
            if go.code == 354 {
                // RFC 2920 section 3.1: the server waits for a message to nobody.
                session.put(b".\r\n")?;
                session.reply()?;
            }
            return Ok(go);
        }
        if go.code != 354 && !is_chunked {
            session.usable &= !go.is_positive();
            return Err(Halt::Said(negative(go)));
        }
        let framing = if is_chunked { Framing::Chunk { left: mail.size } } else { Framing::Dots };
        if let Err(halt) = stream(session, body, framing, || before_dot(&accepted), &mut self.dot_sent) {
            // A server that has seen enough says why before it hangs up.
            if let (Halt::Line(_), false) = (&halt, self.dot_sent)
                && let Ok(reply) = session.reply()
            {
                session.usable = false;
                return Err(Halt::Said(negative(reply)));
            }
            return Err(halt);
        }
        if !session.is_lmtp {
            return last(session);
        }
        // RFC 2033 section 4.2: an answer for each recipient that was accepted.
        let mut reply = None;
        for number in accepted {
            let own = last(session)?;
            self.answers[number] = Some(Answer::of(&own));
            reply = Some(own);
        }
        reply.ok_or_else(|| Halt::Line(io::ErrorKind::InvalidData.into()))
    }

    /// RFC 2920: all commands in one write, then all replies.
    fn envelope_at_once(&mut self, session: &mut Smtp, mail: &Mail<'_>) -> Result<Reply, Halt> {
        let mut commands = vec![session.mail_command(mail)];
        commands.extend(mail.to.iter().map(|to| session.rcpt_command(mail, to)));
        if !session.abilities.chunking {
            commands.push("DATA".into());
        }
        for command in &commands {
            report::trace(format_args!("C: {command}"));
        }
        session.put((commands.join("\r\n") + "\r\n").as_bytes())?;
        let first = said(session)?;
        self.begun = true;
        for number in 0..mail.to.len() {
            let reply = said(session)?;
            self.note(number, &reply);
        }
        let go = match session.abilities.chunking {
            true => first.clone(),
            false => said(session)?,
        };
        match first.is_positive() {
            true => Ok(go),
            false if go.code == 354 => {
                // It refused the sender and yet waits for the message: no way to be understood here.
                session.usable = false;
                Err(Halt::Said(negative(first)))
            }
            false => {
                self.answers.fill(None);
                Err(Halt::Said(negative(first)))
            }
        }
    }

    fn envelope_stepwise(&mut self, session: &mut Smtp, mail: &Mail<'_>) -> Result<Reply, Halt> {
        let first = step(session, &session.mail_command(mail))?;
        self.begun = true;
        if !first.is_positive() {
            return Err(Halt::Said(negative(first)));
        }
        for (number, to) in mail.to.iter().enumerate() {
            let reply = step(session, &session.rcpt_command(mail, to))?;
            self.note(number, &reply);
        }
        let is_any = self.answers.iter().any(Option::is_none);
        if is_any && session.abilities.chunking {
            return Ok(first);
        }
        step(session, if is_any { "DATA" } else { "RSET" })
    }

    fn note(&mut self, number: usize, reply: &Reply) {
        if !reply.is_positive() {
            self.answers[number] = Some(Answer::of(&negative(reply.clone())));
        }
    }
}

/// A reply; a 421 ends the transaction.
fn said(session: &mut Smtp) -> Result<Reply, Halt> {
    let reply = session.reply()?;
    if reply.code == 421 { Err(Halt::Said(reply)) } else { Ok(reply) }
}

fn step(session: &mut Smtp, command: &str) -> Result<Reply, Halt> {
    report::trace(format_args!("C: {command}"));
    session.put(format!("{command}\r\n").as_bytes())?;
    said(session)
}

/// A 2xx or 3xx where none belongs must not count as taken.
fn negative(reply: Reply) -> Reply {
    match reply.code / 100 {
        4 | 5 => reply,
        _ => Reply { code: 451, lines: vec![format!("unexpected answer: {reply}")] },
    }
}

/// The answer to the message.
fn last(session: &mut Smtp) -> Result<Reply, Halt> {
    let reply = session.last_reply()?;
    match reply.code / 100 {
        2 | 4 | 5 => Ok(reply),
        _ => Err(Halt::Line(io::Error::new(io::ErrorKind::InvalidData, format!("{reply} is no answer")))),
    }
}

/// How the server knows where the message ends.
enum Framing {
    /// A dot alone on a line, after DATA.
    Dots,
    /// It is told the size, in BDAT (RFC 3030); so much is still to be sent, command included.
    Chunk { left: u64 },
}

/// The message and its end, in bounded memory; what is small goes out in one write with its end.
fn stream(
    session: &mut Smtp,
    body: &mut dyn Read,
    mut framing: Framing,
    before_dot: impl FnOnce() -> Result<()>,
    dot_sent: &mut bool,
) -> Result<(), Halt> {
    // Kept from message to message: getting them anew costs more than a small message.
    let (mut chunk, mut out) = std::mem::take(&mut session.buffers);
    chunk.resize(CHUNK, 0);
    out.clear();
    // Once, not by doubling: the memory of a large message is touched anew in each process.
    out.reserve(2 * CHUNK);
    let mut lines = match framing {
        Framing::Dots => Lines::for_smtp(),
        Framing::Chunk { ref mut left } => {
            report::trace(format_args!("C: BDAT {left} LAST"));
            out.extend_from_slice(format!("BDAT {left} LAST\r\n").as_bytes());
            *left += out.len() as u64;
            Lines::plain()
        }
    };
    loop {
        match body.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => lines.feed(&chunk[..n], &mut out),
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(Halt::Ours(Error::reading("the message", why))),
        }
        if stop::requested() {
            return Err(asked_to_end());
        }
        if out.len() >= CHUNK && framing.may_go(out.len())? {
            let sent = session.put(&out);
            sent.map_err(|why| if stop::requested() { asked_to_end() } else { why.into() })?;
            out.clear();
        }
    }
    lines.finish(&mut out);
    framing.must_end(out.len())?;
    before_dot().map_err(Halt::Ours)?;
    if let Framing::Dots = framing {
        out.extend_from_slice(b".\r\n");
    }
    // From here on the server may have it, also if this write fails half way.
    *dot_sent = true;
    session.wire.hold(true);
    let sent = session.put(&out);
    session.wire.hold(false);
    sent?;
    session.buffers = (chunk, out);
    Ok(())
}

fn asked_to_end() -> Halt {
    let what = "asked to end while a message was on its way; it was not delivered";
    Halt::Ours(Error::plain(Kind::Temporary, what))
}

impl Framing {
    /// True if so many bytes can be sent and are not the last: those decide whether the message is delivered.
    fn may_go(&mut self, len: usize) -> Result<bool, Halt> {
        match self {
            Framing::Dots => Ok(true),
            Framing::Chunk { left } if (len as u64) < *left => {
                *left -= len as u64;
                Ok(true)
            }
            Framing::Chunk { left } if len as u64 == *left => Ok(false),
            Framing::Chunk { .. } => Err(other_size()),
        }
    }

    fn must_end(&self, len: usize) -> Result<(), Halt> {
        match self {
            Framing::Chunk { left } if len as u64 != *left => Err(other_size()),
            _ => Ok(()),
        }
    }
}

fn other_size() -> Halt {
    Halt::Ours(Error::plain(Kind::Io, "the message is not as long any more as when it was measured"))
}
