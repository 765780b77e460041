//! Reading `new/` and `cur/`: which files are there, and whether they may have changed since the last look.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::uidlist::Entry;
use super::{Flags, Message};

/// Files by the part of their name before the colon.
pub type Found = HashMap<String, Seen>;

/// One file.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What stands after the colon; empty if there is none; `None` in `new/`.
    pub info: Option<String>,
    pub size: u64,
}

/// The dates of `new/` and `cur/`; `None` if they must not be trusted.
pub type Stamp = Option<(SystemTime, SystemTime)>;

/// A date this young may cover a later change too: the kernel's clock ticks every few milliseconds.
const TICK: Duration = Duration::from_millis(20);

impl Seen {
    pub fn into_message(self, base: String, uid: u32, changed: u64) -> Message {
        let flags = Flags::from_info(self.info.as_deref().unwrap_or(""));
        Message { uid, flags, keywords: Vec::new(), size: self.size, changed, base, info: self.info }
    }
}

/// The dates as they are now.
pub fn stamp(dir: &Path) -> Stamp {
    let date = |sub: &str| fs::metadata(dir.join(sub)).and_then(|meta| meta.modified()).ok();
    Some((date("new")?, date("cur")?))
}

/// True if nothing can have changed since `known` was taken.
pub fn is_fresh(dir: &Path, known: &Stamp) -> bool {
    known.is_some() && stamp(dir) == *known
}

/// Reads both directories; the dates are those from before.
pub fn read(dir: &Path) -> io::Result<(Found, Stamp)> {
    let now = SystemTime::now();
    let stamp = stamp(dir).filter(|(new, cur)| {
        [new, cur].iter().all(|date| now.duration_since(**date).is_ok_and(|age| age > TICK))
    });
    let mut found = Found::new();
    for (sub, is_new) in [("new", true), ("cur", false)] {
        for entry in fs::read_dir(dir.join(sub))? {
            let entry = entry?;
            // A name that is no UTF-8 is no message of ours, and IMAP could not name it anyway.
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let (base, info) = name.split_once(':').unwrap_or((&name, ""));
            let Some(size) = size(base, &entry) else { continue };
            let info = if is_new && info.is_empty() { None } else { Some(info.to_string()) };
            if is_new && info.is_some() {
                // A colon in new/ is against the rules; there is no telling the name apart later.
                continue;
            }
            found.insert(base.to_string(), Seen { info, size });
        }
    }
    Ok((found, stamp))
}

/// The size that our own names carry, else that of the file; `None` for what is no file.
fn size(base: &str, entry: &fs::DirEntry) -> Option<u64> {
    let ours = base.contains(".sandbox,S=");
    match base.rsplit_once(",S=").and_then(|(_, size)| size.parse().ok()) {
        Some(size) if ours => Some(size),
        _ => fs::metadata(entry.path()).ok().filter(|meta| meta.is_file()).map(|meta| meta.len()),
    }
}

/// Gives the files their UIDs: from the list, else from the name. What is left over has none yet.
pub fn match_up(mut found: Found, entries: BTreeMap<u32, Entry>, uidvalidity: u32) -> (Vec<Message>, Found) {
    let mut messages = Vec::with_capacity(found.len());
    let mut taken = HashSet::new();
    for (uid, entry) in entries {
        taken.insert(uid);
        if let Some(file) = found.remove(&entry.base) {
            let mut message = file.into_message(entry.base, uid, 1);
            message.keywords = entry.keywords;
            messages.push(message);
        }
    }
    let named: Vec<(u32, String)> =
        found.keys().filter_map(|base| Some((uid_in(base, uidvalidity)?, base.clone()))).collect();
    for (uid, base) in named {
        if taken.insert(uid)
            && let Some(file) = found.remove(&base)
        {
            messages.push(file.into_message(base, uid, 1));
        }
    }
    messages.sort_by_key(|m| m.uid);
    (messages, found)
}

fn uid_in(base: &str, uidvalidity: u32) -> Option<u32> {
    let rest = base.split_once('.')?.1.strip_prefix(&format!("V{uidvalidity}U"))?;
    rest.split_once(".sandbox,")?.0.parse().ok().filter(|uid| *uid > 0)
}
