//! What the queue remembers of the servers it sends to: which one is down, and how fast each may be fed.
//!
//! ```text
//! queue/relay/lock       held while one of the others changes
//! queue/relay/KEY.down   it could not be reached; not to be tried before `next`. Gone once it answers again
//! queue/relay/KEY.rate   how many messages were sent lately
//! ```
//!
//! KEY is a digest of the way. Nothing here decides whether a message is delivered: a file that is lost costs one
//! needless attempt.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::text::{self, VERSION};
use crate::config::Rate;
use crate::durable::{Dir, Lock};
use crate::error::{Error, Kind, Result};
use crate::record::hex;
use crate::retry;

/// How long changing a few bytes may take somebody else.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the one that probes keeps the others away.
const PROBING: Duration = Duration::from_secs(60);

/// The servers' memory.
#[derive(Clone, Debug)]
pub struct Relays {
    dir: Dir,
}

/// A server that could not be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// The account or the URL.
    pub name: String,
    /// Since the first of the failures in a row.
    pub since: Timestamp,
    /// How many in a row.
    pub failures: u32,
    /// Not tried before this.
    pub next: Timestamp,
    /// Why the last attempt failed.
    pub reply: String,
}

impl Relays {
    pub(super) fn open(dir: Dir) -> Relays {
        Relays { dir }
    }

    /// Why this server is not to be tried now; `None` if it is. Of several that ask about one that was down, one is
    /// told to try it; the others are kept away for a minute, or until it was seen to be up.
    pub fn closed(&self, key: &str, now: Timestamp) -> Result<Option<Down>> {
        if !self.dir.has(file(key, "down")) {
            return Ok(None);
        }
        let _lock = self.lock()?;
        let Some(mut down) = self.down(key)? else { return Ok(None) };
        if down.next > now {
            return Ok(Some(down));
        }
        down.next = later(now, PROBING);
        self.write(key, &down)?;
        Ok(None)
    }

    /// What is known of a server that is down; changes nothing.
    pub fn down(&self, key: &str) -> Result<Option<Down>> {
        self.read(&file(key, "down"))
    }

    /// It could not be reached: it is left alone for 1, 2, 4, … minutes, at most a quarter of an hour.
    pub fn failed(&self, key: &str, name: &str, reply: &str, now: Timestamp) -> Result<Down> {
        let _lock = self.lock()?;
        let old = self.down(key)?;
        let failures = old.as_ref().map_or(0, |old| old.failures) + 1;
        let since = old.map_or(now, |old| old.since);
        let next = later(now, retry::relay_pause(failures));
        let down = Down { name: name.to_string(), since, failures, next, reply: text::one_line(reply) };
        self.write(key, &down)?;
        Ok(down)
    }

    /// It answers, or is to be tried at once. Gives what was known if it was down.
    pub fn worked(&self, key: &str) -> Result<Option<Down>> {
        let name = file(key, "down");
        if !self.dir.has(&name) {
            return Ok(None);
        }
        let _lock = self.lock()?;
        let down = self.read(&name)?;
        self.dir.remove(&name).map_err(|why| Error::writing(self.dir.at(&name), why))?;
        Ok(down)
    }

    /// Takes one of what `rate` allows; or when there is the next. In no stretch of the rate's length are more taken than
    /// it says.
    pub fn take(&self, key: &str, rate: Rate, now: Timestamp) -> Result<Option<Timestamp>> {
        let name = file(key, "rate");
        let _lock = self.lock()?;
        let mut taken = self.taken(&name, rate, now)?;
        if let Some(next) = taken.full(rate) {
            return Ok(Some(next));
        }
        taken.count_one();
        self.dir.replace_soon(&name, taken.write().as_bytes(), 0o600)?;
        Ok(None)
    }

    /// The same without taking one.
    pub fn paced(&self, key: &str, rate: Rate, now: Timestamp) -> Result<Option<Timestamp>> {
        Ok(self.taken(&file(key, "rate"), rate, now)?.full(rate))
    }

    fn taken(&self, name: &str, rate: Rate, now: Timestamp) -> Result<Taken> {
        let bytes = self.dir.read(name)?.unwrap_or_default();
        Ok(Taken::read(&bytes, rate, now))
    }

    /// All that are down, by name.
    pub fn list(&self) -> Result<Vec<Down>> {
        let names = self.dir.names()?.into_iter().filter_map(|name| name.into_string().ok());
        let mut list = Vec::new();
        for name in names.filter(|name| name.ends_with(".down")) {
            list.extend(self.read(&name)?);
        }
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    fn lock(&self) -> Result<Lock> {
        Lock::take(&self.dir, "lock", PATIENCE)
    }

    fn write(&self, key: &str, down: &Down) -> Result<()> {
        let mut text = format!("{VERSION}\nname: {}\nsince: {}\n", text::one_line(&down.name), down.since);
        let _ = write!(text, "failures: {}\nnext: {}\nreply: {}\n", down.failures, down.next, down.reply);
        self.dir.replace_soon(&file(key, "down"), text.as_bytes(), 0o600)
    }

    /// `None` where there is none; a damaged one is no reason to wait either.
    fn read(&self, name: &str) -> Result<Option<Down>> {
        let Some(bytes) = self.dir.read(name)? else { return Ok(None) };
        let path = self.dir.at(name);
        let Ok(pairs) = text::pairs(&path, &bytes) else { return Ok(None) };
        let value = |key: &str| pairs.iter().find(|(each, _)| each == key).map(|(_, value)| value.as_str());
        let time = |key: &str| value(key)?.parse().ok();
        let (Some(since), Some(next)) = (time("since"), time("next")) else { return Ok(None) };
        Ok(Some(Down {
            name: value("name").unwrap_or_default().to_string(),
            since,
            failures: value("failures").and_then(|text| text.parse().ok()).unwrap_or(1),
            next,
            reply: value("reply").unwrap_or_default().to_string(),
        }))
    }
}

/// How many were taken in each sixtieth of the rate's stretch, as far back as it counts.
struct Taken {
    /// Length of a slot in milliseconds.
    slot: i64,
    /// So many slots touch any stretch of the rate's length.
    window: i64,
    now: i64,
    counts: BTreeMap<i64, u32>,
}

impl Taken {
    fn read(bytes: &[u8], rate: Rate, now: Timestamp) -> Taken {
        let per = rate.per.as_millis() as i64;
        let slot = (per / 60).max(1);
        let (window, now) = ((per + slot - 1) / slot + 1, now.as_millisecond() / slot);
        let text = String::from_utf8_lossy(bytes);
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        let mut counts: BTreeMap<i64, u32> =
            lines.filter_map(|(key, count)| Some((key.parse().ok()?, count.parse().ok()?))).collect();
        // Also what lies in the future: somebody set the clock, or the rate was another one.
        counts.retain(|at, _| *at > now - window && *at <= now);
        Taken { slot, window, now, counts }
    }

    /// When one more may be taken, if not now.
    fn full(&self, rate: Rate) -> Option<Timestamp> {
        let sum: u32 = self.counts.values().sum();
        let (first, _) = self.counts.first_key_value().filter(|_| sum >= rate.count)?;
        Timestamp::from_millisecond((first + self.window) * self.slot).ok()
    }

    fn count_one(&mut self) {
        *self.counts.entry(self.now).or_default() += 1;
    }

    fn write(&self) -> String {
        self.counts
            .iter()
            .fold(format!("{VERSION}\n"), |text, (at, count)| text + &format!("{at}: {count}\n"))
    }
}

fn file(key: &str, what: &str) -> String {
    format!("{}.{what}", hex(&Sha256::digest(key.as_bytes())[..8]))
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// An error that means the server could not be reached or wants nothing now: it is left alone for a while.
pub fn is_down(error: &Error) -> bool {
    matches!(error.kind(), Kind::Temporary | Kind::Protocol | Kind::Denied | Kind::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relays() -> (tempfile::TempDir, Relays) {
        let temp = tempfile::tempdir().unwrap();
        let relays = Relays::open(Dir::open(temp.path()).unwrap());
        (temp, relays)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn one_probes_and_the_others_wait() {
        let (_temp, relays) = relays();
        assert_eq!(relays.closed("k", at(0)).unwrap(), None);
        let down = relays.failed("k", "school", "no route\nto host", at(0)).unwrap();
        assert_eq!((down.failures, down.next, down.reply.as_str()), (1, at(60), "no route to host"));
        assert_eq!(relays.closed("k", at(59)).unwrap(), Some(down));
        assert_eq!(relays.closed("k", at(60)).unwrap(), None, "one probes");
        assert!(relays.closed("k", at(61)).unwrap().is_some(), "the others wait");
        assert_eq!(relays.failed("k", "school", "still", at(62)).unwrap().next, at(62 + 120));
        assert_eq!(relays.list().unwrap().len(), 1);
        assert_eq!(relays.worked("k").unwrap().map(|down| down.since), Some(at(0)));
        assert_eq!(relays.closed("k", at(63)).unwrap(), None);
        assert_eq!(relays.worked("k").unwrap(), None);
    }

    #[test]
    fn never_more_than_the_rate_in_any_stretch() {
        for (text, step) in [("200/h", 1), ("1/m", 1), ("2/m", 1), ("3/m", 1), ("10/d", 600)] {
            let (_temp, relays) = relays();
            let rate: Rate = text.parse().unwrap();
            let mut taken: Vec<i64> = Vec::new();
            let mut now = 0;
            while taken.len() < 3 * rate.count as usize {
                match relays.take("k", rate, at(now)).unwrap() {
                    None => taken.push(now),
                    Some(next) => {
                        assert!(next > at(now));
                        now += step;
                    }
                }
            }
            let per = rate.per.as_secs() as i64;
            for (n, first) in taken.iter().enumerate() {
                let within = taken[n..].iter().filter(|each| **each < first + per).count();
                assert!(within <= rate.count as usize, "{text}: {within} from {first} on");
            }
            let whole = taken.last().unwrap() - taken[0];
            assert!(whole <= 2 * per + per / 10 + 2, "{text}: {whole} s");
        }
    }

    #[test]
    fn a_damaged_memory_holds_nothing_up() {
        let (temp, relays) = relays();
        relays.failed("k", "school", "no", at(0)).unwrap();
        std::fs::write(temp.path().join(file("k", "down")), "garbage").unwrap();
        assert_eq!(relays.closed("k", at(1)).unwrap(), None);
    }
}
