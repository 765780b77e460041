//! `mail-fetch --idle`: stays, and fetches what comes when it comes.
//!
//! Each account has a first connection that looks at all its mailboxes every now and then and waits on the first one
//! between; every other mailbox has a connection of its own to wait on, where the server grants it; where it does not,
//! the first connection asks for it more often. A line that breaks or falls silent is made anew after a growing pause,
//! and until it holds the first connection looks after its mailbox; a refused login ends that account.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::group::{Out, nobody_reads};
use super::pick::Target;
use super::{Fetcher, Options, descriptors};
use crate::durable::Dir;
use crate::error::{Error, Kind, Result, Status};
use crate::net::imap::{News, is_crowded};
use crate::report::{self, Records};
use crate::retry;
use crate::stop;
use crate::store::heartbeat::{self, Heartbeat};

/// How to stay.
pub struct Keep {
    /// The server is asked at least this often, whatever IDLE says; a line that died is found within this and one
    /// time limit.
    pub every: Duration,
    /// So often those mailboxes are asked for that the server grants no connection of their own.
    pub poll: Duration,
    /// Where the heartbeats `heartbeat-fetch-ACCOUNT` are written: when the server last answered.
    pub state: Dir,
}

/// A mailbox whose connection failed so often is looked after by the account's first connection meanwhile.
const TRIES: u32 = 3;
/// A server that granted no more connections may grant one later.
const TRY_AGAIN: Duration = Duration::from_secs(600);

/// Fetches until we are asked to end, or until no account is left that could log in.
pub fn keep(options: &[Options], keep: &Keep, records: &mut Records) -> Status {
    let out = Mutex::new(records);
    let status = Mutex::new(Status::DONE);
    descriptors::expect(options.len());
    std::thread::scope(|scope| {
        for options in options {
            let (status, out) = (&status, &out);
            scope.spawn(move || {
                let stay = Stay::new(options, keep, out);
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
    /// When the server last said that it grants no more connections; held while one is made.
    full: Mutex<Option<Instant>>,
    told_full: AtomicBool,
    /// How many mailboxes are left to the first connection.
    without: AtomicUsize,
    /// The first connection was refused for there being too many.
    make_room: AtomicBool,
}

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
enum Own {
    /// Everything ends.
    Ended,
    /// It cannot be had for the time being.
    NoRoom,
}

impl<'a, 'b, 'r> Stay<'a, 'b, 'r> {
    fn new(options: &'a Options, keep: &'a Keep, out: &'a Out<'b, 'r>) -> Stay<'a, 'b, 'r> {
        Stay {
            options,
            keep,
            out,
            waited_on: Mutex::default(),
            beat: Mutex::default(),
            full: Mutex::default(),
            told_full: AtomicBool::default(),
            without: AtomicUsize::default(),
            make_room: AtomicBool::default(),
        }
    }

    /// The first connection, again and again.
    fn first<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> Result<()> {
        let mut failures = 0;
        while !self.is_over() {
            let begun = Instant::now();
            let Err(error) = guarded(|| self.first_connection(scope)) else { return Ok(()) };
            if self.is_over() {
                return Ok(());
            }
            self.beat(|beat| beat.trouble = Some(error.to_string()));
            if matches!(error.kind(), Kind::Denied | Kind::Config | Kind::Usage) {
                // Asking again with the same wrong password gets accounts locked.
                return Err(error.context(format!("account {}: given up", self.options.account)));
            }
            failures = again(failures, begun);
            pause(failures, &error);
        }
        Ok(())
    }

    /// The connection of one mailbox; the first connection looks after it where it cannot be had.
    fn other(&self, target: &Target) {
        let (mut failures, mut without) = (0, Without { count: &self.without, counted: false });
        while !self.is_over() {
            let begun = Instant::now();
            match guarded(|| self.own_connection(target, &mut without)) {
                Ok(Own::Ended) => return,
                Ok(Own::NoRoom) => {
                    without.set(true);
                    stop::sleep(TRY_AGAIN);
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
                    pause(failures, &error);
                }
            }
        }
    }

    /// A connection for one mailbox, for as long as it holds.
    fn own_connection(&self, target: &Target, without: &mut Without<'_>) -> Result<Own> {
        let Some(mut fetcher) = self.enter()? else { return Ok(Own::NoRoom) };
        without.set(false);
        fetcher.only = Some(target.clone());
        self.stay_on(fetcher, None)
    }

    /// Connects, one mailbox at a time; `None` where the server grants no more connections. After it has said so it is
    /// not asked for a while: a refused login for every mailbox would look like an attack.
    fn enter(&self) -> Result<Option<Fetcher<'_>>> {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        if full.is_some_and(|since| since.elapsed() < TRY_AGAIN) {
            return Ok(None);
        }
        match Fetcher::connect(self.options) {
            Err(error) if is_crowded(&error) => {
                *full = Some(Instant::now());
                self.tell_full(&error);
                Ok(None)
            }
            done => {
                *full = None;
                done.map(Some)
            }
        }
    }

    fn tell_full(&self, error: &Error) {
        if !self.told_full.swap(true, Ordering::SeqCst) {
            report::say(format_args!(
                "{error}; mailboxes without a connection of their own are asked for every {} s",
                self.pause_between().as_secs()
            ));
        }
    }

    fn pause_between(&self) -> Duration {
        self.keep.poll.min(self.keep.every)
    }

    /// The account's first connection, for as long as it holds.
    fn first_connection<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> Result<()> {
        match Fetcher::connect(self.options) {
            Ok(fetcher) => {
                self.make_room.store(false, Ordering::SeqCst);
                self.stay_on(fetcher, Some(scope)).map(|_| ())
            }
            Err(error) => {
                if is_crowded(&error) {
                    // It looks after all the others: one of them makes room, when it next wakes.
                    self.make_room.store(true, Ordering::SeqCst);
                }
                Err(error)
            }
        }
    }

    /// Fetches and waits over a connection, for as long as it holds.
    fn stay_on<'scope>(
        &'scope self,
        mut fetcher: Fetcher<'_>,
        scope: Option<&'scope Scope<'scope, '_>>,
    ) -> Result<Own> {
        let mut polls = scope.is_some();
        fetcher.poll = self.pause_between();
        while !self.is_over() {
            fetcher.pass_to(self.out)?;
            self.answered();
            if let Some(scope) = scope {
                self.look_after_others(&mut fetcher, scope)?;
                // In the first round nobody knows yet which mailboxes get a connection.
                let alone = self.waited_on.lock().is_ok_and(|waited_on| waited_on.is_empty());
                polls = !alone && (polls || self.without.load(Ordering::SeqCst) > 0);
            }
            match scope.is_some() && !polls {
                true => self.wait_for_all(&mut fetcher)?,
                false => _ = fetcher.wait(if polls { self.pause_between() } else { self.keep.every })?,
            }
            polls = false;
            self.answered();
            if scope.is_none() && self.make_room.swap(false, Ordering::SeqCst) {
                fetcher.finish();
                return Ok(Own::NoRoom);
            }
        }
        fetcher.finish();
        Ok(Own::Ended)
    }

    /// Waits on the first mailbox, and wakes when another one has lost its connection meanwhile.
    fn wait_for_all(&self, fetcher: &mut Fetcher<'_>) -> Result<()> {
        let begun = Instant::now();
        loop {
            let left = self.keep.every.saturating_sub(begun.elapsed());
            let news = fetcher.wait(left.min(self.pause_between()))?;
            self.answered();
            let lost = self.without.load(Ordering::SeqCst) > 0;
            if news == News::Some || lost || self.is_over() || begun.elapsed() >= self.keep.every {
                return Ok(());
            }
        }
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
        let (targets, _) = fetcher.targets()?;
        for target in targets.into_iter().skip(1) {
            let new = self.waited_on.lock().is_ok_and(|mut waited_on| waited_on.insert(target.name.clone()));
            if new {
                scope.spawn(move || self.other(&Target { status: None, ..target }));
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
