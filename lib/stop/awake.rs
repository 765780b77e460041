//! Waits that notice when the machine slept: what was waited for may be long over, and a line long dead.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::{Woken, wait, was_called};

/// A long wait looks at the clocks so often.
const GLANCE: Duration = Duration::from_secs(15);

/// As [`wait`], but a long wait ends early, as if the time were up, after the machine was suspended.
pub fn wait_awake(fds: &[BorrowedFd<'_>], limit: Duration) -> io::Result<Woken> {
    glancing(limit, |piece| wait(fds, piece), time_asleep)
}

/// As [`super::sleep`], but ends early after the machine was suspended.
pub fn doze(time: Duration) {
    // What cannot be waited for is not waited for.
    let _ = wait_awake(&[], time);
}

fn glancing(
    limit: Duration,
    mut wait: impl FnMut(Duration) -> io::Result<Woken>,
    asleep: impl Fn() -> Duration,
) -> io::Result<Woken> {
    let (begun, mut slept) = (Instant::now(), asleep());
    // A call that ended an earlier wait is none for this one.
    let called_before = was_called();
    loop {
        let left = limit.saturating_sub(begun.elapsed());
        let woken = wait(left.min(GLANCE))?;
        let called = was_called() && !called_before;
        if woken != Woken::Late || left <= GLANCE || called || has_slept(slept, asleep()) {
            return Ok(woken);
        }
        slept = asleep();
    }
}

/// True if the machine slept so long between two glances that the other side may have given us up. Neither clock can be
/// set, so nothing here follows from a jump of the time of day.
fn has_slept(before: Duration, now: Duration) -> bool {
    before.abs_diff(now) >= GLANCE
}

/// How long this machine has been suspended since it was started: what the clock that goes on has more than ours.
fn time_asleep() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    time(ClockId::Boottime).saturating_sub(time(ClockId::Monotonic))
}

#[cfg(test)]
mod tests {
    use super::super::{Task, as_task, closed_to_calls, open_to_calls};
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_long_sleep_ends_a_wait_and_what_clocks_differ_by_does_not() {
        let since_start = Duration::from_secs(86_400);
        assert!(!has_slept(since_start, since_start));
        assert!(!has_slept(since_start, since_start + Duration::from_millis(20)));
        assert!(!has_slept(since_start + Duration::from_nanos(3), since_start));
        assert!(has_slept(since_start, since_start + GLANCE));
        assert!(has_slept(Duration::ZERO, Duration::from_secs(8 * 3600)));
    }

    #[test]
    fn the_time_asleep_does_not_grow_while_awake() {
        let before = time_asleep();
        assert!(time_asleep().abs_diff(before) < Duration::from_secs(1));
    }

    #[test]
    fn a_wait_of_an_hour_ends_when_the_machine_slept() {
        for (sleeps, pieces, ends) in [(Some(3), 3, Woken::Late), (None, 5, Woken::Ready)] {
            let waited = Cell::new(0);
            let piece = |time: Duration| {
                assert_eq!(time, GLANCE);
                waited.set(waited.get() + 1);
                Ok(if waited.get() == 5 { Woken::Ready } else { Woken::Late })
            };
            let asleep = || match sleeps.is_some_and(|when| waited.get() >= when) {
                true => Duration::from_secs(3600),
                false => Duration::ZERO,
            };
            let woken = glancing(Duration::from_secs(3600), piece, asleep).unwrap();
            assert_eq!((woken, waited.get()), (ends, pieces));
        }
    }

    #[test]
    fn a_call_ends_the_wait_it_came_in_and_no_later_one() {
        let task = Task::new().unwrap();
        let long_wait = || {
            let pieces = Cell::new(0);
            let piece = |_| {
                pieces.set(pieces.get() + 1);
                // A call that may end the wait does so at once; nothing else is waited for.
                let woken = wait(&[], Duration::ZERO)?;
                Ok(if pieces.get() == 5 { Woken::Ready } else { woken })
            };
            let woken = glancing(Duration::from_secs(600), piece, || Duration::ZERO).unwrap();
            (woken, pieces.get())
        };
        as_task(&task, || {
            task.call();
            assert_eq!((open_to_calls(long_wait), was_called()), ((Woken::Late, 1), true));
            assert_eq!((long_wait(), was_called()), ((Woken::Ready, 5), true), "after it");
            assert_eq!(closed_to_calls(long_wait), (Woken::Ready, 5));
            task.call();
            let inside = open_to_calls(|| {
                (closed_to_calls(long_wait), long_wait(), closed_to_calls(long_wait), long_wait())
            });
            let (whole, ended) = ((Woken::Ready, 5), (Woken::Late, 1));
            assert_eq!(inside, (whole, ended, whole, whole));
        });
    }
}
