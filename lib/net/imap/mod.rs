//! An IMAP session: log in, look, download to a sink, wait for news. The imap crate speaks; `tap` guards it.
//!
//! After any error but a plain refusal (NO) the session is spent: drop it and connect again. Looking and downloading
//! change nothing on the server: mailboxes are opened with EXAMINE, bodies fetched with PEEK.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use crate::config::{Peer, SecretSource};
use crate::error::{Error, Kind, Result};
use crate::mail::mailbox;
use crate::mail::uids::Uids;
use crate::report;
use crate::secret::Secret;

mod fetched;
mod found;
mod greeting;
mod line;
mod list;
mod login;
mod sasl;
mod tap;
mod value;

pub use fetched::Fetched;
pub use login::is_crowded;
pub use tap::Sink;
use tap::{Idle, Shared, Tap};

/// The longest text of a set of UIDs in a command. Servers limit a command's length; 8 KiB is safe with all of them
/// (RFC 7162 section 4).
pub const LONGEST_SET: usize = 7000;

/// A session that is logged in.
pub struct Imap {
    session: imap::Session<Tap>,
    shared: Rc<RefCell<Shared>>,
    capabilities: Vec<String>,
    peer: Peer,
    spent: bool,
    /// The server announces IDLE and refuses it.
    refuses_idle: bool,
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

/// A mailbox as a LIST names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name in UTF-8.
    pub name: String,
    /// What separates its levels.
    pub delimiter: Option<String>,
    /// How it stands, where the server said so without being asked twice (LIST-STATUS, RFC 5819).
    pub status: Option<Opened>,
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
    /// Connects and logs in with what `fetch` gives as the secret; it is asked again where a token is refused.
    ///
    /// 75 unreachable, 76 wrong certificate or broken protocol, 77 login refused, 78 where a password would go over an
    /// unprotected line.
    pub fn connect(peer: &Peer, fetch: &dyn Fn(&SecretSource) -> Result<Secret>) -> Result<Imap> {
        if !peer.server.scheme.is_imap() {
            let what = format!("{} is no IMAP server", peer.server);
            return Err(Error::plain(Kind::Usage, what).hint("write imaps://host or imap://host"));
        }
        let (session, shared) = login::log_in(peer, fetch)?;
        let (capabilities, peer) = (Vec::new(), peer.clone());
        let mut imap = Imap { session, shared, capabilities, peer, spent: false, refuses_idle: false };
        if imap.shared.borrow().capabilities.is_empty() {
            imap.ask("asking for capabilities", |session| session.run_command_and_check_ok("CAPABILITY"))?;
        }
        imap.capabilities = imap.shared.borrow().capabilities.clone();
        if imap.peer.compress {
            imap.compress()?;
        }
        Ok(imap)
    }

    /// True if the server has this capability (upper case).
    pub fn has(&self, capability: &str) -> bool {
        has(&self.capabilities, capability)
    }

    /// True once an error has left the line in an unknown state.
    pub fn is_spent(&self) -> bool {
        self.spent
    }

    /// Says goodbye; that this fails is of no interest.
    pub fn logout(mut self) {
        if !self.spent {
            let _ = self.ask("logging out", |session| session.logout());
            let (came, went) = self.traffic();
            report::detail(self.words(&format!("{came} octets came over the line, {went} went")));
        }
    }

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
        let command = format!("{verb} {}", quoted(&mailbox::to_wire(name)));
        self.change(&format!("opening mailbox {name:?}"), &command)?;
        let mut shared = self.shared.borrow_mut();
        // The EXISTS of the opening itself is no news.
        shared.news = false;
        let (uidvalidity, uidnext) = shared.numbers;
        Ok(Opened { uidvalidity, uidnext, exists: shared.exists.unwrap_or_default() })
    }

    /// The UIDs from `first` on that fit `criteria` (SEARCH keys, RFC 9051 section 6.4.4), ascending; and the last one of
    /// the mailbox, which `n:*` names even where its UID is below n (section 9).
    pub fn search(&mut self, first: u32, criteria: Option<&str>) -> Result<Vec<u32>> {
        self.shared.borrow_mut().news = false;
        let query = match criteria {
            None => format!("UID {first}:*"),
            Some(criteria) if criteria.is_ascii() => format!("UID {first}:* {criteria}"),
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
        described.sort_by_key(|one: &Fetched| one.uid);
        described.dedup_by_key(|one| one.uid);
        described.retain(|one| uids.contains(one.uid));
        Ok(described)
    }

    /// Runs a command whose FETCH, LIST and STATUS responses are read here.
    fn collect(&mut self, doing: &str, command: &str) -> Result<Vec<Vec<u8>>> {
        self.shared.borrow_mut().collected = Some(Vec::new());
        let done = self.ask(doing, |session| session.run_command_and_check_ok(command));
        let collected = self.shared.borrow_mut().collected.take();
        done.map(|()| collected.unwrap_or_default())
    }

    /// Changes flags: `+FLAGS.SILENT (\Seen)`.
    pub fn store(&mut self, uids: &Uids, change: &str) -> Result<()> {
        self.change("marking messages", &format!("UID STORE {uids} {change}"))
    }

    /// Moves messages to another mailbox (RFC 6851).
    pub fn move_to(&mut self, uids: &Uids, name: &str) -> Result<()> {
        let wire = quoted(&mailbox::to_wire(name));
        self.change(&format!("moving messages to {name:?}"), &format!("UID MOVE {uids} {wire}"))
    }

    /// Copies messages to another mailbox.
    pub fn copy_to(&mut self, uids: &Uids, name: &str) -> Result<()> {
        let wire = quoted(&mailbox::to_wire(name));
        self.change(&format!("copying messages to {name:?}"), &format!("UID COPY {uids} {wire}"))
    }

    /// Removes those of these messages that are marked as deleted, and no others (RFC 4315).
    pub fn expunge(&mut self, uids: &Uids) -> Result<()> {
        self.change("deleting messages", &format!("UID EXPUNGE {uids}"))
    }

    fn change(&mut self, doing: &str, command: &str) -> Result<()> {
        if command.contains(['\r', '\n', '\0']) {
            return Err(Error::new(Kind::Usage, self.words(doing), "a name holds a line break"));
        }
        self.ask(doing, |session| session.run_command_and_check_ok(command))
    }

    /// True if the server announced new messages since the last [`Imap::uids_from`] began.
    pub fn has_news(&self) -> bool {
        self.shared.borrow().news
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

    /// Octets that came and went over this connection since the login began, as they are on the wire, within TLS.
    pub fn traffic(&self) -> (u64, u64) {
        self.shared.borrow().traffic
    }

    /// Has both sides compress (RFC 4978), where the server knows how; it is said once where it does not.
    fn compress(&mut self) -> Result<()> {
        let why = if self.has("COMPRESS=DEFLATE") {
            self.shared.borrow_mut().packing = true;
            let done = self.ask("asking for compression", |session| {
                session.run_command_and_check_ok("COMPRESS DEFLATE")
            });
            self.shared.borrow_mut().packing = false;
            match done {
                Err(no) if !self.spent => no.to_string(),
                done => return done,
            }
        } else {
            self.words("the server does not compress")
        };
        self.say_once(&why, "going on without compression");
        Ok(())
    }

    /// Each connection would say it again.
    fn say_once(&self, why: &dyn std::fmt::Display, so: &str) {
        static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        let what = self.words(so);
        if SAID.lock().is_ok_and(|mut said| said.insert(what)) {
            report::say(format_args!("{why}; {so}"));
        }
    }

    /// True if the last command was answered with NO or BAD.
    fn is_refused(&self) -> bool {
        let status = self.shared.borrow().status.to_ascii_uppercase();
        status.starts_with("NO") || status.starts_with("BAD")
    }

    /// Waits for news of the open mailbox with IDLE (RFC 2177), at most this long. Returns at once if there are some,
    /// and with `None` where the server knows no IDLE or refuses it; it is not asked again over this connection.
    pub fn idle(&mut self, limit: Duration) -> Result<Option<News>> {
        if self.has_news() {
            return Ok(Some(News::Some));
        }
        if self.refuses_idle || !self.has("IDLE") {
            return Ok(None);
        }
        self.shared.borrow_mut().status.clear();
        self.shared.borrow_mut().idle = Idle::Asked(limit);
        let doing = "waiting for news (IDLE)";
        let done = self.ask(doing, |session| session.run_command_and_check_ok("IDLE"));
        let idle = std::mem::take(&mut self.shared.borrow_mut().idle);
        let said_goodbye = self.shared.borrow().bye.is_some();
        let wrong = |why| Error::new(Kind::Temporary, self.words(doing), why);
        match (idle, done) {
            (Idle::Done, Ok(())) => Ok(Some(if self.has_news() { News::Some } else { News::None })),
            (Idle::Asked(_), Err(error)) if self.is_refused() => {
                // The line is as good as before.
                (self.spent, self.refuses_idle) = (false, true);
                self.say_once(&error, "asking for news every now and then instead");
                Ok(None)
            }
            (Idle::Done, Err(error)) if error.kind() == Kind::Temporary && !said_goodbye => {
                Err(wrong("no answer to DONE"))
            }
            (_, Err(error)) => Err(error),
            (_, Ok(())) => {
                let error = wrong("the server says that it is over, and nobody ended it");
                self.spent = true;
                Err(error)
            }
        }
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
        self.spent |= !matches!(done, Ok(Ok(_) | Err(imap::Error::No(_))));
        match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(why)) => Err(login::explain(words, why, &self.shared.borrow())),
            Err(_) => Err(Error::new(Kind::Protocol, words, "the server's answer makes no sense")),
        }
    }

    fn words(&self, doing: &str) -> String {
        format!("{} at {}: {doing}", self.peer.name, self.peer.server)
    }
}

/// The descriptions that answer one command are kept until its end.
const MOST_DESCRIBED: u64 = 20_000;

/// What every server of IMAP4rev2 can do without saying so (RFC 9051 appendix E).
const IN_REV2: &[&str] = &[
    "ENABLE",
    "ESEARCH",
    "IDLE",
    "LIST-EXTENDED",
    "LIST-STATUS",
    "LITERAL-",
    "MOVE",
    "NAMESPACE",
    "SASL-IR",
    "SEARCHRES",
    "SPECIAL-USE",
    "STATUS=SIZE",
    "UIDPLUS",
    "UNSELECT",
];

/// True if these words say that the server can do it. One that also speaks IMAP4rev1 says each by itself: nothing of
/// rev2 holds there until it is asked for.
fn has(capabilities: &[String], capability: &str) -> bool {
    let says = |word: &str| capabilities.iter().any(|have| have == word);
    says(capability) || (IN_REV2.contains(&capability) && says("IMAP4REV2") && !says("IMAP4REV1"))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}
