//! How many files may be open: a group's messages stay open until they are durable, on every connection.

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, getrlimit, setrlimit};

/// What is open besides, in all and for each connection: sockets, directories, locks, cursors.
const ELSEWHERE: usize = 32;
const EACH: usize = 12;

/// How many connections there are, and how many there will be as far as anybody knows.
static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
static EXPECTED: AtomicUsize = AtomicUsize::new(1);

/// So many connections are to come.
pub(super) fn expect(connections: usize) {
    EXPECTED.fetch_max(connections, Ordering::SeqCst);
}

/// A connection, for as long as it is held.
pub(super) struct Counted;

impl Counted {
    /// One more. The first one has us open as many files as the system lets us.
    pub fn new() -> Counted {
        static RAISED: Once = Once::new();
        RAISED.call_once(|| {
            let mut limit = getrlimit(Resource::Nofile);
            limit.current = limit.maximum;
            // Where it cannot be raised the groups are smaller.
            let _ = setrlimit(Resource::Nofile, limit);
        });
        CONNECTIONS.fetch_add(1, Ordering::SeqCst);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        CONNECTIONS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The most messages of a group, so that all connections have room; at least one.
pub(super) fn largest_group(most: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let connections = CONNECTIONS.load(Ordering::SeqCst).max(EXPECTED.load(Ordering::SeqCst));
    share(limit, connections).min(most)
}

/// While one group grows another one is made durable.
fn share(limit: usize, connections: usize) -> usize {
    let elsewhere = ELSEWHERE.saturating_add(EACH.saturating_mul(connections));
    (limit.saturating_sub(elsewhere) / connections.saturating_mul(2).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_groups_fit() {
        for (limit, connections) in [(256, 1), (256, 8), (1024, 2), (1024, 8), (1024, 30)] {
            let open = share(limit, connections) * 2 * connections + EACH * connections + ELSEWHERE;
            assert!(open <= limit, "{limit} {connections}: {open}");
        }
        assert_eq!(share(64, 64), 1);
        assert!(share(1024, 1) >= 384 && share(usize::MAX, 1) > 384);
    }
}
