//! One mailbox: opened where something may be new, looked at, fetched from, and settled on the server.

use super::claim::Claim;
use super::group::{Group, Out, nobody_reads};
use super::known::Known;
use super::pick::{Picked, Target};
use super::{After, Fetcher, Options, after, download};
use crate::error::{Error, Kind, Result, Status};
use crate::mail::mailbox;
use crate::net::imap::Opened;
use crate::report;
use crate::stop;
use crate::store::cursor::{Cursor, Seen, Skipped};
use crate::store::maildir::{self, Maildir};

impl Fetcher<'_> {
    /// Fetches what is new in one mailbox and does what is owed there; with `stay` it is open afterwards.
    pub(super) fn mailbox(&mut self, target: &Target, stay: bool, out: &Out<'_, '_>) -> Result<Status> {
        if self.options.dry_run {
            return self.foretell(target);
        }
        let source = maildir::source(&self.options.account, &target.name);
        // Who is at work there serves it for us; but who waits for its news has to look with their own eyes.
        let claim = match stay {
            true => Claim::await_turn(&self.options.maildir, &source),
            false => Claim::take(&self.options.maildir, &source),
        };
        let Some(_claim) = claim else { return Ok(Status::DONE) };
        let mut group = self.group(target, source)?;
        group.recover(out)?;
        let before = group.cursor.taken().len();
        let mut status = match &target.status {
            // Where nothing is new nothing is opened.
            Some(stands) if !stay && self.is_old_news(&group.cursor, stands) => Status::DONE,
            _ => self.look(&target.name, &mut group, out)?,
        };
        self.looked |= stay;
        self.came |= group.cursor.taken().len() != before;
        if !group.cursor.owed().is_empty() && !stop::requested() && !self.imap.is_spent() {
            status.merge(after::settle(self, &target.name, &mut group)?);
        }
        Ok(status)
    }

    /// The Maildir and the cursor of a mailbox, locked.
    fn group(&self, target: &Target, source: String) -> Result<Group> {
        let Options { account, peer, maildir, after, .. } = self.options;
        let mut maildir = Maildir::create(maildir)?;
        if let Some(directory) = directory_of(target)? {
            maildir = maildir.subfolder(&directory)?;
        }
        let cursor = Cursor::open(&maildir.dir, &source, account, &target.name, peer.timeout)?;
        Ok(Group { maildir, source, cursor, owes: (*after != After::Keep).then(|| after.to_string()) })
    }

    /// True if everything that there is has been seen.
    pub(super) fn is_old_news(&self, seen: &Seen, stands: &Opened) -> bool {
        let now = jiff::Timestamp::now().as_second();
        let is_old = |next| self.options.pick.is_old_news(seen, next, now);
        seen.uidvalidity() == stands.uidvalidity
            && stands.uidvalidity.is_some_and(|number| number != 0)
            && (stands.exists == Some(0) || stands.next().is_some_and(is_old))
    }

    fn look(&mut self, name: &str, group: &mut Group, out: &Out<'_, '_>) -> Result<Status> {
        let opened = self.open(name)?;
        let uidvalidity = self.uidvalidity(name, &opened)?;
        let before = group.cursor.uidvalidity();
        if let Some(before) = before.filter(|before| *before != uidvalidity) {
            if opened.exists == Some(0) {
                // A server that has lost sight of its mail makes a new mailbox, and the old one may be back tomorrow.
                return Ok(Status::DONE);
            }
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
        let picked = self.options.pick.look(&mut self.imap, &group.cursor, opened.next())?;
        self.fetch(name, group, picked, out)
    }

    pub(super) fn uidvalidity(&self, name: &str, opened: &Opened) -> Result<u32> {
        opened.uidvalidity.filter(|number| *number != 0).ok_or_else(|| {
            let why = "the server gives no UIDVALIDITY, so its UIDs mean nothing";
            self.wrong(name, Kind::Protocol, why)
        })
    }

    fn fetch(&mut self, name: &str, group: &mut Group, picked: Picked, out: &Out<'_, '_>) -> Result<Status> {
        let mut status = Status::DONE;
        self.skip_large(name, group, picked.large.clone(), out)?;
        group.cursor.note(&picked.verdict)?;
        let mut all = true;
        if picked.all().next().is_some() {
            let mut known = self.known(group)?;
            let loaded = download::run(self, name, group, &mut known, &picked, out)?;
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
    pub(super) fn open(&mut self, name: &str) -> Result<Opened> {
        match &self.open {
            // A lasting session hears of what is new, but not of the next UID.
            Some((open, opened, _)) if open == name => {
                Ok(Opened { uidnext: None, exists: self.imap.exists(), ..opened.clone() })
            }
            _ => self.open_anew(name),
        }
    }

    pub(super) fn open_anew(&mut self, name: &str) -> Result<Opened> {
        self.open = None;
        let opened = self.imap.examine(name)?;
        self.open = Some((name.to_string(), opened.clone(), false));
        self.unlooked = false;
        Ok(opened)
    }

    /// The mailbox, opened so that it can be changed.
    pub(super) fn open_to_change(&mut self, name: &str) -> Result<Opened> {
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
}

/// The Maildir++ directory of a mailbox; none for INBOX.
pub(super) fn directory_of(target: &Target) -> Result<Option<String>> {
    mailbox::directory(&target.name, target.delimiter.as_deref())
        .map_err(|why| Error::plain(Kind::CannotCreate, why))
}
