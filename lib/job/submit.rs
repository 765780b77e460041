//! One way out: its connection, opened when needed and kept for the next message. What inject and queue share.

use std::io::Read;
use std::path::Path;

use jiff::Timestamp;

use crate::config::Scheme;
use crate::error::{Error, Kind, Result};
use crate::mail::address::Address;
use crate::mail::class::NOT_SENT;
use crate::mail::convert::{Converted, Survey, Want};
use crate::mail::dsn::Dsn;
use crate::mail::lines::Measure;
use crate::net::smtp::{Answer, Mail, Smtp};
use crate::record::{Fate, Outcome, Sent};
use crate::report;
use crate::secret::{self, Secret};
use crate::stop;
use crate::store::spool::{Relays, is_down};

pub mod local;
pub mod progress;
mod route;
pub use route::{Hop, hops, outbound, usual_account};

/// So many recipients go in one transaction: what each server must take (RFC 5321 section 4.5.3.1.8).
const TOGETHER: usize = 100;

/// A message with its envelope, that can be read as often as needed.
pub struct Parcel<'a> {
    /// Where bounces go.
    pub from: Option<&'a Address>,
    /// Who gets it.
    pub to: &'a [Address],
    /// Its size and whether it has 8-bit bytes.
    pub measure: Measure,
    /// Names it among all messages: its Message-ID, or the queue's name for it.
    pub unique: &'a str,
    /// What the server shall report.
    pub dsn: Dsn,
    /// Reads it from the start.
    pub open: &'a dyn Fn() -> Result<Box<dyn Read + 'a>>,
}

/// Why a message could not even be tried, or not be finished.
#[derive(Debug)]
pub enum Failed {
    /// There is no connection: the next message would fare the same.
    Way(Error),
    /// So much was sent that the next may go at this time only.
    Paced(Timestamp),
    /// This message cannot be read or marked; it was not delivered to anybody.
    Message(Error),
}

impl Failed {
    /// The error itself.
    pub fn error(self) -> Error {
        match self {
            Failed::Way(error) | Failed::Message(error) => error,
            Failed::Paced(next) => {
                Error::plain(Kind::Temporary, format!("no more may be sent before {next}"))
            }
        }
    }
}

/// So many connections may break in a row before the server counts as down.
const BREAKS: u32 = 3;

/// What a message goes over.
enum Line {
    Smtp(Box<Smtp>),
    Local,
}

/// A connection for many messages: to the way's server, or to one that stands in while that can't be reached.
pub struct Courier {
    hops: Vec<Hop>,
    /// The queue's memory of servers; without it each is tried.
    relays: Option<Relays>,
    /// One a hop, fetched once.
    secrets: Vec<Option<Secret>>,
    /// The hop that is connected.
    line: Option<(usize, Line)>,
    breaks: u32,
}

impl Courier {
    /// Nothing is connected yet.
    pub fn new(hops: Vec<Hop>, relays: Option<Relays>) -> Courier {
        let secrets = hops.iter().map(|_| None).collect();
        Courier { hops, relays, secrets, line: None, breaks: 0 }
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
        let mail = Mail { from: parcel.from, to, size, eight_bit, dsn: parcel.dsn };
        loop {
            let was_open = self.line.is_some();
            let (at, line) = match self.line.take() {
                Some(line) => line,
                None => self.connect()?,
            };
            let paced = self.pace(at)?;
            if let Some(next) = paced {
                self.line = Some((at, line));
                return Err(Failed::Paced(next));
            }
            let mut body = (parcel.open)().map_err(Failed::Message)?;
            let Line::Smtp(mut session) = line else {
                self.line = Some((at, line));
                return self.deliver(at, parcel, to, &mut body, mark).map_err(Failed::Message);
            };
            let answers = match session.takes(&mail) {
                true => session.send(&mail, &mut body, mark),
                false => send_converted(&mut session, parcel, &mail, mark),
            };
            let answers = answers.map_err(Failed::Message)?;
            let is_gone = was_open && session.was_gone();
            if session.is_usable() {
                self.breaks = 0;
                self.line = Some((at, Line::Smtp(session)));
            } else if !is_gone {
                self.broke(at, &answers);
            }
            if !is_gone {
                return Ok(answers);
            }
            report::detail(format_args!("{} closed the connection; connecting again", self.hops[at].name));
        }
    }

    /// A server that hangs up again and again, or says that it closes (421), is left alone for a while.
    ///
    /// Never an error: the answers are known by now, and who lost them would send the message again.
    fn broke(&mut self, at: usize, answers: &[Answer]) {
        self.breaks += 1;
        let closing = answers.iter().find(|answer| answer.reply.starts_with("421"));
        let (Some(relays), Some(answer)) = (&self.relays, closing.or(answers.first())) else { return };
        if closing.is_some() || self.breaks >= BREAKS {
            let (key, name) = (&self.hops[at].key, &self.hops[at].name);
            if let Err(error) = relays.failed(key, name, &answer.reply, Timestamp::now()) {
                report::trouble(error.context(format_args!("cannot remember that {name} is down")));
            }
            self.breaks = 0;
        }
    }

    fn pace(&self, at: usize) -> Result<Option<Timestamp>, Failed> {
        let (Some(relays), Some(rate)) = (&self.relays, self.hops[at].outbound.rate) else { return Ok(None) };
        relays.take(&self.hops[at].key, rate, Timestamp::now()).map_err(Failed::Message)
    }

    /// The first that can be reached; one that refuses us has spoken for the others.
    fn connect(&mut self) -> Result<(usize, Line), Failed> {
        let mut trouble = None;
        for at in 0..self.hops.len() {
            match self.try_hop(at) {
                Ok(line) => {
                    if let Some(error) = &trouble {
                        report::detail(format_args!("{} stands in: {error}", self.hops[at].name));
                    }
                    return Ok((at, line));
                }
                Err(Failed::Way(error)) if error.kind() == Kind::Temporary && !stop::requested() => {
                    if trouble.is_some() {
                        report::detail(&error);
                    }
                    trouble.get_or_insert(error);
                }
                Err(failed) => return Err(failed),
            }
        }
        let none = || Error::plain(Kind::Internal, "a way without a server");
        Err(Failed::Way(trouble.unwrap_or_else(none)))
    }

    fn try_hop(&mut self, at: usize) -> Result<Line, Failed> {
        let (hop, now) = (&self.hops[at], Timestamp::now());
        if let Some(relays) = &self.relays {
            if let Some(next) = hop
                .outbound
                .rate
                .map(|rate| relays.paced(&hop.key, rate, now))
                .transpose()
                .map_err(Failed::Message)?
                .flatten()
            {
                return Err(Failed::Paced(next));
            }
            if let Some(down) = relays.closed(&hop.key, now).map_err(Failed::Message)? {
                let what = format!("{} is left alone until {}", down.name, down.next);
                return Err(Failed::Way(Error::new(Kind::Temporary, what, down.reply)));
            }
        }
        match self.open(at) {
            Ok(line) => {
                let known = self.relays.as_ref().map(|relays| relays.worked(&self.hops[at].key));
                if let Some(down) = known.transpose().map_err(Failed::Message)?.flatten() {
                    report::say(format_args!(
                        "{} answers again; it was down since {}",
                        down.name, down.since
                    ));
                }
                Ok(line)
            }
            Err(error) => {
                let hop = &self.hops[at];
                if let (Some(relays), true, false) = (&self.relays, is_down(&error), stop::requested()) {
                    relays.failed(&hop.key, &hop.name, &error.to_string(), now).map_err(Failed::Message)?;
                }
                Err(Failed::Way(error))
            }
        }
    }

    fn open(&mut self, at: usize) -> Result<Line> {
        let peer = &self.hops[at].peer;
        if peer.server.scheme == Scheme::Local {
            return Ok(Line::Local);
        }
        if let (Some(user), None) = (&peer.user, &self.secrets[at]) {
            let source = peer.secret.as_ref().ok_or_else(|| {
                Error::plain(Kind::Config, format!("there is no password for {user:?}"))
                    .hint("use --password-file or --password-command")
            })?;
            self.secrets[at] = Some(secret::fetch(source)?);
        }
        Ok(Line::Smtp(Box::new(Smtp::open(peer, self.secrets[at].as_ref())?)))
    }

    fn deliver(
        &self,
        at: usize,
        parcel: &Parcel<'_>,
        to: &[Address],
        body: &mut dyn Read,
        mark: &mut dyn FnMut(&[usize]) -> Result<()>,
    ) -> Result<Vec<Answer>> {
        let path = Path::new(&self.hops[at].peer.server.host);
        // RFC 5321 section 4.4: who delivers last writes down where it came from.
        let from = format!("Return-Path: <{}>\r\n", parcel.from.map_or("", Address::as_str));
        mark(&(0..to.len()).collect::<Vec<_>>())?;
        let there = local::deliver(path, parcel.unique, &mut from.as_bytes().chain(body));
        Ok(match there {
            Ok(there) => {
                let reply = format!("250 delivered as {}", there.display());
                vec![Answer { outcome: Outcome::Done, reply }; to.len()]
            }
            // Nothing is there under its final name, and if it is, the next attempt finds it.
            Err(error) => vec![Answer { outcome: Outcome::Later, reply: error.to_string() }; to.len()],
        })
    }

    /// Says goodbye to the server.
    pub fn close(self) {
        if let Some((_, Line::Smtp(session))) = self.line {
            session.close();
        }
    }
}

/// For a server without 8BITMIME: converted where that is safe, else refused for good (RFC 6152 section 3).
fn send_converted(
    session: &mut Smtp,
    parcel: &Parcel<'_>,
    mail: &Mail<'_>,
    mark: &mut dyn FnMut(&[usize]) -> Result<()>,
) -> Result<Vec<Answer>> {
    let reading = |why| Error::reading("the message", why);
    let plan = match Survey::read(Want::SevenBit, &mut (parcel.open)()?).map_err(reading)?.plan() {
        Ok(plan) => plan,
        Err(why) => {
            let reply =
                format!("{NOT_SENT}5.6.3 it has bytes above 127, the server offers no 8BITMIME, and {why}");
            return Ok(vec![Answer { outcome: Outcome::Never, reply }; mail.to.len()]);
        }
    };
    let measure = Measure::read(&mut Converted::new((parcel.open)()?, &plan)).map_err(reading)?;
    report::detail(format_args!(
        "the server offers no 8BITMIME: {} part(s) go as quoted-printable",
        plan.count()
    ));
    let mail = Mail { size: measure.size, eight_bit: measure.eight_bit, ..*mail };
    session.send(&mail, &mut Converted::new((parcel.open)()?, &plan), mark)
}

/// The record of what became of a message.
pub fn sent(message_id: &str, to: &[Address], answers: &[Answer]) -> Sent {
    let fate = |(to, answer): (&Address, &Answer)| Fate {
        to: to.to_string(),
        outcome: answer.outcome,
        reply: Some(answer.reply.clone()),
        class: answer.class(),
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
