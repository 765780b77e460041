//! mail-loop: fetch, dissect and act, again and again, in one process.
//!
//! `plan` puts a `[loop]` of the configuration together. `stages` runs it once; `run` keeps running: it starts threads
//! (`unit`) that fetch (`fetching`), take apart and act (`work`, with `queue` between), look after a directory (`drops`) and
//! send mails to themselves (`probe`). `life` and `withheld` say how it goes, `health` judges that for `status`, `alarm` and
//! `notify`; `history` says what was done, `init` writes a first configuration, `demo` shows all of it.

mod alarm;
mod clock;
mod demo;
mod drops;
mod fetching;
mod health;
pub mod history;
pub mod init;
mod life;
mod notify;
mod plan;
mod probe;
mod queue;
mod ready;
mod run;
mod stages;
mod status;
mod unit;
mod withheld;
mod work;

use std::sync::Arc;

use crate::durable::Dir;
use crate::error::{Result, Status};
use crate::report::Records;
use crate::stop;
use crate::store::heartbeat;

pub use demo::{Options as DemoOptions, run as demo};
pub use health::{Health, Waiting};
pub use plan::{Alarm, Plan, Probe, Source};
pub use run::run;
pub use status::{acknowledge, show as status};

/// Runs each loop once: fetch (or read the directory), dissect, act. Commands (or with JSON, `action` records) go to
/// `records`.
pub fn once(plans: &[Plan], state: &Dir, records: &mut Records<'_>) -> Result<Status> {
    let mut status = Status::DONE;
    for plan in plans {
        if stop::requested() || records.gone() {
            break;
        }
        let _held = heartbeat::hold(state, &plan.name, plan.act.wait)?;
        let life = Arc::new(life::Life::new(state, plan, "once", None));
        status.merge(stages::once(plan, &life, records)?);
    }
    records.flush()?;
    Ok(status)
}
