//! What people do with the queue: look, hold, release, drop.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{Options, open, own_up, places};
use crate::error::{Error, Kind, Result, Status};
use crate::job::settings::Settings;
use crate::job::submit;
use crate::mail::address::Address;
use crate::mail::class::Class;
use crate::record::{Queued, Relay, Waiting};
use crate::report::{self, Records};
use crate::store::spool::{Down, Entry, Place, Recipient, Spool, State, Taken};

/// One line for each message that is not settled (with `failed`: for each that failed): id, state, recipients, the
/// class of the refusal, the last word, with tabs between; or its record.
pub fn list(options: &Options, failed: bool, records: &mut Records<'_>) -> Result<Status> {
    let (settings, spool) = open(options)?;
    let mut servers = Servers::default();
    let place = if failed { Place::Failed } else { Place::Mail };
    let mut status = Status::DONE;
    for id in spool.ids(place)? {
        match spool.peek(place, &id) {
            Ok(None) => {}
            Ok(Some(entry)) => {
                let busy = spool.is_busy(place, &id);
                let down = servers.down(&settings, &spool, &entry)?;
                let queued = record(&entry, busy, down, |each| each.state != State::Done);
                if queued.recipients.is_empty() {
                    continue;
                }
                match records.is_json() {
                    true => records.json(&queued)?,
                    false => records.text(line(&queued))?,
                }
            }
            Err(error) => {
                report::trouble(&error);
                status.add(error.kind());
            }
        }
    }
    let kept = spool.ids(Place::Failed)?.len();
    if !failed && kept > 0 {
        report::say(format_args!("{kept} refused message(s) are kept; see mail-queue list --failed"));
    }
    records.flush()?;
    Ok(status)
}

/// What is known of the servers, looked up once a way.
#[derive(Default)]
struct Servers(HashMap<String, Option<Down>>);

impl Servers {
    /// Why nothing goes this entry's way now: all servers on it are down, and this is the first.
    fn down(&mut self, settings: &Settings, spool: &Spool, entry: &Entry) -> Result<Option<&Down>> {
        let Some(envelope) = &entry.envelope else { return Ok(None) };
        let key = envelope.way.key();
        if !self.0.contains_key(&key) {
            let hops = submit::hops(settings, &envelope.way).unwrap_or_default();
            let known = hops.iter().map(|hop| spool.relays().down(&hop.key)).collect::<Result<Vec<_>>>()?;
            let all = known.iter().all(Option::is_some);
            self.0.insert(key.clone(), known.into_iter().flatten().next().filter(|_| all));
        }
        Ok(self.0.get(&key).and_then(Option::as_ref))
    }
}

/// One line for each server that is down: name, since when, how many attempts failed, when it is tried next, the last
/// word; or its record.
pub fn relays(options: &Options, records: &mut Records<'_>) -> Result<Status> {
    let (_, spool) = open(options)?;
    for down in spool.relays().list()? {
        if records.is_json() {
            let (since, next) = (down.since.to_string(), down.next.to_string());
            let record = Relay {
                name: down.name,
                since,
                failures: down.failures,
                next,
                reply: down.reply,
                ..Relay::fresh()
            };
            records.json(&record)?;
            continue;
        }
        let columns = [
            down.name.as_str(),
            &format!("down since {}", down.since),
            &format!("{} attempts", down.failures),
            &format!("next {}", down.next),
            &down.reply,
        ];
        records.text(columns.map(|column| report::printable(column).into_owned()).join("\t"))?;
    }
    records.flush()?;
    Ok(Status::DONE)
}

fn line(queued: &Queued) -> String {
    let states = ["unknown", "held", "later", "due", "failed"];
    let has = |state: &&str| queued.recipients.iter().any(|each| each.state == *state);
    let state = states.iter().find(|state| has(state)).copied().unwrap_or("due");
    let to: Vec<&str> = queued.recipients.iter().map(|each| each.to.as_str()).collect();
    let blamed = queued.recipients.iter().find(|each| each.state == state);
    let next = blamed.and_then(|each| each.next.as_deref()).filter(|_| state == "later");
    let state = next.map_or(state.to_string(), |next| format!("later {next}"));
    let reply = blamed.and_then(|each| each.reply.as_deref()).unwrap_or_default();
    let class = blamed.and_then(|each| each.class).map_or("", Class::word);
    let columns = [queued.id.as_str(), &state, &to.join(", "), class, reply];
    columns.map(|column| report::printable(column).into_owned()).join("\t")
}

fn record(entry: &Entry, busy: bool, down: Option<&Down>, wanted: impl Fn(&Recipient) -> bool) -> Queued {
    let now = Timestamp::now();
    let waiting = |each: &Recipient| {
        // A server that is down holds up what would be due.
        let down = down.filter(|_| each.is_due(now));
        let reply = down.map(|down| down.reply.clone()).or_else(|| each.reply.clone());
        Waiting {
            to: each.to.to_string(),
            state: if down.is_some() { "later" } else { word(each, busy, now) }.into(),
            next: down.map(|down| down.next).or(each.next).map(|next| next.to_string()),
            tries: each.tries,
            class: reply.as_deref().and_then(Class::of_reply),
            reply,
        }
    };
    let recipients = entry.recipients.iter().filter(|each| wanted(each)).map(waiting).collect();
    Queued { id: entry.id.clone(), recipients, ..Queued::fresh() }
}

fn word(recipient: &Recipient, busy: bool, now: Timestamp) -> &'static str {
    match recipient.state {
        State::Due if !recipient.is_due(now) => "later",
        // Being sent at this moment; without anybody at work it is the trace of one who died.
        State::Trying if busy => "due",
        State::Trying => "unknown",
        state => state.word(),
    }
}

/// All that is known of one message and where its bytes lie; or its record, with settled recipients too.
pub fn show(options: &Options, id: &str, records: &mut Records<'_>) -> Result<Status> {
    let (settings, spool) = open(options)?;
    let place = find(&spool, id)?;
    let entry = spool.peek(place, id)?.ok_or_else(|| missing(id))?;
    let busy = spool.is_busy(place, id);
    if records.is_json() {
        let mut servers = Servers::default();
        let down = servers.down(&settings, &spool, &entry)?;
        records.json(&record(&entry, busy, down, |_| true))?;
    } else {
        records.text(format!("id: {id}"))?;
        if let Some(envelope) = &entry.envelope {
            let from = envelope.from.as_ref().map_or("", Address::as_str);
            records.text(format!("from: {from}\nmessage-id: {}", report::printable(&envelope.message_id)))?;
            records.text(format!("accepted: {}\nsize: {}", envelope.accepted, envelope.size))?;
            records
                .text(report::printable(envelope.way.key().trim_end()).replace("\\u{a}", "\n").as_str())?;
        }
        for each in &entry.recipients {
            let reply = report::printable(each.reply.as_deref().unwrap_or_default()).into_owned();
            let next = each.next.filter(|_| each.state == State::Due).map(|next| format!(", next {next}"));
            let next = next.unwrap_or_default();
            let state = word(each, busy, Timestamp::now());
            let class = each.class().map(|class| format!(" {}", class.word())).unwrap_or_default();
            records.text(format!("to: {}: {state}{next}, tries {}{class} {reply}", each.to, each.tries))?;
        }
        records.text(format!("message: {}", entry.message_path().display()))?;
    }
    records.flush()?;
    Ok(Status::DONE)
}

/// Takes messages out of the queue for good, sent or not.
pub fn drop(options: &Options, ids: &[String]) -> Result<Status> {
    each(options, ids, |_, spool, taken| spool.drop(taken))
}

/// Keeps messages back until they are released.
pub fn hold(options: &Options, ids: &[String]) -> Result<Status> {
    each(options, ids, |_, _, mut taken| {
        own_up(&mut taken.entry)?;
        let due = places(&taken.entry, |each| each.state == State::Due);
        if due.is_empty() && !taken.entry.recipients.iter().any(|each| each.state == State::Held) {
            let what = format!("cannot hold {}: nothing of it waits to be sent", taken.entry.id);
            return Err(Error::plain(Kind::Usage, what));
        }
        taken.entry.mark(&due, State::Held)
    })
}

/// Lets messages go at the next run: held ones, those that wait, those that failed; those whose fate is unknown only
/// with `resend_unknown`, since their recipients may get a second one.
pub fn release(options: &Options, ids: &[String], resend_unknown: bool) -> Result<Status> {
    each(options, ids, |settings, spool, mut taken| {
        own_up(&mut taken.entry)?;
        let unknown = places(&taken.entry, |each| each.state == State::Unknown);
        if !unknown.is_empty() && !resend_unknown {
            let what = format!("cannot release {}: nobody knows whether it was delivered", taken.entry.id);
            return Err(Error::plain(Kind::Usage, what)
                .hint("--resend-unknown sends it again all the same; drop forgets it"));
        }
        for at in places(&taken.entry, |each| each.state != State::Done) {
            taken.entry.settle(at, State::Due, |each| {
                each.next = None;
                each.tries = 0;
                (each.warned, each.told) = (false, false);
            })?;
        }
        if spool.find(&taken.entry.id)? == Some(Place::Failed) {
            spool.revive(&taken)?;
        }
        // "Now" also means that a server that was given a rest is tried.
        let way = taken.entry.envelope.as_ref().map(|envelope| &envelope.way);
        for hop in way.and_then(|way| submit::hops(settings, way).ok()).into_iter().flatten() {
            spool.relays().worked(&hop.key)?;
        }
        spool.ring();
        Ok(())
    })
}

fn each(
    options: &Options,
    ids: &[String],
    mut act: impl FnMut(&Settings, &Spool, Taken) -> Result<()>,
) -> Result<Status> {
    let (settings, spool) = open(options)?;
    let mut status = Status::DONE;
    for id in ids {
        let done = find(&spool, id)
            .and_then(|place| spool.take(place, id, options.limit)?.ok_or_else(|| missing(id)))
            .and_then(|taken| act(&settings, &spool, taken));
        if let Err(error) = done {
            report::trouble(&error);
            status.add(error.kind());
        }
    }
    Ok(status)
}

fn find(spool: &Spool, id: &str) -> Result<Place> {
    spool.find(id)?.ok_or_else(|| missing(id))
}

fn missing(id: &str) -> Error {
    Error::plain(Kind::NoInput, format!("there is no message {id} in the queue"))
        .hint("`mail-queue list` shows them")
}
