//! Signals for a program that lasts: TERM and INT end it, a second one at once; HUP and USR1 are words of its master.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use super::{USUAL, bell};

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// TERM or INT: end, and be done soon. Everybody's [`super::requested`] is true already.
    End,
    /// Another one: end now.
    EndNow,
    /// HUP: read the configuration again.
    Reload,
    /// USR1: look for news now.
    Sync,
}

/// Takes the place of what [`super::install`] does with signals.
pub struct Signals {
    came: [(i32, Arc<AtomicBool>); 4],
    ring: UnixStream,
    ear: UnixStream,
    ending: bool,
}

impl Signals {
    /// From now on signals are told by [`Signals::wait`] alone.
    pub fn handle() -> io::Result<Signals> {
        let (ring, ear) = UnixStream::pair()?;
        ring.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        let came =
            [SIGTERM, SIGINT, SIGHUP, SIGUSR1].map(|signal| (signal, Arc::new(AtomicBool::new(false))));
        for (signal, flag) in &came {
            signal_hook::flag::register(*signal, flag.clone())?;
            signal_hook::low_level::pipe::register(*signal, ring.try_clone()?)?;
        }
        for id in USUAL.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            signal_hook::low_level::unregister(id);
        }
        // One that came in between found both in place.
        Ok(Signals { came, ring, ear, ending: super::all_requested() })
    }

    /// Something that ends [`Signals::wait`] by hand, with `None`: write a byte to it.
    pub fn bell(&self) -> io::Result<UnixStream> {
        self.ring.try_clone()
    }

    /// Waits for a signal, at most this long.
    pub fn wait(&mut self, limit: Duration) -> Option<Signal> {
        let end = Instant::now() + limit;
        loop {
            if let Some(signal) = self.next() {
                return Some(signal);
            }
            let left = end.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let mut polled = [PollFd::from_borrowed_fd(self.ear.as_fd(), PollFlags::IN)];
            match rustix::event::poll(&mut polled, Some(&left)) {
                Err(rustix::io::Errno::INTR) => continue,
                Ok(1..) => {
                    let mut sink = [0; 64];
                    while matches!((&self.ear).read(&mut sink), Ok(1..)) {}
                }
                _ => {}
            }
            return self.next();
        }
    }

    fn next(&mut self) -> Option<Signal> {
        for (signal, flag) in &self.came {
            if !flag.swap(false, Ordering::SeqCst) {
                continue;
            }
            return Some(match *signal {
                SIGHUP => Signal::Reload,
                SIGUSR1 => Signal::Sync,
                _ if self.ending => Signal::EndNow,
                signal => {
                    self.ending = true;
                    if let Ok(bell) = bell() {
                        bell.signal.store(signal as usize, Ordering::SeqCst);
                    }
                    super::request();
                    Signal::End
                }
            });
        }
        None
    }
}
