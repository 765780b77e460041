//! Looking and downloading: nothing of it changes anything on the server.

use super::tap::Sink;
use super::{Fetched, Imap, LONGEST_SET, Opened, fetched};
use crate::error::{Error, Kind, Result};
use crate::mail::uids::Uids;

/// The descriptions that answer one command are kept until its end.
const MOST_DESCRIBED: u64 = 20_000;

impl Imap {
    /// Opens a mailbox for reading only.
    pub fn examine(&mut self, name: &str) -> Result<Opened> {
        self.open(name, "EXAMINE")
    }

    /// Opens a mailbox so that it can be changed.
    pub fn select(&mut self, name: &str) -> Result<Opened> {
        self.open(name, "SELECT")
    }

    fn open(&mut self, name: &str, verb: &str) -> Result<Opened> {
        (self.shared.borrow_mut().exists, self.shared.borrow_mut().numbers) = (None, (None, None));
        let command = format!("{verb} {}", self.on_wire(name)?);
        self.change(&format!("opening mailbox {name:?}"), &command)?;
        let mut shared = self.shared.borrow_mut();
        // The EXISTS of the opening itself is no news.
        shared.news = false;
        let (uidvalidity, uidnext) = shared.numbers;
        Ok(Opened { uidvalidity, uidnext, exists: shared.exists })
    }

    /// The UIDs from `first` on that fit `criteria` (SEARCH keys, RFC 9051 section 6.4.4), ascending; and the last one of
    /// the mailbox, which `n:*` names even where its UID is below n (section 9).
    pub fn search(&mut self, first: u32, criteria: Option<&str>) -> Result<Vec<u32>> {
        self.shared.borrow_mut().news = false;
        let query = match criteria {
            None => format!("UID {first}:*"),
            // RFC 6855 section 3: it is UTF-8 then, and saying so is an error.
            Some(criteria) if criteria.is_ascii() || self.is_enabled("UTF8=ACCEPT") => {
                format!("UID {first}:* {criteria}")
            }
            Some(criteria) => format!("CHARSET UTF-8 UID {first}:* {criteria}"),
        };
        if query.contains(['\r', '\n', '\0']) {
            return Err(Error::plain(Kind::Usage, "a search cannot hold a line break"));
        }
        self.shared.borrow_mut().found = Some(Vec::new());
        let done =
            self.ask("searching", |session| session.run_command_and_check_ok(format!("UID SEARCH {query}")));
        let found = self.shared.borrow_mut().found.take();
        done?;
        let mut uids = found.unwrap_or_default();
        uids.sort_unstable();
        uids.dedup();
        Ok(uids)
    }

    /// What the server says of these messages besides their bodies: sizes, dates, flags; in the order of their UIDs.
    pub fn describe(&mut self, uids: &Uids) -> Result<Vec<Fetched>> {
        let mut described = Vec::new();
        for piece in uids.pieces(LONGEST_SET, MOST_DESCRIBED) {
            let command = format!("UID FETCH {piece} (UID RFC822.SIZE INTERNALDATE FLAGS)");
            let responses = self.collect("looking at messages", &command)?;
            described.extend(responses.iter().filter_map(|one| fetched::read(one)).map(|(one, _)| one));
        }
        // Each once, and none that nobody asked for: whoever owns the server says how many come.
        described.sort_by_key(|one: &Fetched| (one.uid, one.size.is_none()));
        described.dedup_by_key(|one| one.uid);
        described.retain(|one| uids.contains(one.uid));
        Ok(described)
    }

    /// Runs a command whose FETCH, LIST and STATUS responses are read here.
    pub(super) fn collect(&mut self, doing: &str, command: &str) -> Result<Vec<Vec<u8>>> {
        self.shared.borrow_mut().collected = Some(Vec::new());
        let done = self.ask(doing, |session| session.run_command_and_check_ok(command));
        let collected = self.shared.borrow_mut().collected.take();
        done.map(|()| collected.unwrap_or_default())
    }

    /// Downloads messages: each goes to `sink` as it comes. Those that are gone by now are left out; so is what the
    /// server cannot give, which it says by a NO at the end ([`Kind::Refused`]).
    pub fn download(&mut self, uids: &Uids, sink: Box<dyn Sink>) -> Result<()> {
        self.shared.borrow_mut().sink = Some(sink);
        let command = format!("UID FETCH {uids} (UID INTERNALDATE FLAGS BODY.PEEK[])");
        let done = self.ask("downloading messages", |session| session.run_command_and_check_ok(command));
        self.shared.borrow_mut().sink = None;
        done
    }
}
