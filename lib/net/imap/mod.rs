//! An IMAP session: log in, look, download to a sink, wait for news. The imap crate speaks; `tap` guards it.
//!
//! After any error but a plain refusal (NO) the session is spent: drop it and connect again. Looking and downloading
//! change nothing on the server: mailboxes are opened with EXAMINE, bodies fetched with PEEK.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Mutex;

use crate::config::{Peer, SecretSource};
use crate::error::{Error, Kind, Result};
use crate::report;
use crate::secret::Secret;

mod change;
mod fetched;
mod found;
mod greeting;
mod line;
mod list;
mod login;
mod look;
mod names;
mod sasl;
mod tap;
mod value;
mod wait;

pub use fetched::Fetched;
pub use login::is_crowded;
pub use tap::Sink;
use tap::{Shared, Tap};

/// The longest text of a set of UIDs in a command. Servers limit a command's length; 8 KiB is safe with all of them
/// (RFC 7162 section 4).
pub const LONGEST_SET: usize = 7000;

/// A session that is logged in.
pub struct Imap {
    /// None while it is made anew.
    session: Option<imap::Session<Tap>>,
    shared: Rc<RefCell<Shared>>,
    capabilities: Vec<String>,
    peer: Peer,
    spent: bool,
    /// The server announces IDLE and refuses it.
    refuses_idle: bool,
    /// Names of mailboxes go over the line in UTF-8.
    utf8: bool,
}

/// A mailbox as the server presents it on EXAMINE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Changes when UIDs start anew (RFC 9051 section 2.3.1.1); `None` or 0 means that UIDs mean nothing.
    pub uidvalidity: Option<u32>,
    /// The next UID that will be given out, as the server says; see [`Opened::next`].
    pub uidnext: Option<u32>,
    /// How many messages there are, where the server says so.
    pub exists: Option<u32>,
}

impl Opened {
    /// The next UID that will be given out, where it can be believed: there are no more messages than UIDs below it.
    pub fn next(&self) -> Option<u32> {
        self.uidnext.filter(|next| self.exists.is_some_and(|exists| *next > exists))
    }
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
        let mut imap = Imap {
            session: Some(session),
            shared,
            capabilities: Vec::new(),
            peer: peer.clone(),
            spent: false,
            refuses_idle: false,
            utf8: false,
        };
        if imap.shared.borrow().capabilities.is_empty() {
            imap.ask("asking for capabilities", |session| session.run_command_and_check_ok("CAPABILITY"))?;
        }
        imap.capabilities = imap.shared.borrow().capabilities.clone();
        if imap.peer.compress {
            imap.compress()?;
        }
        imap.settle_names()?;
        Ok(imap)
    }

    /// Connects and logs in anew. What there is is closed first: servers count how many connections a user has.
    ///
    /// As [`Imap::connect`]; after an error the session is spent.
    pub fn connect_again(&mut self, fetch: &dyn Fn(&SecretSource) -> Result<Secret>) -> Result<()> {
        (self.session, self.spent) = (None, true);
        *self = Imap::connect(&self.peer, fetch)?;
        Ok(())
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

    /// Runs one exchange. The crate can panic on what a server says; that counts as a broken protocol.
    fn ask<T>(
        &mut self,
        doing: &str,
        exchange: impl FnOnce(&mut imap::Session<Tap>) -> imap::Result<T>,
    ) -> Result<T> {
        let words = self.words(doing);
        let Some(session) = &mut self.session else {
            return Err(Error::new(Kind::Temporary, words, "the connection is closed"));
        };
        let done = catch_unwind(AssertUnwindSafe(|| exchange(session)));
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
