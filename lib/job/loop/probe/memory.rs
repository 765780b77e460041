//! What is remembered of a loop's probes, in `STATE/probe-LOOP`: a JSON file that is replaced whole.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::durable::Dir;
use crate::error::{Error, Kind, Result};
use crate::store::heartbeat::safe;

/// So many round trips are remembered.
const TRIPS: usize = 500;
/// One that was lost may still come for so long.
pub(super) const KNOWN: i64 = 7 * 24 * 3600 * 1000;

/// What is remembered of a loop's probes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::job::r#loop) struct Memory {
    v: u8,
    /// When the last one was sent, in milliseconds since 1970, as every time here.
    pub last: Option<i64>,
    pub sent: u64,
    pub came: u64,
    lost: u64,
    /// Those on their way, by the digest of their PDF.
    pub(super) out: BTreeMap<String, Out>,
    /// What came and is to be deleted on the server: mailbox, UIDVALIDITY, UID.
    pub gone: Vec<(String, u32, u32)>,
    /// The last round trips, in milliseconds.
    trips: VecDeque<u64>,
}

/// One on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Out {
    pub token: String,
    pub sent: i64,
    pub lost: bool,
}

/// How the round trips are, for status. Times in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::job::r#loop) struct Trips {
    sent: u64,
    came: u64,
    lost: u64,
    out: usize,
    p50: Option<u64>,
    p90: Option<u64>,
    p99: Option<u64>,
}

impl Memory {
    /// What is remembered; nothing where nothing is, or it cannot be read.
    pub fn read(state: &Dir, name: &str) -> Memory {
        let bytes = state.read(file_name(name)).ok().flatten();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Durable on return.
    pub fn save(&self, state: &Dir, name: &str) -> Result<()> {
        let text = serde_json::to_vec(&Memory { v: 1, ..self.clone() })
            .map_err(|why| Error::new(Kind::Internal, "cannot write what is known of probes", why))?;
        state.replace(&file_name(name), &text, 0o600)
    }

    /// One came back after so long.
    pub fn came(&mut self, sha256: &str, took: Duration) {
        if self.out.remove(sha256).is_none() {
            return;
        }
        self.came += 1;
        self.trips.push_back(took.as_millis() as u64);
        while self.trips.len() > TRIPS {
            self.trips.pop_front();
        }
    }

    pub fn trips(&self) -> Trips {
        let mut sorted: Vec<u64> = self.trips.iter().copied().collect();
        sorted.sort_unstable();
        let out = self.out.values().filter(|out| !out.lost).count();
        let rank = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).max(1) - 1).copied();
        let (p50, p90, p99) = (rank(50), rank(90), rank(99));
        Trips { sent: self.sent, came: self.came, lost: self.lost, out, p50, p90, p99 }
    }

    /// Marks those that are out for too long; true if there are any new ones.
    pub(super) fn lose(&mut self, age: impl Fn(&Out, &str) -> Duration, limit: Duration) -> bool {
        let mut any = false;
        for (sha256, out) in &mut self.out {
            if !out.lost && age(out, sha256) >= limit {
                out.lost = true;
                self.lost += 1;
                any = true;
            }
        }
        any
    }
}

impl Trips {
    /// In a few words.
    pub fn words(&self) -> String {
        match (self.p50, self.p90, self.p99) {
            (Some(p50), Some(p90), Some(p99)) => {
                format!("p50 {p50} p90 {p90} p99 {p99} ms, {} of {} lost", self.lost, self.sent)
            }
            _ => format!("none yet, {} of {} lost", self.lost, self.sent),
        }
    }
}

fn file_name(name: &str) -> String {
    format!("probe-{}", safe(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_losses() {
        let mut memory = Memory { sent: 101, trips: (1..=100).collect(), ..Memory::default() };
        let trips = memory.trips();
        assert_eq!((trips.p50, trips.p90, trips.p99), (Some(50), Some(90), Some(99)));
        assert_eq!(Memory::default().trips().p50, None);
        assert_eq!(Memory { trips: [7].into(), ..Memory::default() }.trips().p99, Some(7));
        memory.out.insert("x".into(), Out { token: "t".into(), sent: 0, lost: false });
        let limit = Duration::from_secs(10);
        assert!(!memory.lose(|_, _| Duration::from_secs(9), limit));
        assert!(memory.lose(|_, _| Duration::from_secs(10), limit));
        assert!(!memory.lose(|_, _| Duration::from_secs(11), limit), "it is lost once");
        assert_eq!((memory.lost, memory.trips().out), (1, 0));
    }
}
