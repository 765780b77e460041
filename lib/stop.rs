//! Being asked to end: INT, TERM and HUP set a flag and wake every wait; a second signal ends us at once.
//!
//! A program finishes the commit group in hand and then dies by the signal it got, so that its caller sees why. A program
//! that lasts handles its signals itself ([`Signals`]) and can end or call single threads of its own ([`Task`]).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM};

mod awake;
mod signals;
mod task;
pub use awake::{doze, wait_awake};
pub use signals::{Signal, Signals};
pub use task::{Task, as_task, closed_to_calls, current, open_to_calls, was_called};

struct Bell {
    signal: Arc<AtomicUsize>,
    asked: Arc<AtomicBool>,
    ring: UnixStream,
    ear: UnixStream,
}

static BELL: OnceLock<io::Result<Bell>> = OnceLock::new();
/// What [`install`] registered, so that [`Signals`] can take its place.
static USUAL: Mutex<Vec<SigId>> = Mutex::new(Vec::new());

/// Starts listening for signals; called once by every program before its job.
pub fn install() -> io::Result<()> {
    let bell = bell()?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // Order matters: the second signal finds the flag set by the first.
        let ids = [
            signal_hook::flag::register_conditional_default(signal, bell.asked.clone())?,
            signal_hook::flag::register(signal, bell.asked.clone())?,
            signal_hook::flag::register_usize(signal, bell.signal.clone(), signal as usize)?,
            signal_hook::low_level::pipe::register(signal, bell.ring.try_clone()?)?,
        ];
        USUAL.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
    }
    Ok(())
}

fn bell() -> io::Result<&'static Bell> {
    let made = BELL.get_or_init(|| {
        let (ring, ear) = UnixStream::pair()?;
        Ok(Bell { signal: Arc::default(), asked: Arc::default(), ring, ear })
    });
    made.as_ref().map_err(|why| io::Error::new(why.kind(), why.to_string()))
}

/// True once a signal or [`request`] asked us to end, or this thread's [`Task`] is to end.
pub fn requested() -> bool {
    all_requested() || task::requested()
}

/// True once the whole process is asked to end.
pub fn all_requested() -> bool {
    matches!(BELL.get(), Some(Ok(bell)) if bell.asked.load(Ordering::SeqCst))
}

/// Asks this process to end as a signal would; for tests and for a job that ends another.
pub fn request() {
    use std::io::Write;
    if let Ok(bell) = bell() {
        bell.asked.store(true, Ordering::SeqCst);
        let _ = (&bell.ring).write_all(b"!");
    }
}

/// Readable once we are asked to end; poll it beside a socket.
pub fn ear() -> Option<BorrowedFd<'static>> {
    bell().ok().map(|bell| bell.ear.as_fd())
}

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The descriptor became readable (or broke: the read will tell).
    Ready,
    /// The time was up.
    Late,
    /// We are asked to end.
    Stopped,
}

/// Waits until one of `fds` is readable, the time is up or we are asked to end.
pub fn wait(fds: &[BorrowedFd<'_>], limit: Duration) -> io::Result<Woken> {
    wait_for(fds, PollFlags::IN, limit)
}

/// Waits until `fd` takes something, the time is up or we are asked to end.
pub fn wait_to_write(fd: BorrowedFd<'_>, limit: Duration) -> io::Result<Woken> {
    wait_for(&[fd], PollFlags::OUT, limit)
}

fn wait_for(fds: &[BorrowedFd<'_>], what: PollFlags, limit: Duration) -> io::Result<Woken> {
    let end = Instant::now() + limit;
    let task = task::current();
    let ears = [ear(), task.as_deref().map(Task::ear)];
    let fds_polled = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, what));
    let ears = ears.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN));
    let mut polled: Vec<PollFd<'_>> = fds_polled.chain(ears).collect();
    task::waits(limit);
    loop {
        if requested() {
            return Ok(Woken::Stopped);
        }
        if task::takes_call() {
            return Ok(Woken::Late);
        }
        match look(&mut polled, end)? {
            Some(0) => return Ok(Woken::Late),
            Some(_) if requested() => return Ok(Woken::Stopped),
            Some(_) if polled[..fds.len()].iter().any(|fd| !fd.revents().is_empty()) => {
                return Ok(Woken::Ready);
            }
            _ => {}
        }
    }
}

/// How many of these can be read, at `end` at the latest; `None` where a signal came first.
fn look(polled: &mut [PollFd<'_>], end: Instant) -> io::Result<Option<usize>> {
    let left = end.saturating_duration_since(Instant::now());
    let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
    match rustix::event::poll(polled, Some(&left)) {
        Ok(ready) => Ok(Some(ready)),
        Err(rustix::io::Errno::INTR) => Ok(None),
        Err(why) => Err(why.into()),
    }
}

/// Sleeps unless asked to end; true if the whole time passed.
pub fn sleep(time: Duration) -> bool {
    matches!(wait(&[], time), Ok(Woken::Late))
}

/// Ends by the signal that asked for it, so that the caller sees it; returns if there was none.
pub fn die_if_requested() {
    if let Some(Ok(bell)) = BELL.get() {
        let signal = bell.signal.load(Ordering::SeqCst);
        if signal != 0 {
            let _ = signal_hook::low_level::emulate_default_handler(signal as i32);
        }
    }
}

/// Ends by SIGPIPE: our reader has gone.
pub fn die_of_pipe() {
    let _ = signal_hook::low_level::emulate_default_handler(SIGPIPE);
}

/// Waits until `fd` is readable or the time is up, also while we are asked to end.
pub fn wait_through(fd: BorrowedFd<'_>, limit: Duration) -> io::Result<Woken> {
    wait_through_for(fd, PollFlags::IN, limit)
}

/// Waits until `fd` takes something or the time is up, also while we are asked to end.
pub fn wait_through_to_write(fd: BorrowedFd<'_>, limit: Duration) -> io::Result<Woken> {
    wait_through_for(fd, PollFlags::OUT, limit)
}

fn wait_through_for(fd: BorrowedFd<'_>, what: PollFlags, limit: Duration) -> io::Result<Woken> {
    let end = Instant::now() + limit;
    let mut polled = [PollFd::from_borrowed_fd(fd, what)];
    task::waits(limit);
    loop {
        match look(&mut polled, end)? {
            Some(0) => return Ok(Woken::Late),
            Some(_) => return Ok(Woken::Ready),
            None => {}
        }
    }
}

/// As [`wait_through`], but ends also once the whole process is asked to end; what ends a single [`Task`] does not.
pub fn wait_for_all(fd: BorrowedFd<'_>, limit: Duration) -> io::Result<Woken> {
    let end = Instant::now() + limit;
    let mut polled: Vec<PollFd<'_>> =
        [Some(fd), ear()].iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    task::waits(limit);
    loop {
        match look(&mut polled, end)? {
            Some(0) => return Ok(Woken::Late),
            Some(_) if !polled[0].revents().is_empty() => return Ok(Woken::Ready),
            Some(_) if all_requested() => return Ok(Woken::Stopped),
            _ => {}
        }
    }
}
