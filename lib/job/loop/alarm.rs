//! The loop's alarm: a command that is told each change of health once, after it has lasted.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::health::Health;
use super::life::{Life, Stage};
use super::plan::Alarm;
use crate::process::{self, End, Job};
use crate::report;

/// So long the command may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What each loop's alarm was told.
#[derive(Default)]
pub(super) struct Alarms(BTreeMap<String, Bell>);

struct Bell {
    told: Health,
    seen: (Health, Instant),
    ringing: Option<JoinHandle<()>>,
}

impl Alarms {
    /// A loop stands so now. When to look again, if it has a health that is to be told but has not lasted yet.
    pub fn look(
        &mut self,
        name: &str,
        alarm: &Alarm,
        life: &Arc<Life>,
        health: Health,
        why: Option<String>,
    ) -> Option<Duration> {
        let now = Instant::now();
        // What an earlier process told is known; a loop that begins well is no news.
        let told = || life.beat().0.alarmed.as_deref().and_then(Health::of).unwrap_or(Health::Ok);
        let bell = self.0.entry(name.into()).or_insert_with(|| Bell {
            told: told(),
            seen: (health, now),
            ringing: None,
        });
        if bell.seen.0 != health {
            bell.seen = (health, now);
        }
        if bell.told == health || alarm.argv.is_empty() {
            return None;
        }
        let left = alarm.after.saturating_sub(bell.seen.1.elapsed());
        if left > Duration::ZERO {
            return Some(left);
        }
        if bell.ringing.as_ref().is_some_and(|ringing| !ringing.is_finished()) {
            return Some(Duration::from_secs(1));
        }
        let before = std::mem::replace(&mut bell.told, health);
        life.alarmed(health.word());
        let (name, argv, life) = (name.to_string(), alarm.argv.clone(), life.clone());
        let ring = move || ring(&name, &argv, before, health, &why.unwrap_or_default(), &life);
        bell.ringing = std::thread::Builder::new().name("alarm".into()).spawn(ring).ok();
        None
    }
}

/// Runs the command. That it fails is trouble of its own: it is said, and stands in status until the next one works.
fn ring(name: &str, argv: &[String], before: Health, health: Health, why: &str, life: &Life) {
    let values = [("{loop}", name), ("{state}", health.word()), ("{before}", before.word()), ("{why}", why)];
    let words = argv
        .iter()
        .map(|word| values.iter().fold(word.clone(), |word, (key, value)| word.replace(key, value)));
    let usual = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "DISPLAY", "DBUS_SESSION_BUS_ADDRESS"];
    let mut env: Vec<(OsString, OsString)> =
        usual.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect();
    let facts = [("LOOP", name), ("STATE", health.word()), ("BEFORE", before.word()), ("WHY", why)];
    env.extend(facts.map(|(key, value)| (format!("MAILLOOP_{key}").into(), value.replace('\0', " ").into())));
    let argv = words.map(|word| word.replace('\0', " ").into()).collect();
    let job = Job { argv, env: Some(env), limit: LIMIT, keep: 1000, stderr_through: false };
    let failed = match process::run(&job) {
        Ok(ran) => match ran.end {
            End::Exit(0) => None,
            End::Exit(status) => Some(format!("it ended with status {status}")),
            End::Signal(signal) => Some(format!("signal {signal} ended it")),
            End::TimedOut => Some(format!("it took longer than {} s", LIMIT.as_secs())),
        },
        Err(error) => Some(error.to_string()),
    };
    let failed = failed.map(|why| format!("the alarm ({}) failed: {why}", argv_name(&job)));
    if let Some(failed) = &failed {
        report::trouble(format_args!(
            "loop {name}: {failed}; it was to tell that the loop is {}",
            health.word()
        ));
    }
    life.trouble(Stage::Alarm, failed);
}

fn argv_name(job: &Job) -> String {
    job.argv.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default()
}
