//! What a `[loop.NAME]` of the configuration means, put together from its account or directory, files and rules.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::{self, Login};
use crate::config::{Act, Loop};
use crate::error::{Error, Kind, Result};
use crate::job::act::{self, Mode, Orders, Start};
use crate::job::settings::Settings;
use crate::job::{dissect, fetch};

/// How often the server is asked where the loop does not say.
const EVERY: Duration = Duration::from_secs(300);
/// How often a directory is read where the kernel's word is not enough.
const POLL: Duration = Duration::from_secs(10);
/// How long a health lasts before the alarm is told.
const ALARM_AFTER: Duration = Duration::from_secs(60);
/// How often a mail to itself is sent, and when it counts as lost.
const PROBE: (Duration, Duration) = (Duration::from_secs(3600), Duration::from_secs(600));

/// A loop, ready to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name in the configuration.
    pub name: String,
    /// How often the server is asked even if it announces nothing; how often a directory is read at least.
    pub every: Duration,
    /// Where its messages or files come from: the first stage.
    pub source: Source,
    /// The second stage: only messages not finished yet. None where messages are files like any other.
    pub dissect: Option<dissect::Options>,
    /// The third stage: only files not settled yet.
    pub act: act::Options,
    /// Whose claims in the ledger are this loop's.
    pub rules: Vec<String>,
    /// Who is told of its health.
    pub alarm: Alarm,
    /// Mails to itself.
    pub probe: Option<Probe>,
}

/// Where a loop's messages or files come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// An account's mailboxes.
    Account(Box<fetch::Options>),
    /// A directory in which files are laid; read this often if that is said.
    Directory(PathBuf, Option<Duration>),
}

/// Who is told of a loop's health.
#[derive(Clone, Debug, Default)]
pub struct Alarm {
    /// The command; none where it is empty.
    pub argv: Vec<String>,
    /// How long a health must have lasted.
    pub after: Duration,
}

/// Mails to itself.
#[derive(Clone, Debug)]
pub struct Probe {
    /// From and to whom.
    pub address: String,
    /// How often.
    pub every: Duration,
    /// After this long one is lost.
    pub limit: Duration,
}

impl Source {
    /// The account's name, or the directory.
    pub fn words(&self) -> String {
        match self {
            Source::Account(fetch) => fetch.account.clone(),
            Source::Directory(dir, _) => dir.display().to_string(),
        }
    }
}

/// There is nothing to run, and nothing to be well.
pub(super) fn no_loops() -> Error {
    Error::plain(Kind::Config, "no [loop.NAME] in the configuration")
        .hint("`mail-loop init` writes one, `mail-loop demo` needs none")
}

impl Plan {
    /// The loops with these names, or all. 78 where there is none, or one does not make sense.
    pub fn all(settings: &Settings, names: &[String]) -> Result<Vec<Plan>> {
        let known: Vec<&str> = settings.config.loops.keys().map(String::as_str).collect();
        if known.is_empty() {
            return Err(no_loops());
        }
        if let Some(stranger) = names.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(Error::plain(Kind::Config, format!("no loop {stranger:?} in the configuration"))
                .hint(format!("known loops: {}", known.join(", "))));
        }
        let wanted =
            settings.config.loops.iter().filter(|(name, _)| names.is_empty() || names.contains(name));
        wanted.map(|(name, each)| Plan::of(settings, name, each)).collect()
    }

    /// How its account is reached.
    pub fn fetch(&self) -> Option<&fetch::Options> {
        match &self.source {
            Source::Account(fetch) => Some(fetch),
            Source::Directory(..) => None,
        }
    }

    fn of(settings: &Settings, name: &str, each: &Loop) -> Result<Plan> {
        let source = match (&each.account, &each.watch) {
            (Some(account), _) => Source::Account(Box::new(account_of(settings, account)?)),
            (None, Some(dir)) => Source::Directory(dir.clone(), each.poll),
            (None, None) => return Err(Error::plain(Kind::Config, format!("loop {name} has no account"))),
        };
        let wait = match &source {
            Source::Account(fetch) => fetch.peer.timeout,
            Source::Directory(..) => cli::TIMEOUT,
        };
        let named = each.rules.clone().unwrap_or_default();
        let act = act::Options {
            orders: Orders::rules(&settings.config, &named)?,
            mode: match each.act {
                Act::Print => Mode::Once,
                Act::Run => Mode::Run,
            },
            again: false,
            dry_run: false,
            explain: false,
            state: settings.state.clone(),
            starts: Start::all(&settings.config),
            limit: act::LIMIT,
            wait,
            dead_letters: settings.dead_letters(),
            memory: act::Memory::lasting(),
        };
        let every = match &source {
            Source::Account(_) => each.every.unwrap_or(EVERY),
            Source::Directory(_, poll) => poll.unwrap_or(POLL),
        };
        let rules = match named.is_empty() {
            true => settings.config.rule.iter().map(|rule| rule.name.clone()).collect(),
            false => named,
        };
        Ok(Plan {
            name: name.to_string(),
            every,
            source,
            dissect: each.files.as_deref().map(|files| dissect_into(files, wait)),
            act,
            rules,
            alarm: Alarm { argv: each.alarm.clone(), after: each.alarm_after.unwrap_or(ALARM_AFTER) },
            probe: probe_of(settings, each),
        })
    }
}

fn account_of(settings: &Settings, name: &str) -> Result<fetch::Options> {
    let account = settings.config.account(name)?;
    let peer = settings.peer(name, |account| account.imap.as_ref(), &Login::default())?;
    let maildir = account
        .maildir
        .clone()
        .ok_or_else(|| Error::plain(Kind::Config, format!("account {name:?} has no maildir")))?;
    Ok(fetch::Options::new(name, peer, maildir, account.mailboxes.clone()))
}

fn dissect_into(files: &Path, wait: Duration) -> dissect::Options {
    dissect::Options { pending: true, timeout: wait.max(cli::TIMEOUT), ..dissect::Options::new(files) }
}

fn probe_of(settings: &Settings, each: &Loop) -> Option<Probe> {
    let probe = each.probe.as_ref()?;
    let account = settings.config.account.get(each.account.as_ref()?)?;
    Some(Probe {
        address: account.address.clone()?,
        every: probe.every.unwrap_or(PROBE.0),
        limit: probe.limit.unwrap_or(PROBE.1),
    })
}
