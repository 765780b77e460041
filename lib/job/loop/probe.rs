//! A mail to itself through the whole loop: sent, fetched, taken apart, recognised where a file would be acted on.
//!
//! The message holds a small PDF and a `Mailloop-Probe` field, by which it is braked: no rule ever takes it. Both hold a
//! token that nobody can guess; only a file with the bytes that were sent, out of a message with its token, is ours. It is
//! then removed: the PDF, the message here, and the message on the server. What is out, and how long the others took, is
//! remembered in `STATE/probe-LOOP`.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::life::{Life, Stage};
use super::plan::{Plan, Probe};
use crate::cli::Place;
use crate::durable::Dir;
use crate::error::{Error, Kind, Result};
use crate::job::act::{self, GONE};
use crate::job::fetch;
use crate::job::inject::{self, Text, What};
use crate::mail::{header, part, pdf, uids::Uids};
use crate::net::imap::Imap;
use crate::record::{File, hex};
use crate::report::{self, Form, Records};
use crate::secret;
use crate::stop::{self, Task};
use crate::store::heartbeat::safe;
use crate::store::journal;
use crate::store::ledger::{Again, Claim, End, Key, Ledger, State};
use crate::store::maildir;
use crate::store::spool::Way;

/// So many round trips are remembered.
const TRIPS: usize = 500;
/// One that was lost may still come for so long.
const KNOWN: i64 = 7 * 24 * 3600 * 1000;
/// The header field that says what a probe is.
const FIELD: &str = "Mailloop-Probe";

/// What is remembered of a loop's probes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    v: u8,
    /// When the last one was sent, in milliseconds since 1970, as every time here.
    last: Option<i64>,
    sent: u64,
    came: u64,
    lost: u64,
    /// Those on their way, by the digest of their PDF.
    out: BTreeMap<String, Out>,
    /// The last round trips, in milliseconds.
    trips: VecDeque<u64>,
}

/// One on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Out {
    token: String,
    sent: i64,
    lost: bool,
}

/// How the round trips are, for status. Times in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Trips {
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

    pub fn trips(&self) -> Trips {
        let mut sorted: Vec<u64> = self.trips.iter().copied().collect();
        sorted.sort_unstable();
        let out = self.out.values().filter(|out| !out.lost).count();
        let rank = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).max(1) - 1).copied();
        let (p50, p90, p99) = (rank(50), rank(90), rank(99));
        Trips { sent: self.sent, came: self.came, lost: self.lost, out, p50, p90, p99 }
    }

    /// Marks those that are out for too long; true if there are any new ones.
    fn lose(&mut self, age: impl Fn(&Out, &str) -> Duration, limit: Duration) -> bool {
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

/// Sends probes and recognises them; shared by the threads of a loop.
pub(super) struct Prober {
    name: String,
    probe: Probe,
    fetch: fetch::Options,
    act: act::Options,
    place: Place,
    state: Dir,
    now: Mutex<Now>,
}

struct Now {
    memory: Memory,
    /// When those of this process were sent, by a clock that nobody sets.
    sent: BTreeMap<String, Instant>,
    /// What is to be deleted on the server: mailbox, UIDVALIDITY, UID.
    gone: Vec<(String, u32, u32)>,
    /// The thread that does so.
    keeper: Option<Arc<Task>>,
}

impl Prober {
    /// For a loop that sends probes; `place` is where its configuration lies.
    pub fn new(plan: &Plan, place: &Place, state: &Dir) -> Option<Prober> {
        let now = Now {
            memory: Memory::read(state, &plan.name),
            sent: BTreeMap::new(),
            gone: Vec::new(),
            keeper: None,
        };
        Some(Prober {
            name: plan.name.clone(),
            probe: plan.probe.clone()?,
            fetch: plan.fetch()?.clone(),
            act: plan.act.clone(),
            place: Place { config: place.config.clone(), state: Some(plan.act.state.clone()) },
            state: state.clone(),
            now: Mutex::new(now),
        })
    }

    /// Sends one whenever it is time, and tells of those that are lost, until asked to end.
    pub fn keep(&self, life: &Life) -> Result<()> {
        self.now().keeper = stop::current();
        while !stop::requested() {
            if self.is_time()
                && let Err(error) = self.send()
            {
                let error = error.context(format!("loop {}: cannot send a probe", self.name));
                report::trouble(&error);
                life.trouble(Stage::Probe, Some(error.to_string()));
            }
            if self.lose() {
                let why = format!("a probe has not come back within {} s", self.probe.limit.as_secs());
                report::trouble(format_args!("loop {}: {why}", self.name));
                life.trouble(Stage::Probe, Some(why));
            }
            if let Err(error) = self.delete() {
                report::trouble(error.context(format!("loop {}: a probe stays on the server", self.name)));
            }
            stop::open_to_calls(|| stop::sleep(self.pause()));
        }
        Ok(())
    }

    /// Takes our own out of what is to be acted on; with `out`, also those that lie in that journal.
    pub fn pick(&self, files: &mut VecDeque<File>, out: Option<&Path>, life: &Life) {
        if self.now().memory.out.is_empty() {
            return;
        }
        let ours = |file: &File| self.now().memory.out.contains_key(&file.sha256);
        let mut found: Vec<File> = files.iter().filter(|file| ours(file)).cloned().collect();
        if let Some(Ok(files)) = out.map(journal::files) {
            found.extend(files.filter(ours));
        }
        for file in found {
            match self.came(&file) {
                Ok(true) => {
                    files.retain(|other| other.sha256 != file.sha256);
                    life.trouble(Stage::Probe, None);
                }
                Ok(false) => {}
                Err(error) => report::trouble(error.context(format!("loop {}: a probe", self.name))),
            }
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_time(&self) -> bool {
        self.until_next() == Duration::ZERO
    }

    fn until_next(&self) -> Duration {
        let last = self.now().memory.last;
        let Some(last) = last else { return Duration::ZERO };
        // A clock that was set back must not silence the probe.
        let age = age_of(last).unwrap_or(self.probe.every);
        self.probe.every.saturating_sub(age)
    }

    /// Until something is to be done, at most a minute: a probe that came is deleted on the server then.
    fn pause(&self) -> Duration {
        let out = self.now().memory.out.values().any(|out| !out.lost);
        let look = if out { self.probe.limit / 4 } else { Duration::from_secs(60) };
        let most = Duration::from_secs(60);
        self.until_next().min(look).clamp(Duration::from_millis(50), most)
    }

    /// Remembered first, sent then: what the server has is always known.
    fn send(&self) -> Result<()> {
        // Whatever fails: the next one is sent in its time, not at once.
        self.now().memory.last = Some(Timestamp::now().as_millisecond());
        let token = token()?;
        let bytes = pdf::page(&format!("mailloop probe {token}"));
        let sha256 = hex(&Sha256::digest(&bytes));
        let dir = tempfile::tempdir().map_err(|why| Error::creating(std::env::temp_dir(), why))?;
        let file = dir.path().join("mailloop-probe.pdf");
        std::fs::write(&file, &bytes).map_err(|why| Error::creating(&file, why))?;
        let text = Text {
            subject: Some(format!("mailloop probe of loop {}", self.name)),
            body: Some(
                "mail-loop sent this to itself to see whether the loop works. It removes it again.\n".into(),
            ),
            attach: vec![file],
            headers: vec![format!("{FIELD}: {token}"), "Auto-Submitted: auto-generated".into()],
            ..Text::default()
        };
        let options = inject::Options {
            place: self.place.clone(),
            way: Way { account: Some(self.fetch.account.clone()), ..Way::default() },
            from: Some(self.probe.address.clone()),
            to: vec![self.probe.address.clone()],
            what: What::Compose(text),
            ..inject::Options::default()
        };
        {
            let mut now = self.now();
            let at = Timestamp::now().as_millisecond();
            now.memory.last = Some(at);
            now.memory.sent += 1;
            now.memory.out.insert(sha256.clone(), Out { token, sent: at, lost: false });
            now.sent.insert(sha256.clone(), Instant::now());
            self.save(&now.memory)?;
        }
        let status =
            inject::run(&options, &mut std::io::empty(), &mut Records::new(std::io::sink(), Form::Lines))?;
        match status.code() {
            0 => Ok(()),
            code => {
                Err(Error::plain(Kind::Temporary, format!("it ended with status {code}; its lines say why")))
            }
        }
    }

    fn lose(&self) -> bool {
        let mut now = self.now();
        let Now { memory, sent, .. } = &mut *now;
        let age = |out: &Out, sha256: &str| match sent.get(sha256) {
            Some(at) => at.elapsed(),
            None => age_of(out.sent).unwrap_or_default(),
        };
        let any = memory.lose(age, self.probe.limit);
        let old = Timestamp::now().as_millisecond() - KNOWN;
        let before = memory.out.len();
        memory.out.retain(|_, out| out.sent > old);
        if (any || memory.out.len() != before)
            && let Err(error) = self.save(memory)
        {
            report::trouble(&error);
        }
        any
    }

    /// True if this file is a probe of ours that came back; it is settled and removed then.
    fn came(&self, file: &File) -> Result<bool> {
        let Some(out) = self.now().memory.out.get(&file.sha256).cloned() else { return Ok(false) };
        let Some(path) = file.path.get() else { return Ok(false) };
        let message = file.message.as_ref().and_then(|message| maildir::locate(message.path.get()?));
        if let Some(message) = &message {
            let bytes = std::fs::read(message).map_err(|why| Error::reading(message, why))?;
            let said = header::find(part::head(&bytes), FIELD).map(|field| field.text());
            if said.as_deref().map(str::trim) != Some(out.token.as_str()) {
                return Ok(false);
            }
        }
        let took = self.now().sent.get(&file.sha256).map(Instant::elapsed);
        let took = took.or_else(|| age_of(out.sent)).unwrap_or_default();
        self.settle(file, path)?;
        remove(path)?;
        let mut now = self.now();
        if let Some(message) = &message {
            let name = message.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let name = maildir::unique(name).parse::<maildir::Name>().ok();
            let mailbox = file.message.as_ref().and_then(|message| message.mailbox.clone());
            now.gone.extend(name.zip(mailbox).map(|(name, mailbox)| (mailbox, name.uidvalidity, name.uid)));
            remove(message)?;
        }
        let memory = &mut now.memory;
        memory.out.remove(&file.sha256);
        memory.came += 1;
        memory.trips.push_back(took.as_millis() as u64);
        while memory.trips.len() > TRIPS {
            memory.trips.pop_front();
        }
        self.save(&now.memory)?;
        now.keeper.iter().for_each(|keeper| keeper.call());
        report::detail(format_args!("loop {}: a probe came back after {} ms", self.name, took.as_millis()));
        Ok(true)
    }

    /// That it goes is no news for act.
    fn settle(&self, file: &File, path: &Path) -> Result<()> {
        let key = Key { rule: GONE.into(), file: file.sha256.clone(), message: None };
        let end = End::because(State::Skipped, "a probe of the loop itself");
        let claim = Claim {
            key: &key,
            path,
            argv: Vec::new(),
            again: Again::No,
            max_per_hour: None,
            settle: Some(end),
        };
        Ledger::open(&self.act.state, self.act.wait)?.claim(claim).map(drop)
    }

    /// Deletes on the server what came back.
    fn delete(&self) -> Result<()> {
        let gone = std::mem::take(&mut self.now().gone);
        if gone.is_empty() {
            return Ok(());
        }
        let mut imap = Imap::connect(&self.fetch.peer, &secret::fetch)?;
        for (mailbox, uidvalidity, uid) in gone {
            if imap.select(&mailbox)?.uidvalidity != Some(uidvalidity) {
                continue;
            }
            let uids: Uids = [uid].into_iter().collect();
            imap.store(&uids, "+FLAGS.SILENT (\\Deleted)")?;
            // A plain EXPUNGE would take whatever anybody marked.
            if imap.has("UIDPLUS") {
                imap.expunge(&uids)?;
            }
        }
        imap.logout();
        Ok(())
    }

    fn save(&self, memory: &Memory) -> Result<()> {
        let text = serde_json::to_vec(&Memory { v: 1, ..memory.clone() })
            .map_err(|why| Error::new(Kind::Internal, "cannot write what is known of probes", why))?;
        self.state.replace(&file_name(&self.name), &text, 0o600)
    }
}

/// None for the future: the clock was set back.
fn age_of(at: i64) -> Option<Duration> {
    u64::try_from(Timestamp::now().as_millisecond() - at).ok().map(Duration::from_millis)
}

fn file_name(name: &str) -> String {
    format!("probe-{}", safe(name))
}

/// 128 bits that nobody can guess, in hex.
fn token() -> Result<String> {
    let mut bytes = [0; 16];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|why| Error::reading("/dev/urandom", why))?;
    Ok(hex(&bytes))
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => Err(Error::writing(path, why)),
        _ => Ok(()),
    }
}

/// The prober of a loop, if it has one.
pub(super) fn of(plan: &Plan, place: &Place, state: &Dir) -> Option<Arc<Prober>> {
    Prober::new(plan, place, state).map(Arc::new)
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
