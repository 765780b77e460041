//! Numbered steps: where a test stops the process or lets the disk fail.

use std::io;

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
    if plan.fail == Some(number) {
        return Err(io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()));
    }
    let done = act();
    if plan.stop_after == Some(number) {
        die();
    }
    done
}

#[cfg(debug_assertions)]
#[derive(Default)]
struct Plan {
    steps: Option<std::path::PathBuf>,
    stop_before: Option<u64>,
    stop_after: Option<u64>,
    fail: Option<u64>,
}

#[cfg(debug_assertions)]
impl Plan {
    fn is_idle(&self) -> bool {
        self.steps.is_none() && self.stop_before.is_none() && self.stop_after.is_none() && self.fail.is_none()
    }

    fn note(&self, number: u64, name: &str) {
        use std::io::Write;
        let Some(path) = &self.steps else { return };
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| writeln!(file, "{number} {name}"));
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
