//! What `mail-sandbox` does with a started server: serve until asked to end, or run one command against it.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use super::Sandbox;
use crate::error::{Error, Kind, Result, Status};
use crate::report::{Form, Records};
use crate::stop::{self, Woken};

/// How long one wait is; then it begins again.
const LONG: Duration = Duration::from_secs(24 * 3600);

impl Sandbox {
    /// The names and values that `mail-sandbox` prints and sets: SMTP, IMAP, SMTPS, IMAPS, CA.
    pub fn variables(&self) -> [(&'static str, OsString); 5] {
        [
            ("SMTP", self.smtp_url().into()),
            ("IMAP", self.imap_url().into()),
            ("SMTPS", self.smtps_url().into()),
            ("IMAPS", self.imaps_url().into()),
            ("CA", self.ca_path().into()),
        ]
    }
}

/// Prints the variables on stdout and serves until INT, TERM or HUP.
pub fn serve(server: Sandbox) -> Result<Status> {
    let mut records = Records::stdout(Form::Lines);
    for (name, value) in server.variables() {
        records.text(format!("{name}={}", value.to_string_lossy()))?;
    }
    records.flush()?;
    while stop::sleep(LONG) {}
    server.stop();
    Ok(Status::DONE)
}

/// Runs the command with the variables set and gives its exit status, 128 and the signal's number if it died of one.
/// Being asked to end, asks the command to end and waits for it.
pub fn run(server: Sandbox, program: &OsStr, arguments: &[OsString]) -> Result<u8> {
    let doing = || format!("cannot run {}", program.to_string_lossy());
    let child = Command::new(program)
        .args(arguments)
        .envs(server.variables())
        .spawn()
        .map_err(|why| Error::new(Kind::NoInput, doing(), why))?;
    let status = wait(child).map_err(|why| Error::new(Kind::Internal, doing(), why))?;
    server.stop();
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, signal) => u8::try_from(128 + signal.unwrap_or(0)).unwrap_or(u8::MAX),
    })
}

fn wait(mut child: Child) -> std::io::Result<ExitStatus> {
    let pid = rustix::process::Pid::from_child(&child);
    let (mut ring, ear) = UnixStream::pair()?;
    let waiter = std::thread::spawn(move || {
        let status = child.wait();
        let _ = ring.write_all(&[1]);
        status
    });
    loop {
        match stop::wait(&[ear.as_fd()], LONG)? {
            Woken::Ready => break,
            Woken::Late => {}
            Woken::Stopped => {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                break;
            }
        }
    }
    waiter.join().unwrap_or_else(|_| Err(std::io::Error::other("the waiting thread died")))
}
