//! One connection's share of a run: message after message, each taken in hand, sent, settled and put where it belongs.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::time::Duration;

use jiff::Timestamp;

use super::{Event, Item, is_over, notice};
use crate::config::Outbound;
use crate::error::{Error, Kind, Result};
use crate::job::settings::Settings;
use crate::job::submit::progress::{Counted, Progress};
use crate::job::submit::{self, Courier, Failed, Parcel};
use crate::mail::address::Address;
use crate::mail::lines::Measure;
use crate::net::smtp::Answer;
use crate::record::Outcome;
use crate::report;
use crate::retry;
use crate::store::spool::{Entry, Envelope, Place, Recipient, Spool, State, Taken, Way};

/// The connection of a way, or why there is none.
enum Line {
    Up(Box<Courier>),
    Down(String),
    /// Nothing is to be sent.
    Unneeded,
}

pub(super) struct Worker<'a> {
    pub settings: &'a Settings,
    pub spool: &'a Spool,
    pub now: Timestamp,
    pub resend_unknown: bool,
    pub way: &'a Way,
    pub outbound: &'a Outbound,
    pub tell: Sender<Event>,
    pub gone: &'a AtomicBool,
    pub progress: &'a Progress,
}

impl Worker<'_> {
    /// Works until the pile is done.
    pub(super) fn work(&self, pile: &Mutex<VecDeque<Item>>, sends: bool) {
        let mut line = match sends {
            false => Line::Unneeded,
            true => match submit::hops(self.settings, self.way) {
                Ok(hops) => Line::Up(Box::new(Courier::new(hops, Some(self.spool.relays().clone())))),
                Err(error) => self.down(&error),
            },
        };
        while let Some(item) = pile.lock().ok().and_then(|mut pile| pile.pop_front()) {
            if is_over(self.gone) {
                self.event(Event::Status(Kind::Temporary));
                break;
            }
            if matches!(line, Line::Down(_)) && !self.is_old(item.accepted) {
                // Left as it is: it costs nothing, and is due as soon as the server answers.
                continue;
            }
            self.one_id(&item.id, &mut line);
            self.event(Event::Step);
        }
        if let Line::Up(courier) = line {
            courier.close();
        }
    }

    fn event(&self, event: Event) {
        // Who listens outlives us.
        let _ = self.tell.send(event);
    }

    fn trouble(&self, error: &Error) {
        report::trouble(error);
        self.event(Event::Status(error.kind()));
    }

    fn is_old(&self, accepted: Option<Timestamp>) -> bool {
        accepted.is_none_or(|accepted| age(accepted) >= self.outbound.warn.min(self.outbound.expire))
    }

    /// What happens to one message concerns no other.
    fn one_id(&self, id: &str, line: &mut Line) {
        let done = match self.spool.take(Place::Mail, id, Duration::ZERO) {
            Ok(None) => Ok(()),
            Ok(Some(taken)) => self.one_message(taken, line),
            Err(error) if error.kind() == Kind::Temporary => {
                // Perhaps just being accepted: it is seen before who accepts it lets it go.
                report::detail(format_args!("{id} is in the hands of another run"));
                self.event(Event::Status(Kind::Temporary));
                self.event(Event::Wake(Timestamp::now() + Duration::from_millis(200)));
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            self.trouble(&error.context(format_args!("message {id} of the queue")));
        }
    }

    fn down(&self, error: &Error) -> Line {
        report::trouble(error);
        // A server that wants nothing of us has refused no message: they stay.
        let kind = if error.kind() == Kind::Refused { Kind::Temporary } else { error.kind() };
        self.event(Event::Status(kind));
        Line::Down(error.to_string())
    }

    fn one_message(&self, mut taken: Taken, line: &mut Line) -> Result<()> {
        if own_up(&mut taken.entry)? && !self.resend_unknown {
            self.event(Event::Status(Kind::Unknown));
        }
        let mut asked_for = Vec::new();
        if self.resend_unknown {
            // As released: from now on it is due, whether or not it can be sent now.
            asked_for = places(&taken.entry, |each| each.state == State::Unknown);
            for at in &asked_for {
                taken.entry.settle(*at, State::Due, |each| each.next = None)?;
            }
        }
        let due: Vec<usize> = places(&taken.entry, |each| each.is_due(self.now));
        if let (false, Some(envelope)) = (due.is_empty(), taken.entry.envelope.clone()) {
            self.send(&mut taken.entry, &envelope, &due, &asked_for, line)?;
        }
        self.note_waiting(&taken.entry, line);
        notice::tell_sender(self.settings, &mut taken.entry, self.outbound)?;
        if !taken.entry.is_settled() {
            return Ok(());
        }
        let (id, failed) = (taken.entry.id.clone(), places(&taken.entry, |each| each.state == State::Failed));
        self.spool.finish(taken)?;
        if !failed.is_empty() {
            let path = self.spool.path(Place::Failed, &id);
            report::say(format_args!(
                "the refused message is kept in {}; see mail-queue show {id}",
                path.display()
            ));
        }
        Ok(())
    }

    fn note_waiting(&self, entry: &Entry, line: &Line) {
        let waiting = || entry.recipients.iter().filter(|each| each.state == State::Due);
        if let Some(next) = waiting().filter_map(|each| each.next).min() {
            self.event(Event::Wake(next));
        }
        // Else why there is no connection says more than "later".
        if matches!(line, Line::Up(_)) && waiting().next().is_some() {
            self.event(Event::Status(Kind::Temporary));
        }
    }

    fn send(
        &self,
        entry: &mut Entry,
        envelope: &Envelope,
        due: &[usize],
        asked_for: &[usize],
        line: &mut Line,
    ) -> Result<()> {
        let to: Vec<Address> = due.iter().map(|at| entry.recipients[*at].to.clone()).collect();
        let courier = match line {
            Line::Up(courier) => courier,
            Line::Down(why) => return self.give_up_old(entry, envelope, due, asked_for, why),
            Line::Unneeded => return Ok(()),
        };
        match give(courier, entry, envelope, due, &to, self.progress) {
            Ok(answers) => {
                self.settle(entry, envelope, due, &answers)?;
                self.event(Event::Sent(Box::new(submit::sent(&envelope.message_id, &to, &answers))));
                Ok(())
            }
            Err(Failed::Message(error)) => {
                // The dot was not sent, so a mark that was set says too much.
                let marked = places(entry, |each| each.state == State::Trying);
                entry.mark(&marked, State::Due)?;
                Err(error)
            }
            Err(Failed::Way(error)) => {
                *line = self.down(&error);
                self.give_up_old(entry, envelope, due, asked_for, &error.to_string())
            }
            Err(Failed::Paced(next)) => {
                let what = format!("{} takes no more before {next}", self.way.name());
                report::detail(&what);
                self.event(Event::Status(Kind::Temporary));
                self.event(Event::Wake(next));
                *line = Line::Down(what);
                Ok(())
            }
        }
    }

    /// Writes down what became of each.
    fn settle(
        &self,
        entry: &mut Entry,
        envelope: &Envelope,
        due: &[usize],
        answers: &[Answer],
    ) -> Result<()> {
        let done: Vec<usize> = due
            .iter()
            .zip(answers)
            .filter(|(_, answer)| answer.outcome == Outcome::Done)
            .map(|(at, _)| *at)
            .collect();
        if !done.is_empty() {
            entry.mark(&done, State::Done)?;
        }
        for (at, answer) in due.iter().zip(answers) {
            let reply = Some(answer.reply.clone());
            match answer.outcome {
                Outcome::Done => {}
                Outcome::Never => {
                    self.event(Event::Status(Kind::Refused));
                    entry.settle(*at, State::Failed, |each| each.tried(reply))?;
                }
                Outcome::Unknown => {
                    self.event(Event::Status(Kind::Unknown));
                    entry.settle(*at, State::Unknown, |each| each.tried(reply))?;
                }
                Outcome::Later => self.put_off(entry, envelope, *at, &answer.reply)?,
            }
        }
        Ok(())
    }

    fn put_off(&self, entry: &mut Entry, envelope: &Envelope, at: usize, reply: &str) -> Result<()> {
        if age(envelope.accepted) >= self.outbound.expire {
            return self.give_up(entry, envelope, at, reply);
        }
        let id = entry.id.clone();
        entry.settle(at, State::Due, |each| {
            each.tries += 1;
            let pause = retry::jittered(retry::queue_pause(each.tries), seed(&id, each.tries));
            each.next = Timestamp::now().checked_add(pause).ok();
            each.reply = Some(reply.to_string());
        })
    }

    /// While nothing can be sent, only the time that passes counts. What was to be sent again is no less unknown for it.
    fn give_up_old(
        &self,
        entry: &mut Entry,
        envelope: &Envelope,
        due: &[usize],
        asked_for: &[usize],
        why: &str,
    ) -> Result<()> {
        if age(envelope.accepted) < self.outbound.expire {
            return Ok(());
        }
        for at in due {
            match asked_for.contains(at) {
                true => entry.settle(*at, State::Unknown, |_| {})?,
                false => self.give_up(entry, envelope, *at, why)?,
            }
        }
        Ok(())
    }

    fn give_up(&self, entry: &mut Entry, envelope: &Envelope, at: usize, reply: &str) -> Result<()> {
        let reply = format!("given up after {}: {reply}", spoken(self.outbound.expire));
        report::trouble(format_args!(
            "{} does not get {}: {reply}",
            entry.recipients[at].to, envelope.message_id
        ));
        self.event(Event::Status(Kind::Refused));
        entry.settle(at, State::Failed, |each| each.reply = Some(reply))
    }
}

fn give(
    courier: &mut Courier,
    entry: &mut Entry,
    envelope: &Envelope,
    due: &[usize],
    to: &[Address],
    progress: &Progress,
) -> Result<Vec<Answer>, Failed> {
    let file = entry.message().map_err(Failed::Message)?;
    let open = || {
        let file = file.try_clone().map_err(|why| Error::reading("the message", why))?;
        Ok(Box::new(Counted { inner: FromStart { file, at: 0 }, progress }) as Box<dyn Read>)
    };
    let mut measure = Measure::default();
    (measure.size, measure.eight_bit) = (envelope.size, envelope.eight_bit);
    let unique = entry.id.clone();
    let (from, dsn) = (envelope.from.as_ref(), envelope.dsn);
    let parcel = Parcel { from, to, measure, unique: &unique, dsn, open: &open };
    courier.send(&parcel, &mut |accepted| {
        let places: Vec<usize> = accepted.iter().filter_map(|n| due.get(*n).copied()).collect();
        entry.mark(&places, State::Trying)
    })
}

/// A file from its start, wherever another reader of it is.
struct FromStart {
    file: std::fs::File,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = std::os::unix::fs::FileExt::read_at(&self.file, buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// What a run that died left marked, nobody can know any more. True if there was such a one.
pub(super) fn own_up(entry: &mut Entry) -> Result<bool> {
    let marked = places(entry, |each| each.state == State::Trying);
    for at in &marked {
        let reply = "the sending process died before it saw the answer";
        let id = entry.envelope.as_ref().map_or("", |envelope| &envelope.message_id);
        report::trouble(format_args!(
            "{} may or may not have got {id}: {reply}; it is not sent again unasked: mail-queue run --resend-unknown, or release it: {}",
            entry.recipients[*at].to, entry.id
        ));
        entry.settle(*at, State::Unknown, |each| each.reply = Some(reply.to_string()))?;
    }
    Ok(!marked.is_empty())
}

pub(super) fn places(entry: &Entry, wanted: impl Fn(&Recipient) -> bool) -> Vec<usize> {
    let all = entry.recipients.iter().enumerate();
    all.filter(|(_, each)| wanted(each)).map(|(at, _)| at).collect()
}

/// How long ago; zero for a time to come (somebody set the clock).
pub(super) fn age(accepted: Timestamp) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(accepted)).unwrap_or_default()
}

/// `5 days`, `4 hours`: in the largest unit that fits.
pub(super) fn spoken(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let (size, unit) = units.into_iter().find(|(size, _)| seconds >= *size).unwrap_or((1, "second"));
    let count = seconds / size;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

fn seed(id: &str, tries: u32) -> u64 {
    let mut hasher = DefaultHasher::new();
    (id, tries).hash(&mut hasher);
    hasher.finish()
}
