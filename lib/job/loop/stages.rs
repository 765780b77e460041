//! The stages of one loop, each taking up what earlier runs left.
//!
//! Nothing is handed from stage to stage in memory: dissect takes the messages that its journal does not hold, act
//! the files that the ledger has not settled. So it does not matter at which point an earlier run died.

use std::io;

use super::life::Life;
use super::plan::Plan;
use crate::error::{Result, Status};
use crate::job::{act, dissect, fetch};
use crate::report::{self, Form, Records};
use crate::stop;

/// Fetch, dissect, act. Trouble in one stage does not keep the next from finishing what is there.
pub fn once(plan: &Plan, life: &Life<'_>, records: &mut Records<'_>) -> Result<Status> {
    let mut status = Status::DONE;
    let mut told = Vec::new();
    let fetched = fetch::run(&plan.fetch, &mut Records::new(&mut told, Form::Nul));
    match fetched {
        Ok(done) => {
            life.fetched(done, !told.is_empty());
            status.merge(done);
        }
        Err(error) => {
            life.failed(&error);
            report::trouble(format_args!("loop {}: {error}", plan.name));
            status.add(error.kind());
        }
    }
    if !stop::requested() {
        let worked = work(plan, records);
        life.worked(&worked);
        status.merge(worked?);
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
