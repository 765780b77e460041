//! mail-fetch against the embedded server: what arrives, what is remembered, what a kill or a full disk leaves behind.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::bench::{Bench, Cmd, Server, sha256};

mod after;
mod choose;
mod compress;
mod crowded;
mod cut;
mod endure;
mod fake;
mod flood;
mod foretell;
mod hostile;
mod lies;
mod login;
mod missing;
mod names;
mod progress;
mod sparse;
mod stay;
mod together;

/// A mailbox on a sandbox, and a user who fetches from it.
struct Post {
    bench: Bench,
    server: Server,
}

impl Post {
    fn new() -> Post {
        let bench = Bench::new();
        bench.write("password", "secret\n");
        bench.write("wrong", "guess\n");
        let server = bench.sandbox();
        Post { bench, server }
    }

    /// Lays a message into the server's INBOX.
    fn deliver(&self, name: &str, body: &str) {
        let text = format!("From: a@by.example\r\nTo: me@by.example\r\nSubject: {name}\r\n\r\n{body}\r\n");
        self.bench.write(&format!("server/me@by.example/new/{name}"), text);
    }

    fn fetch(&self, maildir: &str) -> Cmd {
        self.fetch_from(&self.server.imap, maildir)
    }

    fn fetch_from(&self, url: &str, maildir: &str) -> Cmd {
        let cmd = self.bench.cmd("mail-fetch").args(["--imap", url, "--user", "me@by.example"]);
        cmd.args(["--password-file", "password", "-C", maildir])
    }

    /// Every message in a Maildir by its path, with its digest; whatever else lies there must be state of ours.
    fn held(&self, maildir: &str) -> BTreeMap<PathBuf, String> {
        let mut held = BTreeMap::new();
        for file in self.bench.files(maildir) {
            let name = file.to_string_lossy().into_owned();
            if name.starts_with("new/") || name.starts_with("cur/") {
                held.insert(file, sha256(&self.bench.read(&format!("{maildir}/{name}"))));
            } else {
                assert!(name.starts_with("mailloop-"), "{name} was left behind in {maildir}");
            }
        }
        held
    }

    /// As [`Post::digests`], whatever else lies there.
    fn digests_of_delivered(&self, maildir: &str) -> Vec<String> {
        let files = self.bench.files(maildir).into_iter();
        let delivered = files.filter(|file| file.starts_with("new") || file.starts_with("cur"));
        delivered.map(|file| sha256(&self.bench.read(&format!("{maildir}/{}", file.display())))).collect()
    }

    fn digests(&self, maildir: &str) -> Vec<String> {
        let mut digests: Vec<String> = self.held(maildir).into_values().collect();
        digests.sort();
        digests
    }

    fn on_server(&self) -> Vec<String> {
        let mut digests: Vec<String> = (self.bench.files("server/me@by.example").iter())
            .filter(|file| file.starts_with("new") || file.starts_with("cur"))
            .map(|file| sha256(&self.bench.read(&format!("server/me@by.example/{}", file.display()))))
            .collect();
        digests.sort();
        digests
    }
}

#[test]
fn what_is_new_comes_once() {
    let post = Post::new();
    post.deliver("one", "1");
    post.deliver("two", "2");
    let first = post.fetch("mail").run().ok();
    assert_eq!(first.lines().len(), 2, "{}", first.shown());
    for line in first.lines() {
        assert!(post.bench.path(&line).is_file(), "{line}");
    }
    assert!(post.fetch("mail").run().ok().lines().is_empty());
    post.deliver("three", "3");
    assert_eq!(post.fetch("mail").run().ok().lines().len(), 1);
    assert_eq!(post.digests("mail"), post.on_server());
}

#[test]
fn over_tls_and_with_a_pinned_certificate() {
    let post = Post::new();
    post.deliver("one", "1");
    let ca = post.server.ca.display().to_string();
    assert_eq!(post.fetch_from(&post.server.imaps, "a").args(["--tls-ca", &ca]).run().ok().lines().len(), 1);
    let starttls = ["--tls", "starttls", "--tls-ca", &ca];
    let url = post.server.imap.replace("127.0.0.1", "localhost");
    assert_eq!(post.fetch_from(&url, "b").args(starttls).run().ok().lines().len(), 1);
    // A stranger's certificate: the error names its fingerprint, and with it the same server is taken.
    let refused = post.fetch_from(&post.server.imaps, "c").run().fails(76).err_has("fingerprint is ");
    let text = refused.err_text();
    let pin = &text[text.find("fingerprint is ").unwrap() + 15..][..64];
    let pinned = post.fetch_from(&post.server.imaps, "c").args(["--tls-fingerprint", pin]).run().ok();
    assert_eq!(pinned.lines().len(), 1);
    let other = "0".repeat(64);
    post.fetch_from(&post.server.imaps, "d").args(["--tls-fingerprint", &other]).run().fails(76);
}

#[test]
fn json_records_say_what_came() {
    let post = Post::new();
    post.deliver("one", "1");
    let record = &post.fetch("mail").arg("--json").run().ok().json()[0];
    assert_eq!((record["kind"].as_str(), record["state"].as_str()), (Some("message"), Some("delivered")));
    assert_eq!((record["mailbox"].as_str(), record["uid"].as_u64()), (Some("INBOX"), Some(1)));
    assert_eq!(record["from"][0].as_str(), Some("a@by.example"));
    let path = record["path"].as_str().unwrap();
    assert_eq!(record["sha256"].as_str(), Some(sha256(&post.bench.read(path)).as_str()));
    assert_eq!(record["size"].as_u64(), Some(post.bench.read(path).len() as u64));
    assert!(record["message_id"].is_null());
}

#[test]
fn a_deleted_file_stays_deleted_and_a_moved_one_is_not_fetched_again() {
    let post = Post::new();
    post.deliver("one", "1");
    post.deliver("two", "2");
    let lines = post.fetch("mail").run().ok().lines();
    std::fs::remove_file(post.bench.path(&lines[0])).unwrap();
    let name = lines[1].rsplit('/').next().unwrap();
    std::fs::rename(post.bench.path(&lines[1]), post.bench.path(&format!("mail/cur/{name}:2,S"))).unwrap();
    assert!(post.fetch("mail").run().ok().lines().is_empty());
    assert_eq!(post.on_server().len(), 2);
}

#[test]
fn a_lost_cursor_doubles_nothing() {
    let post = Post::new();
    post.deliver("one", "1");
    let line = &post.fetch("mail").run().ok().lines()[0];
    let name = line.rsplit('/').next().unwrap();
    std::fs::rename(post.bench.path(line), post.bench.path(&format!("mail/cur/{name}:2,S"))).unwrap();
    for file in
        post.bench.files("mail").iter().filter(|file| file.to_string_lossy().starts_with("mailloop-cursor"))
    {
        std::fs::remove_file(post.bench.path("mail").join(file)).unwrap();
    }
    post.deliver("two", "2");
    assert_eq!(post.fetch("mail").run().ok().lines().len(), 1);
    assert_eq!(post.digests("mail"), post.on_server());
}

#[test]
fn a_new_uidvalidity_doubles_nothing_and_keeps_twins() {
    let post = Post::new();
    post.deliver("one", "1");
    post.deliver("two", "2");
    assert_eq!(post.fetch("mail").run().ok().lines().len(), 2);
    // The server forgets its UIDs, and has a third message with the same bytes as the first.
    post.server.kill();
    let uids = String::from_utf8(post.bench.read("server/me@by.example/uidlist")).unwrap();
    let head = uids.lines().next().unwrap();
    let old = head.split(' ').nth(3).unwrap();
    post.bench.write("server/me@by.example/uidlist", format!("{}\n", head.replace(old, "77")));
    let twin = "From: a@by.example\r\nTo: me@by.example\r\nSubject: one\r\n\r\n1\r\n";
    post.bench.write("server/me@by.example/new/twin", twin);
    let server = post.bench.sandbox();
    let ran = post.fetch_from(&server.imap, "mail").run().ok().err_has("new UIDVALIDITY");
    assert_eq!(ran.lines().len(), 1, "{}", ran.shown());
    assert!(ran.lines()[0].contains(".V77U"), "{}", ran.shown());
    assert_eq!(post.digests("mail"), post.on_server());
    assert!(post.fetch_from(&server.imap, "mail").run().ok().lines().is_empty());
}

#[test]
fn other_mailboxes_are_maildir_folders() {
    let post = Post::new();
    post.bench.write(
        "mailboxes.py",
        format!(
            r#"
import imaplib
host, port = "{}".rsplit("/", 1)[-1].split(":")
imap = imaplib.IMAP4(host, int(port)); imap.login("me@by.example", "secret")
for name in ['"work/2026"', '"a.b"', '"&ZeVnLIqe-"', '"two words"']:
    imap.create(name)
    imap.append(name, None, None, b"Subject: %s\r\n\r\nx\r\n" % name.encode())
imap.append("INBOX", r"(\Seen \Flagged)", None, b"Subject: seen\r\n\r\nx\r\n")
imap.logout()
"#,
            post.server.imap
        ),
    );
    post.bench.cmd("python3").arg("mailboxes.py").run().ok();
    let ran = post.fetch("mail").args(["work/2026", "a.b", "日本語", "two words", "inbox"]).run().ok();
    assert_eq!(ran.lines().len(), 5, "{}", ran.shown());
    let files: Vec<String> = post.bench.files("mail").iter().map(|file| file.display().to_string()).collect();
    for dir in [".work.2026/new/", ".a&AC4-b/new/", ".&ZeVnLIqe-/new/", ".two words/new/", "cur/"] {
        assert!(files.iter().any(|file| file.starts_with(dir)), "{dir} in {files:?}");
    }
    assert!(files.iter().any(|file| file.starts_with("cur/") && file.ends_with(":2,FS")), "{files:?}");
    post.fetch("mail").args(["nowhere", "work/2026"]).run().fails(69).err_has("no such mailbox");
}

#[test]
fn bad_input_gets_its_status() {
    let post = Post::new();
    post.deliver("one", "1");
    let bench = &post.bench;
    let wrong =
        ["--imap", &post.server.imap, "--user", "me@by.example", "--password-file", "wrong", "-C", "m"];
    bench.cmd("mail-fetch").args(wrong).run().fails(77).err_has("check user and password");
    bench
        .cmd("mail-fetch")
        .args(["--imap", "imap://127.0.0.1:1", "--user", "x", "--password-file", "password", "-C", "m"])
        .run()
        .fails(75)
        .err_has("refused");
    bench.cmd("mail-fetch").arg("--colour").run().fails(64);
    post.fetch_from(&post.server.smtp, "m").run().fails(64).err_has("is no IMAP server");
    bench.cmd("mail-fetch").run().fails(64).err_has("name an account");
    bench.cmd("mail-fetch").args(["--imap", "imap://u:p@x"]).run().fails(64).err_has("must not hold");
    bench.cmd("mail-fetch").arg("nobody").run().fails(78).err_has("nobody");
    bench.write("home/.config/mailloop/config.toml", "[account.x]\nadress = 1\n");
    bench.cmd("mail-fetch").arg("x").run().fails(78).err_has("line 2, column 1");
    post.bench.write("m2", "a file, no directory");
    post.fetch("m2").run().fails(73);
    assert!(post.fetch("m").run().ok().lines().len() == 1);
}

#[test]
fn a_reader_that_goes_away_ends_it_by_sigpipe() {
    let post = Post::new();
    for n in 0..40 {
        post.deliver(&format!("m{n:02}"), "x");
    }
    let imap = &post.server.imap;
    let line = format!(
        "mail-fetch --imap {imap} --user me@by.example --password-file password -C mail 2>err | true; cat err; mail-fetch --imap \
         {imap} --user me@by.example --password-file password -C mail >/dev/null"
    );
    post.bench.sh(&line).run().ok();
    assert_eq!(post.digests("mail"), post.on_server());
}

/// How many durable steps an undisturbed fetch takes.
fn steps(post: &Post) -> usize {
    post.fetch("undisturbed").env("MAILLOOP_STEPS", post.bench.path("steps")).run().ok();
    String::from_utf8(post.bench.read("steps")).unwrap().lines().count()
}

#[test]
fn killed_before_and_after_every_step_it_ends_the_same() {
    let post = Post::new();
    for n in 0..3 {
        post.deliver(&format!("m{n}"), &"text ".repeat(n));
    }
    let steps = steps(&post);
    assert!(steps > 12, "{steps} steps");
    let wanted = post.held("undisturbed");
    for step in 1..=steps {
        for side in ["-", "+"] {
            let maildir = format!("mail{step}{side}");
            let killed = post.fetch(&maildir).env("MAILLOOP_STOP", format!("{step}{side}")).run();
            assert_eq!(killed.signal, Some(9), "step {step}{side}: {}", killed.shown());
            post.fetch(&maildir).run().ok();
            assert_eq!(post.held(&maildir), wanted, "killed at step {step}{side}");
            assert!(post.fetch(&maildir).run().ok().lines().is_empty(), "step {step}{side}");
        }
    }
}

/// Whatever lies in `new/` and `cur/` is a whole message, once.
#[track_caller]
fn nothing_is_half_written(post: &Post, maildir: &str, wanted: &BTreeMap<PathBuf, String>, moment: &str) {
    let files = post.bench.files(maildir);
    for file in files.iter().filter(|file| file.starts_with("new") || file.starts_with("cur")) {
        let whole = sha256(&post.bench.read(&format!("{maildir}/{}", file.display())));
        assert_eq!(wanted.get(file), Some(&whole), "{moment}: {}", file.display());
    }
}

/// Every write, sync, rename and removal fails in its turn, in each of the ways in which disks fail.
#[test]
fn a_disk_that_fails_at_any_step_leaves_no_half_message() {
    let post = Post::new();
    for n in 0..3 {
        // The last one comes in several writes.
        post.deliver(&format!("m{n}"), &"text ".repeat(n * n * 20_000));
    }
    let steps = steps(&post);
    let names = String::from_utf8(post.bench.read("steps")).unwrap();
    assert!(names.lines().filter(|line| line.ends_with(" write")).count() > 3, "{names}");
    for name in ["create", "stamp", "sync-group", "append", "sync", "rename", "sync-dir"] {
        assert!(names.lines().any(|line| line.ends_with(&format!(" {name}"))), "{name} in {names}");
    }
    let wanted = post.held("undisturbed");
    let mut missed = 0;
    for (how, with, says) in [
        ("", "ENOSPC", "No space left"),
        ("..", "ENOSPC", "No space left"),
        ("", "EIO", "Input/output error"),
        ("+", "EIO", "Input/output error"),
        ("..", "EIO", "Input/output error"),
    ] {
        for step in 1..=steps {
            let moment = format!("{with} at step {step}{how}");
            let maildir = format!("mail-{with}-{step}{how}");
            let taken = format!("{maildir}.steps");
            let failed = post.fetch(&maildir).env("MAILLOOP_FAIL", format!("{step}{how}"));
            let failed =
                failed.env("MAILLOOP_FAIL_WITH", with).env("MAILLOOP_STEPS", post.bench.path(&taken)).run();
            if post.bench.read(&taken).iter().filter(|byte| **byte == b'\n').count() < step {
                // A message came over the line in fewer pieces this time.
                missed += 1;
                assert_eq!((failed.status, post.held(&maildir)), (Some(0), wanted.clone()), "{moment}");
                continue;
            }
            assert!(matches!(failed.status, Some(73 | 74)), "{moment}: {}", failed.shown());
            assert!(failed.err_text().contains(says), "{moment}: {}", failed.shown());
            nothing_is_half_written(&post, &maildir, &wanted, &moment);
            for line in failed.lines() {
                assert!(post.bench.path(&line).is_file(), "{moment}: {line} was told");
            }
            let rest = post.fetch(&maildir).run().ok();
            assert_eq!(post.held(&maildir), wanted, "{moment}");
            assert!(rest.lines().iter().all(|line| !failed.lines().contains(line)), "{moment}: told twice");
            assert!(post.fetch(&maildir).run().ok().lines().is_empty(), "{moment}");
        }
    }
    assert!(missed < steps, "{missed} of {} failures never happened", 5 * steps);
}

#[test]
fn two_at_once_fetch_everything_once() {
    let post = Post::new();
    for n in 0..60 {
        post.deliver(&format!("m{n:02}"), &"x".repeat(n * 100));
    }
    let running: Vec<_> = (0..3).map(|_| post.fetch("mail").spawn()).collect();
    let told: usize = running.into_iter().map(|one| one.wait().ok().lines().len()).sum();
    assert_eq!(told, 60);
    assert_eq!(post.digests("mail"), post.on_server());
}

#[test]
fn names_are_durable_before_the_cursor_speaks_of_them() {
    let post = Post::new();
    post.deliver("one", "1");
    steps(&post);
    let text = String::from_utf8(post.bench.read("steps")).unwrap();
    let names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    let group = names.iter().position(|name| *name == "sync-group").unwrap();
    let next = names[group..].iter().find(|name| ["sync-dir", "append"].contains(name));
    assert_eq!(next, Some(&"sync-dir"), "{names:?}");
}
