//! mail-fetch: what is new in a mailbox comes into a Maildir, durable before it is told.
//!
//! The way of a message: listed by UID → its octets stream into `tmp/` → the group's files are synced → their names
//! are journalled in the cursor → renamed into `new/` → the directory is synced → the cursor takes the UIDs → the
//! paths are printed. A process that dies anywhere on that way leaves what the next run finishes or fetches again.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::Peer;
use crate::error::{Error, Kind, Result, Status};
use crate::mail::mailbox;
use crate::mail::uids::Uids;
use crate::net::imap::{Imap, News};
use crate::report::{self, Records};
use crate::stop;
use crate::store::cursor::Cursor;
use crate::store::maildir::{self, Maildir};

mod group;
mod known;
use group::Group;
use known::Known;

/// What to fetch, from where, to where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The account's name; part of every message's identity here.
    pub account: String,
    /// How to reach the server.
    pub peer: Peer,
    /// Where messages go; INBOX is this Maildir itself, other mailboxes are Maildir++ folders in it.
    pub maildir: PathBuf,
    /// Names of mailboxes, in UTF-8.
    pub mailboxes: Vec<String>,
    /// Only say what would be fetched.
    pub dry_run: bool,
}

/// How many messages are downloaded, synced and told together at first, and at most.
const FIRST_GROUP: usize = 16;
const LARGEST_GROUP: usize = 128;
/// A group is meant to hold about this much: what a cut connection costs at most.
const GROUP_OCTETS: u64 = 16 << 20;

/// Fetches all mailboxes once. Trouble with one mailbox is told and the others go on.
pub fn run(options: &Options, records: &mut Records) -> Result<Status> {
    let mut fetcher = Fetcher::connect(options)?;
    let status = fetcher.pass(records)?;
    fetcher.finish();
    Ok(status)
}

/// A connection that fetches again and again.
pub struct Fetcher<'a> {
    options: &'a Options,
    imap: Imap,
    /// The mailbox that is open on the server.
    open: Option<String>,
}

impl<'a> Fetcher<'a> {
    /// Connects and logs in; nothing is fetched yet.
    pub fn connect(options: &'a Options) -> Result<Fetcher<'a>> {
        Ok(Fetcher { options, imap: Imap::connect(&options.peer)?, open: None })
    }

    /// Fetches what is new in every mailbox. An error means that the connection is spent.
    pub fn pass(&mut self, records: &mut Records) -> Result<Status> {
        let mut status = Status::DONE;
        // The first mailbox comes last, so that it is the open one afterwards and can be waited on.
        for name in self.options.mailboxes.iter().rev() {
            match self.mailbox(name, records) {
                Ok(done) => status.merge(done),
                Err(error) if is_only_this_mailbox(error.kind()) => {
                    report::trouble(&error);
                    status.add(error.kind());
                }
                Err(error) => return Err(error),
            }
            if stop::requested() || records.gone() {
                break;
            }
        }
        Ok(status)
    }

    /// Waits for news in the first mailbox, at most this long; where the server knows no IDLE, [`News::None`] after it.
    pub fn wait(&mut self, limit: Duration) -> Result<News> {
        if self.open.as_ref() != self.options.mailboxes.first() {
            // It could not be opened; the next pass will say so again.
            stop::sleep(limit);
            return Ok(News::None);
        }
        if self.imap.has("IDLE") {
            return self.imap.idle(limit);
        }
        stop::sleep(limit);
        self.imap.noop()?;
        Ok(News::None)
    }

    /// Says goodbye.
    pub fn finish(self) {
        self.imap.logout();
    }

    fn mailbox(&mut self, name: &str, records: &mut Records) -> Result<Status> {
        let maildir = self.maildir(name)?;
        let source = maildir::source(&self.options.account, &canonical(name));
        let cursor = Cursor::open(
            &maildir.dir,
            &source,
            &self.options.account,
            &canonical(name),
            self.options.peer.timeout,
        )?;
        let mut group = Group::new(maildir, source, cursor);
        group.recover(records)?;
        let opened = self.open(name)?;
        let Some(uidvalidity) = opened.uidvalidity.filter(|number| *number != 0) else {
            return Err(self.wrong(name, "the server gives no UIDVALIDITY, so its UIDs mean nothing"));
        };
        let known = self.known(name, &mut group, uidvalidity)?;
        let first = group.cursor.taken().first_gap();
        if opened.exists == 0 || opened.uidnext.is_some_and(|next| next <= first) {
            return Ok(Status::DONE);
        }
        self.download(name, &mut group, known, uidvalidity, records)
    }

    fn maildir(&mut self, name: &str) -> Result<Maildir> {
        let maildir = Maildir::create(&self.options.maildir)?;
        if mailbox::is_inbox(name) {
            return Ok(maildir);
        }
        let delimiter = self.imap.delimiter(name)?;
        let directory = mailbox::directory(name, delimiter.as_deref())
            .map_err(|why| Error::plain(Kind::CannotCreate, why))?;
        directory.map_or(Ok(maildir.clone()), |directory| maildir.subfolder(&directory))
    }

    fn open(&mut self, name: &str) -> Result<crate::net::imap::Opened> {
        self.open = None;
        let opened = self.imap.examine(name)?;
        self.open = Some(name.to_string());
        Ok(opened)
    }

    /// What of this mailbox may lie here already without the cursor knowing, because UIDs or the cursor are new.
    fn known(&self, name: &str, group: &mut Group, uidvalidity: u32) -> Result<Known> {
        let before = group.cursor.uidvalidity();
        if before == Some(uidvalidity) && group.cursor.is_settled() {
            return Ok(Known::default());
        }
        if let Some(before) = before.filter(|before| *before != uidvalidity) {
            report::say(format_args!(
                "{}: mailbox {name:?} has a new UIDVALIDITY ({before} before, {uidvalidity} now); what lies here \
                 already is told by its bytes",
                self.options.account
            ));
        }
        if before != Some(uidvalidity) && !self.options.dry_run {
            group.cursor.renew(uidvalidity)?;
        }
        Known::of(&group.maildir, &group.source, uidvalidity, group.cursor.matched())
    }

    fn download(
        &mut self,
        name: &str,
        group: &mut Group,
        mut known: Known,
        uidvalidity: u32,
        records: &mut Records,
    ) -> Result<Status> {
        let mut status = Status::DONE;
        let first = group.cursor.taken().first_gap();
        let listed = self.imap.uids_from(first)?;
        let wanted: Vec<u32> =
            listed.iter().copied().filter(|uid| !group.cursor.taken().contains(*uid)).collect();
        if self.options.dry_run {
            report::say(format_args!("{}: {} new in {name:?}", self.options.account, wanted.len()));
            return Ok(status);
        }
        // A UID below the last listed one that is not listed is gone for good (RFC 9051 section 2.3.1.1).
        let mut gone: Uids = listed.last().map_or(Uids::default(), |last| all_between(first, *last, &listed));
        let (mut rest, mut size) = (wanted.as_slice(), FIRST_GROUP);
        while !rest.is_empty() && !stop::requested() && !records.gone() {
            let uids;
            (uids, rest) = rest.split_at(size.min(rest.len()));
            let asked: Uids = uids.iter().copied().collect();
            let filled = group.fill(&mut self.imap, &asked, uidvalidity);
            status.merge(group.complain(&filled.fetched, &self.options.account, name));
            group.commit(&filled.whole, std::mem::take(&mut gone), &mut known, records)?;
            if let Some(trouble) = filled.trouble {
                return Err(trouble);
            }
            size = next_group(uids.len(), filled.octets());
        }
        if !gone.is_empty() {
            group.cursor.take(&gone, Vec::new())?;
        }
        if rest.is_empty() && status == Status::DONE && !group.cursor.is_settled() {
            group.cursor.settle()?;
        }
        Ok(status)
    }

    fn wrong(&self, name: &str, why: &str) -> Error {
        Error::new(Kind::Protocol, format!("{}: cannot fetch mailbox {name:?}", self.options.account), why)
    }
}

/// INBOX has one spelling here, or it would have as many cursors as spellings.
fn canonical(name: &str) -> String {
    if mailbox::is_inbox(name) { "INBOX".into() } else { name.into() }
}

/// Trouble after which the connection is still good and other mailboxes can be fetched.
fn is_only_this_mailbox(kind: Kind) -> bool {
    matches!(kind, Kind::Refused | Kind::CannotCreate | Kind::Data)
}

/// The size of the next group, from the messages of the last one: large mail goes in small groups.
fn next_group(messages: usize, octets: u64) -> usize {
    let average = (octets / messages.max(1) as u64).max(1);
    usize::try_from(GROUP_OCTETS / average).map_or(LARGEST_GROUP, |size| size.clamp(1, LARGEST_GROUP))
}

fn all_between(first: u32, last: u32, listed: &[u32]) -> Uids {
    let (mut gone, mut next) = (Uids::default(), first);
    for uid in listed {
        gone.insert_range(next, uid.saturating_sub(1));
        next = uid.saturating_add(1);
    }
    gone.insert_range(next, last);
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_gone() {
        assert_eq!(all_between(3, 9, &[4, 5, 9]).to_string(), "3,6:8");
        assert_eq!(all_between(1, 1, &[1]).to_string(), "");
    }
}
