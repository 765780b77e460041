//! The second and third stage of a running loop: each a thread with its job open, fed by the one before it.
//!
//! What is handed on in memory are hints: a path that appeared, a record that was written. Whatever is lost of them, or
//! was left by an earlier run, stands in the Maildir, the journal and the ledger; the stages look there at the start, when
//! hints were lost, and after trouble.

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::clock::Clock;
use super::life::{Life, Stage};
use super::plan::Plan;
use super::probe::Prober;
use super::queue::{Pipe, Queue};
use super::unit::guarded;
use crate::error::{Result, Status};
use crate::job::{act, dissect};
use crate::report::{self, Form, Records};
use crate::stop;
use crate::store::maildir::{self, Maildir};
use crate::watch::{self, Watch};

/// What changed without a word of the kernel (another machine; a claim by another process) is looked for so often.
pub(super) const LOOK_ANYWAY: Duration = Duration::from_secs(30);
/// After trouble everything is looked at again, first after this long.
pub(super) const AFTER_TROUBLE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(1800));

/// A loop whose messages come into a Maildir.
pub(super) struct Mill {
    pub plan: Plan,
    pub life: Arc<Life>,
    pub watch: Watch,
    pub queue: Queue,
    pub prober: Option<Arc<Prober>>,
    pub form: Form,
}

impl Mill {
    /// Takes messages apart until asked to end.
    pub fn dissect(&self) -> Result<()> {
        let (Some(fetch), Some(options)) = (self.plan.fetch(), &self.plan.dissect) else { return Ok(()) };
        let mut pause = Pause::default();
        while !stop::requested() {
            let trouble = Cell::new(false);
            let feed = Feed::new(&self.watch, &fetch.maildir, &trouble);
            let done = guarded(|| {
                let mut records = Records::new(Pipe::into(&self.queue), Form::Json);
                dissect::keep(options, feed, &mut records, &mut |status| {
                    trouble.set(status != Status::DONE);
                    self.life.worked(Stage::Dissect, &Ok(status));
                })
            });
            if let Err(error) = &done {
                report::trouble(format_args!("loop {}: {error}", self.plan.name));
                self.life.worked(Stage::Dissect, &done);
                stop::open_to_calls(|| stop::sleep(pause.after(true)));
            }
        }
        Ok(())
    }

    /// Acts on files until asked to end.
    pub fn act(&self) -> Result<()> {
        let Some(out) = self.plan.dissect.as_ref().map(|options| &options.out) else { return Ok(()) };
        let mut records = Records::stdout(self.form);
        let mut clock = Clock::new(&self.plan);
        while !stop::requested() {
            let mut waiting = stop::open_to_calls(|| self.queue.take(clock.wait()));
            if stop::requested() {
                break;
            }
            let all = waiting.lost || stop::was_called() || clock.is_due();
            if !all && waiting.files.is_empty() {
                continue;
            }
            if let Some(prober) = &self.prober {
                prober.pick(&mut waiting.files, all.then_some(out.as_path()), &self.life);
            }
            let done = guarded(|| match all {
                true if !out.is_dir() => Ok(Status::DONE),
                true => act::pending(&self.plan.act, std::slice::from_ref(out), &mut records),
                false => {
                    let items = waiting.files.drain(..).map(|file| Ok(act::Item::Record(Box::new(file))));
                    act::run(&self.plan.act, items, &mut records)
                }
            });
            tell(&self.plan, &self.life, &done);
            if records.gone() {
                stop::request();
                break;
            }
            clock.ran(&self.plan, all, &done);
        }
        Ok(())
    }
}

/// Remembers how acting went, and says it if it did not go at all.
pub(super) fn tell(plan: &Plan, life: &Life, done: &Result<Status>) {
    if let Err(error) = done {
        report::trouble(format_args!("loop {}: {error}", plan.name));
    }
    life.worked(Stage::Act, done);
}

/// The directories in which an account's messages appear; made where they are missing.
pub(super) fn doors(maildir: &Path) -> Result<Vec<PathBuf>> {
    let maildir = Maildir::create(maildir)?;
    let mut doors = maildir.doors().to_vec();
    for name in maildir.dir.names()? {
        if name.to_string_lossy().starts_with('.')
            && let Ok(folder) = Maildir::open(maildir.dir.at(&name))
        {
            doors.extend(folder.doors());
        }
    }
    Ok(doors)
}

/// Messages for dissect, without end: those that lie there, then those that appear.
struct Feed<'a> {
    watch: &'a Watch,
    maildir: &'a Path,
    /// Whether what was taken apart last was trouble.
    trouble: &'a Cell<bool>,
    batch: VecDeque<PathBuf>,
    in_hand: bool,
    scan_at: Option<Instant>,
    pause: Pause,
    remote: bool,
    stamp: Vec<SystemTime>,
}

impl<'a> Feed<'a> {
    fn new(watch: &'a Watch, maildir: &'a Path, trouble: &'a Cell<bool>) -> Feed<'a> {
        Feed {
            watch,
            maildir,
            trouble,
            batch: VecDeque::new(),
            in_hand: false,
            scan_at: Some(Instant::now()),
            pause: Pause::default(),
            remote: watch::is_remote(maildir),
            stamp: Vec::new(),
        }
    }

    /// Everything that lies there, and whatever mailbox is new.
    fn scan(&mut self) -> Result<()> {
        self.scan_at = None;
        let doors = doors(self.maildir)?;
        doors.iter().try_for_each(|door| self.watch.add(door))?;
        self.stamp = stamp(doors.iter().map(PathBuf::as_path));
        self.batch = VecDeque::from([self.maildir.to_path_buf()]);
        Ok(())
    }

    fn wait(&mut self) {
        let now = Instant::now();
        let anyway = if self.remote { LOOK_ANYWAY } else { Duration::from_secs(3600) };
        let limit = self.scan_at.map_or(anyway, |at| at.saturating_duration_since(now));
        stop::open_to_calls(|| self.watch.wait(limit.min(anyway)));
        let names = self.watch.names();
        let changed = self.remote && {
            let doors = doors(self.maildir).unwrap_or_default();
            stamp(doors.iter().map(PathBuf::as_path)) != self.stamp
        };
        if names.lost || changed || stop::was_called() {
            self.scan_at = Some(now);
        }
        // One that a reader moved on meanwhile is told under both names.
        let mut known = BTreeSet::new();
        let unique = |path: &PathBuf| Some(maildir::unique(path.file_name()?.to_str()?).to_string());
        self.batch.extend(
            names
                .whole
                .into_iter()
                .chain(names.open)
                .filter(|path| unique(path).is_some_and(|n| known.insert(n))),
        );
    }
}

impl Iterator for Feed<'_> {
    type Item = Result<dissect::Item>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if stop::requested() {
                return None;
            }
            while let Some(path) = self.batch.pop_front() {
                // Gone from `new/` and not found in `cur/`: somebody else's affair.
                if path.exists() || maildir::locate(&path).is_some() {
                    self.in_hand = true;
                    return Some(Ok(dissect::Item::Path(path)));
                }
            }
            if std::mem::take(&mut self.in_hand) {
                return Some(Ok(dissect::Item::Pause));
            }
            let again = self.pause.after(self.trouble.take());
            if again > Duration::ZERO {
                self.scan_at = Some(Instant::now() + again);
            }
            if self.scan_at.is_none_or(|at| at > Instant::now()) {
                self.wait();
            }
            if self.scan_at.is_some_and(|at| at <= Instant::now())
                && let Err(error) = self.scan()
            {
                return Some(Err(error));
            }
        }
    }
}

/// How long to wait before looking at everything again, doubling while there is trouble.
#[derive(Default)]
struct Pause(Duration);

impl Pause {
    fn after(&mut self, trouble: bool) -> Duration {
        let (first, most) = AFTER_TROUBLE;
        match trouble {
            true => self.0 = (self.0 * 2).clamp(first, most),
            false => return Duration::ZERO,
        }
        self.0
    }
}

/// When these changed last; what is not there did not.
pub(super) fn stamp<'a>(paths: impl Iterator<Item = &'a Path>) -> Vec<SystemTime> {
    paths.filter_map(|path| std::fs::metadata(path).ok()?.modified().ok()).collect()
}
