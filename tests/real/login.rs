//! SCRAM, compression and a limit on connections, with Dovecot and Postfix.

use super::Rig;
use crate::bench::{Bench, Cmd, Ran};

/// A bench with the password, and servers with these settings.
struct Desk {
    bench: Bench,
    rig: Rig,
}

impl Desk {
    fn new(settings: &[(&str, &str)]) -> Desk {
        let (bench, rig) = (Bench::new(), Rig::up_with(settings));
        bench.write("password", format!("{}\n", rig.get("RIG_PASS")));
        bench.write("wrong", "not the password\n");
        Desk { bench, rig }
    }

    fn program(&self, name: &str, user: &str, password: &str) -> Cmd {
        let login = ["--user", user, "--password-file", password, "--timeout", "20s"];
        self.bench.cmd(name).args(login).arg("--tls-ca").arg(self.rig.ca())
    }

    fn inject(&self, password: &str, words: &[&str]) -> Ran {
        let url = self.rig.url("smtp", "SUBMISSION_PORT");
        let to = ["--smtp", &url, "--tls", "starttls", "--from", "u2@rig.test", "--to", "u1@rig.test"];
        let text = "twice the same line, twice the same line\n".repeat(5000);
        self.bench.write("text", text);
        let what = ["-s", "x", "--body-file", "text", "-vv"];
        self.program("mail-inject", "u2", password).args(to).args(what).args(words).run()
    }

    fn fetch(&self, password: &str, words: &[&str]) -> Ran {
        let url = self.rig.url("imaps", "IMAPS_PORT");
        self.program("mail-fetch", "u1", password).args(["--imap", &url, "-C", "m", "-vv"]).args(words).run()
    }
}

#[test]
#[ignore = "needs real servers: run tests/run"]
fn dovecot_and_postfix_are_convinced_by_scram() {
    let desk = Desk::new(&[("RIG_AUTH", "plain login scram-sha-1 scram-sha-256")]);
    for (auth, way) in
        [(None, "SCRAM-SHA-256"), (Some("scram-sha-1"), "SCRAM-SHA-1"), (Some("plain"), "PLAIN")]
    {
        let words: Vec<&str> = auth.map_or(vec![], |auth| vec!["--auth", auth]);
        let sent = desk.inject("password", &words).ok();
        assert!(sent.err_text().contains(&format!("AUTH {way} (secret)")), "{}", sent.shown());
        desk.rig.await_mail("u1", 1);
        let got = desk.fetch("password", &words).ok();
        assert!(got.err_text().contains(&format!("(logging in, {way})")), "{}", got.shown());
        for ran in [sent, got] {
            assert!(!ran.err_text().contains(desk.rig.get("RIG_PASS")), "{}", ran.shown());
        }
    }
    desk.inject("wrong", &[]).fails(77).err_has("check user and password");
    desk.fetch("wrong", &[]).fails(77).err_has("check user and password");
}

#[test]
#[ignore = "needs real servers: run tests/run"]
fn dovecot_compresses() {
    let desk = Desk::new(&[("RIG_COMPRESS", "yes")]);
    for _ in 0..20 {
        desk.inject("password", &[]).ok();
    }
    desk.rig.await_mail("u1", 20);
    let ran = desk.fetch("password", &["--compress"]).ok();
    assert_eq!(ran.lines().len(), 20);
    let size = desk.bench.read(&ran.lines()[0]).len() as u64;
    let err = ran.err_text();
    let line = err.lines().find(|line| line.contains("octets came over")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let came: u64 = words[words.iter().position(|word| *word == "octets").unwrap() - 1].parse().unwrap();
    assert!(size > 200_000 && came * 10 < 20 * size, "{came} octets came for 20 messages of {size}");
    // A second look costs little and changes nothing.
    assert!(desk.fetch("password", &["--compress"]).ok().lines().is_empty());
}

#[test]
#[ignore = "needs real servers: run tests/run"]
fn where_dovecot_limits_connections_mailboxes_share_one() {
    let desk = Desk::new(&[("RIG_CONNECTIONS", "1")]);
    for name in ["a", "b"] {
        let words = ["-c", desk.rig.get("DOVECOT_CONF"), "mailbox", "create", "-u", "u1", name];
        desk.bench.cmd("doveadm").args(words).run().ok();
    }
    let url = desk.rig.url("imaps", "IMAPS_PORT");
    let stay = ["--idle=1h", "--poll", "500ms", "--state", "state", "-C", "m", "--imap", &url, "*"];
    let mut running = desk.program("mail-fetch", "u1", "password").args(stay).timeout(60).spawn();
    for name in ["a", "b", "a"] {
        let words = ["-c", desk.rig.get("DOVECOT_CONF"), "save", "-u", "u1", "-m", name];
        desk.bench.cmd("doveadm").args(words).stdin("Subject: x\r\n\r\nx\r\n").run().ok();
        assert!(running.line().contains(&format!("m/.{name}/new/")), "{name}");
    }
    running.signal(rustix::process::Signal::TERM);
    running.wait().err_has("without a connection of their own");
}
