//! `--dry-run`: what would come is told, and nothing is written: no Maildir, no cursor, no lock.

use std::collections::HashMap;

use super::mailbox::directory_of;
use super::pick::{Picked, Target};
use super::{After, Fetcher};
use crate::durable::Dir;
use crate::error::{Result, Status};
use crate::net::imap::Fetched;
use crate::report;
use crate::store::cursor::Seen;
use crate::store::maildir;

impl Fetcher<'_> {
    /// Says what would be fetched from a mailbox now.
    pub(super) fn foretell(&mut self, target: &Target) -> Result<Status> {
        let name = &target.name;
        let seen = self.seen(target)?;
        self.tell_owed(name, &seen);
        if target.status.as_ref().is_some_and(|stands| self.is_old_news(&seen, stands)) {
            self.tell_picked(name, &Picked::default(), &HashMap::new());
            return Ok(Status::DONE);
        }
        let opened = self.open(name)?;
        let seen = seen.under(self.uidvalidity(name, &opened)?);
        let picked = match self.is_old_news(&seen, &opened) {
            true => Picked::default(),
            false => self.options.pick.look(&mut self.imap, &seen, opened.next())?,
        };
        let described = self.imap.describe(&picked.all().collect())?;
        let described = described.into_iter().map(|one| (one.uid, one)).collect();
        self.tell_picked(name, &picked, &described);
        Ok(Status::DONE)
    }

    /// What the cursor has seen, where there is one.
    fn seen(&self, target: &Target) -> Result<Seen> {
        let mut path = self.options.maildir.clone();
        path.extend(directory_of(target)?);
        match path.is_dir() {
            true => Seen::read(&Dir::open(path)?, &maildir::source(&self.options.account, &target.name)),
            false => Ok(Seen::default()),
        }
    }

    fn tell_owed(&self, name: &str, seen: &Seen) {
        let due = self.options.after.due(seen.owed(), jiff::Timestamp::now().as_second());
        if self.options.after != After::Keep && !due.is_empty() {
            let words = self.options.of(name);
            report::say(format_args!("{words}: {} fetched before to be settled on the server", due.len()));
        }
    }

    fn tell_picked(&self, name: &str, picked: &Picked, described: &HashMap<u32, Fetched>) {
        let words = self.options.of(name);
        let mut all = 0;
        // In the order in which they would come.
        for one in picked.all().filter_map(|uid| described.get(&uid)) {
            let size = one.size.unwrap_or_default();
            let time = one.received.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
            let time = time.map_or(String::new(), |time| format!(", received {time}"));
            report::say(format_args!("{words}: would fetch UID {}, {size} octets{time}", one.uid));
            all += size;
        }
        for one in &picked.large {
            let size = one.size.unwrap_or_default();
            report::say(format_args!(
                "{words}: would skip UID {}: {size} octets are more than --max-size allows",
                one.uid
            ));
        }
        report::say(format_args!("{words}: {} new, {all} octets", picked.all().count()));
    }
}
