//! One way out: its connection, opened when needed and kept for the next message. What inject and queue share.

use std::io::Read;

use crate::config::{Peer, Scheme};
use crate::error::{Error, Kind, Result};
use crate::job::settings::Settings;
use crate::mail::address::Address;
use crate::mail::lines::Measure;
use crate::net::smtp::{Answer, Mail, Smtp};
use crate::record::{Fate, Outcome, Sent};
use crate::report;
use crate::secret::{self, Secret};
use crate::store::spool::Way;

/// So many recipients go in one transaction: what each server must take (RFC 5321 section 4.5.3.1.8).
const TOGETHER: usize = 100;

/// Where this way leads; 64 or 78 where it leads nowhere.
pub fn peer(settings: &Settings, way: &Way) -> Result<Peer> {
    let peer = match (&way.smtp, &way.account) {
        (Some(server), _) => Peer::of_url(server, &way.login)?,
        (None, Some(name)) => settings.peer(name, |account| account.smtp.as_ref(), &way.login)?,
        (None, None) => {
            return Err(Error::plain(Kind::Usage, "it is not said where the mail goes")
                .hint("use -a ACCOUNT or --smtp URL"));
        }
    };
    match peer.server.scheme {
        Scheme::Smtp | Scheme::Smtps => Ok(peer),
        _ => Err(Error::plain(Kind::Usage, format!("{} is no SMTP server", peer.server))
            .hint("write smtps://host or smtp://host")),
    }
}

/// The account that the configuration means where none is named: the one with this address, else the only one.
pub fn usual_account(settings: &Settings, from: Option<&Address>) -> Option<String> {
    let accounts = || settings.config.account.iter().filter(|(_, account)| account.smtp.is_some());
    let has_address = |text: &Option<String>| {
        let own = text.as_deref().and_then(|text| Address::parse(text).ok());
        own.zip(from).is_some_and(|(own, from)| own.is_same(from))
    };
    let found = accounts().find(|(_, account)| has_address(&account.address));
    let only = || accounts().next().filter(|_| accounts().count() == 1);
    found.or_else(only).map(|(name, _)| name.clone())
}

/// A message with its envelope, that can be read as often as needed.
pub struct Parcel<'a> {
    /// Where bounces go.
    pub from: Option<&'a Address>,
    /// Who gets it.
    pub to: &'a [Address],
    /// Its size and whether it has 8-bit bytes.
    pub measure: Measure,
    /// Reads it from the start.
    pub open: &'a dyn Fn() -> Result<Box<dyn Read + 'a>>,
}

/// Why a message could not even be tried, or not be finished.
#[derive(Debug)]
pub enum Failed {
    /// There is no connection: the next message would fare the same.
    Way(Error),
    /// This message cannot be read or marked; it was not delivered to anybody.
    Message(Error),
}

impl Failed {
    /// The error itself.
    pub fn error(self) -> Error {
        match self {
            Failed::Way(error) | Failed::Message(error) => error,
        }
    }
}

/// A connection for many messages.
pub struct Courier {
    peer: Peer,
    secret: Option<Secret>,
    session: Option<Smtp>,
}

impl Courier {
    /// Nothing is connected yet.
    pub fn new(peer: Peer) -> Courier {
        Courier { peer, secret: None, session: None }
    }

    /// Sends a message; an answer for each recipient. `mark` is called with the places of those whose fate the next
    /// bytes on the wire may decide, before these bytes are sent.
    pub fn send(
        &mut self,
        parcel: &Parcel<'_>,
        mark: &mut dyn FnMut(&[usize]) -> Result<()>,
    ) -> Result<Vec<Answer>, Failed> {
        let mut answers = Vec::with_capacity(parcel.to.len());
        for group in parcel.to.chunks(TOGETHER) {
            let base = answers.len();
            let mut mark = |places: &[usize]| mark(&places.iter().map(|at| base + at).collect::<Vec<_>>());
            match self.send_group(parcel, group, &mut mark) {
                Ok(more) => answers.extend(more),
                Err(failed) if base == 0 => return Err(failed),
                // What the first groups were told stands.
                Err(failed) => {
                    let reply = failed.error().to_string();
                    answers.resize(parcel.to.len(), Answer { outcome: Outcome::Later, reply });
                    break;
                }
            }
        }
        Ok(answers)
    }

    fn send_group(
        &mut self,
        parcel: &Parcel<'_>,
        to: &[Address],
        mark: &mut dyn FnMut(&[usize]) -> Result<()>,
    ) -> Result<Vec<Answer>, Failed> {
        let Measure { size, eight_bit, .. } = parcel.measure;
        let mail = Mail { from: parcel.from, to, size, eight_bit };
        loop {
            let (mut session, was_open) = match self.session.take() {
                Some(session) => (session, true),
                None => (self.connect().map_err(Failed::Way)?, false),
            };
            let mut body = (parcel.open)().map_err(Failed::Message)?;
            let answers = session.send(&mail, &mut body, mark).map_err(Failed::Message)?;
            let again = was_open && session.was_gone();
            if session.is_usable() {
                self.session = Some(session);
            }
            if !again {
                return Ok(answers);
            }
            report::detail(format_args!("{} closed the connection; connecting again", self.peer.server));
        }
    }

    fn connect(&mut self) -> Result<Smtp> {
        if let (Some(user), None) = (&self.peer.user, &self.secret) {
            let source = self.peer.secret.as_ref().ok_or_else(|| {
                Error::plain(Kind::Config, format!("there is no password for {user:?}"))
                    .hint("use --password-file or --password-command")
            })?;
            self.secret = Some(secret::fetch(source)?);
        }
        Smtp::open(&self.peer, self.secret.as_ref())
    }

    /// Says goodbye to the server.
    pub fn close(self) {
        if let Some(session) = self.session {
            session.close();
        }
    }
}

/// The record of what became of a message.
pub fn sent(message_id: &str, to: &[Address], answers: &[Answer]) -> Sent {
    let fate = |(to, answer): (&Address, &Answer)| Fate {
        to: to.to_string(),
        outcome: answer.outcome,
        reply: Some(answer.reply.clone()),
    };
    let recipients = to.iter().zip(answers).map(fate).collect();
    Sent { message_id: Some(message_id.to_string()), recipients, ..Sent::fresh() }
}

/// One line for each recipient who did not get it; `later` says what happens with those that may get it yet.
pub fn complain(sent: &Sent, later: &str) {
    let id = sent.message_id.as_deref().unwrap_or_default();
    for fate in &sent.recipients {
        let (to, reply) = (&fate.to, fate.reply.as_deref().unwrap_or_default());
        match fate.outcome {
            Outcome::Done => report::detail(format_args!("{to} got {id}: {reply}")),
            Outcome::Never => report::trouble(format_args!("{to} does not get {id}: {reply}")),
            Outcome::Later => report::trouble(format_args!("{to} has not got {id} yet: {reply}; {later}")),
            Outcome::Unknown => report::trouble(format_args!(
                "{to} may or may not have got {id}: {reply}; it is not sent again unasked"
            )),
        }
    }
}
