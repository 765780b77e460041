//! The programs against real Dovecot and Postfix (tests/rig), because a server written by the same hands forgives the
//! same mistakes. Ignored by `cargo test`; `tests/run` starts them.
#![allow(dead_code, reason = "the rig offers more than the tests of one day use")]

mod full;
mod login;
mod pipeline;
mod print;
mod product;
mod send;

use crate::bench::{Bench, Cmd};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Private servers for the users u1 … u4, ended and wiped when dropped.
pub struct Rig {
    /// The rig's own bench: HOME and so on for its scripts. Its directory is closed to the servers' users.
    bench: Bench,
    dir: PathBuf,
    env: HashMap<String, String>,
}

impl Rig {
    #[track_caller]
    pub fn up() -> Rig {
        Rig::up_with(&[])
    }

    /// With variables that `up` heeds; tests/rig/README.md lists them.
    #[track_caller]
    pub fn up_with(env: &[(&str, &str)]) -> Rig {
        let bench = Bench::new();
        // A short name below /tmp: it becomes part of socket names, which the kernel limits to 107 bytes.
        let dir =
            tempfile::Builder::new().prefix("mailloop-rig-").tempdir_in("/tmp").expect("a directory in /tmp");
        let mut rig = Rig { bench, dir: dir.keep(), env: HashMap::new() };
        env.iter().fold(rig.script("up"), |cmd, (name, value)| cmd.env(name, value)).run().ok();
        let env = std::fs::read_to_string(rig.dir.join("env")).expect("up wrote it");
        let facts = env.lines().filter_map(|line| line.split_once('='));
        rig.env = facts.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect();
        rig
    }

    /// What `up` wrote as `name`; tests/rig/README.md lists them.
    #[track_caller]
    pub fn get(&self, name: &str) -> &str {
        self.env.get(name).unwrap_or_else(|| panic!("the rig has no {name}"))
    }

    pub fn ca(&self) -> PathBuf {
        PathBuf::from(self.get("RIG_CA"))
    }

    /// `scheme://localhost:port` for a variable that holds a port: `url("imaps", "IMAPS_PORT")`.
    pub fn url(&self, scheme: &str, port: &str) -> String {
        format!("{scheme}://localhost:{}", self.get(port))
    }

    /// `server("kill", "imap")`: stop, start, kill or restart one of `imap` and `smtp`.
    #[track_caller]
    pub fn server(&self, verb: &str, which: &str) {
        self.script("server").args([verb, which]).run().ok();
    }

    /// How many messages Dovecot holds for `user` in INBOX.
    pub fn held(&self, user: &str) -> usize {
        let maildir = Path::new(self.get("RIG_MAIL")).join(user).join("Maildir");
        let count = |sub| std::fs::read_dir(maildir.join(sub)).map_or(0, Iterator::count);
        count("new") + count("cur")
    }

    /// Until `user` has `n` messages: Postfix delivers after it said 250, and nothing tells us when.
    #[track_caller]
    pub fn await_mail(&self, user: &str, n: usize) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.held(user) < n {
            assert!(
                Instant::now() < deadline,
                "{user} has {} of {n} messages\n{}",
                self.held(user),
                self.logs()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A script of the rig on this rig's directory.
    fn script(&self, name: &str) -> Cmd {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rig").join(name);
        self.bench.cmd(path.to_str().expect("a plain path")).arg(&self.dir)
    }

    /// The ends of the servers' logs.
    fn logs(&self) -> String {
        let script = r#"tail -n 30 "$1/postfix/log" "$1/dovecot/log" || true"#;
        self.bench.cmd("sh").args(["-c", script, "sh"]).arg(&self.dir).run().out_text()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the servers' logs:\n{}", self.logs());
        }
        let down = self.script("down").arg("--wipe").run();
        if down.status != Some(0) {
            eprintln!("the rig did not go down:\n{}", down.shown());
        }
    }
}

#[test]
#[ignore = "needs real servers: run tests/run"]
fn postfix_takes_mail_and_dovecot_gives_it() {
    let (bench, rig) = (Bench::new(), Rig::up());
    let server = format!("localhost:{}", rig.get("SUBMISSION_PORT"));
    let login = ["--tls", "--tls-verify", "--auth", "PLAIN", "--au", "u2", "--ap", rig.get("RIG_PASS")];
    let words =
        ["--from", "a@corpus.test", "--to", "u1@rig.test", "--body", "sent by swaks", "--silent", "2"];
    bench
        .cmd("swaks")
        .args(["--server", &server])
        .args(login)
        .args(words)
        .arg("--tls-ca-path")
        .arg(rig.ca())
        .run()
        .ok();
    rig.await_mail("u1", 1);

    rig.server("restart", "imap");
    let user = format!("u1:{}", rig.get("RIG_PASS"));
    let url = format!("{}/INBOX;MAILINDEX=1", rig.url("imaps", "IMAPS_PORT"));
    let curl = |ca: &str| bench.cmd("curl").args(["-sS", "--cacert", ca, "-u", &user, &url]).run();
    let message = curl(rig.get("RIG_CA")).ok().out_text();
    assert!(message.contains("sent by swaks"), "{message}");
    assert_ne!(curl(rig.get("RIG_WRONG_CA")).status, Some(0), "the wrong CA was believed");
}
