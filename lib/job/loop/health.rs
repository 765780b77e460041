//! How a loop stands: what `mail-loop status` shows, and what the alarm is told.
//!
//! A loop is *down* when its server has not answered for three times its period, or was never asked, or its process is
//! gone, or its login was refused; *degraded* when it reports trouble, when actions wait for another try or for a person,
//! or when the server withholds a message of which nobody has said that they know.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::error::Result;
use crate::store::heartbeat::Heartbeat;
use crate::store::ledger::{Ledger, State};

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

    /// As it is shown.
    pub(super) fn word(self) -> &'static str {
        match self {
            Health::Ok => "ok",
            Health::Degraded => "degraded",
            Health::Down => "down",
        }
    }

    /// By its word.
    pub(super) fn of(word: &str) -> Option<Health> {
        [Health::Ok, Health::Degraded, Health::Down].into_iter().find(|health| health.word() == word)
    }
}

/// What waits for another try, or for a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Actions of which nobody knows whether they happened.
    pub unknown: usize,
    /// Actions that failed.
    pub failed: usize,
    /// Actions that were given up after too many tries.
    pub dead: usize,
    /// Actions that are held until somebody asks for them.
    pub held: usize,
    /// Actions that failed for now and are tried again.
    pub later: usize,
}

impl Waiting {
    /// True if anything waits.
    pub fn any(&self) -> bool {
        *self != Waiting::default()
    }

    fn count(&mut self, state: State) {
        match state {
            State::Unknown => self.unknown += 1,
            State::Failed => self.failed += 1,
            State::Dead => self.dead += 1,
            State::Held => self.held += 1,
            State::Later => self.later += 1,
            _ => {}
        }
    }

    /// In a few words; nothing where nothing waits.
    pub(super) fn words(&self) -> String {
        let Waiting { unknown, failed, dead, held, later } = *self;
        let parts = [
            (unknown, "unknown"),
            (failed, "failed"),
            (dead, "dead"),
            (held, "held"),
            (later, "to be tried again"),
        ];
        let parts = parts.iter().filter(|(count, _)| *count > 0);
        parts.map(|(count, word)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
    }
}

/// What waits, by rule. Of several claims of the same thing the last one says how it stands.
pub(super) fn waiting(state: &Path) -> Result<BTreeMap<String, Waiting>> {
    let mut waiting = BTreeMap::<String, Waiting>::new();
    if let Some(mut ledger) = Ledger::open_existing(state, crate::cli::TIMEOUT)? {
        ledger.each_open(&mut |entry| waiting.entry(entry.key.rule).or_default().count(entry.state))?;
    }
    Ok(waiting)
}

/// What waits of these rules.
pub(super) fn of_rules<'a>(
    all: &BTreeMap<String, Waiting>,
    rules: impl Iterator<Item = &'a String>,
) -> Waiting {
    rules.filter_map(|rule| all.get(rule)).fold(Waiting::default(), |sum, one| Waiting {
        unknown: sum.unknown + one.unknown,
        failed: sum.failed + one.failed,
        dead: sum.dead + one.dead,
        held: sum.held + one.held,
        later: sum.later + one.later,
    })
}

/// How a loop stands, and why if it does not stand well. `withheld` counts those that nobody knows of.
pub(super) fn judge(
    beat: &Heartbeat,
    running: bool,
    waiting: &Waiting,
    withheld: usize,
    now: Timestamp,
) -> (Health, Option<String>) {
    let down = |why: String| (Health::Down, Some(why));
    let degraded = |why: String| (Health::Degraded, Some(why));
    let because = || beat.trouble.as_ref().map_or(String::new(), |trouble| format!(": {trouble}"));
    let Some(answered) = beat.answered.as_deref().and_then(|at| at.parse::<Timestamp>().ok()) else {
        return down(format!("the server has never answered{}", because()));
    };
    if beat.mode == "run" && !running {
        return down(format!("its process is gone{}", because()));
    }
    if beat.given_up {
        return down(beat.trouble.clone().unwrap_or_else(|| "given up".into()));
    }
    // A minute of grace: a timer that fires every minute may be late.
    let most = Duration::from_secs(3 * beat.every + 60);
    if age(answered, now) > most {
        return down(format!("the server has not answered for {}{}", words(age(answered, now)), because()));
    }
    if let Some(trouble) = &beat.trouble {
        return degraded(trouble.clone());
    }
    if age(now, answered) > most {
        return degraded("the clock was set back: the last answer lies in the future".into());
    }
    if withheld > 0 {
        let first = beat.withheld.first().map_or(String::new(), |one| {
            format!(", first UID {} of {}: {}", one.uid, one.mailbox, one.reason)
        });
        return degraded(format!(
            "the server does not give {withheld} messages{first}; `mail-loop acknowledge {}` says that you know",
            beat.name
        ));
    }
    match waiting.any() {
        true => degraded(format!("actions: {}; see `mail-loop history`", waiting.words())),
        false => (Health::Ok, None),
    }
}

/// How long ago that was; zero for the future.
pub(super) fn age(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(at)).unwrap_or_default()
}

/// A duration in one number.
pub(super) fn words(time: Duration) -> String {
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
    use crate::store::heartbeat::Withheld;

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

    fn health(beat: &Heartbeat, running: bool) -> Health {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        judge(beat, running, &Waiting::default(), beat.withheld.len(), now).0
    }

    #[test]
    fn what_counts_as_down() {
        assert_eq!(health(&beat("2026-11-21T11:50:00Z", None), true), Health::Ok);
        assert_eq!(health(&beat("2026-11-21T11:50:00Z", Some("x")), true), Health::Degraded);
        assert_eq!(health(&beat("2026-11-21T11:40:00Z", None), true), Health::Down);
        assert_eq!(health(&beat("2026-11-21T11:59:59Z", None), false), Health::Down);
        assert_eq!(health(&Heartbeat::default(), true), Health::Down);
        let refused = Heartbeat { given_up: true, ..beat("2026-11-21T11:59:59Z", Some("refused")) };
        assert_eq!(health(&refused, true), Health::Down);
    }

    #[test]
    fn a_clock_that_jumps_hides_nothing() {
        // A little ahead is nothing; what lies far ahead would look fresh for as long.
        assert_eq!(health(&beat("2026-11-21T12:05:00Z", None), true), Health::Ok);
        assert_eq!(health(&beat("2027-11-21T12:00:00Z", None), true), Health::Degraded);
        assert_eq!(health(&beat("2025-11-21T12:00:00Z", None), true), Health::Down);
    }

    #[test]
    fn what_waits_degrades() {
        let fine = beat("2026-11-21T11:59:59Z", None);
        let withheld = Heartbeat { withheld: vec![Withheld::default()], ..fine.clone() };
        assert_eq!(health(&withheld, true), Health::Degraded);
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let waiting = Waiting { later: 1, ..Waiting::default() };
        assert_eq!(judge(&fine, true, &waiting, 0, now).0, Health::Degraded);
        assert_eq!(judge(&withheld, true, &Waiting::default(), 0, now).0, Health::Ok);
    }
}
