//! Running another program: an argv, never a shell line, with a time limit; tells how it ended.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::error::{Error, Kind, Result};
use crate::stop::{self, Woken};

/// How long a program has to end after it was asked to.
const GRACE: Duration = Duration::from_secs(5);

/// What to run and how.
#[derive(Clone, Debug)]
pub struct Job {
    /// The program and its arguments; the program is looked up in PATH as usual.
    pub argv: Vec<OsString>,
    /// The whole environment; `None` hands ours on.
    pub env: Option<Vec<(OsString, OsString)>>,
    /// After this long its process group gets TERM; what is left of it once it has ended, or five seconds later, KILL.
    pub limit: Duration,
    /// How many bytes of what it prints are kept from its beginning; of the rest the last few, [`Ran::last`].
    pub keep: usize,
    /// True keeps stdout alone and lets stderr through to ours; false keeps both, mixed.
    pub stderr_through: bool,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this exit status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// We ended it: it took longer than its limit.
    TimedOut,
}

/// How it ended and what it printed.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub end: End,
    /// The first [`Job::keep`] bytes that it printed.
    pub output: Vec<u8>,
    /// What it printed last, at most 4 KiB, where it printed more than that.
    pub last: Vec<u8>,
}

/// What is kept of what a program prints.
#[derive(Default)]
struct Kept {
    first: Vec<u8>,
    last: Vec<u8>,
}

impl Kept {
    /// How much is kept of the end.
    const LAST: usize = 4096;

    fn add(&mut self, bytes: &[u8], keep: usize) {
        let (first, rest) = bytes.split_at(bytes.len().min(keep.saturating_sub(self.first.len())));
        self.first.extend_from_slice(first);
        self.last.extend_from_slice(rest);
        let over = self.last.len().saturating_sub(Kept::LAST);
        self.last.drain(..over);
    }
}

static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());
static PATIENCE: OnceLock<Duration> = OnceLock::new();

/// From now on, once this process is asked to end, what it runs gets this much more time; then it is ended, and
/// [`run`] gives [`Kind::Unknown`].
pub fn set_patience(time: Duration) {
    let _ = PATIENCE.set(time);
}

/// Kills everything that [`run`] runs now, with what that started.
pub fn kill_all() {
    for pid in running().iter().filter_map(|pid| Pid::from_raw(*pid)) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

fn running() -> std::sync::MutexGuard<'static, BTreeSet<i32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs it and waits. An error means that it never started (not found, not executable): 66, or 74; but with
/// [`Kind::Unknown`] it did, and nobody knows how it ended.
///
/// It runs in a process group of its own, so a Ctrl-C at the terminal does not end it half way, and with stdin
/// empty. Being asked to end ([`stop`]) does not end it: what is running finishes within its limit, or within what
/// [`set_patience`] leaves it.
pub fn run(job: &Job) -> Result<Ran> {
    let Some((program, arguments)) = job.argv.split_first() else {
        return Err(Error::plain(Kind::Config, "cannot run a command without words"));
    };
    let (reader, writer) = io::pipe().map_err(|why| start_error(program, why))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).process_group(0);
    if !job.stderr_through {
        let copy = writer.try_clone().map_err(|why| start_error(program, why))?;
        command.stderr(copy);
    }
    command.stdout(writer);
    if let Some(env) = &job.env {
        command.env_clear().envs(env.iter().map(|(k, v)| (k, v)));
    }
    keep_files_to_ourselves();
    let mut child = command.spawn().map_err(|why| start_error(program, why))?;
    drop(command); // our copies of the pipe's writing end, or the reader below never ends
    let kept = Arc::<Mutex<Kept>>::default();
    let reading = {
        let (kept, keep) = (kept.clone(), job.keep);
        std::thread::spawn(move || read_some(reader, keep, &kept))
    };
    running().insert(child.id() as i32);
    let end = wait(&mut child, job.limit).map_err(|why| {
        Error::new(Kind::Unknown, format!("cannot watch {} run", program.to_string_lossy()), why)
    })?;
    // A grandchild may hold the pipe open for ever; what came within a second of the end is enough.
    join_within(reading, Duration::from_secs(1));
    let kept = std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Ran { end, output: kept.first, last: kept.last })
}

/// Files that our own caller left open, a lock for instance, are no business of what we run. Ours never are.
fn keep_files_to_ourselves() {
    static DONE: std::sync::Once = std::sync::Once::new();
    DONE.call_once(|| close_fds::set_fds_cloexec(3, &[]));
}

fn start_error(program: &OsString, why: io::Error) -> Error {
    let name = program.to_string_lossy();
    Error::reading(name.as_ref(), why).context(format!("cannot run {name}"))
}

fn read_some(mut reader: io::PipeReader, keep: usize, kept: &Mutex<Kept>) {
    let mut buffer = [0; 8192];
    while let Ok(n @ 1..) = reader.read(&mut buffer) {
        let Ok(mut kept) = kept.lock() else { return };
        kept.add(&buffer[..n], keep);
    }
}

fn join_within(reading: std::thread::JoinHandle<()>, limit: Duration) {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(reading.join()));
    let _ = told.recv_timeout(limit);
}

fn wait(child: &mut Child, limit: Duration) -> io::Result<End> {
    let Some(pid) = Pid::from_raw(child.id() as i32) else { return Err(io::Error::other("no process id")) };
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    let ended = |limit| Ok::<_, io::Error>(stop::wait_through(handle.as_fd(), limit)? == Woken::Ready);
    let mut woken = stop::wait_for_all(handle.as_fd(), limit)?;
    let mut hurried = false;
    if woken == Woken::Stopped {
        let patience = PATIENCE.get().filter(|patience| **patience < limit);
        hurried = patience.is_some();
        woken = stop::wait_through(handle.as_fd(), *patience.unwrap_or(&limit))?;
    }
    if woken == Woken::Ready {
        return reap(child, pid);
    }
    let _ = kill_process_group(pid, Signal::TERM);
    ended(if hurried { Duration::from_millis(500) } else { GRACE })?;
    // Those that it started may go on without it. It is not reaped yet, so the group's number is nobody else's.
    let _ = kill_process_group(pid, Signal::KILL);
    ended(GRACE)?;
    reap(child, pid)?;
    match hurried {
        true => Err(io::Error::other("it was ended because this process is asked to end")),
        false => Ok(End::TimedOut),
    }
}

/// Once it is reaped its number may be another's.
fn reap(child: &mut Child, pid: Pid) -> io::Result<End> {
    running().remove(&pid.as_raw_nonzero().get());
    let status = child.wait()?;
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => End::Exit(code),
        (None, signal) => End::Signal(signal.unwrap_or(0)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(words: &[&str], limit: Duration) -> Job {
        Job {
            argv: words.iter().map(Into::into).collect(),
            env: None,
            limit,
            keep: 100,
            stderr_through: false,
        }
    }

    #[test]
    fn tells_how_it_ended() {
        let minute = Duration::from_secs(60);
        let ran = run(&job(&["sh", "-c", "echo out; echo err >&2; exit 3"], minute)).unwrap();
        assert_eq!((ran.end, ran.output.len()), (End::Exit(3), 8));
        assert_eq!(run(&job(&["sh", "-c", "kill -9 $$"], minute)).unwrap().end, End::Signal(9));
        assert_eq!(run(&job(&["/no/such/thing"], minute)).unwrap_err().status(), 66);
    }

    #[test]
    fn keeps_how_it_began_and_how_it_ended() {
        let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done";
        let ran = run(&job(&["sh", "-c", script], Duration::from_secs(60))).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(ran.output.len() == 100 && text(&ran.output).starts_with("line 0\nline 1\n"));
        assert!(ran.last.len() == 4096 && text(&ran.last).ends_with("line 2998\nline 2999\n"));
        assert!(run(&job(&["echo", "x"], Duration::from_secs(60))).unwrap().last.is_empty());
    }

    #[test]
    fn ends_what_it_started_too() {
        let temp = tempfile::tempdir().unwrap();
        let pid = temp.path().join("pid");
        // The grandchild does not care for TERM; the child ends at once.
        let script = r#"(trap '' TERM; echo said; sh -c 'echo $PPID' >"$0.new"; mv "$0.new" "$0"; while :; do sleep 1; done) & wait"#;
        let words = ["sh", "-c", script, pid.to_str().unwrap()];
        let limit = Duration::from_millis(700);
        let ran = run(&job(&words, limit)).unwrap();
        assert_eq!((ran.end, ran.output.as_slice()), (End::TimedOut, &b"said\n"[..]));
        let pid = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(10);
        let is_there = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
            let _: i32 = pid;
            !matches!(state, None | Some('Z' | 'X'))
        };
        while is_there() {
            assert!(std::time::Instant::now() < end, "{pid} still runs");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_was_printed_is_kept_though_a_grandchild_holds_the_pipe() {
        let ran = run(&job(&["sh", "-c", "echo said; sleep 5 & echo $!"], Duration::from_secs(60))).unwrap();
        let text = String::from_utf8(ran.output).unwrap();
        let (said, pid) = text.trim().split_once('\n').unwrap();
        assert_eq!((ran.end, said), (End::Exit(0), "said"));
        let _ = rustix::process::kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::KILL);
    }

    #[test]
    fn ends_what_takes_too_long() {
        assert_eq!(run(&job(&["sleep", "600"], Duration::from_millis(50))).unwrap().end, End::TimedOut);
    }
}
