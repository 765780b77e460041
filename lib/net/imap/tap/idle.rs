//! IDLE (RFC 2177) as one command that is answered in the end: DONE is said here, when there is news or the time is up.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use super::Tap;
use crate::report;
use crate::stop;

/// Where we stand with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::net::imap) enum Idle {
    /// It is not used.
    #[default]
    None,
    /// It is asked for, for so long.
    Asked(Duration),
    /// The server watches for us, until then.
    Waits(Option<Instant>),
    /// DONE was said: its answer ends it.
    Done,
}

impl Idle {
    /// The server has agreed; false where nobody asked.
    pub fn begin(&mut self) -> bool {
        let Idle::Asked(limit) = *self else { return false };
        *self = Idle::Waits(Instant::now().checked_add(limit));
        true
    }
}

impl Tap {
    /// The next octets. While IDLE runs this ends it in time.
    pub(super) fn receive(&mut self) -> io::Result<usize> {
        loop {
            let (idle, news) = (self.shared.borrow().idle, self.shared.borrow().news);
            // Whoever calls us wants us to look, not to take an answer that is under way for one that never came.
            let Idle::Waits(until) = idle else {
                return stop::closed_to_calls(|| self.line.read(&mut self.buffer));
            };
            if news || until.is_some_and(|until| Instant::now() >= until) {
                self.say_done()?;
                continue;
            }
            self.line.set_deadline(until);
            let read = self.line.read(&mut self.buffer);
            self.line.set_deadline(None);
            match read {
                // Or somebody wants us earlier, or the machine slept: the answer to DONE shows whether the line holds.
                Err(why) if why.kind() == io::ErrorKind::TimedOut => self.say_done()?,
                done => return done,
            }
        }
    }

    fn say_done(&mut self) -> io::Result<()> {
        report::trace("C: DONE");
        self.shared.borrow_mut().idle = Idle::Done;
        self.line.write_all(b"DONE\r\n")?;
        self.line.flush()
    }
}
