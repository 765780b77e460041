//! A loop that starts from a directory: whatever is laid there whole is acted on, once for its bytes.
//!
//! Messages (`.eml`, mbox files, Maildirs) are taken apart first where the loop has `files`. A file is whole once it was
//! moved in or closed after writing; one that was there before us, or of which nobody told us, once it has not changed
//! for two seconds. Names that programs give to what they have not finished (`.x`, `x.part`, `x~`) are let be until they
//! are renamed. What was handed on is remembered by name, inode, size and time; the ledger decides what was done.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::clock::Clock;
use super::life::{Life, Stage};
use super::plan::{Plan, Source};
use super::unit::guarded;
use super::work::tell;
use crate::durable::Dir;
use crate::error::{Error, Result, Status};
use crate::job::{act, dissect};
use crate::report::{self, Form, Records};
use crate::stop;
use crate::store::maildir;
use crate::watch::{self, Watch};

/// What nobody told us to be whole must not have changed for so long.
const SETTLED: Duration = Duration::from_secs(2);
/// A file that is open for writing is taken after so long without a change: the word that it was closed may be lost.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// So many files are handed on together.
const TOGETHER: usize = 500;
/// Without the kernel's word the directory is read so often for certainty.
const LOOK_ANYWAY: Duration = Duration::from_secs(300);

/// A directory and what is known of it.
pub(super) struct Drops {
    plan: Plan,
    dir: PathBuf,
    poll: Option<Duration>,
    life: Arc<Life>,
    /// What was handed on, as it was then.
    seen: BTreeMap<PathBuf, Look>,
    /// The same, where something of it failed for now: handed on again when its time has come.
    waiting: BTreeMap<PathBuf, Look>,
    /// Files that somebody is writing.
    open: BTreeSet<PathBuf>,
    /// The next time at which the directory is read.
    scan_at: Instant,
}

/// What tells a file from another in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Look {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Drops {
    /// The directory is made if it is not there.
    pub fn new(plan: &Plan, life: Arc<Life>) -> Result<Option<Drops>> {
        let Source::Directory(dir, poll) = &plan.source else { return Ok(None) };
        Dir::create(dir, 0o700)?;
        let poll = poll.or_else(|| watch::is_remote(dir).then_some(plan.every));
        Ok(Some(Drops {
            plan: plan.clone(),
            dir: dir.clone(),
            poll,
            life,
            seen: BTreeMap::new(),
            waiting: BTreeMap::new(),
            open: BTreeSet::new(),
            scan_at: Instant::now(),
        }))
    }

    /// Hands on what is whole now, as `mail-loop once` does; what changes still is left to the next run.
    pub fn once(&mut self, records: &mut Records<'_>) -> Result<Status> {
        let whole = self.scan()?;
        self.life.answered();
        let done = self.hand_on(whole, records);
        self.life.worked(Stage::Act, &done);
        done
    }

    /// Hands on what appears until asked to end.
    pub fn keep(mut self, form: Form) -> Result<()> {
        let mut records = Records::stdout(form);
        let mut clock = Clock::new(&self.plan);
        let mut watch = None;
        while !stop::requested() {
            let done = guarded(|| self.round(&mut watch, &mut clock, &mut records));
            if let Err(error) = &done {
                report::trouble(format_args!("loop {}: {error}", self.plan.name));
                watch = None;
                self.scan_at = Instant::now() + Duration::from_secs(30);
            }
            self.life.trouble(Stage::Watch, done.err().map(|error| error.to_string()));
            if records.gone() {
                stop::request();
            }
        }
        Ok(())
    }

    fn round(
        &mut self,
        watch: &mut Option<Watch>,
        clock: &mut Clock,
        records: &mut Records<'_>,
    ) -> Result<()> {
        // Watched before it is read: what comes between is told twice, not never.
        let watch = match watch {
            Some(watch) => watch,
            None => watch.insert(self.watch()?),
        };
        let wait = self.scan_at.saturating_duration_since(Instant::now()).min(clock.wait());
        stop::open_to_calls(|| watch.wait(wait));
        if stop::requested() {
            return Ok(());
        }
        let called = stop::was_called();
        let names = watch.names();
        self.open.extend(names.open);
        self.open.retain(|path| !names.whole.contains(path));
        let all = called || clock.is_due();
        if names.lost || all {
            self.scan_at = Instant::now();
        }
        if all {
            self.waiting.clear();
        }
        let mut whole: Vec<PathBuf> = match self.poll {
            None => names.whole.into_iter().filter(|path| self.is_new(path).is_some()).collect(),
            Some(_) => Vec::new(),
        };
        if self.scan_at <= Instant::now() {
            whole = self.scan()?;
            self.life.answered();
        } else if !self.open.is_empty() {
            self.scan_at = self.scan_at.min(Instant::now() + SETTLED);
        }
        if all || !whole.is_empty() {
            let done = self.hand_on(whole, records);
            tell(&self.plan, &self.life, &done);
            clock.ran(&self.plan, all, &done);
        }
        Ok(())
    }

    fn watch(&self) -> Result<Watch> {
        Dir::create(&self.dir, 0o700)?;
        let inner = ["new", "cur"].map(|name| self.dir.join(name));
        let mut dirs = vec![self.dir.as_path()];
        if maildir::is_maildir(&self.dir) {
            dirs.extend(inner.iter().map(PathBuf::as_path));
        }
        match self.poll {
            Some(_) => Watch::new([]),
            None => Watch::new(dirs),
        }
    }

    /// Reads the directory: what is whole and was not handed on. Sets the time of the next look.
    fn scan(&mut self) -> Result<Vec<PathBuf>> {
        let now = Instant::now();
        self.scan_at = now + self.poll.unwrap_or(LOOK_ANYWAY);
        let failed = |why| Error::reading(&self.dir, why);
        let (mut whole, mut there) = (Vec::new(), BTreeSet::new());
        let mut unfinished = false;
        if self.is_maildir() {
            return Ok(vec![self.dir.clone()]);
        }
        for entry in std::fs::read_dir(&self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if let Some(look) = self.is_new(&path) {
                match self.is_settled(&path, look) {
                    true => whole.push(path.clone()),
                    false => unfinished = true,
                }
            }
            there.insert(path);
        }
        self.seen.retain(|path, _| there.contains(path));
        self.waiting.retain(|path, _| there.contains(path));
        self.open.retain(|path| there.contains(path));
        if unfinished {
            self.scan_at = self.scan_at.min(now + SETTLED);
        }
        whole.sort();
        Ok(whole)
    }

    fn is_maildir(&self) -> bool {
        self.plan.dissect.is_some() && maildir::is_maildir(&self.dir)
    }

    /// A regular file that was not handed on as it is now.
    fn is_new(&self, path: &Path) -> Option<Look> {
        if is_unfinished_name(path) && !self.is_maildir() {
            return None;
        }
        let look = Look::at(path)?;
        let is_known = [&self.seen, &self.waiting].iter().any(|known| known.get(path) == Some(&look));
        (!is_known).then_some(look)
    }

    fn is_settled(&self, path: &Path, look: Look) -> bool {
        let changed =
            SystemTime::UNIX_EPOCH + Duration::new(look.changed.0.max(0) as u64, look.changed.1 as u32);
        // A time in the future, from a clock that was set back, is long ago.
        let age = SystemTime::now().duration_since(changed).unwrap_or(FORGOTTEN);
        age >= if self.open.contains(path) { FORGOTTEN } else { SETTLED }
    }

    /// Messages are taken apart, then everything is acted on, also what is pending from before.
    fn hand_on(&mut self, whole: Vec<PathBuf>, records: &mut Records<'_>) -> Result<Status> {
        let mut status = Status::DONE;
        let (messages, files): (Vec<_>, Vec<_>) = whole.into_iter().partition(|path| self.is_message(path));
        if let Some(options) = self.plan.dissect.clone() {
            if !messages.is_empty() {
                self.life.came();
                let before: Vec<_> = messages.iter().map(|path| (path.clone(), Look::at(path))).collect();
                let items = dissect::from_arguments(messages);
                status.merge(dissect::run(&options, items, &mut Records::new(std::io::sink(), Form::Nul))?);
                remember(&mut self.seen, before);
            }
            if options.out.is_dir() && !stop::requested() {
                status.merge(act::pending(&self.plan.act, std::slice::from_ref(&options.out), records)?);
            }
        }
        for group in files.chunks(TOGETHER) {
            if stop::requested() {
                break;
            }
            self.life.came();
            // As they are before they are read: what changes meanwhile is new again.
            let before: Vec<_> = group.iter().map(|path| (path.clone(), Look::at(path))).collect();
            let there = group.iter().filter(|path| path.exists()).cloned();
            let items: Vec<_> = there.map(|path| Ok(act::Item::Path(path))).collect();
            let done = act::run(&self.plan.act, items, records)?;
            status.merge(done);
            if !stop::requested() {
                remember(if done.code() == 75 { &mut self.waiting } else { &mut self.seen }, before);
            }
        }
        Ok(status)
    }

    fn is_message(&self, path: &Path) -> bool {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        self.plan.dissect.is_some()
            && (self.is_maildir() || ["eml", "mbox"].iter().any(|known| ending.eq_ignore_ascii_case(known)))
    }
}

fn remember(known: &mut BTreeMap<PathBuf, Look>, looks: Vec<(PathBuf, Option<Look>)>) {
    known.extend(looks.into_iter().filter_map(|(path, look)| Some((path, look?))));
}

impl Look {
    /// None where there is no regular file; symbolic links are not followed.
    fn at(path: &Path) -> Option<Look> {
        let meta = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        let changed = (meta.mtime(), meta.mtime_nsec());
        Some(Look { inode: meta.ino(), size: meta.len(), changed })
    }
}

/// What programs call a file that they have not finished.
fn is_unfinished_name(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let endings = ["~", ".part", ".partial", ".filepart", ".crdownload", ".download", ".tmp", ".swp"];
    name.starts_with('.') || endings.iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_what_is_not_finished() {
        for name in [".x.pdf.Ab3", "x.pdf.part", "x.PDF.crdownload", "x~"] {
            assert!(is_unfinished_name(Path::new(name)), "{name}");
        }
        assert!(!is_unfinished_name(Path::new("part.pdf")));
    }
}
