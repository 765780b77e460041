//! mail-queue: send what is due, and let people see and decide the rest.
//!
//! A recipient is marked `trying` on disk before the final dot and settled after the answer; what a crash left marked
//! is told as unknown and never sent again unasked. Each message is locked while it is in hand, so any number of runs
//! may work side by side: what another one has in hand is passed over.
//!
//! A run looks at everything once, then works at each way on connections of its own. A server that can't be reached
//! costs one attempt, not one for each message: those stay as they are until it answers again, or their time is up.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use jiff::Timestamp;

use crate::cli::Place as Where;
use crate::error::{Error, Kind, Result, Status};
use crate::job::settings::Settings;
use crate::job::submit::{self, progress::Progress};
use crate::record::{Outcome, Sent};
use crate::report::{self, Records};
use crate::stop;
use crate::store::spool::{Entry, Place, Spool, State, Way};

mod manage;
mod notice;
mod watch;
mod work;
pub use manage::{drop, hold, list, relays, release, show};
pub use watch::watch;
use work::{Worker, own_up, places};

/// Where the queue lies, and how it is worked at.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where configuration and state lie.
    pub place: Where,
    /// For each message.
    pub limit: Duration,
    /// So many connections at once, over all servers; 0 means four.
    pub jobs: usize,
    /// Recipients whose fate is unknown are tried too, once; they may get a second one.
    pub resend_unknown: bool,
}

fn open(options: &Options) -> Result<(Settings, Spool)> {
    let settings = Settings::load(&options.place)?;
    let spool = Spool::open(&settings.state()?)?;
    Ok((settings, spool))
}

/// Sends what is due, once: a record (plain: the Message-ID) for each message that was handed over to somebody, a line
/// on stderr for each recipient who did not get it.
///
/// 0 if nothing is left to be sent, 75 if something waits for a later run, 69 if somebody was refused for good, 76 if
/// somebody's fate is unknown. Messages for the same way share a connection.
pub fn run(options: &Options, records: &mut Records<'_>) -> Result<Status> {
    let (settings, spool) = open(options)?;
    spool.clean()?;
    let mut round = Round::new(options, &settings, &spool);
    round.scan(&mut HashMap::new())?;
    round.work(records)
}

/// The same for one message, just accepted.
pub fn run_one(options: &Options, id: &str, records: &mut Records<'_>) -> Result<Status> {
    let (settings, spool) = open(options)?;
    let mut round = Round::new(options, &settings, &spool);
    round.look(id);
    round.work(records)
}

/// What is to be done now.
struct Round<'a> {
    settings: &'a Settings,
    spool: &'a Spool,
    now: Timestamp,
    jobs: usize,
    resend_unknown: bool,
    status: Status,
    /// When there is something to do next.
    wake: Option<Timestamp>,
    /// By way, oldest first.
    ways: BTreeMap<String, (Way, VecDeque<Item>)>,
    /// What a run that died left: it needs no connection.
    rest: VecDeque<Item>,
}

/// A message to be worked at.
struct Item {
    id: String,
    accepted: Option<Timestamp>,
    size: u64,
}

/// What a worker has to tell.
enum Event {
    Sent(Box<Sent>),
    Status(Kind),
    Wake(Timestamp),
    /// One message less to look at.
    Step,
}

impl<'a> Round<'a> {
    fn new(options: &Options, settings: &'a Settings, spool: &'a Spool) -> Round<'a> {
        let (now, jobs) = (Timestamp::now(), if options.jobs == 0 { 4 } else { options.jobs });
        let resend_unknown = options.resend_unknown;
        let (status, wake, ways, rest) = Default::default();
        Round { settings, spool, now, jobs, resend_unknown, status, wake, ways, rest }
    }

    /// Looks at all messages but those of which `quiet` says that they need nothing before a time.
    fn scan(&mut self, quiet: &mut HashMap<String, Timestamp>) -> Result<()> {
        let mut still = HashMap::new();
        for id in self.spool.ids(Place::Mail)? {
            match quiet.get(&id) {
                Some(next) if *next > self.now => {
                    self.waits(*next);
                    still.insert(id, *next);
                }
                _ => {
                    if let Some(next) = self.look(&id) {
                        still.insert(id, next);
                    }
                }
            }
        }
        *quiet = still;
        Ok(())
    }

    /// Looks at one message; when it needs something, if that is later.
    fn look(&mut self, id: &str) -> Option<Timestamp> {
        match self.spool.peek(Place::Mail, id) {
            Ok(None) => None,
            Ok(Some(entry)) => self.sort(entry),
            Err(error) => {
                self.trouble(&error.context(format_args!("message {id} of the queue")));
                None
            }
        }
    }

    fn sort(&mut self, entry: Entry) -> Option<Timestamp> {
        let item = Item {
            id: entry.id.clone(),
            accepted: entry.envelope.as_ref().map(|envelope| envelope.accepted),
            size: entry.envelope.as_ref().map_or(0, |envelope| envelope.size),
        };
        // With a mark that nobody stands for any more, it will be unknown.
        let is_unknown = |state| matches!(state, State::Unknown | State::Trying);
        let is_resent = |state| self.resend_unknown && is_unknown(state);
        if entry.recipients.iter().any(|each| each.is_due(self.now) || is_resent(each.state)) {
            let way = entry.envelope.map(|envelope| envelope.way).unwrap_or_default();
            self.ways.entry(way.key()).or_insert_with(|| (way, VecDeque::new())).1.push_back(item);
            return None;
        }
        let untold = entry.recipients.iter().any(|each| each.state == State::Failed && !each.told);
        if entry.recipients.iter().any(|each| each.state == State::Trying) || entry.is_settled() || untold {
            self.rest.push_back(item);
        }
        let waiting = entry.recipients.iter().filter(|each| each.state == State::Due);
        let next = waiting.filter_map(|each| each.next).min();
        if let Some(next) = next {
            self.waits(next);
        }
        next.filter(|_| !untold)
    }

    fn waits(&mut self, next: Timestamp) {
        self.status.add(Kind::Temporary);
        self.wake = Some(self.wake.map_or(next, |wake| wake.min(next)));
    }

    fn trouble(&mut self, error: &Error) {
        report::trouble(error);
        self.status.add(error.kind());
    }

    /// Does it all; tells what came of it.
    fn work(&mut self, records: &mut Records<'_>) -> Result<Status> {
        let (tell, told) = mpsc::channel();
        let gone = AtomicBool::new(false);
        let (settings, spool, now, resend_unknown) =
            (self.settings, self.spool, self.now, self.resend_unknown);
        let items = || self.ways.values().flat_map(|(_, items)| items);
        let progress = Progress::queue(items().count(), items().map(|item| item.size).sum());
        // A queue for each way, and as many workers as it may have connections.
        let mut piles = Vec::new();
        let mut posts = VecDeque::new();
        for (way, items) in std::mem::take(&mut self.ways).into_values() {
            let outbound = submit::outbound(settings, &way);
            let workers = outbound.connections.min(items.len());
            posts.extend(std::iter::repeat_n(Some(piles.len()), workers));
            piles.push((way, outbound, Mutex::new(items)));
        }
        let rest = (Way::default(), Default::default(), Mutex::new(std::mem::take(&mut self.rest)));
        posts.push_front(None);
        let threads = self.jobs.min(posts.len());
        let posts = Mutex::new(posts);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let (tell, posts, piles, rest, gone) = (tell.clone(), &posts, &piles, &rest, &gone);
                let progress = &progress;
                scope.spawn(move || {
                    while let Some(post) = posts.lock().ok().and_then(|mut posts| posts.pop_front()) {
                        let (way, outbound, pile) = post.map_or(rest, |at| &piles[at]);
                        let tell = tell.clone();
                        let worker = Worker {
                            settings,
                            spool,
                            now,
                            resend_unknown,
                            way,
                            outbound,
                            tell,
                            gone,
                            progress,
                        };
                        worker.work(pile, post.is_some());
                    }
                });
            }
            std::mem::drop(tell);
            self.hear(&told, records, &gone, &progress)
        })?;
        records.flush()?;
        Ok(self.status)
    }

    fn hear(
        &mut self,
        told: &Receiver<Event>,
        records: &mut Records<'_>,
        gone: &AtomicBool,
        progress: &Progress,
    ) -> Result<()> {
        let mut done = Ok(());
        for event in told {
            match event {
                Event::Step => progress.message(),
                Event::Status(kind) => self.status.add(kind),
                Event::Wake(next) => self.wake = Some(self.wake.map_or(next, |wake| wake.min(next))),
                Event::Sent(sent) if done.is_ok() => {
                    done = tell(&sent, records);
                    if done.is_err() || records.gone() {
                        gone.store(true, Ordering::Relaxed);
                    }
                }
                Event::Sent(_) => {}
            }
        }
        done
    }
}

fn tell(sent: &Sent, records: &mut Records<'_>) -> Result<()> {
    submit::complain(sent, "it stays in the queue");
    let got = sent.recipients.iter().any(|fate| fate.outcome == Outcome::Done);
    match &sent.message_id {
        _ if records.is_json() => records.json(sent)?,
        Some(id) if got => records.text(report::printable(id).as_bytes())?,
        _ => {}
    }
    records.flush()
}

/// True once no further message is to be begun.
fn is_over(gone: &AtomicBool) -> bool {
    stop::requested() || gone.load(Ordering::Relaxed)
}
