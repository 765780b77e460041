//! Running another program: an argv, never a shell line, with a time limit; tells how it ended.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::error::{Error, Kind, Result};
use crate::stop::{self, Woken};

/// What to run and how.
#[derive(Clone, Debug)]
pub struct Job {
    /// The program and its arguments; the program is looked up in PATH as usual.
    pub argv: Vec<OsString>,
    /// The whole environment; `None` hands ours on.
    pub env: Option<Vec<(OsString, OsString)>>,
    /// After this long its process group gets TERM, five seconds later KILL.
    pub limit: Duration,
    /// How many bytes of what it prints are kept; the rest is read and dropped.
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
    let mut child = command.spawn().map_err(|why| start_error(program, why))?;
    drop(command); // our copies of the pipe's writing end, or the reader below never ends
    let keep = job.keep;
    let reading = std::thread::spawn(move || read_some(reader, keep));
    running().insert(child.id() as i32);
    let end = wait(&mut child, job.limit).map_err(|why| {
        Error::new(Kind::Unknown, format!("cannot watch {} run", program.to_string_lossy()), why)
    })?;
    // A grandchild may hold the pipe open for ever; what came within a second of the end is enough.
    let output = finish(reading, Duration::from_secs(1));
    Ok(Ran { end, output })
}

fn start_error(program: &OsString, why: io::Error) -> Error {
    let name = program.to_string_lossy();
    Error::reading(name.as_ref(), why).context(format!("cannot run {name}"))
}

fn read_some(mut reader: io::PipeReader, keep: usize) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0; 8192]);
    while let Ok(n @ 1..) = reader.read(&mut buffer) {
        let room = keep - kept.len().min(keep);
        kept.extend_from_slice(&buffer[..n.min(room)]);
    }
    kept
}

fn finish(reading: std::thread::JoinHandle<Vec<u8>>, limit: Duration) -> Vec<u8> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(reading.join().unwrap_or_default()));
    told.recv_timeout(limit).unwrap_or_default()
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
    if !ended(if hurried { Duration::from_millis(500) } else { Duration::from_secs(5) })? {
        let _ = kill_process_group(pid, Signal::KILL);
        ended(Duration::from_secs(5))?;
    }
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
    fn ends_what_takes_too_long() {
        assert_eq!(run(&job(&["sleep", "600"], Duration::from_millis(50))).unwrap().end, End::TimedOut);
    }
}
