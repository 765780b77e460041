//! The first stage of a running loop: an account's connection, for as long as it can be had.
//!
//! Fetch, wait for news (IDLE or the timer), fetch again; a lost connection is made anew after a growing pause; a
//! refused login ends it. Every other mailbox that the configuration names has a connection of its own to wait on, where
//! the server grants it; what is named by a pattern is asked for by the timer.

use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::life::{Life, Stage};
use super::unit::guarded;
use super::withheld;
use crate::error::{Error, Kind, Result};
use crate::job::fetch::{self, Fetcher};
use crate::report::{self, Form, Records};
use crate::retry;
use crate::stop;
use crate::watch::Bell;

/// Servers may hang up on those who idle for half an hour (RFC 2177); some lines forget them earlier.
const LONGEST_IDLE: Duration = Duration::from_secs(9 * 60);
/// A mailbox that is refused a connection so often is left to the account's first one.
const TRIES: u32 = 3;

/// An account, and the loops that it fetches for.
pub(super) struct Account {
    pub options: fetch::Options,
    /// How often the server is asked at least.
    pub every: Duration,
    /// Each loop's heartbeat, and what wakes its next stage.
    pub loops: Vec<(Arc<Life>, Bell)>,
}

impl Account {
    /// Fetches until asked to end; an error means that trying on would be wrong.
    pub fn keep(&self) -> Result<()> {
        let mut failures = 0;
        while !stop::requested() {
            let begun = Instant::now();
            let Err(error) = guarded(|| self.connected(&self.options)) else { break };
            if stop::requested() {
                break;
            }
            if matches!(error.kind(), Kind::Denied | Kind::Config) {
                // Asking again with the same wrong password gets accounts locked.
                let error = error
                    .context(format!("account {}: given up", self.options.account))
                    .hint("once it is right again, SIGHUP makes mail-loop try it");
                self.loops.iter().for_each(|(life, _)| life.given_up(&error));
                report::trouble(&error);
                return Err(error);
            }
            self.loops.iter().for_each(|(life, _)| life.trouble(Stage::Fetch, Some(error.to_string())));
            failures = pause(failures, begun, &error);
        }
        Ok(())
    }

    /// The same for one mailbox of it; the first connection looks after it where none can be had.
    pub fn keep_one(&self, mailbox: &str) -> Result<()> {
        let options = fetch::Options { mailboxes: vec![mailbox.to_string()], ..self.options.clone() };
        let mut failures = 0;
        while !stop::requested() && failures <= TRIES {
            let begun = Instant::now();
            let Err(error) = guarded(|| self.connected(&options)) else { break };
            if stop::requested() || matches!(error.kind(), Kind::Denied | Kind::Config | Kind::Refused) {
                break;
            }
            failures = pause(failures, begun, &error);
        }
        Ok(())
    }

    /// One connection, for as long as it holds.
    fn connected(&self, options: &fetch::Options) -> Result<()> {
        let mut fetcher = Fetcher::connect(options)?;
        let is_first = options.mailboxes == self.options.mailboxes;
        self.loops.iter().for_each(|(life, _)| life.answered());
        while !stop::requested() {
            let mut told = Told { loops: &self.loops, path: Vec::new(), any: false };
            let status = fetcher.pass(&mut Records::new(&mut told, Form::Nul))?;
            let something_came = told.any;
            let withheld = if status.code() == 76 { withheld::of(options) } else { Vec::new() };
            for (life, _) in &self.loops {
                match is_first {
                    true => life.fetched(status, something_came, withheld.clone()),
                    false if something_came => life.came(),
                    false => {}
                }
            }
            stop::open_to_calls(|| fetcher.wait(self.every.min(LONGEST_IDLE)))?;
            self.loops.iter().for_each(|(life, _)| life.answered());
        }
        fetcher.finish();
        Ok(())
    }
}

/// Hands the paths that fetch tells to the next stage as they are told: a long fetch is taken apart while it goes on.
struct Told<'a> {
    loops: &'a [(Arc<Life>, Bell)],
    path: Vec<u8>,
    any: bool,
}

impl Write for Told<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.path.extend_from_slice(bytes);
        let Some(end) = memchr::memrchr(0, &self.path) else { return Ok(bytes.len()) };
        let rest = self.path.split_off(end + 1);
        let whole = std::mem::replace(&mut self.path, rest);
        let paths = whole.split(|byte| *byte == 0).filter(|path| !path.is_empty());
        let paths: Vec<PathBuf> =
            paths.map(|path| PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()))).collect();
        self.any |= !paths.is_empty();
        self.loops.iter().for_each(|(_, bell)| bell.tell(paths.iter().cloned()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Waits before the next connection; how many have failed in a row. A call ends it.
fn pause(failures: u32, begun: Instant, error: &Error) -> u32 {
    // A connection that lasted was no failure of the one before it.
    let failures = if begun.elapsed() > Duration::from_secs(60) { 1 } else { failures + 1 };
    let pause = retry::jittered(retry::reconnect_pause(failures), u64::from(begun.elapsed().subsec_nanos()));
    report::trouble(format_args!("{error}; trying again in {} s", pause.as_secs()));
    stop::open_to_calls(|| stop::doze(pause));
    failures
}
