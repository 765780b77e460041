//! What this process is at work on: its connections do not wait for each other's locks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::stop;

static AT_WORK: Mutex<BTreeSet<(PathBuf, String)>> = Mutex::new(BTreeSet::new());
static CHANGE: Condvar = Condvar::new();

/// So often somebody who waits looks whether all is to end.
const GLANCE: Duration = Duration::from_millis(200);

/// One mailbox in one Maildir, for as long as it is held.
pub(super) struct Claim((PathBuf, String));

impl Claim {
    /// None if another connection is at work there.
    pub fn take(maildir: &Path, source: &str) -> Option<Claim> {
        let what = (maildir.to_path_buf(), source.to_string());
        let is_new = AT_WORK.lock().unwrap_or_else(PoisonError::into_inner).insert(what.clone());
        is_new.then(|| Claim(what))
    }

    /// Waits until no other connection is at work there; none if asked to end.
    pub fn await_turn(maildir: &Path, source: &str) -> Option<Claim> {
        while !stop::requested() {
            if let Some(claim) = Claim::take(maildir, source) {
                return Some(claim);
            }
            let at_work = AT_WORK.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = CHANGE.wait_timeout(at_work, GLANCE);
        }
        None
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        AT_WORK.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
        CHANGE.notify_all();
    }
}
