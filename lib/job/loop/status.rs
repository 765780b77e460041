//! `mail-loop status`: does each loop live, and is anything waiting for a person?
//!
//! Ends with 0 (ok), 1 (degraded) or 2 (down), as monitoring plugins do. A loop is *down* when its server has not
//! answered for three times its period, or was never asked, or its process is gone; *degraded* when it reports
//! trouble or something is unknown, held or dead.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::error::Result;
use crate::job::settings::Settings;
use crate::report::{Records, printable};
use crate::store::heartbeat::{self, Heartbeat};
use crate::store::ledger::{Ledger, Standing};

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Nothing to do for anybody.
    Ok,
    /// It works, but somebody should look.
    Degraded,
    /// It does not work.
    Down,
}

impl Health {
    /// The exit status of `mail-loop status`.
    pub fn code(self) -> u8 {
        self as u8
    }

    fn word(self) -> &'static str {
        match self {
            Health::Ok => "ok",
            Health::Degraded => "degraded",
            Health::Down => "DOWN",
        }
    }
}

/// How one loop stands.
#[derive(Clone, Debug, Serialize)]
pub struct LoopStatus {
    v: u8,
    kind: &'static str,
    #[serde(rename = "loop")]
    name: String,
    account: String,
    health: Health,
    /// Why it is not ok, in one sentence.
    why: Option<String>,
    /// Whether a process runs it now.
    running: bool,
    answered: Option<String>,
    message: Option<String>,
    passed: Option<String>,
}

/// What waits for a person, over all loops.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Waiting {
    /// Actions of which nobody knows whether they happened.
    pub unknown: usize,
    /// Actions that failed.
    pub failed: usize,
    /// Actions that were given up after too many tries.
    pub dead: usize,
    /// Actions that are held until somebody asks for them.
    pub held: usize,
}

impl Waiting {
    fn any(&self) -> bool {
        self.unknown + self.failed + self.dead + self.held > 0
    }
}

/// Shows every loop of the configuration; the worst health counts.
pub fn show(settings: &Settings, now: Timestamp, records: &mut Records<'_>) -> Result<Health> {
    let state = settings.state.is_dir().then(|| settings.state()).transpose()?;
    let waiting = waiting(settings)?;
    let mut worst = Health::Ok;
    for (name, each) in &settings.config.loops {
        let beat = state.as_ref().and_then(|state| heartbeat::read(state, name));
        let running = state.as_ref().is_some_and(|state| heartbeat::is_held(state, name));
        let status = judge(name, &each.account, beat, running, now);
        worst = worst.max(status.health);
        if records.is_json() {
            records.json(&status)?;
        } else {
            records.text(line(&status, now))?;
        }
    }
    if waiting.any() {
        worst = worst.max(Health::Degraded);
    }
    if records.is_json() {
        let Waiting { unknown, failed, dead, held } = waiting;
        records.json(&serde_json::json!({
            "v": 1, "kind": "waiting", "unknown": unknown, "failed": failed, "dead": dead, "held": held,
        }))?;
    } else if waiting.any() {
        let Waiting { unknown, failed, dead, held } = waiting;
        records.text(format!(
            "actions: {unknown} unknown, {failed} failed, {dead} dead, {held} held; see `mail-loop history`"
        ))?;
    }
    records.flush()?;
    Ok(worst)
}

fn judge(name: &str, account: &str, beat: Option<Heartbeat>, running: bool, now: Timestamp) -> LoopStatus {
    let beat = beat.unwrap_or_default();
    let (health, why) = health(&beat, running, now);
    LoopStatus {
        v: 1,
        kind: "loop",
        name: name.into(),
        account: account.into(),
        health,
        why,
        running,
        answered: beat.answered,
        message: beat.message,
        passed: beat.passed,
    }
}

fn health(beat: &Heartbeat, running: bool, now: Timestamp) -> (Health, Option<String>) {
    let down = |why: String| (Health::Down, Some(why));
    let because = || beat.trouble.as_ref().map_or(String::new(), |trouble| format!(": {trouble}"));
    let Some(answered) = beat.answered.as_deref().and_then(|at| at.parse::<Timestamp>().ok()) else {
        return down(format!("the server has never answered{}", because()));
    };
    if beat.mode == "run" && !running {
        return down(format!("its process is gone{}", because()));
    }
    let silent = age(answered, now);
    // A minute of grace: a timer that fires every minute may be late.
    if silent > Duration::from_secs(3 * beat.every + 60) {
        return down(format!("the server has not answered for {}{}", words(silent), because()));
    }
    match &beat.trouble {
        Some(trouble) => (Health::Degraded, Some(trouble.clone())),
        None => (Health::Ok, None),
    }
}

fn waiting(settings: &Settings) -> Result<Waiting> {
    let Some(mut ledger) = Ledger::open_existing(&settings.state, crate::cli::TIMEOUT)? else {
        return Ok(Waiting::default());
    };
    let Standing { unknown, failed, dead, held } = ledger.standing()?;
    Ok(Waiting { unknown, failed, dead, held })
}

fn line(status: &LoopStatus, now: Timestamp) -> String {
    let ago = |at: &Option<String>| match at.as_deref().and_then(|at| at.parse::<Timestamp>().ok()) {
        Some(at) => format!("{} ago", words(age(at, now))),
        None => "never".into(),
    };
    let why = status.why.as_ref().map_or(String::new(), |why| format!("; {why}"));
    format!(
        "{:8} {} ({}): server answered {}, last message {}, worked {}{}",
        status.health.word(),
        printable(&status.name),
        printable(&status.account),
        ago(&status.answered),
        ago(&status.message),
        ago(&status.passed),
        printable(&why)
    )
}

fn age(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(at)).unwrap_or_default()
}

fn words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(answered: &str, trouble: Option<&str>) -> Heartbeat {
        Heartbeat {
            v: 1,
            mode: "run".into(),
            every: 300,
            answered: Some(answered.into()),
            trouble: trouble.map(String::from),
            ..Heartbeat::default()
        }
    }

    #[test]
    fn what_counts_as_down() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let health = |beat: &Heartbeat, running| super::health(beat, running, now).0;
        assert_eq!(health(&beat("2026-11-21T11:50:00Z", None), true), Health::Ok);
        assert_eq!(health(&beat("2026-11-21T11:50:00Z", Some("x")), true), Health::Degraded);
        assert_eq!(health(&beat("2026-11-21T11:40:00Z", None), true), Health::Down);
        assert_eq!(health(&beat("2026-11-21T11:59:59Z", None), false), Health::Down);
        assert_eq!(health(&Heartbeat::default(), true), Health::Down);
        // A clock that was set back makes the answer lie in the future.
        assert_eq!(health(&beat("2026-11-21T13:00:00Z", None), true), Health::Ok);
    }
}
