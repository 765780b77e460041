//! Acting on files: the command that a rule or the command line asks for is printed, or run, once for each.
//!
//! The way of a file (`actor`): what it is and where it came from (`facts`, `place`), what is to be done with it
//! (`orders`), whether it was done before (`store::ledger`), then print the command (`once`), or do it (`perform`: `command`,
//! `transfer`), and say so (`tell`; `dead` where it is given up). Nothing is run before its claim is durable, and no lock
//! is held while it runs. Asked to end, the job finishes the file in hand.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result, Status};
use crate::record::hex;
use crate::report::{self, Records};
use crate::store::ledger::Key;

mod actor;
mod auth;
mod bytes;
mod command;
mod dead;
mod facts;
mod items;
mod memory;
mod message;
mod once;
mod orders;
mod pending;
mod perform;
mod place;
mod skip;
mod start;
mod tell;
mod transfer;
pub use auth::show as show_auth;
pub use items::{Item, from_input, from_paths, from_stdin};
pub use memory::Memory;
pub use orders::Orders;
pub(crate) use skip::GONE;
pub use start::Start;

use actor::Actor;

/// How long a command may take where neither its rule nor the caller says so.
pub const LIMIT: Duration = Duration::from_secs(300);

/// What happens with a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It is shown; nothing is remembered.
    #[default]
    Print,
    /// It is shown once, ever: it counts as emitted before it is shown.
    Once,
    /// It is run once, ever.
    Run,
}

/// What to do, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which commands.
    pub orders: Orders,
    /// What happens with them.
    pub mode: Mode,
    /// Act also on what was acted on before, and on what is unknown; what a journal holds (see [`pending`]) only
    /// where it failed or is unknown.
    pub again: bool,
    /// Show what the mode would do now; claim and run nothing.
    pub dry_run: bool,
    /// Only say, for each file, which rule matches and why the others do not.
    pub explain: bool,
    /// The state directory, where the ledger lies; not touched in [`Mode::Print`] unless files are taken from a
    /// journal or explained.
    pub state: PathBuf,
    /// Since when there is action on mail, by account.
    pub starts: Vec<Start>,
    /// How long a command may take where its rule does not say.
    pub limit: Duration,
    /// How long to wait for the ledger's lock.
    pub wait: Duration,
    /// The Maildir in which somebody is told of what was given up; made when it is needed.
    pub dead_letters: PathBuf,
    /// What earlier runs of this process said and settled: with it what is unknown is said once, and [`pending`] does not
    /// look at what cannot have changed.
    pub memory: Memory,
}

/// Acts on each item. One bad item is one line on stderr and counts in the status; an error is about all of them:
/// the ledger cannot be used, or stdout cannot be written.
///
/// On return every claim of this run is settled, whatever ended the run but a crash.
pub fn run(
    options: &Options,
    items: impl IntoIterator<Item = Result<Item>>,
    records: &mut Records<'_>,
) -> Result<Status> {
    let mut actor = Actor::open(options, false, records)?;
    for item in items {
        if actor.is_over() {
            break;
        }
        match item {
            // Whoever feeds us may wait for an answer before there is more.
            Ok(Item::Pause) => actor.flush()?,
            Ok(item) => {
                actor.act(item)?;
            }
            Err(error) => actor.trouble(&error),
        }
    }
    actor.close()
}

/// Acts on each file that the journals in these directories hold and the ledger has not settled.
///
/// A file that one of the rules has settled is not pending for the others. What is unknown is reported each time.
pub fn pending(options: &Options, outs: &[PathBuf], records: &mut Records<'_>) -> Result<Status> {
    let mut actor = Actor::open(options, true, records)?;
    for out in outs {
        if let Err(error) = actor.journal(out)? {
            actor.trouble(&error);
        }
    }
    actor.close()
}

/// Says each rule in a sentence; that they could be read at all is the check.
pub fn check(orders: &Orders, records: &mut Records<'_>) -> Result<Status> {
    for (name, sentence) in orders.sentences() {
        records.text(report::printable(&format!("rule {name} {sentence}")).as_bytes())?;
    }
    records.flush()?;
    Ok(Status::DONE)
}

/// Tells what is done once from everything else, in a file's name.
fn tag_of(key: &Key) -> String {
    let mut digest = Sha256::new();
    for part in [key.rule.as_str(), key.file.as_str(), key.message.as_deref().unwrap_or_default()] {
        digest.update(part);
        digest.update([0]);
    }
    hex(&digest.finalize()[..8])
}

/// True if a path is one of a regular file.
fn is_file(path: &Path) -> Result<()> {
    let meta = std::fs::metadata(path).map_err(|why| Error::reading(path, why))?;
    match meta.is_file() {
        true => Ok(()),
        false => Err(Error::new(
            Kind::NoInput,
            format!("cannot act on {}", path.display()),
            "it is no regular file",
        )),
    }
}
