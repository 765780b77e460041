//! How long a line that broke is left alone.

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::report;
use crate::retry;
use crate::stop;

/// A connection that lasted was no failure of the one before it.
pub(super) fn again(failures: u32, begun: Instant) -> u32 {
    if begun.elapsed() > Duration::from_secs(60) { 1 } else { failures + 1 }
}

/// Waits before the next attempt; how many failures that counts as. What failed before the machine slept, or the network
/// changed with it, is forgotten.
pub(super) fn pause(failures: u32, error: &Error) -> u32 {
    let seed = u64::from(jiff::Timestamp::now().subsec_nanosecond().unsigned_abs());
    let pause = retry::jittered(retry::reconnect_pause(failures), seed);
    report::trouble(format_args!("{error}; trying again in {} s", pause.as_secs()));
    let (begun, pause) = (Instant::now(), shortened(pause));
    stop::doze(pause);
    if begun.elapsed() < pause { 0 } else { failures }
}

#[cfg(not(debug_assertions))]
pub(in crate::job::fetch) fn shortened(pause: Duration) -> Duration {
    pause
}

/// With debug assertions, tests that connect a thousand times set `MAILLOOP_PAUSE` to milliseconds.
#[cfg(debug_assertions)]
pub(in crate::job::fetch) fn shortened(pause: Duration) -> Duration {
    let most = std::env::var("MAILLOOP_PAUSE").ok().and_then(|text| text.parse().ok());
    most.map_or(pause, |most| pause.min(Duration::from_millis(most)))
}
