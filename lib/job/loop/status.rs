//! `mail-loop status`: does each loop live, and is anything waiting for a person?
//!
//! Ends with 0 (ok), 1 (degraded) or 2 (down), as monitoring plugins do; `health` says what that means.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::health::{self, Health, Waiting, age, judge, words};
use super::plan::no_loops;
use super::probe::{Memory, Trips};
use super::withheld;
use crate::cli::Place;
use crate::config::Loop;
use crate::durable::Dir;
use crate::error::{Error, Kind, Result, Status};
use crate::job::settings::Settings;
use crate::report::{self, Records, printable};
use crate::store::heartbeat::{self, Withheld};

/// How one loop stands.
#[derive(Clone, Debug, Serialize)]
struct LoopStatus {
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
    /// What waits of its rules.
    actions: Waiting,
    /// What the server has and does not give, and how many of it somebody knows of.
    withheld: Vec<Withheld>,
    acknowledged: usize,
    /// Mails to itself; none where it sends none.
    probe: Option<Trips>,
}

/// Shows every loop of the configuration; the worst health counts. Where the configuration cannot be used, the loops
/// that ran before are shown, and none is better than degraded, as where the ledger cannot be read; an error only where
/// none ever ran, and 78 where there is none in it.
pub fn show(place: &Place, now: Timestamp, records: &mut Records<'_>) -> Result<Health> {
    let (mut settings, mut worst) = match Settings::load(place) {
        // A monitor that looks into the wrong home must not be told that all is well.
        Ok(settings) if settings.config.loops.is_empty() => return Err(no_loops()),
        Ok(settings) => (settings, Health::Ok),
        Err(error) => {
            let settings = Settings::without_file(place)?;
            if !settings.state.is_dir() || heartbeat::all(&settings.state()?)?.is_empty() {
                return Err(error);
            }
            report::trouble(&error);
            (settings, Health::Degraded)
        }
    };
    let state = settings.state.is_dir().then(|| settings.state()).transpose()?;
    if let Some(state) = state.as_ref().filter(|_| worst != Health::Ok) {
        let beats = heartbeat::all(state)?.into_iter();
        let bare = |account| Loop { account: Some(account), rules: Some(Vec::new()), ..Loop::default() };
        settings.config.loops = beats.map(|beat| (beat.name, bare(beat.account))).collect();
    }
    // What nobody can tell is no reason to tell nothing; but it is not well.
    let (waiting, untold) = match health::waiting(&settings.state) {
        Ok(waiting) => (waiting, None),
        Err(error) => {
            worst = worst.max(Health::Degraded);
            (BTreeMap::new(), Some(error.to_string()))
        }
    };
    let all = settings.config.loops.iter();
    let shown: Vec<LoopStatus> =
        all.map(|(name, each)| look(&settings, name, each, state.as_ref(), &waiting, now)).collect();
    let whole = health::of_rules(&waiting, waiting.keys());
    worst = shown.iter().map(|one| one.health).fold(worst, Health::max);
    if whole.any() {
        worst = worst.max(Health::Degraded);
    }
    if records.is_json() {
        shown.iter().try_for_each(|one| records.json(one))?;
        let Waiting { unknown, failed, dead, held, later } = whole;
        records.json(&serde_json::json!({
            "v": 1, "kind": "waiting", "unknown": unknown, "failed": failed, "dead": dead, "held": held,
            "later": later, "why": untold,
        }))?;
    } else {
        table(&shown, now).into_iter().try_for_each(|line| records.text(line))?;
        if whole.any() {
            records.text(format!("actions: {}; see `mail-loop history`", whole.words()))?;
        }
        if let Some(why) = untold {
            records.text(format!("actions: nobody can tell: {}", printable(&why)))?;
        }
    }
    records.flush()?;
    Ok(worst)
}

/// Somebody knows of what the servers of these loops (all where none is named) do not give; it is no trouble any more.
pub fn acknowledge(settings: &Settings, names: &[String]) -> Result<Status> {
    let state = settings.state()?;
    if let Some(stranger) = names.iter().find(|name| !settings.config.loops.contains_key(*name)) {
        return Err(Error::plain(Kind::Usage, format!("no loop {stranger:?} in the configuration")));
    }
    let meant = settings.config.loops.keys().filter(|name| names.is_empty() || names.contains(name));
    for name in meant {
        let known = heartbeat::read(&state, name).unwrap_or_default().withheld;
        withheld::acknowledge(&state, name, &known)?;
        for one in &known {
            report::say(format_args!(
                "loop {name}: UID {} of {} ({}) is known of",
                one.uid, one.mailbox, one.reason
            ));
        }
    }
    Ok(Status::DONE)
}

fn look(
    settings: &Settings,
    name: &str,
    each: &Loop,
    state: Option<&Dir>,
    waiting: &BTreeMap<String, Waiting>,
    now: Timestamp,
) -> LoopStatus {
    let beat = state.and_then(|state| heartbeat::read(state, name)).unwrap_or_default();
    let running = state.is_some_and(|state| heartbeat::is_held(state, name));
    let all = || settings.config.rule.iter().map(|rule| &rule.name).collect::<Vec<_>>();
    let rules = each.rules.as_ref().map_or_else(all, |rules| rules.iter().collect());
    let actions = health::of_rules(waiting, rules.into_iter());
    let known = state.map(|state| withheld::acknowledged(state, name)).unwrap_or_default();
    let fresh = beat.withheld.iter().filter(|one| !known.contains(one)).count();
    let (health, why) = judge(&beat, running, &actions, fresh, now);
    let probe = each.probe.as_ref().zip(state).map(|(_, state)| Memory::read(state, name).trips());
    LoopStatus {
        v: 1,
        kind: "loop",
        name: name.into(),
        account: each.source(),
        health,
        why,
        running,
        answered: beat.answered,
        message: beat.message,
        passed: beat.passed,
        actions,
        acknowledged: beat.withheld.len() - fresh,
        withheld: beat.withheld,
        probe,
    }
}

/// One line a loop below its headings, and why it is not well.
fn table(shown: &[LoopStatus], now: Timestamp) -> Vec<String> {
    let ago = |at: &Option<String>| match at.as_deref().and_then(|at| at.parse::<Timestamp>().ok()) {
        Some(at) => format!("{} ago", words(age(at, now))),
        None => "never".into(),
    };
    let head = [
        "HEALTH",
        "LOOP",
        "FROM",
        "ANSWERED",
        "MESSAGE",
        "WORKED",
        "WAITING",
        "UNKNOWN",
        "DEAD",
        "ROUND TRIP",
    ];
    let mut rows = vec![head.map(String::from)];
    rows.extend(shown.iter().map(|one| {
        let Waiting { unknown, failed, dead, held, later } = one.actions;
        [
            one.health.word().to_string(),
            printable(&one.name).into_owned(),
            printable(&one.account).into_owned(),
            ago(&one.answered),
            ago(&one.message),
            ago(&one.passed),
            (later + held).to_string(),
            unknown.to_string(),
            (dead + failed).to_string(),
            one.probe.as_ref().map_or("-".into(), Trips::words),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &[String; 10]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    let mut lines = vec![line(&rows[0])];
    for (row, one) in rows[1..].iter().zip(shown) {
        lines.push(line(row));
        lines.extend(one.why.as_ref().map(|why| format!("    {}", printable(why))));
        if one.acknowledged > 0 {
            lines.push(format!("    known of: {} messages that the server does not give", one.acknowledged));
        }
    }
    lines
}
