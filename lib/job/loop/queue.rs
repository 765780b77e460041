//! Between dissect and act: a few records in memory, never more. What does not fit is not waited for: it stands in the
//! journal, and act looks there.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::record::File;
use crate::report;
use crate::stop;

/// So many records wait at most.
const MOST: usize = 1000;

/// Records on their way.
pub(super) struct Queue {
    now: Mutex<Waiting>,
    ring: UnixStream,
    ear: UnixStream,
}

/// What waits.
#[derive(Default)]
pub(super) struct Waiting {
    /// In the order in which they came.
    pub files: VecDeque<File>,
    /// There was more: the journal has all of it.
    pub lost: bool,
}

impl Queue {
    pub fn new() -> io::Result<Queue> {
        let (ring, ear) = UnixStream::pair()?;
        ring.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        Ok(Queue { now: Mutex::default(), ring, ear })
    }

    /// Takes one more; returns at once.
    pub fn push(&self, file: File) {
        let mut now = self.now();
        match now.files.len() < MOST {
            true => now.files.push_back(file),
            false => now.lost = true,
        }
        drop(now);
        let _ = (&self.ring).write(b"!");
    }

    /// All that waits; empty at the latest after `limit`, or when this thread is to end.
    pub fn take(&self, limit: Duration) -> Waiting {
        let _ = stop::wait(&[self.ear.as_fd()], limit);
        let mut sink = [0; 256];
        while matches!((&self.ear).read(&mut sink), Ok(1..)) {}
        std::mem::take(&mut *self.now())
    }

    fn now(&self) -> MutexGuard<'_, Waiting> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing end, for a stage that tells JSON lines.
pub(super) struct Pipe<'a> {
    pub queue: &'a Queue,
    line: Vec<u8>,
}

impl<'a> Pipe<'a> {
    pub fn into(queue: &'a Queue) -> Pipe<'a> {
        Pipe { queue, line: Vec::new() }
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.pop_if(|byte| *byte == b'\n').is_some() {
                match File::read(&String::from_utf8_lossy(&self.line)) {
                    Ok(file) => self.queue.push(file),
                    Err(error) => report::trouble(&error),
                }
                self.line.clear();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RecordPath;
    use crate::report::{Form, Records};

    #[test]
    fn what_does_not_fit_is_known_to_be_lost() {
        let queue = Queue::new().unwrap();
        let mut records = Records::new(Pipe::into(&queue), Form::Json);
        for n in 0..MOST + 5 {
            let file = File { path: RecordPath(Some(format!("/x/{n}").into())), ..File::fresh() };
            records.json(&file).unwrap();
        }
        records.flush().unwrap();
        let took = queue.take(Duration::from_secs(10));
        assert!(took.lost && took.files.len() == MOST);
        assert_eq!(took.files[7].path.get().unwrap(), std::path::Path::new("/x/7"));
        queue.push(File::fresh());
        let took = queue.take(Duration::from_secs(10));
        assert!(!took.lost && took.files.len() == 1);
        assert!(queue.take(Duration::ZERO).files.is_empty());
    }
}
