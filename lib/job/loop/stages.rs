//! The stages of one loop, each taking up what earlier runs left.
//!
//! Nothing is handed from stage to stage in memory: dissect takes the messages that its journal does not hold, act
//! the files that the ledger has not settled. So it does not matter at which point an earlier run died.

use std::io;

use super::plan::Plan;
use crate::error::{Result, Status};
use crate::job::{act, dissect, fetch};
use crate::report::{self, Form, Records};
use crate::stop;

/// Fetch, dissect, act. Trouble in one stage does not keep the next from finishing what is there.
pub fn once(plan: &Plan, records: &mut Records<'_>) -> Result<Status> {
    let mut status = Status::DONE;
    match fetch::run(&plan.fetch, &mut told_to_nobody()) {
        Ok(done) => status.merge(done),
        Err(error) => {
            report::trouble(format_args!("loop {}: {error}", plan.name));
            status.add(error.kind());
        }
    }
    if !stop::requested() {
        status.merge(work(plan, records)?);
    }
    Ok(status)
}

/// Dissect and act on what lies in the Maildir and in the files' directory.
pub fn work(plan: &Plan, records: &mut Records<'_>) -> Result<Status> {
    let mut status = Status::DONE;
    if plan.fetch.maildir.is_dir() {
        let items = dissect::from_arguments(vec![plan.fetch.maildir.clone()]);
        status.merge(dissect::run(&plan.dissect, items, &mut told_to_nobody())?);
    }
    if plan.dissect.out.is_dir() && !stop::requested() {
        status.merge(act::pending(&plan.act, std::slice::from_ref(&plan.dissect.out), records)?);
    }
    Ok(status)
}

/// Records that the next stage finds by itself.
fn told_to_nobody() -> Records<'static> {
    Records::new(io::sink(), Form::Nul)
}
