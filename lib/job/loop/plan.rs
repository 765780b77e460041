//! What a `[loop.NAME]` of the configuration means, put together from its account, files and rules.

use std::time::Duration;

use crate::cli::{self, Login};
use crate::config::{Act, Loop};
use crate::error::{Error, Kind, Result};
use crate::job::act::{self, Mode, Orders, Start};
use crate::job::settings::Settings;
use crate::job::{dissect, fetch};

/// How often the server is asked where the loop does not say.
const EVERY: Duration = Duration::from_secs(300);

/// A loop, ready to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name in the configuration.
    pub name: String,
    /// How often the server is asked even if it announces nothing.
    pub every: Duration,
    /// The first stage.
    pub fetch: fetch::Options,
    /// The second stage: only messages not finished yet.
    pub dissect: dissect::Options,
    /// The third stage: only files not settled yet.
    pub act: act::Options,
}

impl Plan {
    /// The loops with these names, or all. 78 where there is none, or one does not make sense.
    pub fn all(settings: &Settings, names: &[String]) -> Result<Vec<Plan>> {
        let known: Vec<&str> = settings.config.loops.keys().map(String::as_str).collect();
        if known.is_empty() {
            return Err(Error::plain(Kind::Config, "no [loop.NAME] in the configuration")
                .hint("`mail-loop init` writes one, `mail-loop demo` needs none"));
        }
        if let Some(stranger) = names.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(Error::plain(Kind::Config, format!("no loop {stranger:?} in the configuration"))
                .hint(format!("known loops: {}", known.join(", "))));
        }
        let wanted =
            settings.config.loops.iter().filter(|(name, _)| names.is_empty() || names.contains(name));
        wanted.map(|(name, each)| Plan::of(settings, name, each)).collect()
    }

    fn of(settings: &Settings, name: &str, each: &Loop) -> Result<Plan> {
        let account = settings.config.account(&each.account)?;
        let peer = settings.peer(&each.account, |account| account.imap.as_ref(), &Login::default())?;
        let maildir = account.maildir.clone().ok_or_else(|| {
            Error::plain(Kind::Config, format!("account {:?} has no maildir", each.account))
        })?;
        let wait = peer.timeout;
        let fetch = fetch::Options::new(&each.account, peer, maildir, account.mailboxes.clone());
        let act = act::Options {
            orders: Orders::rules(&settings.config, each.rules.as_deref().unwrap_or_default())?,
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
        let dissect = dissect::Options {
            pending: true,
            timeout: wait.max(cli::TIMEOUT),
            ..dissect::Options::new(&each.files)
        };
        Ok(Plan { name: name.to_string(), every: each.every.unwrap_or(EVERY), fetch, dissect, act })
    }
}
