//! Our programs against the rig: everything comes back byte by byte, whatever is killed, and bad input is told apart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::Rig;
use crate::bench::{Bench, Cmd, Ran, sha256};

const MESSAGES: usize = 200;

/// A bench with 200 generated messages and the password that the rig wants.
struct Desk {
    bench: Bench,
    rig: Rig,
}

/// An attachment as the generator made it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Attachment {
    sha256: String,
    name: Option<String>,
}

impl Desk {
    fn new(seed: &str) -> Desk {
        let (bench, rig) = (Bench::new(), Rig::up());
        bench.write("password", format!("{}\n", rig.get("RIG_PASS")));
        bench.write("wrong", "not the password\n");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rig/corpus");
        let words = ["--n", &MESSAGES.to_string(), "--seed", seed, "--to", "u1@rig.test"];
        bench.cmd(script.to_str().unwrap()).arg(bench.path("corpus")).args(words).run().ok();
        Desk { bench, rig }
    }

    /// The attachments of the manifest.
    fn attachments(&self) -> Vec<Attachment> {
        let manifest = String::from_utf8(self.bench.read("corpus/manifest.jsonl")).unwrap();
        let lines = manifest.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let text = |value: &serde_json::Value| value.as_str().map(String::from);
        let mut all: Vec<Attachment> = lines
            .map(|line| Attachment { sha256: text(&line["sha256"]).unwrap(), name: text(&line["name"]) })
            .collect();
        all.sort();
        all
    }

    /// Everything to u1 by mail-inject over STARTTLS with a login, many messages on one connection.
    fn inject_all(&self) {
        let paths: Vec<String> = (self.bench.files("corpus").iter())
            .filter(|file| file.extension().is_some_and(|end| end == "eml"))
            .map(|file| format!("corpus/{}\n", file.display()))
            .collect();
        assert_eq!(paths.len(), MESSAGES);
        let url = self.rig.url("smtp", "SUBMISSION_PORT");
        let sent = self.login(
            self.bench.cmd("mail-inject").args(["--smtp", &url, "--tls", "starttls", "--batch"]),
            "u2",
        );
        let sent = sent.args(["--from", "u2@rig.test"]).stdin(paths.concat()).run().ok();
        assert_eq!(sent.lines().len(), MESSAGES, "{}", sent.shown());
        self.rig.await_mail("u1", MESSAGES);
    }

    fn login(&self, cmd: Cmd, user: &str) -> Cmd {
        cmd.args(["--user", user, "--password-file", "password"]).arg("--tls-ca").arg(self.rig.ca())
    }

    fn fetch(&self, maildir: &str) -> Cmd {
        let url = self.rig.url("imaps", "IMAPS_PORT");
        self.login(self.bench.cmd("mail-fetch").args(["--imap", &url, "-C", maildir]), "u1")
    }

    /// The digests of the messages in one of our Maildirs, each as often as it lies there.
    fn digests(&self, maildir: &str) -> Vec<String> {
        sums(&self.bench.path(maildir), |bytes| bytes)
    }

    /// The same of what the server serves. Dovecot keeps messages with LF and serves them with CRLF.
    fn on_server(&self) -> Vec<String> {
        sums(&PathBuf::from(self.rig.get("RIG_MAIL")).join("u1/Maildir"), |bytes| {
            assert!(!bytes.windows(2).any(|pair| pair == b"\r\n"));
            let mut served = Vec::with_capacity(bytes.len() + bytes.len() / 40);
            for byte in bytes {
                if byte == b'\n' {
                    served.push(b'\r');
                }
                served.push(byte);
            }
            served
        })
    }
}

fn sums(maildir: &Path, as_served: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<String> {
    let mut digests = Vec::new();
    for sub in ["new", "cur"] {
        for entry in std::fs::read_dir(maildir.join(sub)).unwrap() {
            digests.push(sha256(&as_served(std::fs::read(entry.unwrap().path()).unwrap())));
        }
    }
    digests.sort();
    digests
}

#[test]
#[ignore = "needs real servers: run tests/run"]
fn two_hundred_messages_come_back_byte_by_byte() {
    let desk = Desk::new("7");
    desk.inject_all();
    let told = desk.fetch("mail").run().ok();
    assert_eq!(told.lines().len(), MESSAGES);
    assert_eq!(desk.digests("mail"), desk.on_server());
    assert!(desk.fetch("mail").run().ok().lines().is_empty());

    // Through a pipe, as a user would, and once more by what is pending: nothing is left.
    let records =
        desk.bench.cmd("mail-dissect").args(["--all", "-C", "files"]).stdin(told.out.clone()).run().ok();
    let mut got: Vec<(String, String)> = (records.lines().iter())
        .map(|line| {
            let path = desk.bench.path(line);
            (sha256(&std::fs::read(&path).unwrap()), path.file_name().unwrap().to_string_lossy().into_owned())
        })
        .collect();
    got.sort();
    let wanted = desk.attachments();
    assert_eq!(
        got.iter().map(|(sum, _)| sum).collect::<Vec<_>>(),
        wanted.iter().map(|one| &one.sha256).collect::<Vec<_>>(),
        "every attachment, none doubled"
    );
    for ((_, name), one) in got.iter().zip(&wanted) {
        if let Some(said) = &one.name {
            assert_eq!(name, said);
        }
    }
    let rest = desk.bench.cmd("mail-dissect").args(["--all", "--pending", "mail", "-C", "files"]).run().ok();
    assert!(rest.lines().is_empty(), "{}", rest.shown());
}

#[test]
#[ignore = "needs real servers: run tests/run"]
fn a_fetch_killed_at_twenty_random_moments_loses_and_doubles_nothing() {
    let desk = Desk::new("8");
    desk.inject_all();
    let begun = std::time::Instant::now();
    desk.fetch("undisturbed").run().ok();
    let whole = begun.elapsed();
    let server = desk.on_server();
    let (mut kills, mut round, mut random) = (0, 0, 0x2545_f491_4f6c_dd1d_u64);
    let mut told = BTreeMap::new();
    let (_never, nothing) = mpsc::channel::<()>();
    while kills < 20 {
        round += 1;
        let maildir = format!("mail{round}");
        let mut seen = BTreeSet::new();
        // Each Maildir is killed a few times and then left to finish.
        for attempt in 0..4 {
            let running = desk.fetch(&maildir).spawn();
            if attempt < 3 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let moment = whole.mul_f64((random >> 33) as f64 / f64::from(1u32 << 31) * 0.7);
                let _ = nothing.recv_timeout(moment.max(Duration::from_millis(1)));
                running.kill();
            }
            let ran = running.wait();
            kills += usize::from(ran.signal == Some(9));
            assert!(ran.signal == Some(9) || ran.status == Some(0), "{}", ran.shown());
            for line in ran.lines() {
                assert!(seen.insert(line.clone()), "{line} was told twice");
            }
        }
        assert_eq!(desk.digests(&maildir), server, "after {kills} kills");
        assert!(desk.bench.files(&format!("{maildir}/tmp")).is_empty());
        assert!(desk.fetch(&maildir).run().ok().lines().is_empty());
        told.insert(maildir, seen.len());
    }
    assert!(told.values().all(|count| *count > 0), "{told:?}");
}

#[test]
#[ignore = "needs real servers: run tests/run"]
fn bad_input_gets_its_status() {
    let (bench, rig) = (Bench::new(), Rig::up());
    bench.write("password", format!("{}\n", rig.get("RIG_PASS")));
    bench.write("wrong", "not the password\n");
    bench.write("hw1.pdf", crate::bench::pdf("homework 1"));
    let ca = rig.get("RIG_CA");
    let (imaps, smtps) = (rig.url("imaps", "IMAPS_PORT"), rig.url("smtps", "SMTPS_PORT"));
    let submission = rig.url("smtp", "SUBMISSION_PORT");
    let fetch = |password: &str, more: &[&str]| {
        bench
            .cmd("mail-fetch")
            .args(["--imap", &imaps, "--user", "u1", "--password-file", password, "-C", "mail"])
            .args(more)
            .run()
    };
    let inject = |url: &str, to: &str, password: &str, more: &[&str]| {
        let words =
            ["--smtp", url, "--from", "u1@rig.test", "--to", to, "-s", "x", "--body", "y", "--user", "u1"];
        bench.cmd("mail-inject").args(words).args(["--password-file", password]).args(more).run()
    };
    fetch("wrong", &["--tls-ca", ca]).fails(77);
    fetch("password", &["--tls-ca", rig.get("RIG_WRONG_CA")]).fails(76);
    fetch("password", &["--tls-ca", ca, "Nowhere"]).fails(69);
    inject(&smtps, "u2@rig.test", "wrong", &["--tls-ca", ca]).fails(77);
    inject(&smtps, "u2@rig.test", "password", &["--tls-ca", rig.get("RIG_WRONG_CA")]).fails(76);
    inject(
        &submission,
        "u2@rig.test",
        "password",
        &["--tls", "starttls", "--tls-ca", rig.get("RIG_WRONG_CA")],
    )
    .fails(76);
    inject(&smtps, "nobody@rig.test", "password", &["--tls-ca", ca]).fails(69).err_has("nobody@rig.test");
    inject(&smtps, "u2@rig.test", "password", &["--tls-ca", ca, "--attach", "hw2.pdf"])
        .fails(66)
        .err_has("hw2.pdf");
    inject(&smtps, "u2@rig.test", "password", &["--tls-ca", ca, "--attach", "hw1.pdf"]).ok();
    rig.await_mail("u2", 1);
    assert_eq!(rig.held("u2"), 1, "only the last one was sent");
    rig.server("stop", "imap");
    fetch("password", &["--tls-ca", ca]).fails(75).err_has("refused");
}

/// A disk of a few pages of its own; unmounted when dropped.
pub(super) struct SmallDisk<'a> {
    bench: &'a Bench,
    path: PathBuf,
}

impl SmallDisk<'_> {
    fn of<'a>(bench: &'a Bench, size: &str) -> SmallDisk<'a> {
        SmallDisk::at(bench, "disk", size)
    }

    /// In the place of this directory.
    pub fn at<'a>(bench: &'a Bench, rel: &str, size: &str) -> SmallDisk<'a> {
        let path = bench.path(rel);
        std::fs::create_dir_all(&path).unwrap();
        bench
            .cmd("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(&path)
            .run()
            .ok();
        SmallDisk { bench, path }
    }
}

impl SmallDisk<'_> {
    pub fn grow(&self, size: &str) {
        let remount = format!("remount,size={size}");
        self.bench.cmd("mount").args(["-o", &remount]).arg(&self.path).run().ok();
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        self.bench.cmd("umount").arg(&self.path).run();
    }
}

#[test]
#[ignore = "needs real servers: run tests/run"]
fn a_full_disk_is_74_and_leaves_nothing_half_written() {
    let desk = Desk::new("9");
    desk.inject_all();
    desk.fetch("mail").run().ok();
    let whole: BTreeSet<String> = desk.on_server().into_iter().collect();
    let disk = SmallDisk::of(&desk.bench, "6m");
    desk.fetch("disk/mail").run().fails(74).err_has("No space left");
    for digest in desk.digests("disk/mail") {
        assert!(whole.contains(&digest), "a message that the server does not have");
    }
    std::fs::remove_dir_all(disk.path.join("mail")).unwrap();
    let files: BTreeSet<String> = desk.attachments().into_iter().map(|one| one.sha256).collect();
    let full = desk.bench.cmd("mail-dissect").args(["--all", "-C", "disk/files", "mail"]).run().fails(74);
    assert!(full.err_text().contains("No space left"), "{}", full.shown());
    let told = |ran: &Ran| -> Vec<String> { ran.lines().iter().map(|line| line.to_string()).collect() };
    let mut records = told(&full);
    for line in &records {
        assert!(desk.bench.path(line).exists(), "{line} was told and is not there");
    }
    for file in desk.bench.files("disk/files").iter().filter(|file| !file.starts_with(".mailloop")) {
        let sum = sha256(&desk.bench.read(&format!("disk/files/{}", file.display())));
        assert!(files.contains(&sum), "{} is cut", file.display());
    }
    disk.grow("100m");
    records
        .extend(told(&desk.bench.cmd("mail-dissect").args(["--all", "-C", "disk/files", "mail"]).run().ok()));
    let names: BTreeSet<&String> = records.iter().collect();
    let there = desk.bench.files("disk/files").iter().filter(|file| !file.starts_with(".mailloop")).count();
    assert_eq!((names.len(), records.len()), (there, there), "with room again the rest is told, each once");
}
