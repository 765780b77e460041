//! A thread of a program that lasts: it can be ended or called alone, and others see whether it still moves.
//!
//! Every wait of [`super::wait`] belongs to the task of its thread. A task that neither waits nor works but hangs is told by
//! its pulse: each wait says by when it ends at the latest.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One thread, as others see it.
#[derive(Debug)]
pub struct Task {
    asked: AtomicBool,
    called: AtomicBool,
    ring: UnixStream,
    ear: UnixStream,
    /// When its present wait ends at the latest, in milliseconds since [`begin`].
    due: AtomicU64,
}

thread_local! {
    static TASK: RefCell<Option<Arc<Task>>> = const { RefCell::new(None) };
    static CALLS: Cell<Calls> = const { Cell::new(Calls::Closed) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Calls {
    /// What is waited for now must come; a call waits too.
    Closed,
    /// A call ends the wait.
    Open,
    /// It did.
    Came,
}

impl Task {
    /// One that nobody has asked for anything.
    pub fn new() -> io::Result<Arc<Task>> {
        let (ring, ear) = UnixStream::pair()?;
        ring.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        let task = Task {
            asked: AtomicBool::new(false),
            called: AtomicBool::new(false),
            ring,
            ear,
            due: AtomicU64::new(0),
        };
        task.waits(Duration::ZERO);
        Ok(Arc::new(task))
    }

    /// Asks it to end: for its thread [`super::requested`] is true from now on.
    pub fn stop(&self) {
        self.asked.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Ends its present or next wait that is open to calls, as if the time were up.
    pub fn call(&self) {
        self.called.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// How long ago its last wait had to be over: zero while it waits, small while it works, growing if it hangs.
    pub fn late(&self) -> Duration {
        millis().saturating_sub(Duration::from_millis(self.due.load(Ordering::SeqCst)))
    }

    pub(super) fn ear(&self) -> BorrowedFd<'_> {
        self.ear.as_fd()
    }

    fn waits(&self, limit: Duration) {
        let due = millis().saturating_add(limit).as_millis().min(u128::from(u64::MAX)) as u64;
        self.due.store(due, Ordering::SeqCst);
    }

    fn wake(&self) {
        // A full pipe wakes as well.
        let _ = (&self.ring).write(b"!");
    }
}

/// Since the first task of this process; goes on during no suspend, as waits do not either.
fn millis() -> Duration {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    BEGIN.get_or_init(Instant::now).elapsed()
}

/// Does something as this task.
pub fn as_task<T>(task: &Arc<Task>, act: impl FnOnce() -> T) -> T {
    let before = TASK.with(|current| current.borrow_mut().replace(task.clone()));
    let done = act();
    TASK.with(|current| *current.borrow_mut() = before);
    done
}

/// Does something during which a call ends one wait, the first that it finds; later waits are as usual.
pub fn open_to_calls<T>(act: impl FnOnce() -> T) -> T {
    CALLS.with(|calls| calls.set(Calls::Open));
    let done = act();
    CALLS.with(|calls| {
        if calls.get() == Calls::Open {
            calls.set(Calls::Closed);
        }
    });
    done
}

/// Does something of which every wait must come to its end, also within what is [`open_to_calls`]; a call waits until it
/// is done.
pub fn closed_to_calls<T>(act: impl FnOnce() -> T) -> T {
    let before = CALLS.with(|calls| match calls.get() {
        Calls::Open => calls.replace(Calls::Closed),
        other => other,
    });
    let done = act();
    CALLS.with(|calls| calls.set(before));
    done
}

/// True after a call ended a wait of what was [`open_to_calls`] last.
pub fn was_called() -> bool {
    CALLS.with(Cell::get) == Calls::Came
}

/// The task of this thread, to be called by others.
pub fn current() -> Option<Arc<Task>> {
    TASK.with(|task| task.borrow().clone())
}

pub(super) fn requested() -> bool {
    TASK.with(|task| task.borrow().as_ref().is_some_and(|task| task.asked.load(Ordering::SeqCst)))
}

/// The thread begins to wait; also a sign of life.
pub(super) fn waits(limit: Duration) {
    TASK.with(|task| {
        if let Some(task) = &*task.borrow() {
            task.waits(limit);
        }
    });
}

/// True if a call ends the wait; the flag of one that may not is left for later.
pub(super) fn takes_call() -> bool {
    TASK.with(|task| {
        let task = task.borrow();
        let Some(task) = task.as_ref() else { return false };
        // The flags say what happened: the bytes have done their work.
        let mut sink = [0; 64];
        while matches!((&task.ear).read(&mut sink), Ok(1..)) {}
        let open = CALLS.with(Cell::get) == Calls::Open;
        let called = open && task.called.swap(false, Ordering::SeqCst);
        if called {
            CALLS.with(|calls| calls.set(Calls::Came));
        }
        called
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Woken, requested, wait};
    use super::*;

    #[test]
    fn a_call_ends_one_wait_that_is_open_to_it() {
        let task = Task::new().unwrap();
        as_task(&task, || {
            task.call();
            // Not open: the call waits.
            assert_eq!(wait(&[], Duration::from_millis(1)).unwrap(), Woken::Late);
            assert!(!was_called());
            open_to_calls(|| {
                assert_eq!(wait(&[], Duration::from_secs(600)).unwrap(), Woken::Late);
                assert!(was_called());
                task.call();
                assert_eq!(wait(&[], Duration::from_millis(1)).unwrap(), Woken::Late);
            });
            task.call();
            open_to_calls(|| {
                let one = || wait(&[], Duration::from_millis(1)).unwrap();
                assert_eq!((closed_to_calls(one), was_called()), (Woken::Late, false));
                assert_eq!((wait(&[], Duration::from_secs(600)).unwrap(), was_called()), (Woken::Late, true));
                assert_eq!((closed_to_calls(one), was_called()), (Woken::Late, true));
            });
            task.stop();
            assert_eq!(wait(&[], Duration::from_secs(600)).unwrap(), Woken::Stopped);
            assert!(requested());
        });
        assert!(!requested(), "only the task was to end");
    }

    #[test]
    fn who_waits_is_not_late_and_who_hangs_is() {
        let task = Task::new().unwrap();
        task.waits(Duration::from_secs(60));
        assert_eq!(task.late(), Duration::ZERO);
        task.waits(Duration::ZERO);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        assert!(task.late() >= Duration::from_millis(3));
    }
}
