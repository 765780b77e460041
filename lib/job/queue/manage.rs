//! What people do with the queue: look, hold, release, drop.

use jiff::Timestamp;

use super::{Options, open, own_up, places};
use crate::error::{Error, Kind, Result, Status};
use crate::mail::address::Address;
use crate::record::{Queued, Waiting};
use crate::report::{self, Records};
use crate::store::spool::{Entry, Place, Recipient, Spool, State, Taken};

/// One line for each message that is not settled (with `failed`: for each that failed): id, state, recipients, the
/// last word, with tabs between; or its record.
pub fn list(options: &Options, failed: bool, records: &mut Records<'_>) -> Result<Status> {
    let (_, spool) = open(options)?;
    let place = if failed { Place::Failed } else { Place::Mail };
    let mut status = Status::DONE;
    for id in spool.ids(place)? {
        match spool.peek(place, &id) {
            Ok(None) => {}
            Ok(Some(entry)) => {
                let busy = spool.is_busy(place, &id);
                let queued = record(&entry, busy, |each| each.state != State::Done);
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

fn line(queued: &Queued) -> String {
    let states = ["unknown", "held", "later", "due", "failed"];
    let has = |state: &&str| queued.recipients.iter().any(|each| each.state == *state);
    let state = states.iter().find(|state| has(state)).copied().unwrap_or("due");
    let to: Vec<&str> = queued.recipients.iter().map(|each| each.to.as_str()).collect();
    let blamed = queued.recipients.iter().find(|each| each.state == state);
    let next = blamed.and_then(|each| each.next.as_deref()).filter(|_| state == "later");
    let state = next.map_or(state.to_string(), |next| format!("later {next}"));
    let reply = blamed.and_then(|each| each.reply.as_deref()).unwrap_or_default();
    let columns = [queued.id.as_str(), &state, &to.join(", "), reply];
    columns.map(|column| report::printable(column).into_owned()).join("\t")
}

fn record(entry: &Entry, busy: bool, wanted: impl Fn(&Recipient) -> bool) -> Queued {
    let now = Timestamp::now();
    let waiting = |each: &Recipient| Waiting {
        to: each.to.to_string(),
        state: word(each, busy, now).into(),
        next: each.next.map(|next| next.to_string()),
        tries: each.tries,
        reply: each.reply.clone(),
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
    let (_, spool) = open(options)?;
    let place = find(&spool, id)?;
    let entry = spool.peek(place, id)?.ok_or_else(|| missing(id))?;
    let busy = spool.is_busy(place, id);
    if records.is_json() {
        records.json(&record(&entry, busy, |_| true))?;
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
            records.text(format!("to: {}: {state}{next}, tries {} {reply}", each.to, each.tries))?;
        }
        records.text(format!("message: {}", entry.message_path().display()))?;
    }
    records.flush()?;
    Ok(Status::DONE)
}

/// Takes messages out of the queue for good, sent or not.
pub fn drop(options: &Options, ids: &[String]) -> Result<Status> {
    each(options, ids, |spool, taken| spool.drop(taken))
}

/// Keeps messages back until they are released.
pub fn hold(options: &Options, ids: &[String]) -> Result<Status> {
    each(options, ids, |_, mut taken| {
        own_up(&mut taken.entry)?;
        let due = places(&taken.entry, |each| each.state == State::Due);
        taken.entry.mark(&due, State::Held)
    })
}

/// Lets messages go at the next run: held ones, those that wait, those that failed; those whose fate is unknown only
/// with `resend_unknown`, since their recipients may get a second one.
pub fn release(options: &Options, ids: &[String], resend_unknown: bool) -> Result<Status> {
    each(options, ids, |spool, mut taken| {
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
            })?;
        }
        match spool.find(&taken.entry.id)? {
            Some(Place::Failed) => spool.revive(&taken),
            _ => Ok(()),
        }
    })
}

fn each(
    options: &Options,
    ids: &[String],
    mut act: impl FnMut(&Spool, Taken) -> Result<()>,
) -> Result<Status> {
    let (_, spool) = open(options)?;
    let mut status = Status::DONE;
    for id in ids {
        let done = find(&spool, id)
            .and_then(|place| spool.take(place, id, options.limit)?.ok_or_else(|| missing(id)))
            .and_then(|taken| act(&spool, taken));
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
