//! How names of mailboxes go over the line.

use super::Imap;
use crate::error::{Error, Kind, Result};
use crate::mail::mailbox;
use crate::report;

impl Imap {
    /// Names are in modified UTF-7 unless the server speaks nothing older than IMAP4rev2 (RFC 9051 section 5.1), or
    /// speaks UTF-8 only and was told that we do (RFC 6855).
    pub(super) fn settle_names(&mut self) -> Result<()> {
        if self.has("UTF8=ONLY") {
            let done = self
                .ask("asking for UTF-8", |session| session.run_command_and_check_ok("ENABLE UTF8=ACCEPT"));
            match done {
                Err(no) if !self.spent => report::detail(no),
                done => done?,
            }
        }
        self.utf8 = self.has("IMAP4REV2") && !self.has("IMAP4REV1") || self.is_enabled("UTF8=ACCEPT");
        Ok(())
    }

    pub(super) fn is_enabled(&self, extension: &str) -> bool {
        self.shared.borrow().enabled.iter().any(|word| word == extension)
    }

    /// The name, or pattern, of a mailbox as it stands in a command.
    pub(super) fn on_wire(&self, name: &str) -> Result<String> {
        if !self.utf8 {
            return Ok(quoted(&mailbox::to_wire(name)));
        }
        match name.contains(['\r', '\n', '\0']) {
            true => {
                let words = self.words(&format!("naming mailbox {name:?}"));
                Err(Error::new(Kind::Refused, words, "there is a line break in it, or a NUL"))
            }
            false => Ok(quoted(name)),
        }
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}
