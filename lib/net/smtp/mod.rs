//! SMTP submission (RFC 5321, RFC 6409): one session, many messages, one answer per recipient.
//!
//! Messages are streamed, never held in memory; line ends are put right and dots doubled on the way. TLS that was
//! asked for is never done without, and a password never goes over an unprotected line unless that line ends on
//! this machine. `send` tells what is known of each recipient, and says "unknown" where nobody can know.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::cli;
use crate::config::{Peer, Scheme, Tls};
use crate::error::{Error, Kind, Result};
use crate::net::{self, Wire};
use crate::report;
use crate::secret::Secret;

mod login;
mod reply;
mod send;
mod transport;

pub use reply::Reply;
pub use send::{Answer, Mail};
pub use transport::SmtpTransport;

/// RFC 5321 section 4.5.3.2.6: how long a server may think about a message after its end.
const AFTER_DOT: Duration = Duration::from_secs(600);

/// What the server says it can do (RFC 5321 section 4.1.1.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Abilities {
    pipelining: bool,
    eight_bit: bool,
    utf8: bool,
    starttls: bool,
    /// The largest message in bytes; `None` if it does not say.
    size: Option<u64>,
    /// SIZE may be declared.
    declares_size: bool,
    /// BDAT in place of DATA (RFC 3030).
    chunking: bool,
    /// Reports can be ordered (RFC 3461).
    dsn: bool,
    /// Ways to log in, upper case.
    auth: Vec<String>,
}

/// A session that is ready for messages.
pub struct Smtp {
    wire: Wire,
    replies: reply::Replies,
    abilities: Abilities,
    /// LMTP (RFC 2033): an answer for each recipient after the message.
    is_lmtp: bool,
    /// False once the connection is no use any more.
    usable: bool,
    was_gone: bool,
    /// What the server says is what is believed: its abilities, its challenges.
    raw: bool,
    /// While we log in the trace shows only the codes of replies.
    hush: bool,
    /// What is read of a message, and what goes out.
    buffers: (Vec<u8>, Vec<u8>),
}

impl Smtp {
    /// Connects, protects the line as `peer` says, logs in if it names a user.
    ///
    /// [`Kind::Temporary`] where the server cannot be reached or says so, [`Kind::Refused`] where it wants nothing of
    /// us, [`Kind::Protocol`] where TLS is wrong or missing, [`Kind::Denied`] where the login fails,
    /// [`Kind::Config`] where a password would go over an unprotected line.
    pub fn open(peer: &Peer, secret: Option<&Secret>) -> Result<Smtp> {
        peer.check_login()?;
        let wire = net::dial(peer)?;
        let (mut replies, abilities, buffers): (reply::Replies, _, _) = Default::default();
        if let Some(secret) = secret {
            replies.hidden.learn(secret);
        }
        let is_lmtp = peer.server.scheme == Scheme::Lmtp;
        let (usable, was_gone, raw, hush) = (true, false, false, false);
        let mut session = Smtp { wire, replies, abilities, is_lmtp, usable, was_gone, raw, hush, buffers };
        let greeting = session.answer("greeting")?;
        session.expect(&greeting, "the server does not serve us")?;
        session.hello()?;
        if peer.tls == Tls::StartTls {
            session.start_tls()?;
        }
        if let Some(user) = &peer.user {
            let empty = Secret::new(String::new());
            (session.raw, session.hush) = (true, true);
            session.log_in(user, secret.unwrap_or(&empty))?;
            (session.raw, session.hush) = (false, false);
        }
        Ok(session)
    }

    /// False once the connection broke or the server closed it; open another.
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// True if the last message found the connection closed before its first command was answered: a server may
    /// close an idle one at any time, and nothing was begun, so the message can go over another at once.
    pub fn was_gone(&self) -> bool {
        self.was_gone
    }

    /// Says goodbye; whatever comes back, what was sent before stands.
    pub fn close(mut self) {
        if self.usable && self.put(b"QUIT\r\n").is_ok() {
            self.wire.set_limit(Some(Duration::from_secs(5).min(self.wire.peer().timeout)));
            let _ = self.reply();
        }
    }

    fn hello(&mut self) -> Result<()> {
        self.raw = true;
        // An address literal, so that no host name leaks; the true address tells a server behind NAT nothing.
        let mut answer = self.ask(if self.is_lmtp { "LHLO [127.0.0.1]" } else { "EHLO [127.0.0.1]" })?;
        let is_old = matches!(answer.code, 500 | 502 | 504) && !self.is_lmtp;
        if is_old {
            answer = self.ask("HELO [127.0.0.1]")?;
        }
        self.expect(&answer, "the server does not greet back")?;
        self.raw = false;
        self.abilities = if is_old { Abilities::default() } else { abilities(&answer) };
        Ok(())
    }

    fn start_tls(&mut self) -> Result<()> {
        let doing = format!("cannot protect the line to {}", self.wire.peer().server);
        if !self.abilities.starttls {
            return Err(Error::new(Kind::Protocol, doing, "it offers no STARTTLS")
                .hint("nothing was sent; try smtps://, and suspect the network if it used to work"));
        }
        let answer = self.ask("STARTTLS")?;
        if answer.code != 220 {
            let kind = if answer.code / 100 == 4 { Kind::Temporary } else { Kind::Protocol };
            return Err(Error::new(kind, doing, answer));
        }
        if !self.replies.is_empty() {
            // RFC 3207 section 4.2: what stands before TLS was said by anybody.
            return Err(Error::new(Kind::Protocol, doing, "somebody put plain text in front of TLS"));
        }
        self.wire.start_tls()?;
        self.hello()
    }

    /// Sends one command and reads its answer.
    fn ask(&mut self, command: &str) -> Result<Reply> {
        report::trace(format_args!("C: {command}"));
        self.ask_silently(command, command.split(' ').next().unwrap_or_default())
    }

    /// The same, not traced: for secrets. `what` names it in an error.
    fn ask_silently(&mut self, command: &str, what: &str) -> Result<Reply> {
        let line = zeroize::Zeroizing::new(format!("{command}\r\n"));
        self.put(line.as_bytes()).map_err(|why| self.broken(what, why))?;
        self.answer(what)
    }

    fn answer(&mut self, what: &str) -> Result<Reply> {
        self.reply().map_err(|why| self.broken(what, why))
    }

    /// The next reply; the session is no use after an error or a 421.
    fn reply(&mut self) -> io::Result<Reply> {
        let limit = self.wire.peer().timeout.saturating_mul(4).max(Duration::from_secs(1));
        self.reply_within(limit)
    }

    fn reply_within(&mut self, limit: Duration) -> io::Result<Reply> {
        self.wire.set_deadline(Instant::now().checked_add(limit));
        let mut reply = self.replies.read(&mut self.wire, limit);
        self.wire.set_deadline(None);
        match &mut reply {
            Ok(reply) => {
                if !self.raw {
                    self.replies.hidden.cover_lines(&mut reply.lines);
                }
                match self.hush {
                    true => report::trace(format_args!("S: {} (…)", reply.code)),
                    false => report::trace(format_args!("S: {}", self.shown(reply))),
                }
                self.usable &= reply.code != 421;
            }
            Err(_) => self.usable = false,
        }
        reply
    }

    /// The answer to the final dot: it may take long, and not even being asked to end cuts it short.
    fn last_reply(&mut self) -> io::Result<Reply> {
        let asked = self.wire.peer().timeout;
        let limit = if asked == cli::TIMEOUT { AFTER_DOT } else { asked };
        self.wire.set_limit(Some(limit));
        self.wire.hold(true);
        let reply = self.reply_within(limit.saturating_mul(2));
        self.wire.hold(false);
        self.wire.set_limit(None);
        reply
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let done = self.wire.write_all(bytes).and_then(|()| self.wire.flush());
        self.usable &= done.is_ok();
        done
    }

    fn broken(&self, what: &str, why: io::Error) -> Error {
        let doing = format!("{what} at {}", self.wire.peer().server);
        match why.kind() {
            io::ErrorKind::InvalidData => Error::new(Kind::Protocol, doing, why),
            _ => Error::network(doing, why),
        }
    }

    fn expect(&self, reply: &Reply, doing: &str) -> Result<()> {
        let kind = match reply.code / 100 {
            2 => return Ok(()),
            4 => Kind::Temporary,
            5 => Kind::Refused,
            _ => Kind::Protocol,
        };
        Err(Error::new(kind, format!("{}: {doing}", self.wire.peer().server), self.shown(reply)))
    }

    /// The server's words as they may be shown.
    fn shown(&self, words: &dyn std::fmt::Display) -> String {
        self.replies.hidden.shown(&words.to_string())
    }
}

/// Reads the answer to EHLO.
fn abilities(answer: &Reply) -> Abilities {
    let mut can = Abilities::default();
    for line in answer.lines.iter().skip(1) {
        let line = line.to_ascii_uppercase();
        // QUIRK: old servers write `AUTH=LOGIN`.
        let line = line.replace("AUTH=", "AUTH ");
        let mut words = line.split_whitespace();
        match words.next() {
            Some("PIPELINING") => can.pipelining = true,
            Some("8BITMIME") => can.eight_bit = true,
            Some("SMTPUTF8") => can.utf8 = true,
            Some("CHUNKING") => can.chunking = true,
            Some("DSN") => can.dsn = true,
            Some("STARTTLS") => can.starttls = true,
            Some("SIZE") => {
                can.declares_size = true;
                // 0 means that there is no limit (RFC 1870 section 4).
                can.size = words.next().and_then(|size| size.parse().ok()).filter(|size| *size > 0);
            }
            Some("AUTH") => can.auth.extend(words.map(str::to_string)),
            _ => {}
        }
    }
    can
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_can_do() {
        let lines =
            ["x greets", "pipelining", "SIZE 1000", "AUTH=LOGIN", "AUTH PLAIN LOGIN", "8BITMIME", "X-Y 1"];
        let can = abilities(&Reply { code: 250, lines: lines.map(String::from).to_vec() });
        assert!(can.pipelining && can.eight_bit && !can.utf8 && !can.starttls);
        assert_eq!((can.size, can.auth.len()), (Some(1000), 3));
    }
}
