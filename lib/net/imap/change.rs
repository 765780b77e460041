//! What changes messages on the server: always by UID.

use super::Imap;
use crate::error::{Error, Kind, Result};
use crate::mail::uids::Uids;

impl Imap {
    /// Changes flags: `+FLAGS.SILENT (\Seen)`.
    pub fn store(&mut self, uids: &Uids, change: &str) -> Result<()> {
        self.change("marking messages", &format!("UID STORE {uids} {change}"))
    }

    /// Moves messages to another mailbox (RFC 6851).
    pub fn move_to(&mut self, uids: &Uids, name: &str) -> Result<()> {
        let wire = self.on_wire(name)?;
        self.change(&format!("moving messages to {name:?}"), &format!("UID MOVE {uids} {wire}"))
    }

    /// Copies messages to another mailbox.
    pub fn copy_to(&mut self, uids: &Uids, name: &str) -> Result<()> {
        let wire = self.on_wire(name)?;
        self.change(&format!("copying messages to {name:?}"), &format!("UID COPY {uids} {wire}"))
    }

    /// Removes those of these messages that are marked as deleted, and no others (RFC 4315).
    pub fn expunge(&mut self, uids: &Uids) -> Result<()> {
        self.change("deleting messages", &format!("UID EXPUNGE {uids}"))
    }

    pub(super) fn change(&mut self, doing: &str, command: &str) -> Result<()> {
        if command.contains(['\r', '\n', '\0']) {
            return Err(Error::new(Kind::Usage, self.words(doing), "a name holds a line break"));
        }
        self.ask(doing, |session| session.run_command_and_check_ok(command))
    }
}
