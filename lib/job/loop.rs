//! mail-loop: fetch, dissect and act, again and again, in one process.
//!
//! `plan` puts a `[loop]` of the configuration together, `stages` runs it once, `run` keeps running, `life` and `status`
//! say how it goes, `history` what was done, `init` writes a first configuration, `demo` shows all of it.

mod demo;
pub mod history;
pub mod init;
mod life;
mod plan;
mod run;
mod stages;
mod status;

use crate::durable::Dir;
use crate::error::{Result, Status};
use crate::report::{Form, Records};
use crate::stop;
use crate::store::heartbeat;

pub use demo::{Options as DemoOptions, run as demo};
pub use plan::Plan;
pub use status::{Health, show as status};

/// Runs each loop once: fetch, dissect, act. Commands (or with JSON, `action` records) go to `records`.
pub fn once(plans: &[Plan], state: &Dir, records: &mut Records<'_>) -> Result<Status> {
    let mut status = Status::DONE;
    for plan in plans {
        if stop::requested() || records.gone() {
            break;
        }
        let _held = heartbeat::hold(state, &plan.name, plan.fetch.peer.timeout)?;
        status.merge(stages::once(plan, &life::Life::once(state, plan), records)?);
    }
    records.flush()?;
    Ok(status)
}

/// Runs the loops until this process is asked to end.
pub fn run(plans: &[Plan], state: &Dir, form: Form) -> Result<Status> {
    run::run(plans, state, form)
}
