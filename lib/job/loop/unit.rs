//! A thread of the loop that can be ended, called and watched alone.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::stop::{self, Task};

/// So long a thread may work without waiting for anything before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(300);

/// A thread at work.
pub(super) struct Unit {
    /// What it does.
    pub role: Role,
    task: Arc<Task>,
    /// Its work has ended; true before the bell tells of it.
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

/// What a unit does, and whether its end is an end for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Fetches for an account; ends when the login is refused.
    Fetch,
    /// Fetches one more mailbox of it; ends where no connection is to be had for it.
    Helper,
    /// Everything else; has no end of its own.
    Work,
}

impl Unit {
    /// Starts it. `bell` is rung when it has ended.
    pub fn start(
        name: &str,
        role: Role,
        bell: UnixStream,
        work: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<Unit> {
        let failed = |why| Error::new(Kind::Io, format!("cannot start a thread for {name}"), why);
        let task = Task::new().map_err(failed)?;
        let own = task.clone();
        let over = Arc::<AtomicBool>::default();
        let ended = over.clone();
        let thread = std::thread::Builder::new()
            .name(name.chars().take(15).collect())
            .spawn(move || {
                let done = stop::as_task(&own, || guarded(work));
                // Whoever hears the bell looks at once, perhaps before this thread is gone.
                ended.store(true, Ordering::SeqCst);
                let _ = (&bell).write(b"!");
                done
            })
            .map_err(failed)?;
        Ok(Unit { role, task, over, thread })
    }

    /// Asks it to end.
    pub fn stop(&self) {
        self.task.stop();
    }

    /// Asks it to look for news now.
    pub fn call(&self) {
        self.task.call();
    }

    /// True once it has ended.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// True as long as it does what it is there for.
    pub fn is_alive(&self) -> bool {
        match self.is_over() {
            true => self.role != Role::Work,
            false => self.task.late() < PATIENCE,
        }
    }

    /// Waits for its end, and how that was.
    pub fn join(self) -> Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(fault()))
    }
}

/// A panic in one thread must not end the others.
pub(super) fn guarded<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| Err(fault()))
}

fn fault() -> Error {
    Error::plain(Kind::Internal, "a fault of ours; please report what stands above")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn who_hears_the_bell_finds_the_work_over() {
        for _ in 0..500 {
            let (ring, mut ear) = UnixStream::pair().unwrap();
            let unit = Unit::start("x", Role::Work, ring, || Ok(())).unwrap();
            ear.read_exact(&mut [0]).unwrap();
            assert!(unit.is_over(), "nothing would tell of it again");
            unit.join().unwrap();
        }
    }
}
