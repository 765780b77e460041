//! `mail-fetch --idle`: stays, and fetches what comes when it comes.
//!
//! Each account has a first connection that looks at all its mailboxes every now and then and waits on the first one
//! between; every other mailbox has a connection of its own to wait on, where the server grants it; where it does not,
//! the first connection asks for it more often. A line that breaks or falls silent is made anew after a growing pause,
//! and until it holds the first connection looks after its mailbox; a refused login ends that account.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::group::{Out, nobody_reads};
use super::pick::Target;
use super::{Fetcher, Options, descriptors};
use crate::durable::Dir;
use crate::error::{Error, Kind, Result, Status};
use crate::net::imap::{News, is_crowded};
use crate::report::{self, Records};
use crate::stop::{self, Task};
use crate::store::heartbeat::{self, Heartbeat};

mod own;
mod pauses;

use own::{Full, Own};
pub(super) use pauses::shortened;
use pauses::{again, pause};

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
                if let Err(kind) = std::thread::scope(|scope| stay.first(scope))
                    && let Ok(mut status) = status.lock()
                {
                    status.add(kind);
                }
            });
        }
    });
    status.into_inner().unwrap_or_default()
}

/// So many mailboxes of an account have connections of their own at most: each costs memory, and how many there are the
/// server says.
const MOST_OWN: usize = 100;

/// One account.
struct Stay<'a, 'b, 'r> {
    options: &'a Options,
    keep: &'a Keep,
    out: &'a Out<'b, 'r>,
    /// Mailboxes with a connection of their own, or that are not to have one.
    waited_on: Mutex<BTreeSet<String>>,
    /// The threads of those connections.
    others: Mutex<Vec<Arc<Task>>>,
    beat: Mutex<Heartbeat>,
    /// When the server last said that it grants no more connections; held while one is made.
    full: Mutex<Option<Full>>,
    told_full: AtomicBool,
    /// How many mailboxes have a connection of their own, and how many are left to the first one.
    with: AtomicUsize,
    without: AtomicUsize,
    /// The first connection was refused for there being too many.
    make_room: AtomicBool,
}

impl<'a, 'b, 'r> Stay<'a, 'b, 'r> {
    fn new(options: &'a Options, keep: &'a Keep, out: &'a Out<'b, 'r>) -> Stay<'a, 'b, 'r> {
        Stay {
            options,
            keep,
            out,
            waited_on: Mutex::default(),
            others: Mutex::default(),
            beat: Mutex::default(),
            full: Mutex::default(),
            told_full: AtomicBool::default(),
            with: AtomicUsize::default(),
            without: AtomicUsize::default(),
            make_room: AtomicBool::default(),
        }
    }

    /// The first connection, again and again; what it was given up for has been told.
    fn first<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> Result<(), Kind> {
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
                let kind = error.kind();
                report::trouble(error.context(format!("account {}: given up", self.options.account)));
                self.others(|task| task.stop());
                return Err(kind);
            }
            failures = pause(again(failures, begun), &error);
        }
        Ok(())
    }

    /// Does something with the thread of each connection but the first.
    fn others(&self, act: impl Fn(&Task)) {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.iter().for_each(|task| act(task));
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
                    // It looks after all the others: one of them makes room.
                    self.make_room.store(true, Ordering::SeqCst);
                    self.others(|task| task.call());
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
            let status = fetcher.pass_to(self.out)?;
            self.answered();
            if scope.is_none() && !fetcher.looked && status.code() == Kind::Refused.status() {
                // It cannot be opened, or is there no more.
                fetcher.finish();
                return Ok(Own::NoRoom);
            }
            if let Some(scope) = scope {
                self.look_after_others(&fetcher, scope)?;
                // In the first round nobody knows yet which mailboxes get a connection.
                let alone = self.waited_on.lock().is_ok_and(|waited_on| waited_on.is_empty());
                polls = !alone && (polls || self.without.load(Ordering::SeqCst) > 0);
            }
            match scope.is_some() && !polls {
                true => self.wait_for_all(&mut fetcher)?,
                false => {
                    let limit = if polls { self.pause_between() } else { self.keep.every };
                    stop::open_to_calls(|| fetcher.wait(limit))?;
                }
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

    /// Every mailbox but the first gets a connection of its own, once, as far as there is room for them here.
    fn look_after_others<'scope>(
        &'scope self,
        fetcher: &Fetcher<'_>,
        scope: &'scope Scope<'scope, '_>,
    ) -> Result<()> {
        for target in fetcher.found.iter().skip(1).cloned() {
            let new = self.waited_on.lock().is_ok_and(|mut waited_on| waited_on.insert(target.name.clone()));
            if new {
                let failed = |why| Error::new(Kind::Internal, "cannot wait on another mailbox", why);
                let task = Task::new().map_err(failed)?;
                let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
                if others.len() >= MOST_OWN {
                    self.without.fetch_add(1, Ordering::SeqCst);
                    let account = &self.options.account;
                    self.tell_full(&format!("account {account}: there are more than {MOST_OWN} mailboxes"));
                    continue;
                }
                others.push(task.clone());
                drop(others);
                let target = Target { status: None, ..target };
                scope.spawn(move || stop::as_task(&task, || self.other(&target)));
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

/// A panic on one line must not end the others.
fn guarded<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| {
        Err(Error::plain(Kind::Internal, "a fault of ours; please report what stands above"))
    })
}
