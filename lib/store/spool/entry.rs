//! One message of the queue: its recipients, and how each goes from one state to the next.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::text::{self, Envelope};
use crate::durable::Dir;
use crate::error::{Error, Result};
use crate::mail::address::Address;
use crate::mail::class::Class;

/// What is known of a recipient; the order decides which of two files counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The final dot may have been sent.
    Trying,
    /// To be tried.
    Due,
    /// Kept back.
    Held,
    /// Nobody knows.
    Unknown,
    /// Refused or given up.
    Failed,
    /// Taken.
    Done,
}

/// In their order.
const STATES: [State; 6] =
    [State::Trying, State::Due, State::Held, State::Unknown, State::Failed, State::Done];

impl State {
    /// As it stands in file names.
    pub fn word(self) -> &'static str {
        match self {
            State::Trying => "trying",
            State::Due => "due",
            State::Held => "held",
            State::Unknown => "unknown",
            State::Failed => "failed",
            State::Done => "done",
        }
    }

    /// True if nothing will happen any more.
    pub fn is_settled(self) -> bool {
        matches!(self, State::Done | State::Failed)
    }
}

/// One recipient of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// From 1.
    pub number: usize,
    /// Where to.
    pub to: Address,
    /// What is known.
    pub state: State,
    /// How often it was tried.
    pub tries: u32,
    /// Not before this.
    pub next: Option<Timestamp>,
    /// The last word on it.
    pub reply: Option<String>,
    /// The sender was told that it waits.
    pub warned: bool,
    /// The sender was told that it failed.
    pub told: bool,
    /// States of the files that there are for it.
    files: Vec<State>,
}

impl Recipient {
    pub(super) fn new(number: usize, to: Address) -> Recipient {
        let (tries, next, reply, warned, told) = (0, None, None, false, false);
        Recipient { number, to, state: State::Due, tries, next, reply, warned, told, files: vec![State::Due] }
    }

    pub(super) fn write(&self) -> String {
        let mut text = format!("{}\nto: {}\ntries: {}\n", text::VERSION, self.to, self.tries);
        if let Some(next) = self.next {
            let _ = writeln!(text, "next: {next}");
        }
        if let Some(reply) = &self.reply {
            let _ = writeln!(text, "reply: {}", text::one_line(reply));
        }
        for (yes, key) in [(self.warned, "warned"), (self.told, "told")] {
            if yes {
                let _ = writeln!(text, "{key}: true");
            }
        }
        text
    }

    fn read(path: &Path, number: usize, files: Vec<State>, bytes: &[u8]) -> Result<Recipient> {
        let wrong = |what: &str| text::damaged(path, what);
        let (mut to, mut tries, mut next, mut reply) = (None, 0, None, None);
        let (mut warned, mut told) = (false, false);
        for (key, value) in text::pairs(path, bytes)? {
            match key.as_str() {
                "to" => to = Some(Address::parse(&value).map_err(|_| wrong("to"))?),
                "tries" => tries = value.parse().map_err(|_| wrong("tries"))?,
                "next" => next = Some(value.parse().map_err(|_| wrong("next"))?),
                "reply" => reply = Some(value),
                "warned" => warned = value == "true",
                "told" => told = value == "true",
                _ => {}
            }
        }
        let to = to.ok_or_else(|| wrong("it names no recipient"))?;
        let state = files.iter().copied().max().ok_or_else(|| wrong("it is gone"))?;
        Ok(Recipient { number, to, state, tries, next, reply, warned, told, files })
    }

    fn file(&self, state: State) -> String {
        format!("{}.{}", self.number, state.word())
    }

    /// It was tried once more, and this is the last word on it.
    pub fn tried(&mut self, reply: Option<String>) {
        self.tries += 1;
        self.reply = reply;
    }

    /// What the last word is about, where it is a refusal.
    pub fn class(&self) -> Option<Class> {
        Class::of_reply(self.reply.as_deref()?)
    }

    /// True if it is to be tried now.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.state == State::Due && self.next.is_none_or(|next| next <= now)
    }
}

/// A message of the queue.
#[derive(Debug)]
pub struct Entry {
    /// Its name in the queue.
    pub id: String,
    /// Sender, Message-ID, way; `None` in what is left of a message whose recipients are all done.
    pub envelope: Option<Envelope>,
    /// In their order.
    pub recipients: Vec<Recipient>,
    pub(super) dir: Dir,
}

impl Entry {
    pub(super) fn read(id: &str, dir: Dir) -> Result<Entry> {
        let mut files: BTreeMap<usize, Vec<State>> = BTreeMap::new();
        for name in dir.names()? {
            let Some((number, word)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
            let state = STATES.into_iter().find(|state| state.word() == word);
            if let (Ok(number), Some(state)) = (number.parse(), state) {
                files.entry(number).or_default().push(state);
            }
        }
        let mut recipients = Vec::with_capacity(files.len());
        for (number, states) in files {
            let Some(state) = states.iter().max() else { continue };
            let name = format!("{number}.{}", state.word());
            let path = dir.at(&name);
            let bytes = dir.read(&name)?.ok_or_else(|| text::damaged(&path, "it is gone"))?;
            recipients.push(Recipient::read(&path, number, states, &bytes)?);
        }
        let path = dir.at("envelope");
        let envelope = dir.read("envelope")?.map(|bytes| Envelope::read(&path, &bytes)).transpose()?;
        if envelope.is_none() && recipients.iter().any(|each| each.state != State::Done) {
            return Err(text::damaged(&path, "it is gone"));
        }
        Ok(Entry { id: id.to_string(), envelope, recipients, dir })
    }

    /// Opens the message.
    pub fn message(&self) -> Result<File> {
        let path = self.message_path();
        self.dir.open_file("message").map_err(|why| Error::reading(path, why))
    }

    /// Where the message lies.
    pub fn message_path(&self) -> PathBuf {
        self.dir.at("message")
    }

    /// True if nothing will happen to any recipient any more.
    pub fn is_settled(&self) -> bool {
        self.recipients.iter().all(|recipient| recipient.state.is_settled())
    }

    /// Removes the files that a crash left beside those that count.
    pub(super) fn tidy(&mut self) -> Result<()> {
        for at in 0..self.recipients.len() {
            self.remove_others(at)?;
        }
        Ok(())
    }

    /// Gives these recipients (places in [`Entry::recipients`]) another state and nothing else; durable on return,
    /// with one directory sync for all.
    pub fn mark(&mut self, places: &[usize], state: State) -> Result<()> {
        for at in places {
            let Some(recipient) = self.recipients.get_mut(*at) else { continue };
            let (old, new) = (recipient.file(recipient.state), recipient.file(state));
            self.dir
                .rename_new(&old, &self.dir, &new)
                .map_err(|why| Error::writing(self.dir.at(&new), why))?;
            recipient.state = state;
            recipient.files = vec![state];
        }
        self.dir.sync()
    }

    /// Writes down what became of a recipient; durable on return.
    pub fn settle(&mut self, at: usize, state: State, change: impl FnOnce(&mut Recipient)) -> Result<()> {
        let Some(recipient) = self.recipients.get_mut(at) else { return Ok(()) };
        change(recipient);
        recipient.state = state;
        let text = recipient.write();
        self.dir.replace(&recipient.file(state), text.as_bytes(), 0o600)?;
        if !recipient.files.contains(&state) {
            recipient.files.push(state);
        }
        self.remove_others(at)
    }

    fn remove_others(&mut self, at: usize) -> Result<()> {
        let Some(recipient) = self.recipients.get_mut(at) else { return Ok(()) };
        let kept = recipient.state;
        for state in std::mem::replace(&mut recipient.files, vec![kept]) {
            if state != kept {
                let name = recipient.file(state);
                self.dir.remove(&name).map_err(|why| Error::writing(self.dir.at(&name), why))?;
            }
        }
        Ok(())
    }
}
