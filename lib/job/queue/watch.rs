//! `mail-queue run --watch`: a round whenever a message is accepted or released, and whenever something is due.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use super::{Options, Round, open};
use crate::error::{Kind, Result, Status};
use crate::report::{self, Records};
use crate::stop;
use crate::stop::Woken;
use crate::store::spool::{Place, Spool};
use crate::watch::Watch;

/// Looks by itself at least this often: changes made by other machines raise no hint.
const LONGEST: Duration = Duration::from_secs(300);

/// Between two rounds, so that a burst of messages is one.
const SHORTEST: Duration = Duration::from_millis(50);

/// Works until asked to end. What fails in one round is told and tried again in the next.
pub fn watch(options: &Options, records: &mut Records<'_>) -> Result<Status> {
    let (_, spool) = open(options)?;
    let watch = Watch::new([spool.door()])?;
    spool.clean()?;
    let mut quiet = HashMap::new();
    let mut known = HashSet::new();
    while !stop::requested() && !records.gone() {
        let wake = match round(options, &mut quiet, records) {
            Ok(wake) => wake,
            Err(error) => {
                report::trouble(&error);
                None
            }
        };
        let left = wake.map_or(LONGEST, |wake| {
            Duration::try_from(wake.duration_since(Timestamp::now())).unwrap_or_default().min(LONGEST)
        });
        let woken = watch.wait(left.max(SHORTEST));
        // A hint without a new message: somebody released one, or changed his mind about a server.
        if woken != Woken::Ready || !has_new(&spool, &mut known)? {
            quiet.clear();
        }
    }
    Ok(Status::DONE)
}

fn round(
    options: &Options,
    quiet: &mut HashMap<String, Timestamp>,
    records: &mut Records<'_>,
) -> Result<Option<Timestamp>> {
    // Anew each time: the configuration may have been changed.
    let (settings, spool) = open(options)?;
    let mut round = Round::new(options, &settings, &spool);
    round.scan(quiet)?;
    let status = round.work(records)?;
    let relays = spool.relays().list()?;
    let waiting = status.code() == Kind::Temporary.status();
    let probe = relays.iter().map(|down| down.next).min().filter(|_| waiting);
    Ok(round.wake.into_iter().chain(probe).min())
}

fn has_new(spool: &Spool, known: &mut HashSet<String>) -> Result<bool> {
    let now: HashSet<String> = spool.ids(Place::Mail)?.into_iter().collect();
    let has_new = now.iter().any(|id| !known.contains(id));
    *known = now;
    Ok(has_new)
}
