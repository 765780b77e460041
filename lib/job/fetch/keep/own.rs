//! The connection that a mailbox has to itself, where the server grants it; where it does not, or while it is broken, the
//! account's first connection looks after the mailbox.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::pauses::{again, pause};
use super::{Stay, guarded};
use crate::error::{Kind, Result};
use crate::job::fetch::Fetcher;
use crate::job::fetch::pick::Target;
use crate::net::imap::is_crowded;
use crate::report;
use crate::stop;

/// A mailbox whose connection failed so often is looked after by the account's first connection meanwhile.
const TRIES: u32 = 3;
/// A server that granted no more connections, or did not open the mailbox, may do so later.
const TRY_AGAIN: Duration = Duration::from_secs(600);

/// Whether a mailbox is among those left to the first connection.
struct Without<'a> {
    count: &'a AtomicUsize,
    counted: bool,
}

impl Without<'_> {
    fn set(&mut self, counted: bool) {
        match (std::mem::replace(&mut self.counted, counted), counted) {
            (false, true) => _ = self.count.fetch_add(1, Ordering::SeqCst),
            (true, false) => _ = self.count.fetch_sub(1, Ordering::SeqCst),
            _ => {}
        }
    }
}

/// How a mailbox's own connection ended, if not in trouble.
pub(super) enum Own {
    /// Everything ends.
    Ended,
    /// It cannot be had for the time being.
    NoRoom,
}

/// When the server granted no more connections, and how many mailboxes had one then.
pub(super) struct Full {
    since: Instant,
    with: usize,
}

/// Counts a mailbox with a connection of its own.
struct With<'a>(&'a AtomicUsize);

impl<'a> With<'a> {
    fn new(count: &'a AtomicUsize) -> With<'a> {
        count.fetch_add(1, Ordering::SeqCst);
        With(count)
    }
}

impl Drop for With<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Stay<'_, '_, '_> {
    /// The connection of one mailbox; the first connection looks after it where it cannot be had.
    pub(super) fn other(&self, target: &Target) {
        let (mut failures, mut without) = (0, Without { count: &self.without, counted: false });
        while !self.is_over() {
            let begun = Instant::now();
            match guarded(|| self.own_connection(target, &mut without)) {
                Ok(Own::Ended) => return,
                Ok(Own::NoRoom) => {
                    without.set(true);
                    stop::doze(TRY_AGAIN);
                    failures = 0;
                }
                Err(_) if self.is_over() => return,
                Err(error) => {
                    failures = again(failures, begun);
                    let refused = matches!(error.kind(), Kind::Denied | Kind::Config | Kind::Refused);
                    if refused || failures > TRIES {
                        let name = self.options.of(&target.name);
                        report::detail(format_args!("{error}; {name} is asked for every now and then"));
                        without.set(true);
                    }
                    // What only broke may hold again, however long it takes.
                    if refused {
                        return;
                    }
                    failures = pause(failures, &error);
                }
            }
        }
    }

    /// A connection for one mailbox, for as long as it holds.
    fn own_connection(&self, target: &Target, without: &mut Without<'_>) -> Result<Own> {
        let Some((mut fetcher, _with)) = self.enter()? else { return Ok(Own::NoRoom) };
        without.set(false);
        fetcher.only = Some(target.clone());
        let ended = self.stay_on(fetcher, None)?;
        // Who is called makes room for the first connection: the server grants no more than there are without this one.
        if matches!(ended, Own::NoRoom) && stop::was_called() {
            let with = self.with.load(Ordering::SeqCst).saturating_sub(1);
            let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
            *full = Some(Full { since: Instant::now(), with });
        }
        Ok(ended)
    }

    /// Connects, one mailbox at a time; `None` where the server grants no more connections. After it has said so it is
    /// not asked for a while, but in the place of a connection that broke: a refused login for every mailbox would look
    /// like an attack.
    fn enter(&self) -> Result<Option<(Fetcher<'_>, With<'_>)>> {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        // Others may have waited for this lock while we were asked to end.
        if self.is_over() {
            return Ok(None);
        }
        let with = self.with.load(Ordering::SeqCst);
        if full.as_ref().is_some_and(|full| full.since.elapsed() < TRY_AGAIN && with >= full.with) {
            return Ok(None);
        }
        match Fetcher::connect(self.options) {
            Err(error) if is_crowded(&error) => {
                *full = Some(Full { since: Instant::now(), with });
                self.tell_full(&error);
                Ok(None)
            }
            Err(error) => Err(error),
            Ok(fetcher) => {
                if full.as_ref().is_some_and(|full| with >= full.with) {
                    *full = None;
                }
                Ok(Some((fetcher, With::new(&self.with))))
            }
        }
    }

    pub(super) fn tell_full(&self, why: &dyn std::fmt::Display) {
        if !self.told_full.swap(true, Ordering::SeqCst) {
            report::say(format_args!(
                "{why}; mailboxes without a connection of their own are asked for every {} s",
                self.pause_between().as_secs()
            ));
        }
    }
}
