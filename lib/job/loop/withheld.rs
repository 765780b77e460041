//! Messages that the server has and does not give, however often it is asked: a state of its own, told in status until
//! somebody says that they know of it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::durable::Dir;
use crate::error::{Error, Kind, Result};
use crate::job::fetch;
use crate::store::cursor::{self, Cursor};
use crate::store::heartbeat::{Withheld, safe};
use crate::store::maildir::Maildir;

/// Where the words before a cursor's source end, in its file's name.
const CURSOR: &str = "mailloop-cursor-";

/// What the cursors of this account's Maildir hold of it.
pub(super) fn of(options: &fetch::Options) -> Vec<Withheld> {
    let Ok(top) = Maildir::open(&options.maildir) else { return Vec::new() };
    let mut dirs = vec![top.dir.clone()];
    let folders = top.dir.names().unwrap_or_default().into_iter();
    let folders = folders.filter(|name| name.to_string_lossy().starts_with('.'));
    dirs.extend(folders.filter_map(|name| Some(Maildir::open(top.dir.at(name)).ok()?.dir)));
    let mut found: Vec<Withheld> = dirs.iter().flat_map(|dir| in_dir(dir, &options.account)).collect();
    found.sort();
    found
}

fn in_dir(dir: &Dir, account: &str) -> Vec<Withheld> {
    let names = dir.names().unwrap_or_default();
    let sources = names.iter().filter_map(|name| name.to_str()?.strip_prefix(CURSOR));
    let of_source = |source: &str| {
        let (owner, mailbox) = cursor::owner(dir, source).filter(|(owner, _)| owner == account)?;
        let cursor = Cursor::open(dir, source, &owner, &mailbox, Duration::from_secs(5)).ok()?;
        let uidvalidity = cursor.uidvalidity()?;
        let skipped = cursor.skipped().values();
        let withheld = skipped.map(|one| Withheld {
            mailbox: mailbox.clone(),
            uidvalidity,
            uid: one.uid,
            reason: one.reason.clone(),
        });
        Some(withheld.collect::<Vec<_>>())
    };
    sources.filter_map(of_source).flatten().collect()
}

/// Those of a loop that somebody knows of.
pub(super) fn acknowledged(state: &Dir, name: &str) -> BTreeSet<Withheld> {
    let bytes = state.read(file_name(name)).ok().flatten();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Remembers that somebody knows of these; durable on return.
pub(super) fn acknowledge(state: &Dir, name: &str, withheld: &[Withheld]) -> Result<()> {
    let text = serde_json::to_vec(withheld)
        .map_err(|why| Error::new(Kind::Internal, "cannot write what is acknowledged", why))?;
    state.replace(&file_name(name), &text, 0o600)
}

fn file_name(name: &str) -> String {
    format!("acknowledged-{}", safe(name))
}
