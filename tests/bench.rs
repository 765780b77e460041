//! The workbench of every test that runs the programs: one line sets up a fresh directory with its own HOME, a command
//! runs in a clean environment under a time limit, and a failed expectation shows the command, its status and both
//! outputs. What was started here is ended here, by process id; a failed test's directory is kept and named.
#![allow(dead_code, unused_imports, reason = "a bench offers more than the tests of one day use")]

mod command;

pub use command::{Cmd, Ran, Running};
pub use mailloop::mail::pdf::page as pdf;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A fresh directory below the system's temporary one, removed when the test succeeded. `home` and `tmp` in it are
/// HOME and TMPDIR of the commands; their current directory is the fresh directory itself.
pub struct Bench {
    dir: tempfile::TempDir,
    root: PathBuf,
}

impl Bench {
    pub fn new() -> Bench {
        let dir = tempfile::Builder::new().prefix("mailloop-test-").tempdir().expect("a temporary directory");
        // Programs print resolved paths; a temporary directory behind a symlink must compare equal.
        let root = dir.path().canonicalize().expect("the directory was just made");
        for inner in ["home", "tmp"] {
            std::fs::create_dir(root.join(inner)).expect("a directory in the bench");
        }
        Bench { dir, root }
    }

    /// The absolute path of `rel`; `""` is the bench's directory.
    pub fn path(&self, rel: &str) -> PathBuf {
        if rel.is_empty() { self.root.clone() } else { self.root.join(rel) }
    }

    /// Writes `rel` (mode 0600), making its parents; gives the absolute path.
    #[track_caller]
    pub fn write(&self, rel: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(rel);
        std::fs::create_dir_all(path.parent().expect("a file in the bench")).expect("parents in the bench");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
        file.write_all(bytes.as_ref()).expect("the bench's disk takes it");
        path
    }

    #[track_caller]
    pub fn read(&self, rel: &str) -> Vec<u8> {
        let path = self.path(rel);
        std::fs::read(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
    }

    /// All regular files below `rel`, as paths relative to `rel`, sorted; none if there is no such directory.
    pub fn files(&self, rel: &str) -> Vec<PathBuf> {
        let top = self.path(rel);
        let mut found: Vec<PathBuf> = walkdir::WalkDir::new(&top)
            .into_iter()
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_file())
            .filter_map(|entry| entry.path().strip_prefix(&top).ok().map(Path::to_path_buf))
            .collect();
        found.sort();
        found
    }

    /// One of the package's programs by its name, or any other that PATH knows, in the bench's environment.
    pub fn cmd(&self, program: &str) -> Cmd {
        let mut command = Command::new(built(program).unwrap_or(program));
        let home = self.path("home");
        let mut path =
            OsString::from(Path::new(env!("CARGO_BIN_EXE_mail-loop")).parent().expect("in a directory"));
        if let Some(more) = std::env::var_os("PATH") {
            path.push(":");
            path.push(more);
        }
        command
            .env_clear()
            .env("PATH", path)
            .env("XDG_CONFIG_HOME", home.join(".config"))
            .env("XDG_STATE_HOME", home.join(".local/state"))
            .env("HOME", home)
            .env("TMPDIR", self.path("tmp"))
            .env("LANG", "C.UTF-8")
            .current_dir(&self.root);
        Cmd::of(command)
    }

    /// `sh -c` with `set -eu` before the script.
    pub fn sh(&self, script: &str) -> Cmd {
        self.cmd("sh").arg("-c").arg(format!("set -eu\n{script}"))
    }

    /// The embedded server on the directory `server`, for me@by.example and you@by.example, password `secret`.
    #[track_caller]
    pub fn sandbox(&self) -> Server {
        self.sandbox_in("server", &["me@by.example:secret", "you@by.example:secret"])
    }

    /// The embedded server on the directory `rel`; each user is `address:password`. Returns when it listens.
    #[track_caller]
    pub fn sandbox_in(&self, rel: &str, users: &[&str]) -> Server {
        let mut cmd = self.cmd("mail-sandbox").arg("-C").arg(self.path(rel));
        for user in users {
            cmd = cmd.arg("--user").arg(user);
        }
        let mut running = cmd.spawn();
        let mut said = std::collections::HashMap::new();
        while ["SMTP", "IMAP", "SMTPS", "IMAPS", "CA"].iter().any(|name| !said.contains_key(*name)) {
            let line = running.line();
            if let Some((name, value)) = line.split_once('=') {
                said.insert(name.to_owned(), value.to_owned());
            }
        }
        let mut take = |name: &str| said.remove(name).expect("the loop above saw it");
        Server {
            smtp: take("SMTP"),
            smtps: take("SMTPS"),
            imap: take("IMAP"),
            imaps: take("IMAPS"),
            ca: PathBuf::from(take("CA")),
            dir: self.path(rel),
            running,
        }
    }
}

impl Bench {
    /// The usual configuration file: account `school` (user, password `secret` unless a file `password` is there) on
    /// these servers, a rule that runs `./count {path}` for PDFs, and the loop `homework`; `act` is `print` or `run`.
    /// `more` goes into the account.
    pub fn configure(&self, user: &str, smtp: &str, imap: &str, act: &str, more: &str) -> PathBuf {
        if !self.path("password").exists() {
            self.write("password", "secret\n");
        }
        let (mail, files, count) = (self.path("home/Mail/school"), self.path("home/in"), self.path("count"));
        let counter = "#!/bin/sh\nprintf '%s\\n' \"$1\" >> \"$(dirname \"$0\")/counted\"\n";
        self.write("count", counter);
        std::fs::set_permissions(&count, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .expect("our own file");
        let text = format!(
            r#"[account.school]
address = "{user}"
smtp = "{smtp}"
imap = "{imap}"
password_file = "{}"
maildir = "{}"
timeout = "20s"
{more}

[[rule]]
name = "print"
type = "application/pdf"
run = ["{}", "{{path}}"]

[loop.homework]
account = "school"
files = "{}"
rules = ["print"]
every = "5m"
act = "{act}"
"#,
            self.path("password").display(),
            mail.display(),
            count.display(),
            files.display()
        );
        self.write("home/.config/mailloop/config.toml", text)
    }

    /// What `./count` was run for, sorted; the names of the files alone.
    pub fn counted(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("counted")).unwrap_or_default();
        let mut names: Vec<String> =
            text.lines().map(|line| line.rsplit('/').next().unwrap_or(line).to_owned()).collect();
        names.sort();
        names
    }

    /// Lays a message with a PDF called `NAME.pdf` into me@by.example's mailbox on the sandbox in `server`.
    pub fn deliver_pdf(&self, name: &str) {
        let body = base64_lines(&pdf(name));
        let text = format!(
            "From: you@by.example\r\nTo: me@by.example\r\nSubject: {name}\r\nMIME-Version: 1.0\r\nContent-Type: \
             application/pdf; name=\"{name}.pdf\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: \
             attachment; filename=\"{name}.pdf\"\r\n\r\n{body}"
        );
        // Aside and renamed, as every delivery: the server may look at any moment.
        let aside = self.write(&format!("server/me@by.example/tmp/{name}"), text);
        let new = self.path("server/me@by.example/new");
        std::fs::create_dir_all(&new).expect("a directory in the bench");
        std::fs::rename(aside, new.join(name)).expect("a rename in the bench");
    }
}

/// Base64 in lines of 76 characters, ended by CRLF.
pub fn base64_lines(bytes: &[u8]) -> String {
    let text = base64_simd::STANDARD.encode_to_string(bytes);
    let lines = text.as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line).into_owned() + "\r\n");
    lines.collect()
}

impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("the test's directory is kept: {}", self.root.display());
        }
    }
}

/// Where cargo built `program`, if it is one of the package's own.
fn built(program: &str) -> Option<&'static str> {
    Some(match program {
        "mail-inject" => env!("CARGO_BIN_EXE_mail-inject"),
        "mail-queue" => env!("CARGO_BIN_EXE_mail-queue"),
        "mail-fetch" => env!("CARGO_BIN_EXE_mail-fetch"),
        "mail-dissect" => env!("CARGO_BIN_EXE_mail-dissect"),
        "mail-act" => env!("CARGO_BIN_EXE_mail-act"),
        "mail-loop" => env!("CARGO_BIN_EXE_mail-loop"),
        "mail-sandbox" => env!("CARGO_BIN_EXE_mail-sandbox"),
        _ => return None,
    })
}

/// A running `mail-sandbox`; the addresses are what it printed. Ended when dropped.
pub struct Server {
    pub smtp: String,
    pub smtps: String,
    pub imap: String,
    pub imaps: String,
    pub ca: PathBuf,
    /// The directory it serves.
    pub dir: PathBuf,
    running: Running,
}

impl Server {
    pub fn pid(&self) -> i32 {
        self.running.pid()
    }

    /// SIGKILL, as a crash; returns when it is gone.
    pub fn kill(&self) {
        self.running.kill();
        self.running.await_end();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the sandbox said:\n{}", self.running.complaints());
        }
    }
}

/// The SHA-256 of `bytes` in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn commands_see_a_clean_environment() {
    let bench = Bench::new();
    let names = bench.cmd("env").run().ok().lines();
    let mut names: Vec<&str> = names.iter().filter_map(|l| l.split_once('=')).map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "LANG", "PATH", "TMPDIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME"]);
    bench.sh("cat; command -v mail-fetch").stdin("fed\n").run().ok();
}
