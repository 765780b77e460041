//! IDLE (RFC 2177): tells what changes at once, until the client says DONE.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::{Answer, Answered, Session};
use crate::sandbox::wire::{IDLE_LIMIT, Line, Ready};

/// How often to look for what other programs did to the Maildir; our own changes wake us at once.
const TICK: Duration = Duration::from_secs(1);

impl Session<'_> {
    pub(super) fn idle(&mut self) -> Answered {
        self.wire.write_all(b"+ idling\r\n")?;
        let end = Instant::now() + IDLE_LIMIT;
        loop {
            if let Some(view) = &mut self.view {
                if view.mailbox.is_retired() {
                    return Ok(Answer::ok("the mailbox is gone"));
                }
                view.mailbox.refresh()?;
                view.update(true, self.wire)?;
            }
            let tick = if self.view.is_some() { TICK } else { IDLE_LIMIT };
            match self.wire.wait(&self.waker, tick)? {
                Ready::Woken | Ready::Neither if Instant::now() < end => {}
                Ready::Woken | Ready::Neither => return Err(io::ErrorKind::TimedOut.into()),
                Ready::Input => {
                    return match self.wire.line(1000)? {
                        Line::Whole(line) if line.trim_ascii().eq_ignore_ascii_case(b"DONE") => {
                            Ok(Answer::ok("welcome back"))
                        }
                        Line::Whole(_) | Line::TooLong => Ok(Answer::bad("expected DONE")),
                        Line::End => Err(io::ErrorKind::UnexpectedEof.into()),
                    };
                }
            }
        }
    }
}
