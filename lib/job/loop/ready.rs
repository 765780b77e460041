//! What a loop's threads begin with, opened before any is started: where it cannot be had, nothing was ended for it.

use std::path::PathBuf;

use super::plan::{Plan, Source};
use super::work;
use crate::durable::Dir;
use crate::error::Result;
use crate::watch::Watch;

/// A loop that can be started.
pub(super) struct Ready {
    pub plan: Plan,
    /// On the mailboxes of its account; none for a directory, which is watched by its own thread.
    pub watch: Option<Watch>,
}

impl Ready {
    /// All of them or none: directories that are missing are made.
    pub fn all(plans: Vec<Plan>) -> Result<Vec<Ready>> {
        plans.into_iter().map(Ready::of).collect()
    }

    fn of(plan: Plan) -> Result<Ready> {
        let watch = match &plan.source {
            Source::Account(fetch) => {
                Some(Watch::new(work::doors(&fetch.maildir)?.iter().map(PathBuf::as_path))?)
            }
            Source::Directory(dir, _) => {
                Dir::create(dir, 0o700)?;
                None
            }
        };
        Ok(Ready { plan, watch })
    }
}
