//! A mail to itself through the whole loop: sent, fetched, taken apart, recognised where a file would be acted on.
//!
//! The message holds a small PDF and a `Mailloop-Probe` field, by which it is braked: no rule ever takes it. Both hold a
//! token that nobody can guess; only a file with the bytes that were sent, out of a message with its token, is ours. It is
//! then removed: the PDF, the message here, and the message on the server. What is out, and how long the others took, is
//! remembered in `STATE/probe-LOOP`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
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
use crate::store::cursor;
use crate::store::journal;
use crate::store::ledger::{Again, Claim, End, Key, Ledger, State};
use crate::store::maildir;
use crate::store::spool::Way;

mod memory;
use memory::{KNOWN, Out};
pub(super) use memory::{Memory, Trips};

/// The header field that says what a probe is.
const FIELD: &str = "Mailloop-Probe";

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
    /// What came, and could not be put away yet.
    again: Vec<File>,
    /// Why nothing could be deleted on the server when that was last tried.
    stays: Option<String>,
    /// The thread that does so.
    keeper: Option<Arc<Task>>,
}

impl Prober {
    /// For a loop that sends probes; `place` is where its configuration lies.
    pub fn new(plan: &Plan, place: &Place, state: &Dir) -> Option<Prober> {
        let now = Now {
            memory: Memory::read(state, &plan.name),
            sent: BTreeMap::new(),
            again: Vec::new(),
            stays: None,
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
            let again = std::mem::take(&mut self.now().again);
            self.take(again, life);
            self.clean();
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
        let ours = self.take(found, life);
        files.retain(|file| !ours.contains(&file.sha256));
    }

    /// Puts these away; gives the digests of those that are ours. What fails is tried again.
    fn take(&self, found: Vec<File>, life: &Life) -> BTreeSet<String> {
        let mut ours = BTreeSet::new();
        for file in found {
            match self.came(&file) {
                Ok(true) => life.trouble(Stage::Probe, None),
                Ok(false) => continue,
                Err(error) => {
                    report::trouble(error.context(format!("loop {}: a probe", self.name)));
                    self.now().again.push(file.clone());
                }
            }
            ours.insert(file.sha256);
        }
        ours
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
        let at = Timestamp::now().as_millisecond();
        self.change(|memory| {
            memory.last = Some(at);
            memory.sent += 1;
            memory.out.insert(sha256.clone(), Out { token, sent: at, lost: false });
        })?;
        self.now().sent.insert(sha256, Instant::now());
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
        sent.retain(|sha256, _| memory.out.contains_key(sha256));
        if (any || memory.out.len() != before)
            && let Err(error) = memory.save(&self.state, &self.name)
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
        // Each step finds again what the one before it did, should we end in between.
        if let Some(place) = message.as_deref().and_then(place_on_server)
            && !self.now().memory.gone.contains(&place)
        {
            self.change(|memory| memory.gone.push(place))?;
        }
        self.settle(file, path)?;
        remove(path)?;
        message.as_deref().map_or(Ok(()), remove)?;
        self.change(|memory| memory.came(&file.sha256, took))?;
        self.now().keeper.iter().for_each(|keeper| keeper.call());
        report::detail(format_args!("loop {}: a probe came back after {} ms", self.name, took.as_millis()));
        Ok(true)
    }

    /// Remembers it durably, or not at all.
    fn change(&self, change: impl FnOnce(&mut Memory)) -> Result<()> {
        let mut now = self.now();
        let mut next = now.memory.clone();
        change(&mut next);
        next.save(&self.state, &self.name)?;
        now.memory = next;
        Ok(())
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

    /// Deletes on the server what came back; why that cannot be done is said once.
    fn clean(&self) {
        let stays = self.delete().err().map(|error| error.to_string());
        let before = std::mem::replace(&mut self.now().stays, stays.clone());
        if let Some(why) = stays.filter(|why| before.as_ref() != Some(why)) {
            report::trouble(format_args!("loop {}: a probe stays on the server: {why}", self.name));
        }
    }

    fn delete(&self) -> Result<()> {
        let gone = self.now().memory.gone.clone();
        if gone.is_empty() {
            return Ok(());
        }
        let mut imap = Imap::connect(&self.fetch.peer, &secret::fetch)?;
        for place in gone {
            match self.delete_one(&mut imap, &place) {
                // The mailbox is no more, or cannot be changed.
                Err(error) if !imap.is_spent() => report::trouble(error),
                done => done?,
            }
            self.change(|memory| memory.gone.retain(|other| *other != place))?;
        }
        imap.logout();
        Ok(())
    }

    fn delete_one(&self, imap: &mut Imap, (mailbox, uidvalidity, uid): &(String, u32, u32)) -> Result<()> {
        static SAID: Once = Once::new();
        if imap.select(mailbox)?.uidvalidity != Some(*uidvalidity) {
            return Ok(());
        }
        let uids: Uids = [*uid].into_iter().collect();
        imap.store(&uids, "+FLAGS.SILENT (\\Deleted)")?;
        if imap.has("UIDPLUS") {
            return imap.expunge(&uids);
        }
        // A plain EXPUNGE would take whatever anybody marked.
        SAID.call_once(|| {
            report::say(format_args!(
                "loop {}: the server cannot delete single messages (it has no UIDPLUS); probes stay there, marked as deleted",
                self.name
            ));
        });
        Ok(())
    }
}

/// None for the future: the clock was set back.
fn age_of(at: i64) -> Option<Duration> {
    u64::try_from(Timestamp::now().as_millisecond() - at).ok().map(Duration::from_millis)
}

/// 128 bits that nobody can guess, in hex.
fn token() -> Result<String> {
    let mut bytes = [0; 16];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|why| Error::reading("/dev/urandom", why))?;
    Ok(hex(&bytes))
}

/// Mailbox, UIDVALIDITY and UID of a message in a Maildir, as its name and the cursor beside it say.
fn place_on_server(message: &Path) -> Option<(String, u32, u32)> {
    let name: maildir::Name = maildir::unique(message.file_name()?.to_str()?).parse().ok()?;
    let dir = Dir::open(message.parent()?.parent()?).ok()?;
    let (_, mailbox) = cursor::owner(&dir, &name.source)?;
    Some((mailbox, name.uidvalidity, name.uid))
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
