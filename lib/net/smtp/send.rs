//! One transaction: MAIL, RCPT for each recipient, DATA, the message, the dot; an answer for each recipient.

use std::io::{self, Read};

use super::{Reply, Smtp};
use crate::error::{Error, Kind, Result};
use crate::mail::address::Address;
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
        self.was_gone = !talk.begun && !self.usable;
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

    /// What can be known to be refused without asking.
    fn refusal(&self, mail: &Mail<'_>) -> Option<String> {
        if let Some(limit) = self.abilities.size.filter(|limit| mail.size > *limit) {
            return Some(format!("not sent: {} bytes, but the server takes at most {limit}", mail.size));
        }
        (needs_utf8(mail) && !self.abilities.utf8)
            .then(|| "not sent: an address is not ASCII, and the server knows no SMTPUTF8".to_string())
    }

    fn mail_command(&self, mail: &Mail<'_>) -> String {
        let mut command = format!("MAIL FROM:<{}>", mail.from.map_or("", Address::as_str));
        if self.abilities.declares_size {
            command.push_str(&format!(" SIZE={}", mail.size));
        }
        // QUIRK: without 8BITMIME the bytes go as they are, like other senders do: servers that lack only the word are
        // common, those that lack the eighth bit are gone.
        if mail.eight_bit && self.abilities.eight_bit {
            command.push_str(" BODY=8BITMIME");
        }
        if needs_utf8(mail) {
            command.push_str(" SMTPUTF8");
        }
        command
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
        if go.code != 354 {
            session.usable &= !go.is_positive();
            return Err(Halt::Said(negative(go)));
        }
        if let Err(halt) = stream(session, body, || before_dot(&accepted), &mut self.dot_sent) {
            // A server that has seen enough says why before it hangs up.
            if let (Halt::Line(_), false) = (&halt, self.dot_sent)
                && let Ok(reply) = session.reply()
            {
                session.usable = false;
                return Err(Halt::Said(negative(reply)));
            }
            return Err(halt);
        }
        let reply = session.last_reply()?;
        match reply.code / 100 {
            2 | 4 | 5 => Ok(reply),
            _ => Err(Halt::Line(io::Error::new(io::ErrorKind::InvalidData, format!("{reply} is no answer")))),
        }
    }

    /// RFC 2920: all commands in one write, then all replies.
    fn envelope_at_once(&mut self, session: &mut Smtp, mail: &Mail<'_>) -> Result<Reply, Halt> {
        let mut commands = vec![session.mail_command(mail)];
        commands.extend(mail.to.iter().map(|to| format!("RCPT TO:<{to}>")));
        commands.push("DATA".into());
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
        let go = said(session)?;
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
            let reply = step(session, &format!("RCPT TO:<{to}>"))?;
            self.note(number, &reply);
        }
        let is_any = self.answers.iter().any(Option::is_none);
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

/// The message and the dot, in bounded memory; what is small goes out in one write with the dot.
fn stream(
    session: &mut Smtp,
    body: &mut dyn Read,
    before_dot: impl FnOnce() -> Result<()>,
    dot_sent: &mut bool,
) -> Result<(), Halt> {
    let mut lines = Lines::for_smtp();
    let mut chunk = vec![0; CHUNK];
    let mut out = Vec::with_capacity(CHUNK + CHUNK / 4);
    loop {
        match body.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => lines.feed(&chunk[..n], &mut out),
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(Halt::Ours(Error::reading("the message", why))),
        }
        if stop::requested() {
            let what = "asked to end while a message was on its way; it was not delivered";
            return Err(Halt::Ours(Error::plain(Kind::Temporary, what)));
        }
        if out.len() >= CHUNK {
            session.put(&out)?;
            out.clear();
        }
    }
    lines.finish(&mut out);
    before_dot().map_err(Halt::Ours)?;
    out.extend_from_slice(b".\r\n");
    // From here on the server may have it, also if this write fails half way.
    *dot_sent = true;
    Ok(session.put(&out)?)
}
