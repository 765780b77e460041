//! mail-fetch: what is new in a mailbox comes into a Maildir, durable before it is told.
//!
//! The way of a message: listed by UID → its octets stream into `tmp/` → the group's files are synced → their names
//! are journalled in the cursor → renamed into `new/` → the directory is synced → the cursor takes the UIDs → the
//! paths are printed. A process that dies anywhere on that way leaves what the next run finishes or fetches again.
//! While one group is made durable the next one comes over the line.

use std::path::PathBuf;
use std::sync::{Mutex, Once};
use std::time::Duration;

use crate::config::Peer;
use crate::error::{Error, Kind, Result, Status};
use crate::mail::mailbox;
use crate::net::imap::{Imap, News, Opened};
use crate::report::{self, Records};
use crate::secret;
use crate::stop;
use crate::store::cursor::{Cursor, Seen, Skipped};
use crate::store::maildir::{self, Maildir};

mod after;
mod crew;
mod descriptors;
mod download;
mod foretell;
mod group;
mod keep;
mod known;
mod pick;
mod progress;
mod spool;

pub use after::After;
pub use crew::run_all;
pub use keep::{Keep, keep};
pub use pick::Pick;

use descriptors::Counted;
use group::{Group, Out, nobody_reads};
use known::Known;
use pick::{Picked, Target};

/// What to fetch, from where, to where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The account's name; part of every message's identity here.
    pub account: String,
    /// How to reach the server.
    pub peer: Peer,
    /// Where messages go; INBOX is this Maildir itself, other mailboxes are Maildir++ folders in it.
    pub maildir: PathBuf,
    /// Names or patterns of mailboxes, in UTF-8; `!` in front excludes.
    pub mailboxes: Vec<String>,
    /// Which of their messages.
    pub pick: Pick,
    /// What is done on the server with what is durable here.
    pub after: After,
    /// Also if that takes away many at once.
    pub yes: bool,
    /// Only say what would be fetched.
    pub dry_run: bool,
}

impl Options {
    /// Everything in these mailboxes; the server keeps it as it is.
    pub fn new(account: &str, peer: Peer, maildir: PathBuf, mailboxes: Vec<String>) -> Options {
        Options {
            account: account.to_string(),
            peer,
            maildir,
            mailboxes,
            pick: Pick::default(),
            after: After::Keep,
            yes: false,
            dry_run: false,
        }
    }
}

impl Options {
    /// What cannot be meant.
    fn check(&self) -> Result<()> {
        match self.mailboxes.iter().find(|word| self.after.moves_to(word)) {
            Some(word) => Err(Error::new(
                Kind::Usage,
                format!("cannot fetch {}", self.of(word)),
                "--after moves what was fetched to this very mailbox, again and again",
            )
            .hint("leave it out, or move to another one")),
            None => Ok(()),
        }
    }
}

/// Fetches all mailboxes once, one after the other. Trouble with one mailbox is told and the others go on.
pub fn run(options: &Options, records: &mut Records) -> Result<Status> {
    let mut fetcher = Fetcher::connect(options)?;
    fetcher.lasting = false;
    let status = fetcher.pass(records)?;
    fetcher.finish();
    Ok(status)
}

/// A connection that fetches again and again.
pub struct Fetcher<'a> {
    options: &'a Options,
    imap: Imap,
    /// The mailbox that is open on the server, how it stood then, and whether it can be changed.
    open: Option<(String, Opened, bool)>,
    /// Somebody may want to wait on the first mailbox afterwards.
    lasting: bool,
    /// The one mailbox that this connection is for; its name is a name, whatever it looks like as a word.
    only: Option<Target>,
    /// It was opened without a look at what is there: the server will not announce what came before that.
    unlooked: bool,
    /// So often the mailbox is asked for where the server knows no IDLE; as often as somebody waits, unless shorter.
    poll: Duration,
    _counted: Counted,
}

impl<'a> Fetcher<'a> {
    /// Connects and logs in; nothing is fetched yet.
    pub fn connect(options: &'a Options) -> Result<Fetcher<'a>> {
        options.check()?;
        Ok(Fetcher {
            options,
            imap: Imap::connect(&options.peer, &secret::fetch)?,
            open: None,
            lasting: true,
            only: None,
            unlooked: false,
            poll: Duration::MAX,
            _counted: Counted::new(),
        })
    }

    /// Fetches what is new in every mailbox. An error means that the connection is spent.
    pub fn pass(&mut self, records: &mut Records) -> Result<Status> {
        self.pass_to(&Mutex::new(records))
    }

    fn pass_to(&mut self, out: &Out<'_, '_>) -> Result<Status> {
        let (targets, mut status) = self.survey()?;
        // The first mailbox comes last, so that it is the open one afterwards and can be waited on.
        for (at, target) in targets.iter().enumerate().rev() {
            match self.tolerant(target, at == 0 && self.lasting, out) {
                // A mailbox that breaks the line must not keep the others from coming.
                Err(error) if at > 0 && self.is_broken_by(&error, out) => {
                    report::trouble(&error);
                    status.add(error.kind());
                    self.connect_again()?;
                }
                done => status.merge(done?),
            }
            if stop::requested() || nobody_reads(out) {
                break;
            }
        }
        Ok(status)
    }

    /// The mailboxes that are to be looked at; those that there are not are told.
    fn survey(&mut self) -> Result<(Vec<Target>, Status)> {
        let mut status = Status::DONE;
        let (targets, missing) = self.targets()?;
        for error in missing {
            status.add(error.kind());
            report::trouble(error.context(&self.options.account));
        }
        Ok((targets, status))
    }

    /// The mailboxes that are to be looked at, and errors for those that there are not. Where messages move to is none
    /// of them: they would be fetched and moved there again, each time.
    fn targets(&mut self) -> Result<(Vec<Target>, Vec<Error>)> {
        if let Some(only) = &self.only {
            return Ok((vec![only.clone()], Vec::new()));
        }
        let (mut targets, missing) = pick::mailboxes(&mut self.imap, &self.options.mailboxes)?;
        let all = targets.len();
        targets.retain(|target| !self.options.after.moves_to(&target.name));
        static SAID: Once = Once::new();
        if targets.len() < all {
            SAID.call_once(|| {
                let after = &self.options.after;
                report::say(format_args!(
                    "{}: not fetched from where --after {after} moves to",
                    self.options.account
                ));
            });
        }
        Ok((targets, missing))
    }

    /// As [`Fetcher::mailbox`]; trouble that concerns this mailbox alone is told and becomes the status.
    fn tolerant(&mut self, target: &Target, stay: bool, out: &Out<'_, '_>) -> Result<Status> {
        match self.mailbox(target, stay, out) {
            Err(error) if !self.imap.is_spent() && is_only_this_mailbox(error.kind()) => {
                report::trouble(&error);
                Ok(error.kind().into())
            }
            done => done,
        }
    }

    /// True if the session is spent by what one mailbox brought on, as far as anybody can tell before connecting again.
    fn is_broken_by(&self, error: &Error, out: &Out<'_, '_>) -> bool {
        let once_more = matches!(error.kind(), Kind::Temporary | Kind::Protocol);
        self.imap.is_spent() && once_more && !stop::requested() && !nobody_reads(out)
    }

    fn connect_again(&mut self) -> Result<()> {
        self.open = None;
        self.imap = Imap::connect(&self.options.peer, &secret::fetch)?;
        Ok(())
    }

    /// Waits for news in the first mailbox, at most this long; where the server knows no IDLE, or refuses it, it is asked
    /// for news after that.
    pub fn wait(&mut self, limit: Duration) -> Result<News> {
        if self.open.is_none() {
            // It could not be opened; the next pass will say so again.
            stop::sleep(limit);
            return Ok(News::None);
        }
        if std::mem::take(&mut self.unlooked) {
            return Ok(News::Some);
        }
        if let Some(news) = self.imap.idle(limit)? {
            return Ok(news);
        }
        stop::sleep(limit.min(self.poll));
        self.imap.noop()?;
        Ok(if self.imap.has_news() { News::Some } else { News::None })
    }

    /// Says goodbye.
    pub fn finish(self) {
        self.imap.logout();
    }

    /// Fetches what is new in one mailbox and does what is owed there; with `stay` it is open afterwards.
    fn mailbox(&mut self, target: &Target, stay: bool, out: &Out<'_, '_>) -> Result<Status> {
        if self.options.dry_run {
            return self.foretell(target);
        }
        let mut group = self.group(target)?;
        group.recover(out)?;
        let mut status = match &target.status {
            // Where nothing is new nothing is opened.
            Some(stands) if !stay && self.is_old_news(&group.cursor, stands) => Status::DONE,
            _ => self.look(&target.name, &mut group, out)?,
        };
        if !group.cursor.owed().is_empty() && !stop::requested() && !self.imap.is_spent() {
            status.merge(after::settle(self, &target.name, &mut group)?);
        }
        Ok(status)
    }

    /// The Maildir and the cursor of a mailbox, locked.
    fn group(&self, target: &Target) -> Result<Group> {
        let Options { account, peer, maildir, after, .. } = self.options;
        let mut maildir = Maildir::create(maildir)?;
        if let Some(directory) = directory_of(target)? {
            maildir = maildir.subfolder(&directory)?;
        }
        let source = maildir::source(account, &target.name);
        let cursor = Cursor::open(&maildir.dir, &source, account, &target.name, peer.timeout)?;
        Ok(Group { maildir, source, cursor, owes: (*after != After::Keep).then(|| after.to_string()) })
    }

    /// True if everything that there is has been seen.
    fn is_old_news(&self, seen: &Seen, stands: &Opened) -> bool {
        let now = jiff::Timestamp::now().as_second();
        let is_old = |next| self.options.pick.is_old_news(seen, next, now);
        seen.uidvalidity() == stands.uidvalidity
            && stands.uidvalidity.is_some_and(|number| number != 0)
            && (stands.exists == 0 || stands.uidnext.is_some_and(is_old))
    }

    fn look(&mut self, name: &str, group: &mut Group, out: &Out<'_, '_>) -> Result<Status> {
        let opened = self.open(name)?;
        let uidvalidity = self.uidvalidity(name, &opened)?;
        let before = group.cursor.uidvalidity();
        if let Some(before) = before.filter(|before| *before != uidvalidity) {
            report::say(format_args!(
                "{} has a new UIDVALIDITY ({before} before, {uidvalidity} now); what lies here already is told by its \
                 bytes",
                self.options.of(name)
            ));
        }
        if before != Some(uidvalidity) {
            group.cursor.renew(uidvalidity)?;
        }
        if self.is_old_news(&group.cursor, &opened) {
            return Ok(Status::DONE);
        }
        self.unlooked = false;
        let picked = self.options.pick.look(&mut self.imap, &group.cursor, opened.uidnext)?;
        self.fetch(name, group, picked, out)
    }

    fn uidvalidity(&self, name: &str, opened: &Opened) -> Result<u32> {
        opened.uidvalidity.filter(|number| *number != 0).ok_or_else(|| {
            let why = "the server gives no UIDVALIDITY, so its UIDs mean nothing";
            self.wrong(name, Kind::Protocol, why)
        })
    }

    fn fetch(&mut self, name: &str, group: &mut Group, picked: Picked, out: &Out<'_, '_>) -> Result<Status> {
        let mut status = Status::DONE;
        self.skip_large(name, group, picked.large, out)?;
        group.cursor.note(&picked.verdict)?;
        let mut all = true;
        if !picked.wanted.is_empty() {
            let mut known = self.known(group)?;
            let loaded = download::run(self, name, group, &mut known, &picked.wanted, out)?;
            all = loaded.skipped.is_empty() && loaded.large.is_empty();
            self.skip_large(name, group, loaded.large, out)?;
            // It did not come, however often that was said already.
            status.merge(loaded.status);
            for one in group.skip(loaded.skipped, out)? {
                report::trouble(format_args!(
                    "{}: UID {} skipped: {}; it is asked for again next time",
                    self.options.of(name),
                    one.uid,
                    one.reason
                ));
            }
            match loaded.trouble {
                Some(_) if stop::requested() || nobody_reads(out) => return Ok(status),
                Some(trouble) => return Err(trouble),
                None => {}
            }
        }
        let ended = stop::requested() || nobody_reads(out);
        if picked.complete && all && !ended && !group.cursor.is_settled() {
            group.cursor.settle()?;
        }
        group.cursor.tidy()?;
        Ok(status)
    }

    fn skip_large(
        &self,
        name: &str,
        group: &mut Group,
        large: Vec<Skipped>,
        out: &Out<'_, '_>,
    ) -> Result<()> {
        for one in group.skip(large, out)? {
            let size = one.size.unwrap_or_default();
            report::say(format_args!(
                "{}: UID {} skipped: {size} octets are more than --max-size allows",
                self.options.of(name),
                one.uid
            ));
        }
        Ok(())
    }

    /// The mailbox, opened for reading if it is not.
    fn open(&mut self, name: &str) -> Result<Opened> {
        match &self.open {
            // A lasting session hears of what is new, but not of the next UID.
            Some((open, opened, _)) if open == name => {
                Ok(Opened { uidnext: None, exists: 1, ..opened.clone() })
            }
            _ => self.open_anew(name),
        }
    }

    fn open_anew(&mut self, name: &str) -> Result<Opened> {
        self.open = None;
        let opened = self.imap.examine(name)?;
        self.open = Some((name.to_string(), opened.clone(), false));
        self.unlooked = false;
        Ok(opened)
    }

    /// The mailbox, opened so that it can be changed.
    fn open_to_change(&mut self, name: &str) -> Result<Opened> {
        match &self.open {
            Some((open, opened, true)) if open == name => Ok(opened.clone()),
            _ => {
                self.open = None;
                let opened = self.imap.select(name)?;
                self.open = Some((name.to_string(), opened.clone(), true));
                self.unlooked = true;
                Ok(opened)
            }
        }
    }

    /// What of this mailbox may lie here already without the cursor knowing, because UIDs or the cursor are new.
    fn known(&self, group: &Group) -> Result<Known> {
        match (group.cursor.is_settled(), group.cursor.uidvalidity()) {
            (false, Some(uidvalidity)) => {
                Known::of(&group.maildir, &group.source, uidvalidity, group.cursor.matched())
            }
            _ => Ok(Known::default()),
        }
    }

    fn wrong(&self, name: &str, kind: Kind, why: &str) -> Error {
        Error::new(kind, format!("cannot work on {}", self.options.of(name)), why)
    }
}

/// The Maildir++ directory of a mailbox; none for INBOX.
fn directory_of(target: &Target) -> Result<Option<String>> {
    mailbox::directory(&target.name, target.delimiter.as_deref())
        .map_err(|why| Error::plain(Kind::CannotCreate, why))
}

/// Trouble after which other mailboxes can be fetched, if the line is still good.
fn is_only_this_mailbox(kind: Kind) -> bool {
    !matches!(kind, Kind::Io | Kind::Config | Kind::Internal)
}
