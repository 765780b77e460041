//! `mail-fetch --idle`: stays, and fetches what comes when it comes.
//!
//! Each account has a first connection that looks at all its mailboxes every now and then and waits on the first one
//! between; every other mailbox has a connection of its own to wait on, where the server grants it. A line that breaks
//! or falls silent is made anew after a growing pause; a refused login ends that account.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::group::{Out, nobody_reads};
use super::{Fetcher, Options};
use crate::durable::Dir;
use crate::error::{Error, Kind, Result, Status};
use crate::report::{self, Records};
use crate::retry;
use crate::stop;
use crate::store::heartbeat::{self, Heartbeat};

/// How to stay.
pub struct Keep {
    /// The server is asked at least this often, whatever IDLE says; a line that died is found within this and one
    /// time limit.
    pub every: Duration,
    /// Where the heartbeats `heartbeat-fetch-ACCOUNT` are written: when the server last answered.
    pub state: Dir,
}

/// A mailbox that is refused a connection so often is left to the account's first connection.
const TRIES: u32 = 3;

/// Fetches until we are asked to end, or until no account is left that could log in.
pub fn keep(options: &[Options], keep: &Keep, records: &mut Records) -> Status {
    let out = Mutex::new(records);
    let status = Mutex::new(Status::DONE);
    std::thread::scope(|scope| {
        for options in options {
            let (status, out) = (&status, &out);
            scope.spawn(move || {
                let stay = Stay { options, keep, out, waited_on: Mutex::default(), beat: Mutex::default() };
                if let Err(error) = std::thread::scope(|scope| stay.first(scope)) {
                    report::trouble(&error);
                    if let Ok(mut status) = status.lock() {
                        status.add(error.kind());
                    }
                }
            });
        }
    });
    status.into_inner().unwrap_or_default()
}

/// One account.
struct Stay<'a, 'b, 'r> {
    options: &'a Options,
    keep: &'a Keep,
    out: &'a Out<'b, 'r>,
    /// Mailboxes with a connection of their own, or that are not to have one.
    waited_on: Mutex<BTreeSet<String>>,
    beat: Mutex<Heartbeat>,
}

impl Stay<'_, '_, '_> {
    /// The first connection, again and again.
    fn first<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> Result<()> {
        let mut failures = 0;
        while !self.is_over() {
            let begun = Instant::now();
            let Err(error) = guarded(|| self.connection(self.options, Some(scope))) else { return Ok(()) };
            if self.is_over() {
                return Ok(());
            }
            self.beat(|beat| beat.trouble = Some(error.to_string()));
            if matches!(error.kind(), Kind::Denied | Kind::Config) {
                // Asking again with the same wrong password gets accounts locked.
                return Err(error.context(format!("account {}: given up", self.options.account)));
            }
            failures = again(failures, begun);
            pause(failures, &error);
        }
        Ok(())
    }

    /// The connection of one mailbox; the first connection looks after it where it cannot be had.
    fn other(&self, name: &str) {
        let options = Options { mailboxes: vec![name.to_string()], ..self.options.clone() };
        let mut failures = 0;
        while !self.is_over() {
            let begun = Instant::now();
            let Err(error) = guarded(|| self.connection(&options, None)) else { return };
            if self.is_over() {
                return;
            }
            failures = again(failures, begun);
            if matches!(error.kind(), Kind::Denied | Kind::Config | Kind::Refused) || failures > TRIES {
                report::detail(format_args!(
                    "{error}; {} is asked for every now and then",
                    self.options.of(name)
                ));
                return;
            }
            pause(failures, &error);
        }
    }

    /// One connection, for as long as it holds.
    fn connection<'scope>(
        &'scope self,
        options: &Options,
        scope: Option<&'scope Scope<'scope, '_>>,
    ) -> Result<()> {
        let mut fetcher = Fetcher::connect(options)?;
        while !self.is_over() {
            fetcher.pass_to(self.out)?;
            self.answered();
            if let Some(scope) = scope {
                self.look_after_others(&mut fetcher, scope)?;
            }
            fetcher.wait(self.keep.every)?;
            self.answered();
        }
        fetcher.finish();
        Ok(())
    }

    /// Every mailbox but the first gets a connection of its own, once.
    fn look_after_others<'scope>(
        &'scope self,
        fetcher: &mut Fetcher<'_>,
        scope: &'scope Scope<'scope, '_>,
    ) -> Result<()> {
        if fetcher.options.mailboxes.len() == 1 && !fetcher.options.mailboxes[0].contains(['*', '%']) {
            return Ok(());
        }
        let (targets, _) = super::pick::mailboxes(&mut fetcher.imap, &fetcher.options.mailboxes)?;
        for target in targets.into_iter().skip(1) {
            let new = self.waited_on.lock().is_ok_and(|mut waited_on| waited_on.insert(target.name.clone()));
            if new {
                scope.spawn(move || self.other(&target.name));
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        stop::requested() || nobody_reads(self.out)
    }

    fn answered(&self) {
        let now = jiff::Timestamp::now();
        let now = jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string();
        self.beat(|beat| (beat.answered, beat.trouble) = (Some(now), None));
    }

    fn beat(&self, change: impl FnOnce(&mut Heartbeat)) {
        let Ok(mut beat) = self.beat.lock() else { return };
        let before = beat.clone();
        change(&mut beat);
        (beat.v, beat.mode) = (1, "fetch".into());
        beat.name = format!("fetch-{}", self.options.account);
        beat.account.clone_from(&self.options.account);
        beat.every = self.keep.every.as_secs();
        if *beat != before
            && let Err(error) = heartbeat::write(&self.keep.state, &beat)
        {
            report::trouble(&error);
        }
    }
}

/// A connection that lasted was no failure of the one before it.
fn again(failures: u32, begun: Instant) -> u32 {
    if begun.elapsed() > Duration::from_secs(60) { 1 } else { failures + 1 }
}

fn pause(failures: u32, error: &Error) {
    let seed = u64::from(jiff::Timestamp::now().subsec_nanosecond().unsigned_abs());
    let pause = retry::jittered(retry::reconnect_pause(failures), seed);
    report::trouble(format_args!("{error}; trying again in {} s", pause.as_secs()));
    stop::sleep(shortened(pause));
}

#[cfg(not(debug_assertions))]
fn shortened(pause: Duration) -> Duration {
    pause
}

/// With debug assertions, tests that connect a thousand times set `MAILLOOP_PAUSE` to milliseconds.
#[cfg(debug_assertions)]
fn shortened(pause: Duration) -> Duration {
    let most = std::env::var("MAILLOOP_PAUSE").ok().and_then(|text| text.parse().ok());
    most.map_or(pause, |most| pause.min(Duration::from_millis(most)))
}

/// A panic on one line must not end the others.
fn guarded<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| {
        Err(Error::plain(Kind::Internal, "a fault of ours; please report what stands above"))
    })
}
