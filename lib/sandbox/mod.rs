//! The embedded SMTP and IMAP server over a directory of Maildirs: for demos, courses and every test.
//!
//! What comes in by SMTP is durable in `DIR/ADDRESS/new/` before the 250, and at once visible over IMAP. It listens
//! on 127.0.0.1 only, knows nobody but the users it was given, and relays nothing.
//!
//! `listen` accepts, `wire` is one connection (plain or TLS), `smtp` and `imap` are the two conversations, `account`
//! knows a user's mailboxes, `maildir` is one mailbox. Disk moves are made with `std::fs`, not through
//! `crate::durable`: its numbered steps belong to the program under test, which may run in this same process.

mod account;
mod certificate;
mod imap;
mod listen;
mod maildir;
mod serve;
mod smtp;
mod wire;

use std::fmt;
use std::path::PathBuf;

use crate::error::Result;

pub use serve::{run, serve};

/// Where the server keeps its mail, whom it knows, and where it listens.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Holds one Maildir for each user, named as the address, and `ca.pem`; made if missing.
    pub dir: PathBuf,
    /// Who has a mailbox and may log in.
    pub users: Vec<User>,
    /// Port for SMTP with STARTTLS; 0 takes any free one, here and below.
    pub smtp: u16,
    /// Port for SMTP with TLS from the first byte.
    pub smtps: u16,
    /// Port for IMAP with STARTTLS.
    pub imap: u16,
    /// Port for IMAP with TLS from the first byte.
    pub imaps: u16,
    /// Largest message taken, in bytes; 0 means 256 MiB.
    pub max_size: u64,
}

/// Somebody who has a mailbox here.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// `local@domain`; mail for `local+anything@domain` arrives here too. Logs in with this or with `local`.
    pub address: String,
    /// The password for both SMTP and IMAP.
    pub password: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("address", &self.address).finish_non_exhaustive()
    }
}

impl std::str::FromStr for User {
    type Err = String;

    /// Reads `local@domain:password`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (address, password) = text.split_once(':').ok_or("write it as local@domain:password")?;
        account::check_address(address)?;
        Ok(User { address: address.to_string(), password: password.to_string() })
    }
}

/// A running server; dropping it ends it as [`Sandbox::stop`] does.
pub struct Sandbox {
    server: listen::Server,
    ca: PathBuf,
}

/// Starts the server and returns once all four ports listen. [`crate::error::Kind::CannotCreate`] if the directory
/// or a port cannot be had, [`crate::error::Kind::Usage`] if an address makes no sense.
pub fn start(options: Options) -> Result<Sandbox> {
    let (tls, ca) = certificate::make(&options.dir)?;
    let accounts = account::Accounts::open(&options)?;
    let server = listen::Server::start(&options, accounts, tls)?;
    Ok(Sandbox { server, ca })
}

impl Sandbox {
    /// `smtp://127.0.0.1:PORT`: plain text, STARTTLS offered.
    pub fn smtp_url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.server.ports.smtp)
    }

    /// `smtps://localhost:PORT`: TLS from the first byte.
    pub fn smtps_url(&self) -> String {
        format!("smtps://localhost:{}", self.server.ports.smtps)
    }

    /// `imap://127.0.0.1:PORT`: plain text, STARTTLS offered.
    pub fn imap_url(&self) -> String {
        format!("imap://127.0.0.1:{}", self.server.ports.imap)
    }

    /// `imaps://localhost:PORT`: TLS from the first byte.
    pub fn imaps_url(&self) -> String {
        format!("imaps://localhost:{}", self.server.ports.imaps)
    }

    /// The throw-away certificate authority to trust, as PEM; another one at each start.
    pub fn ca_path(&self) -> PathBuf {
        self.ca.clone()
    }

    /// Closes every connection and waits until the threads have ended; what a 250 or OK promised is on disk.
    pub fn stop(self) {}
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("ports", &self.server.ports).finish_non_exhaustive()
    }
}
