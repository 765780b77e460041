//! `--dry-run` says what would come and writes nothing at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Post;
use crate::transcript::Transcript;

/// Everything below a directory: kind, size and when it was last changed.
fn state(dir: &Path) -> BTreeMap<PathBuf, (bool, u64, SystemTime)> {
    let mut all = BTreeMap::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        let meta = std::fs::metadata(&dir).unwrap();
        all.insert(dir.clone(), (true, 0, meta.modified().unwrap()));
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => open.push(entry.path()),
                false => {
                    let meta = entry.metadata().unwrap();
                    all.insert(entry.path(), (false, meta.len(), meta.modified().unwrap()));
                }
            }
        }
    }
    all
}

#[test]
fn what_would_come_is_told_and_no_maildir_made() {
    let post = Post::new();
    post.deliver("one", "1");
    post.deliver("two", "2");
    let ran = post.fetch("mail").arg("-n").run().ok();
    assert!(ran.lines().is_empty(), "{}", ran.shown());
    let ran = ran.err_has("would fetch UID 1,").err_has("would fetch UID 2,").err_has("2 new, ");
    assert!(!post.bench.path("mail").exists(), "{}", ran.shown());
    assert_eq!(post.fetch("mail").run().ok().lines().len(), 2);
    post.fetch("mail").arg("-n").run().ok().err_has("0 new, ");
}

#[test]
fn what_a_kill_left_is_left() {
    let post = Post::new();
    for name in ["one", "two", "three"] {
        post.deliver(name, name);
    }
    let mut new = 0;
    for step in 4..=12 {
        let maildir = format!("mail-{step}");
        assert_eq!(post.fetch(&maildir).args(["--limit", "1"]).run().ok().lines().len(), 1);
        post.fetch(&maildir).env("MAILLOOP_STOP", format!("{step}-")).run();
        let before = state(&post.bench.path(&maildir));
        post.fetch(&maildir).args(["-n", "--max-size", "1", "--after", "seen"]).run().ok();
        let ran = post.fetch(&maildir).arg("--dry-run").run().ok();
        new += usize::from(ran.err_text().contains("would fetch UID 3,"));
        assert_eq!(state(&post.bench.path(&maildir)), before, "stopped before step {step}");
        post.fetch(&maildir).run().ok();
        assert_eq!(post.digests(&maildir), post.on_server(), "stopped before step {step}");
    }
    assert!(new > 1, "too few of the steps are those of a delivery");
}

#[test]
fn another_uidvalidity_makes_all_of_it_new() {
    let post = Post::new();
    let login =
        "S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\nC: a1 *\nS: a1 OK [CAPABILITY IMAP4rev1] in\n";
    let open = |number| {
        format!(
            "{login}C: a2 EXAMINE *\nS: * 1 EXISTS\nS: * OK [UIDVALIDITY {number}] x\nS: * OK [UIDNEXT 2] x\nS: a2 OK\nC: a3 UID SEARCH *\nS: * SEARCH 1\nS: a3 OK\n"
        )
    };
    let end = "C? a5 LOGOUT\nS: a5 OK";
    let fetch =
        format!("C: a4 UID FETCH *\nS- * 1 FETCH (UID 1 BODY[] {{3}}\\r\\none)\\r\\n\nS: a4 OK\n{end}");
    let describe =
        format!("C: a4 UID FETCH 1 (UID RFC822.SIZE *\nS: * 1 FETCH (UID 1 RFC822.SIZE 3)\nS: a4 OK\n{end}");
    let play = Transcript::play([open(5) + &fetch, open(6) + &describe]);
    let url = play.url("imap");
    assert_eq!(post.fetch_from(&url, "m").run().ok().lines().len(), 1);
    post.fetch_from(&url, "m").arg("-n").run().ok().err_has("would fetch UID 1, 3 octets");
    play.heard();
}
