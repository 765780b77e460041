//! Since when there is action on an account's mail: what came before is fetched, never acted on.

use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::config::Config;
use crate::record::Message;
use crate::store::maildir;

/// Since when there is action on an account's mail.
#[derive(Clone, Debug)]
pub struct Start {
    /// The account's name, as it stands in records.
    pub account: String,
    /// Where its mail lies, for messages whose record names no account.
    pub maildir: Option<PathBuf>,
    /// Mail received before this is skipped.
    pub at: Timestamp,
}

impl Start {
    /// Those of a configuration.
    pub fn all(config: &Config) -> Vec<Start> {
        let accounts = config.account.iter();
        let start = |(name, account): (&String, &crate::config::Account)| {
            Some(Start { account: name.clone(), maildir: account.maildir.clone(), at: account.start? })
        };
        accounts.filter_map(start).collect()
    }
}

/// Why there must be no action on what came in this message, if it is from before its account's start.
pub(super) fn too_old(message: &Message, starts: &[Start]) -> Option<String> {
    let start = start_of(message, starts)?;
    let Start { account, at, .. } = start;
    match received(message) {
        Some(received) if received >= *at => None,
        Some(received) => {
            Some(format!("received at {received:.0}, before the start of account {account}, {at}"))
        }
        None => Some(format!("nobody knows when it was received, and account {account} has a start")),
    }
}

fn start_of<'a>(message: &Message, starts: &'a [Start]) -> Option<&'a Start> {
    if let Some(account) = &message.account {
        return starts.iter().find(|start| start.account == *account);
    }
    let path = message.path.get().and_then(maildir::locate).and_then(|path| path.canonicalize().ok())?;
    starts.iter().find(|start| {
        let maildir = start.maildir.as_ref().and_then(|maildir| maildir.canonicalize().ok());
        maildir.is_some_and(|maildir| path.starts_with(maildir))
    })
}

/// When the server received it: as its record says, else as its name in the Maildir says, else the time of its file.
fn received(message: &Message) -> Option<Timestamp> {
    if let Some(at) = message.received.as_ref().and_then(|text| text.parse().ok()) {
        return Some(at);
    }
    arrived(&message.path.get().and_then(maildir::locate)?)
}

/// When the server received the message that lies there: as its name in the Maildir says, else the time of its file.
pub(super) fn arrived(path: &std::path::Path) -> Option<Timestamp> {
    let name =
        path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<maildir::Name>().ok());
    if let Some(name) = name {
        return Timestamp::from_second(name.seconds).ok();
    }
    fs::metadata(path).ok()?.modified().ok()?.try_into().ok()
}
