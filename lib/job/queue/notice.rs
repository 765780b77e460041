//! What the sender is told of a message that waits long or was given up: one notice in a Maildir of his own.
//!
//! Never by mail, so there is never mail about mail. Who has no `maildir` in the configuration finds all of it in
//! `mail-queue list` too.

use std::io::Read;
use std::path::PathBuf;

use jiff::{Timestamp, Zoned};

use super::work::{age, places};
use crate::config::Outbound;
use crate::error::Result;
use crate::job::settings::Settings;
use crate::job::submit::{self, local};
use crate::mail::notice::{self, About, Notice};
use crate::report;
use crate::store::spool::{Entry, Envelope, State};

/// So much of the message's header is shown.
const HEADER: u64 = 64 * 1024;

/// Tells the sender what he does not know yet; durable on return. Where that fails, the next run tries again.
pub(super) fn tell_sender(settings: &Settings, entry: &mut Entry, outbound: &Outbound) -> Result<()> {
    let Some(envelope) = entry.envelope.clone() else { return Ok(()) };
    let Some(maildir) = maildir(settings, &envelope) else { return Ok(()) };
    let failed = places(entry, |each| each.state == State::Failed && !each.told);
    if !failed.is_empty() {
        write(&maildir, entry, &envelope, &failed, About::Failure)?;
        for at in failed {
            entry.settle(at, State::Failed, |each| each.told = true)?;
        }
    }
    if age(envelope.accepted) >= outbound.warn {
        let waiting = places(entry, |each| each.state == State::Due && !each.warned);
        if !waiting.is_empty() {
            write(&maildir, entry, &envelope, &waiting, About::Delay { until: until(&envelope, outbound) })?;
            for at in waiting {
                entry.settle(at, State::Due, |each| each.warned = true)?;
            }
        }
    }
    Ok(())
}

fn until(envelope: &Envelope, outbound: &Outbound) -> Timestamp {
    envelope.accepted.checked_add(outbound.expire).unwrap_or(Timestamp::MAX)
}

/// Of the account it leaves by, else of the one that the sender's address means. Mail without a sender has nobody.
fn maildir(settings: &Settings, envelope: &Envelope) -> Option<PathBuf> {
    let from = envelope.from.as_ref()?;
    let named = envelope.way.account.clone();
    let name = named.or_else(|| submit::usual_account(settings, Some(from)))?;
    settings.config.account.get(&name)?.maildir.clone()
}

fn write(
    maildir: &std::path::Path,
    entry: &Entry,
    envelope: &Envelope,
    of: &[usize],
    about: About,
) -> Result<()> {
    let mut header = Vec::new();
    let file = entry.message()?;
    file.take(HEADER)
        .read_to_end(&mut header)
        .map_err(|why| crate::error::Error::reading(entry.message_path(), why))?;
    let first = of.first().map_or(0, |at| entry.recipients[*at].number);
    let word = if about == About::Failure { "failed" } else { "waits" };
    // The same trouble always has the same name, so that a crash before it is noted down doubles nothing.
    let unique = format!("{}-{word}-{first}", entry.id);
    let recipients = of.iter().filter_map(|at| entry.recipients.get(*at)).map(|each| notice::Recipient {
        to: each.to.clone(),
        reply: each.reply.clone().unwrap_or_default(),
        tries: each.tries,
    });
    let notice = Notice {
        about,
        to: envelope.from.clone(),
        message_id: &envelope.message_id,
        queue_id: &entry.id,
        accepted: envelope.accepted,
        recipients: recipients.collect(),
        header: &header,
        now: Zoned::now(),
    };
    let path = local::deliver(maildir, &unique, &mut notice.write().as_slice())?;
    report::detail(format_args!("the sender is told in {}", path.display()));
    Ok(())
}
