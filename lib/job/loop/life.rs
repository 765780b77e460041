//! What a running loop says of itself, written down so that `mail-loop status` can tell.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::plan::Plan;
use crate::durable::Dir;
use crate::error::{Error, Result, Status};
use crate::report;
use crate::store::heartbeat::{self, Heartbeat, Withheld};

/// Where trouble is; shown in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// The configuration that was to be taken.
    Reload,
    /// The account.
    Fetch,
    /// The directory that is watched.
    Watch,
    /// Files out of messages.
    Dissect,
    /// Commands.
    Act,
    /// A mail to itself.
    Probe,
    /// The alarm's command.
    Alarm,
}

/// The heartbeat of one loop, shared by the threads that work for it.
pub(super) struct Life {
    state: Dir,
    bell: Option<UnixStream>,
    now: Mutex<Now>,
}

struct Now {
    beat: Heartbeat,
    troubles: BTreeMap<Stage, String>,
    /// Anything was heard since this process runs it.
    stirred: bool,
}

impl Life {
    /// A loop that starts now; what an earlier run last saw is kept. `bell` is rung when its health may have changed.
    pub fn new(state: &Dir, plan: &Plan, mode: &str, bell: Option<UnixStream>) -> Life {
        let before = heartbeat::read(state, &plan.name).unwrap_or_default();
        let beat = Heartbeat {
            v: 1,
            name: plan.name.clone(),
            account: plan.source.words(),
            mode: mode.into(),
            every: plan.every.as_secs(),
            trouble: None,
            given_up: false,
            ..before
        };
        let now = Now { beat, troubles: BTreeMap::new(), stirred: false };
        let life = Life { state: state.clone(), bell, now: Mutex::new(now) };
        life.save(&life.now());
        life
    }

    /// The same loop goes on as the configuration says now; what was wrong may be right.
    pub fn renew(&self, plan: &Plan) {
        self.change(|now| {
            now.beat.account = plan.source.words();
            now.beat.every = plan.every.as_secs();
            now.beat.given_up = false;
            now.troubles.clear();
        });
    }

    /// What it says now, and whether anything was heard since this process runs it.
    pub fn beat(&self) -> (Heartbeat, bool) {
        let now = self.now();
        (now.beat.clone(), now.stirred)
    }

    /// The server said something to us, or the directory could be read.
    pub fn answered(&self) {
        self.change(|now| now.beat.answered = Some(time()));
    }

    /// A fetch went through all mailboxes, perhaps not without trouble. What the server does not give is a state of
    /// its own, not trouble each time.
    pub fn fetched(&self, status: Status, something_came: bool, withheld: Vec<Withheld>) {
        self.change(|now| {
            now.beat.answered = Some(time());
            now.beat.given_up = false;
            if something_came {
                now.beat.message = Some(time());
            }
            let explained = !withheld.is_empty() && status.code() == 76;
            now.beat.withheld = withheld;
            now.set(Stage::Fetch, if explained { None } else { trouble_of("fetch", status) });
        });
    }

    /// The login was refused: nothing more is tried.
    pub fn given_up(&self, error: &Error) {
        self.change(|now| {
            now.beat.given_up = true;
            now.set(Stage::Fetch, Some(error.to_string()));
        });
    }

    /// A file came.
    pub fn came(&self) {
        self.change(|now| now.beat.message = Some(time()));
    }

    /// A stage ran.
    pub fn worked(&self, stage: Stage, done: &Result<Status>) {
        let words = if stage == Stage::Dissect { "dissect" } else { "act" };
        self.change(|now| {
            if done.is_ok() {
                now.beat.passed = Some(time());
            }
            now.set(
                stage,
                match done {
                    Ok(status) => trouble_of(words, *status),
                    Err(error) => Some(error.to_string()),
                },
            );
        });
    }

    /// Trouble, or that there is none any more.
    pub fn trouble(&self, stage: Stage, trouble: Option<String>) {
        self.change(|now| now.set(stage, trouble));
    }

    /// What the alarm was told.
    pub fn alarmed(&self, health: &str) {
        self.change(|now| now.beat.alarmed = Some(health.into()));
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        let mut now = self.now();
        let (before, stirred) = (now.beat.clone(), now.stirred);
        change(&mut now);
        now.stirred = true;
        let troubles: Vec<&str> = now.troubles.values().map(String::as_str).collect();
        now.beat.trouble = (!troubles.is_empty()).then(|| troubles.join("; "));
        if now.beat != before {
            self.save(&now);
        }
        let health = |beat: &Heartbeat| (beat.trouble.clone(), beat.given_up, beat.withheld.len());
        if (health(&now.beat) != health(&before) || !stirred)
            && let Some(bell) = &self.bell
        {
            // A full pipe wakes as well.
            let _ = (&*bell).write(b"!");
        }
    }

    fn save(&self, now: &Now) {
        if let Err(error) = heartbeat::write(&self.state, &now.beat) {
            report::trouble(&error);
        }
    }
}

impl Now {
    fn set(&mut self, stage: Stage, trouble: Option<String>) {
        match trouble {
            Some(trouble) => self.troubles.insert(stage, trouble),
            None => self.troubles.remove(&stage),
        };
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
