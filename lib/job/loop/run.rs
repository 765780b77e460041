//! `mail-loop run`: all loops in one process, for as long as nobody ends it.
//!
//! A thread for each account keeps a connection: fetch, wait for news (IDLE or the timer), fetch again; a lost
//! connection is made anew after a growing pause, a refused login ends that account. A thread for each loop waits for
//! messages to appear in the Maildir, whoever delivers them, and runs dissect and act; a slow command there does not
//! stop the fetching.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::life::Life;
use super::plan::Plan;
use super::stages;
use crate::durable::{Dir, Lock};
use crate::error::{Error, Kind, Result, Status};
use crate::job::fetch::{self, Fetcher};
use crate::report::{self, Form, Records};
use crate::retry;
use crate::stop;
use crate::store::heartbeat;
use crate::store::maildir::Maildir;
use crate::watch::{Bell, Watch};

/// Servers may hang up on those who idle for half an hour (RFC 2177); some lines forget them earlier.
const LONGEST_IDLE: Duration = Duration::from_secs(9 * 60);
/// Changes made by another machine raise no event; a scan of a large directory takes some 20 ms.
const SCAN_ANYWAY: Duration = Duration::from_secs(30);

/// Runs the loops until we are asked to end, or until no account is left that could log in.
///
/// Commands (or `action` records with [`Form::Json`]) go to stdout. The status is that of the accounts that gave up.
pub fn run(plans: &[Plan], state: &Dir, form: Form) -> Result<Status> {
    let _held: Vec<Lock> =
        plans.iter().map(|plan| heartbeat::hold(state, &plan.name, Duration::ZERO)).collect::<Result<_>>()?;
    let mut loops = Vec::new();
    for plan in plans {
        loops.push(Running::start(plan, state)?);
    }
    let status = Mutex::new(Status::DONE);
    std::thread::scope(|scope| {
        for running in &loops {
            scope.spawn(|| running.work(form));
        }
        let accounts: Vec<_> = by_account(&loops)
            .into_values()
            .map(|group| {
                let status = &status;
                scope.spawn(move || {
                    if let Err(error) = keep_fetching(&group) {
                        report::trouble(&error);
                        if let Ok(mut status) = status.lock() {
                            status.add(error.kind());
                        }
                    }
                })
            })
            .collect();
        for account in accounts {
            let _ = account.join();
        }
        // Nobody fetches any more: the workers have nothing to wait for.
        stop::request();
    });
    Ok(status.into_inner().unwrap_or_default())
}

/// A loop at work.
struct Running<'a> {
    plan: &'a Plan,
    life: Life<'a>,
    watch: Watch,
    bell: Bell,
}

impl<'a> Running<'a> {
    fn start(plan: &'a Plan, state: &'a Dir) -> Result<Running<'a>> {
        let watch = Watch::new(doors(plan)?.iter().map(PathBuf::as_path))?;
        let bell = watch.bell()?;
        Ok(Running { plan, life: Life::new(state, plan), watch, bell })
    }

    /// Dissect and act at the start, whenever something appears, and now and then anyway.
    fn work(&self, form: Form) {
        let mut records = Records::stdout(form);
        while !stop::requested() {
            let done = guarded(|| stages::work(self.plan, &mut records));
            match &done {
                Ok(_) => {}
                Err(error) => report::trouble(format_args!("loop {}: {error}", self.plan.name)),
            }
            self.life.worked(&done);
            if records.gone() {
                stop::request();
                return;
            }
            self.watch.wait(SCAN_ANYWAY);
        }
    }
}

/// The directories in which the loop's messages appear; made where they are missing.
fn doors(plan: &Plan) -> Result<Vec<PathBuf>> {
    let maildir = Maildir::create(&plan.fetch.maildir)?;
    let mut doors = maildir.doors().to_vec();
    for name in maildir.dir.names()? {
        if name.to_string_lossy().starts_with('.')
            && let Ok(folder) = Maildir::open(maildir.dir.at(&name))
        {
            doors.extend(folder.doors());
        }
    }
    Ok(doors)
}

/// Loops of the same account share its connection.
fn by_account<'a, 'b>(loops: &'a [Running<'b>]) -> BTreeMap<&'a str, Vec<&'a Running<'b>>> {
    let mut groups: BTreeMap<&str, Vec<&Running<'_>>> = BTreeMap::new();
    for running in loops {
        groups.entry(&running.plan.fetch.account).or_default().push(running);
    }
    groups
}

/// Fetches for these loops until asked to end; an error means that trying on would be wrong.
fn keep_fetching(loops: &[&Running<'_>]) -> Result<()> {
    let Some(first) = loops.first() else { return Ok(()) };
    let every = loops.iter().map(|running| running.plan.every).min().unwrap_or(LONGEST_IDLE);
    let mut failures = 0;
    while !stop::requested() {
        let begun = Instant::now();
        let Err(error) = guarded(|| connected(&first.plan.fetch, loops, every)) else { break };
        if stop::requested() {
            break;
        }
        loops.iter().for_each(|running| running.life.failed(&error));
        if matches!(error.kind(), Kind::Denied | Kind::Config) {
            // Asking again with the same wrong password gets accounts locked.
            return Err(error.context(format!("account {}: given up", first.plan.fetch.account)));
        }
        // A connection that lasted was no failure of the one before it.
        failures = if begun.elapsed() > Duration::from_secs(60) { 1 } else { failures + 1 };
        let pause =
            retry::jittered(retry::reconnect_pause(failures), u64::from(begun.elapsed().subsec_nanos()));
        report::trouble(format_args!("{error}; trying again in {} s", pause.as_secs()));
        stop::sleep(pause);
    }
    Ok(())
}

/// One connection, for as long as it holds.
fn connected(options: &fetch::Options, loops: &[&Running<'_>], every: Duration) -> Result<()> {
    let mut fetcher = Fetcher::connect(options)?;
    loops.iter().for_each(|running| running.life.answered());
    while !stop::requested() {
        let mut told = Vec::new();
        let status = fetcher.pass(&mut Records::new(&mut told, Form::Nul))?;
        for running in loops {
            running.life.fetched(status, !told.is_empty());
            if !told.is_empty() {
                running.bell.ring();
            }
        }
        fetcher.wait(every.min(LONGEST_IDLE))?;
        loops.iter().for_each(|running| running.life.answered());
    }
    fetcher.finish();
    Ok(())
}

/// A panic in one thread must not end the others.
fn guarded<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| {
        Err(Error::plain(Kind::Internal, "a fault of ours; please report what stands above"))
    })
}
