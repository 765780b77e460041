//! An IMAP session: log in, look, download to a sink, wait for news. The imap crate speaks; `tap` guards it.
//!
//! After any error but a plain refusal (NO) the session is spent: drop it and connect again. Nothing here changes
//! anything on the server: mailboxes are opened with EXAMINE, bodies fetched with PEEK.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use imap::types::Flag;

use crate::config::Peer;
use crate::error::{Error, Kind, Result};
use crate::mail::mailbox;
use crate::mail::uids::Uids;

mod login;
mod tap;

pub use tap::Sink;
use tap::{Shared, Tap};

/// A session that is logged in.
pub struct Imap {
    session: imap::Session<Tap>,
    shared: Rc<RefCell<Shared>>,
    capabilities: Vec<String>,
    peer: Peer,
}

/// A mailbox as the server presents it on EXAMINE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Changes when UIDs start anew (RFC 9051 section 2.3.1.1); `None` or 0 means that UIDs mean nothing.
    pub uidvalidity: Option<u32>,
    /// The next UID that will be given out, where the server says so.
    pub uidnext: Option<u32>,
    /// How many messages there are.
    pub exists: u32,
}

/// What came with one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Its UID.
    pub uid: u32,
    /// The number that the sink gave it; `None` where the server sent no body.
    pub number: Option<u64>,
    /// INTERNALDATE, seconds since 1970.
    pub received: Option<i64>,
    /// Maildir flag letters, in ASCII order, without `T` for what is only marked deleted on the server.
    pub flags: String,
}

/// How a wait for news ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The mailbox changed.
    Some,
    /// Nothing within the time.
    None,
}

impl Imap {
    /// Connects and logs in. 75 unreachable, 76 wrong certificate or broken protocol, 77 login refused.
    pub fn connect(peer: &Peer) -> Result<Imap> {
        let (session, shared) = login::log_in(peer)?;
        let mut imap = Imap { session, shared, capabilities: Vec::new(), peer: peer.clone() };
        if imap.shared.borrow().capabilities.is_empty() {
            imap.ask("asking for capabilities", |session| session.run_command_and_check_ok("CAPABILITY"))?;
        }
        imap.capabilities = imap.shared.borrow().capabilities.clone();
        Ok(imap)
    }

    /// True if the server has this capability (upper case).
    pub fn has(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|have| have == capability)
    }

    /// Says goodbye; that this fails is of no interest.
    pub fn logout(mut self) {
        let _ = self.ask("logging out", |session| session.logout());
    }

    /// The hierarchy delimiter of a mailbox; an error (69) if there is no such mailbox.
    pub fn delimiter(&mut self, name: &str) -> Result<Option<String>> {
        let wire = mailbox::to_wire(name);
        let doing = format!("looking for mailbox {name:?}");
        // A name with wildcards would be a pattern; such a mailbox has the delimiter of the others.
        let pattern = if wire.contains(['%', '*']) { "INBOX".to_string() } else { wire };
        let found = self.ask(&doing, |session| {
            let names = session.list(None, Some(&quoted(&pattern)))?;
            Ok(names.iter().next().map(|name| name.delimiter().map(String::from)))
        })?;
        found.ok_or_else(|| {
            Error::new(Kind::Refused, self.words(&doing), "there is no such mailbox").hint("check the name")
        })
    }

    /// Opens a mailbox for reading only.
    pub fn examine(&mut self, name: &str) -> Result<Opened> {
        let wire = mailbox::to_wire(name);
        self.shared.borrow_mut().news = false;
        let opened = self.ask(&format!("opening mailbox {name:?}"), |session| session.examine(&wire))?;
        let uidnext = opened.uid_next;
        Ok(Opened { uidvalidity: opened.uid_validity, uidnext, exists: opened.exists })
    }

    /// The UIDs that exist from `first` on, ascending.
    pub fn uids_from(&mut self, first: u32) -> Result<Vec<u32>> {
        self.shared.borrow_mut().news = false;
        let found = self.ask("searching", |session| session.uid_search(format!("UID {first}:*")))?;
        // `n:*` names the last message even where its UID is below n (RFC 9051 section 9).
        let mut uids: Vec<u32> = found.into_iter().filter(|uid| *uid >= first).collect();
        uids.sort_unstable();
        Ok(uids)
    }

    /// True if the server announced new messages since the last [`Imap::uids_from`] began.
    pub fn has_news(&self) -> bool {
        self.shared.borrow().news
    }

    /// Downloads messages; their octets go to `sink` as they come. Those that are gone by now are left out.
    pub fn download(&mut self, uids: &Uids, sink: Box<dyn Sink>) -> Result<Vec<Fetched>> {
        self.shared.borrow_mut().sink = Some(sink);
        let got = self.ask("downloading messages", |session| {
            let answer = session.uid_fetch(uids.to_string(), "(UID INTERNALDATE FLAGS BODY.PEEK[])")?;
            Ok(answer.iter().filter_map(fetched).collect())
        });
        self.shared.borrow_mut().sink = None;
        got
    }

    /// Waits for news of the open mailbox with IDLE (RFC 2177), at most this long. Returns at once if there are some.
    pub fn idle(&mut self, limit: Duration) -> Result<News> {
        if self.has_news() {
            return Ok(News::Some);
        }
        self.shared.borrow_mut().idle_starts = true;
        let done = self.ask("waiting for news (IDLE)", |session| {
            let mut handle = session.idle();
            handle.timeout(limit).keepalive(false);
            handle.wait_while(|response| !matches!(response, imap::types::UnsolicitedResponse::Exists(_)))
        });
        let mut shared = self.shared.borrow_mut();
        (shared.idle_starts, shared.idling) = (false, false);
        Ok(match (done?, shared.news) {
            (imap::extensions::idle::WaitOutcome::TimedOut, false) => News::None,
            _ => News::Some,
        })
    }

    /// Asks whether the server is still there.
    pub fn noop(&mut self) -> Result<()> {
        self.ask("asking for news", |session| session.noop())
    }

    /// Runs one exchange. The crate can panic on what a server says; that counts as a broken protocol.
    fn ask<T>(
        &mut self,
        doing: &str,
        exchange: impl FnOnce(&mut imap::Session<Tap>) -> imap::Result<T>,
    ) -> Result<T> {
        let session = &mut self.session;
        let done = catch_unwind(AssertUnwindSafe(|| exchange(session)));
        let words = self.words(doing);
        match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(why)) => Err(login::explain(words, why, self.shared.borrow().bye.as_deref())),
            Err(_) => Err(Error::new(Kind::Protocol, words, "the server's answer makes no sense")),
        }
    }

    fn words(&self, doing: &str) -> String {
        format!("{} at {}: {doing}", self.peer.name, self.peer.server)
    }
}

/// The crate quotes the reference name but not the pattern.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

fn fetched(answer: &imap::types::Fetch<'_>) -> Option<Fetched> {
    // An answer without a UID is a change of flags that nobody asked for.
    let uid = answer.uid?;
    let number =
        answer.body().and_then(|body| std::str::from_utf8(body).ok()).and_then(|text| text.parse().ok());
    let mut flags: Vec<char> = answer.flags().iter().filter_map(letter).collect();
    flags.sort_unstable();
    let received = answer.internal_date().map(|date| date.timestamp());
    Some(Fetched { uid, number, received, flags: flags.into_iter().collect() })
}

fn letter(flag: &Flag<'_>) -> Option<char> {
    match flag {
        Flag::Seen => Some('S'),
        Flag::Answered => Some('R'),
        Flag::Flagged => Some('F'),
        Flag::Draft => Some('D'),
        Flag::Custom(name) if name.eq_ignore_ascii_case("$Forwarded") => Some('P'),
        _ => None,
    }
}
