//! `[loop.NAME]`: where files come from, what happens with them, and who is told how it goes.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{Config, some_time, time};

/// Fetch, dissect and act for one account, or act on what is laid into a directory, again and again.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Loop {
    /// Whose mail; this or `watch`.
    pub account: Option<String>,
    /// The directory where files appear.
    pub watch: Option<PathBuf>,
    /// Where files out of messages are put. Without it a loop that watches takes messages as files like any other.
    pub files: Option<PathBuf>,
    /// Which rules apply, by name; all where it is left out.
    pub rules: Option<Vec<String>>,
    /// How often the server is asked, besides when it says so.
    #[serde(deserialize_with = "some_time")]
    pub every: Option<Duration>,
    /// How often the watched directory is read, instead of waiting for the kernel's word.
    #[serde(deserialize_with = "time")]
    pub poll: Option<Duration>,
    /// What happens with commands.
    pub act: Act,
    /// A command that is told when the loop's health changes; argv, no shell.
    pub alarm: Vec<String>,
    /// How long a health must last before it is told; a minute where it is left out.
    #[serde(deserialize_with = "time")]
    pub alarm_after: Option<Duration>,
    /// A mail to itself, now and then.
    pub probe: Option<Probe>,
}

/// `[loop.NAME.probe]`: a mail to itself through the whole loop.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// How often; an hour where it is left out.
    #[serde(default, deserialize_with = "time")]
    pub every: Option<Duration>,
    /// After this long it counts as lost; ten minutes where it is left out.
    #[serde(default, deserialize_with = "time")]
    pub limit: Option<Duration>,
}

/// What a loop does with a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// Shows it on stdout, once.
    Print,
    /// Runs it, once.
    #[default]
    Run,
}

impl Loop {
    /// What it takes its mail from, for people: the account's name, or the directory.
    pub fn source(&self) -> String {
        let watch = self.watch.as_ref().map(|dir| dir.display().to_string());
        self.account.clone().or(watch).unwrap_or_default()
    }

    /// What a single value cannot show.
    pub(super) fn check(&self, config: &Config) -> Result<(), String> {
        match (&self.account, &self.watch) {
            (Some(account), None) => self.check_account(account, config)?,
            (None, Some(_)) => self.check_watch()?,
            (None, None) => {
                return Err("it has no account; write account = NAME, or watch = DIRECTORY".into());
            }
            (Some(_), Some(_)) => return Err("account and watch: it can have one of them".into()),
        }
        if self.alarm.is_empty() && self.alarm_after.is_some() {
            return Err("alarm_after goes with alarm".into());
        }
        let unknown = |rule: &&String| !config.rule.iter().any(|known| known.name == **rule);
        match self.rules.iter().flatten().find(unknown) {
            Some(rule) => Err(format!("there is no rule {rule:?}")),
            None => Ok(()),
        }
    }

    fn check_account(&self, name: &str, config: &Config) -> Result<(), String> {
        let account = config.account.get(name).ok_or_else(|| format!("there is no account {name:?}"))?;
        if account.maildir.is_none() {
            return Err(format!("account {name:?} has no maildir"));
        }
        if self.files.is_none() {
            return Err("missing field `files`: where files out of messages are put".into());
        }
        if self.poll.is_some() {
            return Err("poll goes with watch; a server is asked as often as `every` says".into());
        }
        let Some(probe) = &self.probe else { return Ok(()) };
        if account.address.is_none() || account.smtp.is_none() {
            return Err(format!("probe: account {name:?} needs address and smtp to send a mail to itself"));
        }
        match [probe.every, probe.limit].contains(&Some(Duration::ZERO)) {
            true => Err("probe: a time must be longer than nothing".into()),
            false => Ok(()),
        }
    }

    fn check_watch(&self) -> Result<(), String> {
        if self.every.is_some() || self.probe.is_some() {
            return Err("every and probe go with account".into());
        }
        if self.poll == Some(Duration::ZERO) {
            return Err("poll must be longer than nothing".into());
        }
        // What comes out of a message would be taken for what was laid there, and acted on twice.
        match (&self.watch, &self.files) {
            (Some(watch), Some(files)) if watch == files => {
                Err("watch and files must be two directories".into())
            }
            _ => Ok(()),
        }
    }
}
