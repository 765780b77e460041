//! When to try again and when to give up, as plain functions of what was tried.

use std::time::Duration;

/// How long a message may stay undelivered before it is given up: five days (RFC 5321 section 4.5.4.1 asks for 4-5).
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(5 * 24 * 3600);

/// The pause after `tries` attempts that failed for now: 1, 2, 4, … minutes, at most 4 hours.
pub fn queue_pause(tries: u32) -> Duration {
    doubled(Duration::from_secs(60), tries, Duration::from_secs(4 * 3600))
}

/// The pause after `tries` times that a command failed for now: 1, 2, 4, … minutes, at most an hour.
pub fn action_pause(tries: u32) -> Duration {
    doubled(Duration::from_secs(60), tries, Duration::from_secs(3600))
}

/// How long a server is left alone after `failures` in a row: 1, 2, 4, 8, then 15 minutes.
pub fn relay_pause(failures: u32) -> Duration {
    doubled(Duration::from_secs(60), failures, Duration::from_secs(15 * 60))
}

/// The pause before connecting again after `failures` in a row: 1, 2, 4, … seconds, at most 5 minutes.
pub fn reconnect_pause(failures: u32) -> Duration {
    doubled(Duration::from_secs(1), failures, Duration::from_secs(300))
}

fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    let factor = 1u32 << times.saturating_sub(1).min(20);
    first.saturating_mul(factor).min(most)
}

/// Spreads a pause by up to a quarter, so that many clients do not come back in step; `seed` is any changing number.
pub fn jittered(pause: Duration, seed: u64) -> Duration {
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let share = (mixed % 1000) as u32;
    pause + pause.saturating_mul(share) / 4000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let minutes: Vec<u64> = (1..=10).map(|n| queue_pause(n).as_secs() / 60).collect();
        assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 64, 128, 240, 240]);
        assert_eq!(reconnect_pause(1_000_000), Duration::from_secs(300));
    }

    #[test]
    fn jitter_stays_within_a_quarter() {
        for seed in 0..1000 {
            let pause = jittered(Duration::from_secs(100), seed);
            assert!((100..=125).contains(&pause.as_secs()));
        }
    }
}
