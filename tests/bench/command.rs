//! A command on the bench: made, run under a time limit, ended with all it started, and shown when it disappoints.

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A command in the making. Its stdin is empty unless given, its time limit 60 seconds.
pub struct Cmd {
    command: Command,
    stdin: Vec<u8>,
    limit: Duration,
}

impl Cmd {
    /// With the environment and directory that `command` has; they are the bench's affair.
    pub(super) fn of(command: Command) -> Cmd {
        Cmd { command, stdin: Vec::new(), limit: Duration::from_secs(60) }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Cmd {
        self.command.arg(arg);
        self
    }

    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Cmd {
        self.command.args(args);
        self
    }

    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Cmd {
        self.command.env(name, value);
        self
    }

    pub fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Cmd {
        self.stdin = bytes.as_ref().to_vec();
        self
    }

    /// How many seconds it may take until it is killed and the test fails.
    pub fn timeout(mut self, seconds: u64) -> Cmd {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Ran {
        self.spawn().wait()
    }

    /// Starts it; it is killed when the [`Running`] is dropped without [`Running::wait`].
    #[track_caller]
    pub fn spawn(mut self) -> Running {
        let words: Vec<_> =
            std::iter::once(self.command.get_program()).chain(self.command.get_args()).map(quoted).collect();
        let shown = words.join(" ");
        // A group of its own, so that what a shell script started ends with it.
        self.command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("cannot start {shown}: {e}"));
        let pid = Pid::from_child(&child);
        let (mut pipe, bytes) = (child.stdin.take().expect("stdin is a pipe"), self.stdin);
        // A command that does not read its input to the end is not at fault for that.
        std::thread::spawn(move || pipe.write_all(&bytes).ok());
        let out = Stream::of(child.stdout.take().expect("stdout is a pipe"));
        let err = Stream::of(child.stderr.take().expect("stderr is a pipe"));
        let end = Stream::default();
        let ended = end.clone();
        std::thread::spawn(move || {
            // NOWAIT keeps the pid ours until `wait` reaps it: a late kill can't hit a stranger.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
            ended.close();
        });
        Running {
            child,
            pid,
            shown,
            out,
            err,
            end,
            taken: 0,
            deadline: Instant::now() + self.limit,
            reaped: false,
        }
    }
}

/// A command that runs.
pub struct Running {
    child: Child,
    pid: Pid,
    shown: String,
    out: Stream,
    err: Stream,
    end: Stream,
    /// How many bytes of stdout `line` has given away.
    taken: usize,
    deadline: Instant,
    reaped: bool,
}

impl Running {
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// SIGKILL to this one process, not to those it started: a crash.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// True once it has ended.
    pub fn is_over(&self) -> bool {
        self.end.lock().closed
    }

    /// Returns when it has ended, or after ten seconds.
    pub(super) fn await_end(&self) {
        self.end.wait(Instant::now() + Duration::from_secs(10), |_| false);
    }

    /// What it wrote to stderr so far, indented for a failure's text.
    pub(super) fn complaints(&self) -> String {
        shown(&self.err.so_far())
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).ok();
    }

    /// Waits for the next line on stdout and gives it without its newline. A command that ends before it wrote one,
    /// or takes longer than its limit, fails the test.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let taken = self.taken;
        let ready = |seen: &[u8]| seen.iter().skip(taken).any(|b| *b == b'\n');
        if !self.out.wait(self.deadline, ready) {
            self.overrun("no line on stdout in time");
        }
        let seen = self.out.so_far();
        let rest = seen.get(taken..).unwrap_or_default();
        let Some(end) = rest.iter().position(|b| *b == b'\n') else {
            panic!("stdout ended before the line that was waited for\n{}", self.report("ended"));
        };
        self.taken += end + 1;
        String::from_utf8_lossy(&rest[..end]).into_owned()
    }

    /// Waits until `text` stands on its stderr; a command that ends before, or takes longer than its limit, fails the
    /// test.
    #[track_caller]
    pub fn complains(&self, text: &str) {
        let there = |seen: &[u8]| String::from_utf8_lossy(seen).contains(text);
        if !self.err.wait(self.deadline, there) {
            self.overrun(&format!("no {text:?} on stderr in time"));
        }
        assert!(there(&self.err.so_far()), "stderr ended without {text:?}\n{}", self.report("ended"));
    }

    /// Waits for its end and for the end of both outputs.
    #[track_caller]
    pub fn wait(mut self) -> Ran {
        let never = |_: &[u8]| false;
        if !self.end.wait(self.deadline, never) {
            self.overrun("did not end in time");
        }
        if !self.out.wait(self.deadline, never) || !self.err.wait(self.deadline, never) {
            self.overrun("ended, but something it started still holds its output");
        }
        let status = self.child.wait().expect("our child");
        self.reaped = true;
        Ran {
            status: status.code(),
            signal: status.signal(),
            out: self.out.so_far(),
            err: self.err.so_far(),
            command: self.shown.clone(),
        }
    }

    #[track_caller]
    fn overrun(&self, why: &str) -> ! {
        kill_process_group(self.pid, Signal::KILL).ok();
        panic!("{why}\n{}", self.report("killed by the bench"));
    }

    fn report(&self, status: &str) -> String {
        report(&self.shown, status, &self.out.so_far(), &self.err.so_far())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            kill_process_group(self.pid, Signal::KILL).ok();
            self.child.wait().ok();
        }
    }
}

/// How a command ended and what it said.
pub struct Ran {
    /// The exit status; none if a signal ended it.
    pub status: Option<i32>,
    pub signal: Option<i32>,
    pub out: Vec<u8>,
    pub err: Vec<u8>,
    command: String,
}

impl Ran {
    #[track_caller]
    pub fn ok(self) -> Ran {
        self.fails(0)
    }

    /// Expects this exit status.
    #[track_caller]
    pub fn fails(self, status: i32) -> Ran {
        assert!(self.status == Some(status), "expected status {status}\n{}", self.shown());
        self
    }

    /// Expects `text` somewhere on stderr.
    #[track_caller]
    pub fn err_has(self, text: &str) -> Ran {
        assert!(self.err_text().contains(text), "expected on stderr: {text}\n{}", self.shown());
        self
    }

    pub fn out_text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    pub fn err_text(&self) -> String {
        String::from_utf8_lossy(&self.err).into_owned()
    }

    /// The lines of stdout.
    pub fn lines(&self) -> Vec<String> {
        self.out_text().lines().map(str::to_owned).collect()
    }

    /// The lines of stdout as JSON; one that is none fails the test.
    #[track_caller]
    pub fn json(&self) -> Vec<serde_json::Value> {
        let mut records = Vec::new();
        for line in self.lines() {
            match serde_json::from_str(&line) {
                Ok(record) => records.push(record),
                Err(e) => panic!("no JSON on stdout: {e}: {line}\n{}", self.shown()),
            }
        }
        records
    }

    /// Everything about it, for a failure's text.
    pub fn shown(&self) -> String {
        let status = match (self.status, self.signal) {
            (Some(status), _) => status.to_string(),
            (None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None) => "unknown".to_owned(),
        };
        report(&self.command, &status, &self.out, &self.err)
    }
}

/// What one pipe has given so far; a thread reads it so that the command never waits for the test.
#[derive(Clone, Default)]
struct Stream(Arc<Shared>);

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    more: Condvar,
}

#[derive(Default)]
struct Seen {
    bytes: Vec<u8>,
    closed: bool,
}

impl Stream {
    fn of(mut pipe: impl Read + Send + 'static) -> Stream {
        let stream = Stream::default();
        let ours = stream.clone();
        std::thread::spawn(move || {
            let mut chunk = vec![0; 64 * 1024];
            while let Ok(n @ 1..) = pipe.read(&mut chunk) {
                ours.lock().bytes.extend_from_slice(&chunk[..n]);
                ours.0.more.notify_all();
            }
            ours.close();
        });
        stream
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.0.more.notify_all();
    }

    fn so_far(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// Until the pipe is closed or `ready`; false if the deadline came first.
    fn wait(&self, deadline: Instant, ready: impl Fn(&[u8]) -> bool) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let open = |seen: &mut Seen| !seen.closed && !ready(&seen.bytes);
        let (mut seen, _) =
            self.0.more.wait_timeout_while(self.lock(), left, open).unwrap_or_else(PoisonError::into_inner);
        !open(&mut seen)
    }
}

fn report(command: &str, status: &str, out: &[u8], err: &[u8]) -> String {
    format!("command: {command}\nstatus:  {status}\nstdout:\n{}\nstderr:\n{}", shown(out), shown(err))
}

/// The end of an output, which is where trouble is told.
fn shown(bytes: &[u8]) -> String {
    const LIMIT: usize = 16 * 1024;
    let from = bytes.len().saturating_sub(LIMIT);
    let cut = if from > 0 { format!("[{from} bytes left out]") } else { String::new() };
    let text = String::from_utf8_lossy(bytes.get(from..).unwrap_or_default());
    format!("{cut}{text}")
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect::<String>()
        .trim_end()
        .to_owned()
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    shlex::try_quote(&word).map_or_else(|_| format!("{word:?}"), |q| q.into_owned())
}

/// What a panic inside `body` said.
fn panic_of(body: impl FnOnce() -> Ran) -> String {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    let said = caught.err().expect("it was to fail");
    said.downcast_ref::<String>().cloned().expect("a panic with text")
}

#[test]
fn a_failed_expectation_shows_command_status_and_both_outputs() {
    let bench = super::Bench::new();
    let said = panic_of(|| bench.sh("echo to stdout; echo to stderr >&2; exit 3").run().ok());
    for part in ["sh -c", "status:  3", "    to stdout", "    to stderr"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
}

#[test]
fn an_overrun_is_killed_with_all_it_started() {
    let bench = super::Bench::new();
    let running = bench.sh("cat /dev/zero | cat >/dev/null").timeout(1).spawn();
    let err = running.err.clone();
    let said = panic_of(|| running.wait());
    assert!(said.contains("did not end in time"), "{said}");
    // Both `cat` hold stderr: it closes when the last of them is gone.
    assert!(
        err.wait(Instant::now() + Duration::from_secs(30), |_| false),
        "something of the script still runs"
    );
}
