//! The stages of one loop run through once, each taking up what earlier runs left.
//!
//! Nothing is handed from stage to stage in memory: dissect takes the messages that its journal does not hold, act
//! the files that the ledger has not settled. So it does not matter at which point an earlier run died.

use std::io;
use std::sync::Arc;

use super::drops::Drops;
use super::life::{Life, Stage};
use super::plan::Plan;
use super::withheld;
use crate::error::{Result, Status};
use crate::job::{act, dissect, fetch};
use crate::report::{self, Form, Records};
use crate::stop;

/// Fetch, dissect, act. Trouble in one stage does not keep the next from finishing what is there.
pub fn once(plan: &Plan, life: &Arc<Life>, records: &mut Records<'_>) -> Result<Status> {
    let Some(options) = plan.fetch() else {
        return match Drops::new(plan, life.clone())? {
            Some(mut drops) => drops.once(records),
            None => Ok(Status::DONE),
        };
    };
    let mut status = Status::DONE;
    let mut told = Vec::new();
    let fetched = fetch::run(options, &mut Records::new(&mut told, Form::Nul));
    match fetched {
        Ok(done) => {
            let withheld = if done.code() == 76 { withheld::of(options) } else { Vec::new() };
            life.fetched(done, !told.is_empty(), withheld);
            status.merge(done);
        }
        Err(error) => {
            life.trouble(Stage::Fetch, Some(error.to_string()));
            report::trouble(format_args!("loop {}: {error}", plan.name));
            status.add(error.kind());
        }
    }
    if !stop::requested() {
        let worked = work(plan, options, records);
        life.worked(Stage::Act, &worked);
        status.merge(worked?);
    }
    Ok(status)
}

/// Dissect and act on what lies in the Maildir and in the files' directory.
fn work(plan: &Plan, fetch: &fetch::Options, records: &mut Records<'_>) -> Result<Status> {
    let mut status = Status::DONE;
    let Some(options) = &plan.dissect else { return Ok(status) };
    if fetch.maildir.is_dir() {
        let items = dissect::from_arguments(vec![fetch.maildir.clone()]);
        status.merge(dissect::run(options, items, &mut told_to_nobody())?);
    }
    if options.out.is_dir() && !stop::requested() {
        status.merge(act::pending(&plan.act, std::slice::from_ref(&options.out), records)?);
    }
    Ok(status)
}

/// Records that the next stage finds by itself.
fn told_to_nobody() -> Records<'static> {
    Records::new(io::sink(), Form::Nul)
}
