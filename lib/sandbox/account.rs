//! Whom the server knows, and each user's mailboxes as Maildir++ directories.
//!
//! INBOX is `DIR/ADDRESS` itself, the mailbox `a/b` is `DIR/ADDRESS/.a.b`; a literal dot in a name is written
//! `&AC4-`, so that `a.b` and `a/b` stay two. Names are kept as they are on the wire (modified UTF-7).

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::maildir::{Mailbox, sync_dir};
use super::{Options, User};
use crate::error::{Error, Kind, Result};

/// All users.
pub struct Accounts(Vec<Arc<Account>>);

/// One user and the mailboxes opened so far.
pub struct Account {
    user: User,
    root: PathBuf,
    open: Mutex<HashMap<String, Arc<Mailbox>>>,
    last_validity: AtomicU32,
}

/// Why a mailbox command cannot be done; the words are for the client.
#[derive(Debug)]
pub enum Refusal {
    /// No such mailbox: `[NONEXISTENT]`.
    Missing,
    /// It is there already: `[ALREADYEXISTS]`.
    Exists,
    /// The name or the act is not allowed: `[CANNOT]`.
    Cannot(&'static str),
    /// The disk failed: `[SERVERBUG]`.
    Disk(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(why: io::Error) -> Self {
        Refusal::Disk(why)
    }
}

/// Refuses what cannot be the name of a user's directory.
pub fn check_address(address: &str) -> std::result::Result<(), String> {
    let parts = address.split_once('@');
    let plain =
        |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '\\' | '"' | '<' | '>' | '(' | ')' | ',' | ';');
    match parts {
        Some((local, domain))
            if !local.is_empty()
                && !domain.is_empty()
                && !domain.contains('@')
                && !address.starts_with('.')
                && address.len() <= 200
                && address.chars().all(plain) =>
        {
            Ok(())
        }
        _ => Err(format!("{address} is no address of the form local@domain")),
    }
}

impl Accounts {
    /// Makes each user's INBOX where it is missing.
    pub fn open(options: &Options) -> Result<Accounts> {
        let root = fs::canonicalize(&options.dir).map_err(|why| Error::reading(&options.dir, why))?;
        let mut all: Vec<Arc<Account>> = Vec::new();
        for user in &options.users {
            check_address(&user.address).map_err(|why| Error::plain(Kind::Usage, why))?;
            if all.iter().any(|other| other.user.address.eq_ignore_ascii_case(&user.address)) {
                return Err(Error::plain(Kind::Usage, format!("the user {} is given twice", user.address)));
            }
            let dir = root.join(user.address.to_ascii_lowercase());
            let account = Account {
                user: user.clone(),
                root: dir.clone(),
                open: Mutex::default(),
                last_validity: AtomicU32::new(0),
            };
            account.open_or_make("INBOX").map_err(|why| Error::creating(&dir, why))?;
            all.push(Arc::new(account));
        }
        Ok(Accounts(all))
    }

    /// Who gets mail for this envelope address: `local+anything@domain` is `local@domain`.
    pub fn recipient(&self, address: &str) -> Option<Arc<Account>> {
        let (local, domain) = address.rsplit_once('@')?;
        let wanted = |local: &str| {
            self.0.iter().find(|account| {
                account
                    .user
                    .address
                    .split_once('@')
                    .is_some_and(|(l, d)| l.eq_ignore_ascii_case(local) && d.eq_ignore_ascii_case(domain))
            })
        };
        let base = local.split_once('+').map_or(local, |(base, _)| base);
        wanted(local).or_else(|| wanted(base)).cloned()
    }

    /// Who logs in with this name (the address, or its local part where only one user has it) and password.
    pub fn login(&self, name: &str, password: &str) -> Option<Arc<Account>> {
        let mut named = self.0.iter().filter(|account| {
            let address = &account.user.address;
            let local = address.split_once('@').map_or("", |(local, _)| local);
            address.eq_ignore_ascii_case(name) || local.eq_ignore_ascii_case(name)
        });
        let first = named.next()?;
        (named.next().is_none() && first.user.password == password).then(|| Arc::clone(first))
    }
}

impl Account {
    /// The user's address.
    pub fn address(&self) -> &str {
        &self.user.address
    }

    /// The INBOX, always there.
    pub fn inbox(&self) -> io::Result<Arc<Mailbox>> {
        self.open_or_make("INBOX")
    }

    /// The mailbox of that name, if it is there.
    pub fn mailbox(&self, name: &str) -> std::result::Result<Arc<Mailbox>, Refusal> {
        let name = canonical(name);
        let dir = self.dir(&name)?;
        match dir.join("cur").is_dir() || name == "INBOX" {
            true => Ok(self.open_or_make(&name)?),
            false => Err(Refusal::Missing),
        }
    }

    /// Makes a mailbox.
    pub fn create(&self, name: &str) -> std::result::Result<(), Refusal> {
        // RFC 3501 section 6.3.3: a trailing delimiter only says that children will follow.
        let name = canonical(name.strip_suffix('/').unwrap_or(name));
        if name == "INBOX" || self.dir(&name)?.join("cur").is_dir() {
            return Err(Refusal::Exists);
        }
        self.open_or_make(&name)?;
        Ok(sync_dir(&self.root)?)
    }

    /// Removes a mailbox and what is in it; its children stay.
    pub fn delete(&self, name: &str) -> std::result::Result<(), Refusal> {
        let name = canonical(name);
        if name == "INBOX" {
            return Err(Refusal::Cannot("INBOX cannot be deleted"));
        }
        let mailbox = self.mailbox(&name)?;
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        mailbox.retire();
        fs::remove_dir_all(self.dir(&name)?)?;
        Ok(sync_dir(&self.root)?)
    }

    /// Renames a mailbox with its children; of INBOX, moves the messages into a new mailbox.
    pub fn rename(&self, from: &str, to: &str) -> std::result::Result<(), Refusal> {
        let (from, to) = (canonical(from), canonical(to));
        if to == "INBOX" || self.dir(&to)?.exists() {
            return Err(Refusal::Exists);
        }
        if from == "INBOX" {
            let (inbox, target) = (self.inbox()?, self.open_or_make(&to)?);
            let all = inbox.snapshot();
            let pieces: Vec<_> = all.iter().map(|message| inbox.as_new(message)).collect();
            target.add(&pieces)?;
            inbox.expunge(&all.iter().map(|m| m.uid).collect())?;
            return Ok(());
        }
        if to.strip_prefix(&from).is_some_and(|rest| rest.starts_with('/')) {
            return Err(Refusal::Cannot("a mailbox cannot move into itself"));
        }
        let under = format!("{from}/");
        let moved: Vec<String> =
            self.names()?.into_iter().filter(|name| *name == from || name.starts_with(&under)).collect();
        if moved.is_empty() {
            return Err(Refusal::Missing);
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for name in moved {
            let target = format!("{to}{}", name.strip_prefix(from.as_str()).unwrap_or(""));
            if let Some(mailbox) = open.remove(&name) {
                mailbox.retire();
            }
            fs::rename(self.dir(&name)?, self.dir(&target)?)?;
        }
        Ok(sync_dir(&self.root)?)
    }

    /// The names of all mailboxes, sorted, INBOX among them.
    pub fn names(&self) -> io::Result<BTreeSet<String>> {
        let mut names = BTreeSet::from(["INBOX".to_string()]);
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let Some(dir) = entry.file_name().to_str().map(str::to_string) else { continue };
            if let Some(rest) = dir.strip_prefix('.')
                && !rest.is_empty()
                && entry.path().join("cur").is_dir()
            {
                names.insert(rest.replace('.', "/").replace("&AC4-", "."));
            }
        }
        Ok(names)
    }

    /// The names subscribed to, sorted.
    pub fn subscriptions(&self) -> io::Result<BTreeSet<String>> {
        match fs::read_to_string(self.root.join("subscriptions")) {
            Ok(text) => Ok(text.lines().map(str::to_string).collect()),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(why) => Err(why),
        }
    }

    /// Adds a name to the subscriptions or takes it away.
    pub fn subscribe(&self, name: &str, wanted: bool) -> std::result::Result<(), Refusal> {
        let name = canonical(name);
        self.dir(&name)?;
        let _alone = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = self.subscriptions()?;
        match wanted {
            true => names.insert(name),
            false => names.remove(&name),
        };
        let aside = self.root.join("subscriptions.new");
        let mut file = fs::File::create(&aside)?;
        for name in names {
            writeln!(file, "{name}")?;
        }
        file.sync_all()?;
        Ok(fs::rename(aside, self.root.join("subscriptions"))?)
    }

    fn open_or_make(&self, name: &str) -> io::Result<Arc<Mailbox>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mailbox) = open.get(name) {
            return Ok(Arc::clone(mailbox));
        }
        let dir = self.dir(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidFilename))?;
        let mailbox = Arc::new(Mailbox::open(dir, || self.next_validity())?);
        self.last_validity.fetch_max(mailbox.uidvalidity(), Ordering::SeqCst);
        open.insert(name.to_string(), Arc::clone(&mailbox));
        Ok(mailbox)
    }

    /// Never the same twice: a mailbox deleted and made anew within one second gets another one.
    fn next_validity(&self) -> u32 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_secs() as u32);
        let last = self.last_validity.fetch_max(now, Ordering::SeqCst);
        match last >= now {
            true => self.last_validity.fetch_add(1, Ordering::SeqCst) + 1,
            false => now,
        }
    }

    fn dir(&self, name: &str) -> std::result::Result<PathBuf, Refusal> {
        if name == "INBOX" {
            return Ok(self.root.clone());
        }
        let fine = |c: char| c.is_ascii_graphic() || c == ' ';
        if name.is_empty()
            || name.len() > 200
            || !name.chars().all(fine)
            || name.contains(['*', '%', '\\', '"'])
        {
            return Err(Refusal::Cannot("the name holds characters that are not allowed"));
        }
        if name.split('/').any(|part| matches!(part, "" | "." | "..")) || name.contains("&AC4-") {
            return Err(Refusal::Cannot("a part of the name is empty, only dots, or has an encoded dot"));
        }
        Ok(Path::new(&self.root).join(format!(".{}", name.replace('.', "&AC4-").replace('/', "."))))
    }
}

/// INBOX in any case is INBOX, as a first part too.
fn canonical(name: &str) -> String {
    let (first, rest) = name.split_once('/').map_or((name, None), |(first, rest)| (first, Some(rest)));
    match (first.eq_ignore_ascii_case("INBOX"), rest) {
        (true, None) => "INBOX".to_string(),
        (true, Some(rest)) => format!("INBOX/{rest}"),
        (false, _) => name.to_string(),
    }
}
