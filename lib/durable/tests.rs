use std::io::Write;
use std::time::Duration;

use super::*;

fn dir() -> (tempfile::TempDir, Dir) {
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::open(temp.path()).unwrap();
    (temp, dir)
}

#[test]
fn a_torn_line_is_cut_off() {
    let (_temp, dir) = dir();
    let (mut log, lines) = Log::open(&dir, "log").unwrap();
    assert!(lines.is_empty());
    log.append(&["one".into(), "two".into()]).unwrap();
    fs::OpenOptions::new().append(true).open(dir.at("log")).unwrap().write_all(b"thr").unwrap();
    let (mut log, lines) = Log::open(&dir, "log").unwrap();
    assert_eq!(lines, ["one", "two"]);
    log.append(&["three".into()]).unwrap();
    assert_eq!(fs::read(dir.at("log")).unwrap(), b"one\ntwo\nthree\n");
}

#[test]
fn renaming_never_replaces() {
    let (_temp, dir) = dir();
    dir.create_new("a", 0o600).unwrap();
    dir.create_new("b", 0o600).unwrap().write_all(b"old").unwrap();
    assert_eq!(dir.rename_new("a", &dir, "b").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(dir.at("b")).unwrap(), b"old");
}

#[test]
fn a_planted_link_is_not_followed() {
    let (_temp, dir) = dir();
    std::os::unix::fs::symlink("elsewhere", dir.at("x")).unwrap();
    assert!(dir.create_new("x", 0o600).is_err());
    assert!(dir.has("x"));
    assert!(!dir.has("elsewhere"));
}

#[test]
fn a_held_lock_is_temporary_trouble() {
    let (_temp, dir) = dir();
    let held = Lock::take(&dir, "lock", Duration::ZERO).unwrap();
    assert_eq!(Lock::take(&dir, "lock", Duration::ZERO).unwrap_err().kind(), Kind::Temporary);
    drop(held);
    Lock::take(&dir, "lock", Duration::ZERO).unwrap();
}

#[test]
fn replace_leaves_one_file() {
    let (_temp, dir) = dir();
    dir.replace("state", b"1", 0o600).unwrap();
    dir.replace("state", b"2", 0o600).unwrap();
    assert_eq!(dir.read("state").unwrap().unwrap(), b"2");
    assert_eq!(dir.names().unwrap().len(), 1);
}
