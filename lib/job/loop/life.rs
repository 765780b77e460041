//! What a running loop says of itself, written down so that `mail-loop status` can tell.

use std::sync::Mutex;

use super::plan::Plan;
use crate::durable::Dir;
use crate::error::{Error, Result, Status};
use crate::report;
use crate::store::heartbeat::{self, Heartbeat};

/// The heartbeat of one loop, shared by the threads that work for it.
pub(super) struct Life<'a> {
    state: &'a Dir,
    now: Mutex<Now>,
}

struct Now {
    beat: Heartbeat,
    fetch_trouble: Option<String>,
    work_trouble: Option<String>,
}

impl<'a> Life<'a> {
    /// A loop that starts now; what an earlier run last saw is kept.
    pub fn new(state: &'a Dir, plan: &Plan) -> Life<'a> {
        let before = heartbeat::read(state, &plan.name).unwrap_or_default();
        let beat = Heartbeat {
            v: 1,
            name: plan.name.clone(),
            account: plan.fetch.account.clone(),
            mode: "run".into(),
            every: plan.every.as_secs(),
            trouble: None,
            ..before
        };
        let life = Life { state, now: Mutex::new(Now { beat, fetch_trouble: None, work_trouble: None }) };
        life.change(|_| {});
        life
    }

    /// As [`Life::new`], for a loop that runs once.
    pub fn once(state: &'a Dir, plan: &Plan) -> Life<'a> {
        let life = Life::new(state, plan);
        life.change(|now| now.beat.mode = "once".into());
        life
    }

    /// The server said something to us.
    pub fn answered(&self) {
        self.change(|now| now.beat.answered = Some(time()));
    }

    /// A fetch went through all mailboxes, perhaps not without trouble.
    pub fn fetched(&self, status: Status, something_came: bool) {
        self.change(|now| {
            now.beat.answered = Some(time());
            if something_came {
                now.beat.message = Some(time());
            }
            now.fetch_trouble = trouble_of("fetch", status);
        });
    }

    /// The connection is lost, or was not to be had.
    pub fn failed(&self, error: &Error) {
        self.change(|now| now.fetch_trouble = Some(error.to_string()));
    }

    /// Dissect and act ran.
    pub fn worked(&self, done: &Result<Status>) {
        self.change(|now| match done {
            Ok(status) => {
                now.beat.passed = Some(time());
                now.work_trouble = trouble_of("dissect or act", *status);
            }
            Err(error) => now.work_trouble = Some(error.to_string()),
        });
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        let Ok(mut now) = self.now.lock() else { return };
        let before = now.beat.clone();
        change(&mut now);
        now.beat.trouble = now.fetch_trouble.clone().or_else(|| now.work_trouble.clone());
        if (now.beat != before || before.answered.is_none())
            && let Err(error) = heartbeat::write(self.state, &now.beat)
        {
            report::trouble(&error);
        }
    }
}

fn trouble_of(stage: &str, status: Status) -> Option<String> {
    (status != Status::DONE)
        .then(|| format!("{stage} ended with status {}; its lines say why", status.code()))
}

fn time() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}
