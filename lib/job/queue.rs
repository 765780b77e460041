//! mail-queue: send what is due, and let people see and decide the rest.
//!
//! A recipient is marked `trying` on disk before the final dot and settled after the answer; what a crash left marked
//! is told as unknown and never sent again unasked. Each message is locked while it is in hand, so any number of runs
//! may work side by side: what another one has in hand is passed over.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::time::Duration;

use jiff::Timestamp;

use crate::cli::Place as Where;
use crate::error::{Error, Kind, Result, Status};
use crate::job::settings::Settings;
use crate::job::submit::{self, Courier, Failed, Parcel};
use crate::mail::address::Address;
use crate::mail::lines::Measure;
use crate::net::smtp::Answer;
use crate::record::Outcome;
use crate::report::{self, Records};
use crate::retry;
use crate::stop;
use crate::store::spool::{Entry, Envelope, Place, Spool, State, Taken, Way};

mod manage;
pub use manage::{drop, hold, list, release, show};

/// Where the queue lies, and how long to wait for a message that somebody else has in hand.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where configuration and state lie.
    pub place: Where,
    /// For each message.
    pub limit: Duration,
}

fn open(options: &Options) -> Result<(Settings, Spool)> {
    let settings = Settings::load(&options.place)?;
    let spool = Spool::open(&settings.state()?)?;
    Ok((settings, spool))
}

/// Sends what is due, once: a record (plain: the Message-ID) for each message that was handed over to somebody, a line
/// on stderr for each recipient who did not get it.
///
/// 0 if nothing is left to be sent, 75 if something waits for a later run, 69 if somebody was refused for good, 76 if
/// somebody's fate is unknown. Messages for the same way share one connection.
pub fn run(options: &Options, records: &mut Records<'_>) -> Result<Status> {
    let (settings, spool) = open(options)?;
    spool.clean()?;
    let mut run = Run { spool, records, status: Status::DONE, now: Timestamp::now() };
    for (way, ids) in run.ways()?.into_values() {
        if stop::requested() || run.records.gone() {
            break;
        }
        run.one_way(&settings, &way, &ids)?;
    }
    run.records.flush()?;
    Ok(run.status)
}

struct Run<'a, 'b> {
    spool: Spool,
    records: &'a mut Records<'b>,
    status: Status,
    now: Timestamp,
}

/// The connection of a way, or why there is none.
enum Line {
    Up(Box<Courier>),
    Down(String),
    /// Nothing is to be sent.
    Unneeded,
}

impl Run<'_, '_> {
    /// What there is to do, by way, oldest first.
    fn ways(&mut self) -> Result<BTreeMap<String, (Way, Vec<String>)>> {
        let mut ways: BTreeMap<String, (Way, Vec<String>)> = BTreeMap::new();
        for id in self.spool.ids(Place::Mail)? {
            match self.spool.peek(Place::Mail, &id) {
                Ok(None) => {}
                Ok(Some(entry)) if entry.recipients.iter().any(|each| each.is_due(self.now)) => {
                    let way = entry.envelope.map(|envelope| envelope.way).unwrap_or_default();
                    ways.entry(way.key()).or_insert_with(|| (way, Vec::new())).1.push(id);
                }
                Ok(Some(entry)) => {
                    self.note_waiting(&entry);
                    self.without_way(&entry);
                }
                Err(error) => self.trouble(&error),
            }
        }
        Ok(ways)
    }

    /// What a run that died left: to be owned up to, or to be put away. That needs no connection.
    fn without_way(&mut self, entry: &Entry) {
        if entry.recipients.iter().any(|each| each.state == State::Trying) || entry.is_settled() {
            self.one_id(&entry.id, &mut Line::Unneeded);
        }
    }

    fn note_waiting(&mut self, entry: &Entry) {
        if entry.recipients.iter().any(|each| each.state == State::Due) {
            self.status.add(Kind::Temporary);
        }
    }

    fn trouble(&mut self, error: &Error) {
        report::trouble(error);
        self.status.add(error.kind());
    }

    fn one_way(&mut self, settings: &Settings, way: &Way, ids: &[String]) -> Result<()> {
        let mut line = match submit::peer(settings, way) {
            Ok(peer) => Line::Up(Box::new(Courier::new(peer))),
            Err(error) => self.down(&error),
        };
        for id in ids {
            if stop::requested() || self.records.gone() {
                break;
            }
            self.one_id(id, &mut line);
            self.records.flush()?;
        }
        if let Line::Up(courier) = line {
            courier.close();
        }
        Ok(())
    }

    /// What happens to one message concerns no other.
    fn one_id(&mut self, id: &str, line: &mut Line) {
        let done = match self.spool.take(Place::Mail, id, Duration::ZERO) {
            Ok(None) => Ok(()),
            Ok(Some(taken)) => self.one_message(taken, line),
            Err(error) if error.kind() == Kind::Temporary => {
                report::detail(format_args!("{id} is in the hands of another run"));
                self.status.add(Kind::Temporary);
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            self.trouble(&error.context(format_args!("message {id} of the queue")));
        }
    }

    fn down(&mut self, error: &Error) -> Line {
        report::trouble(error);
        // A server that wants nothing of us has refused no message: they stay.
        self.status.add(if error.kind() == Kind::Refused { Kind::Temporary } else { error.kind() });
        Line::Down(error.to_string())
    }

    fn one_message(&mut self, mut taken: Taken, line: &mut Line) -> Result<()> {
        if own_up(&mut taken.entry)? {
            self.status.add(Kind::Unknown);
        }
        let due: Vec<usize> = places(&taken.entry, |each| each.is_due(self.now));
        if let (false, Some(envelope)) = (due.is_empty(), taken.entry.envelope.clone()) {
            self.send(&mut taken.entry, &envelope, &due, line)?;
        }
        if let Line::Up(_) = line {
            // Else why there is no connection says more than "later".
            self.note_waiting(&taken.entry);
        }
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

    fn send(&mut self, entry: &mut Entry, envelope: &Envelope, due: &[usize], line: &mut Line) -> Result<()> {
        let to: Vec<Address> = due.iter().map(|at| entry.recipients[*at].to.clone()).collect();
        let answers = match line {
            Line::Unneeded => return Ok(()),
            Line::Up(courier) => match give(courier, entry, envelope, due, &to) {
                Err(Failed::Message(error)) => {
                    // The dot was not sent, so a mark that was set says too much.
                    let marked = places(entry, |each| each.state == State::Trying);
                    entry.mark(&marked, State::Due)?;
                    return Err(error);
                }
                Err(Failed::Way(error)) => {
                    let reply = error.to_string();
                    *line = self.down(&error);
                    vec![Answer { outcome: Outcome::Later, reply }; to.len()]
                }
                Ok(answers) => {
                    self.settle(entry, envelope, due, &answers)?;
                    return self.tell(envelope, &to, &answers);
                }
            },
            Line::Down(why) => vec![Answer { outcome: Outcome::Later, reply: why.clone() }; to.len()],
        };
        self.settle(entry, envelope, due, &answers)
    }

    /// Writes down what became of each.
    fn settle(
        &mut self,
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
                    self.status.add(Kind::Refused);
                    entry.settle(*at, State::Failed, |each| each.reply = reply)?;
                }
                Outcome::Unknown => {
                    self.status.add(Kind::Unknown);
                    entry.settle(*at, State::Unknown, |each| each.reply = reply)?;
                }
                Outcome::Later => self.put_off(entry, envelope, *at, answer)?,
            }
        }
        Ok(())
    }

    fn put_off(&mut self, entry: &mut Entry, envelope: &Envelope, at: usize, answer: &Answer) -> Result<()> {
        let id = entry.id.clone();
        let age = Timestamp::now().duration_since(envelope.accepted);
        if Duration::try_from(age).is_ok_and(|age| age >= retry::GIVE_UP_AFTER) {
            let days = retry::GIVE_UP_AFTER.as_secs() / 86400;
            let reply = format!("given up after {days} days: {}", answer.reply);
            report::trouble(format_args!(
                "{} does not get {}: {reply}",
                entry.recipients[at].to, envelope.message_id
            ));
            self.status.add(Kind::Refused);
            return entry.settle(at, State::Failed, |each| each.reply = Some(reply));
        }
        entry.settle(at, State::Due, |each| {
            each.tries += 1;
            let pause = retry::jittered(retry::queue_pause(each.tries), seed(&id, each.tries));
            each.next = Timestamp::now().checked_add(pause).ok();
            each.reply = Some(answer.reply.clone());
        })
    }

    fn tell(&mut self, envelope: &Envelope, to: &[Address], answers: &[Answer]) -> Result<()> {
        let sent = submit::sent(&envelope.message_id, to, answers);
        submit::complain(&sent, "it stays in the queue");
        if self.records.is_json() {
            return self.records.json(&sent);
        }
        match answers.iter().any(|answer| answer.outcome == Outcome::Done) {
            true => self.records.text(report::printable(&envelope.message_id).as_bytes()),
            false => Ok(()),
        }
    }
}

fn give(
    courier: &mut Courier,
    entry: &mut Entry,
    envelope: &Envelope,
    due: &[usize],
    to: &[Address],
) -> Result<Vec<Answer>, Failed> {
    let file = entry.message().map_err(Failed::Message)?;
    let open = || {
        let file = file.try_clone().map_err(|why| Error::reading("the message", why))?;
        Ok(Box::new(FromStart { file, at: 0 }) as Box<dyn Read>)
    };
    let mut measure = Measure::default();
    (measure.size, measure.eight_bit) = (envelope.size, envelope.eight_bit);
    let parcel = Parcel { from: envelope.from.as_ref(), to, measure, open: &open };
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
fn own_up(entry: &mut Entry) -> Result<bool> {
    let marked = places(entry, |each| each.state == State::Trying);
    for at in &marked {
        let reply = "the sending process died before it saw the answer";
        let id = entry.envelope.as_ref().map_or("", |envelope| &envelope.message_id);
        report::trouble(format_args!(
            "{} may or may not have got {id}: {reply}; it is not sent again unasked: mail-queue release --resend-unknown {}",
            entry.recipients[*at].to, entry.id
        ));
        entry.settle(*at, State::Unknown, |each| each.reply = Some(reply.to_string()))?;
    }
    Ok(!marked.is_empty())
}

fn places(entry: &Entry, wanted: impl Fn(&crate::store::spool::Recipient) -> bool) -> Vec<usize> {
    let all = entry.recipients.iter().enumerate();
    all.filter(|(_, each)| wanted(each)).map(|(at, _)| at).collect()
}

fn seed(id: &str, tries: u32) -> u64 {
    let mut hasher = DefaultHasher::new();
    (id, tries).hash(&mut hasher);
    hasher.finish()
}
