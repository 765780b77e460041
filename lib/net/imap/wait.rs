//! Waiting for news of a mailbox, and asking for them.

use std::time::Duration;

use super::tap::Idle;
use super::{Imap, News};
use crate::error::{Error, Kind, Result};

impl Imap {
    /// True if the server announced new messages since the last [`Imap::search`] began.
    pub fn has_news(&self) -> bool {
        self.shared.borrow().news
    }

    /// How many messages the open mailbox has now, where the server said so.
    pub fn exists(&self) -> Option<u32> {
        self.shared.borrow().exists
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
}
