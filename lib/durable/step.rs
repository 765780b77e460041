//! Numbered steps: where a test stops the process or lets the disk fail.

use std::fs::File;
use std::io::{self, Write};

/// Writes all of `bytes`, as one numbered step.
pub fn write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    step("write", || file.write_all(bytes))
}

/// Does `act` as the next numbered step of this process; `name` is for the test's reader.
#[cfg(not(debug_assertions))]
pub fn step<T>(_name: &str, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    act()
}

/// Does `act` as the next numbered step of this process; `name` is for the test's reader.
#[cfg(debug_assertions)]
pub fn step<T>(name: &str, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let plan = plan();
    if plan.is_idle() {
        return act();
    }
    let number = COUNT.fetch_add(1, Ordering::SeqCst) + 1;
    plan.note(number, name);
    if plan.stop_before == Some(number) {
        die();
    }
    match plan.fail {
        Some(Fail::Before(at)) if at == number => return Err(plan.trouble()),
        Some(Fail::From(first)) if first <= number => return Err(plan.trouble()),
        Some(Fail::After(at)) if at == number => {
            let _ = act();
            return Err(plan.trouble());
        }
        _ => {}
    }
    let done = act();
    if plan.stop_after == Some(number) {
        die();
    }
    done
}

/// Which steps the disk fails at.
#[cfg(debug_assertions)]
#[derive(Clone, Copy)]
enum Fail {
    /// This one, which is not done.
    Before(u64),
    /// This one, which is done all the same: who hears of an error does not know how far it came.
    After(u64),
    /// This one and all that follow.
    From(u64),
}

#[cfg(debug_assertions)]
impl std::str::FromStr for Fail {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Fail, Self::Err> {
        if let Some(number) = text.strip_suffix("..") {
            return number.parse().map(Fail::From);
        }
        match text.strip_suffix('+') {
            Some(number) => number.parse().map(Fail::After),
            None => text.parse().map(Fail::Before),
        }
    }
}

#[cfg(debug_assertions)]
#[derive(Default)]
struct Plan {
    steps: Option<std::path::PathBuf>,
    stop_before: Option<u64>,
    stop_after: Option<u64>,
    fail: Option<Fail>,
    eio: bool,
}

#[cfg(debug_assertions)]
impl Plan {
    fn is_idle(&self) -> bool {
        self.steps.is_none() && self.stop_before.is_none() && self.stop_after.is_none() && self.fail.is_none()
    }

    fn note(&self, number: u64, name: &str) {
        let Some(path) = &self.steps else { return };
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| writeln!(file, "{number} {name}"));
    }

    fn trouble(&self) -> io::Error {
        let number = if self.eio { rustix::io::Errno::IO } else { rustix::io::Errno::NOSPC };
        io::Error::from_raw_os_error(number.raw_os_error())
    }
}

#[cfg(debug_assertions)]
fn plan() -> &'static Plan {
    static PLAN: std::sync::OnceLock<Plan> = std::sync::OnceLock::new();
    PLAN.get_or_init(|| {
        let stop = std::env::var("MAILLOOP_STOP").unwrap_or_default();
        Plan {
            steps: std::env::var_os("MAILLOOP_STEPS").map(Into::into),
            stop_before: stop.strip_suffix('-').and_then(|n| n.parse().ok()),
            stop_after: stop.strip_suffix('+').and_then(|n| n.parse().ok()),
            fail: std::env::var("MAILLOOP_FAIL").ok().and_then(|n| n.parse().ok()),
            eio: std::env::var("MAILLOOP_FAIL_WITH").is_ok_and(|name| name == "EIO"),
        }
    })
}

/// As the kernel would end us: no destructor runs.
#[cfg(debug_assertions)]
fn die() -> ! {
    let me = rustix::process::getpid();
    let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
    std::process::abort()
}
