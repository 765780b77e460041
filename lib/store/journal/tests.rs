use super::*;
use crate::record::RecordPath;

fn entry(key: &str, file: &str) -> Entry {
    let mut entry = Entry::new(key.into(), record::Message::fresh());
    entry.files.push(record::File { path: RecordPath(Some(file.into())), ..record::File::fresh() });
    entry
}

#[test]
fn the_last_entry_of_a_message_counts() {
    let temp = tempfile::tempdir().unwrap();
    let out = Dir::open(temp.path()).unwrap();
    assert!(entries(temp.path()).unwrap().next().is_none());
    let mut journal = Journal::open(&out, Duration::ZERO, true).unwrap();
    journal.append(&[entry("a", "1.pdf"), entry("b", "2.pdf")], &|_| false).unwrap();
    journal.append(&[entry("a", "3.pdf"), entry("b", "2.pdf")], &|at| at == 0).unwrap();
    assert!(journal.desk().has("a").unwrap() && !journal.desk().has("c").unwrap());
    let names: Vec<_> =
        files(temp.path()).unwrap().map(|file| file.path.get().unwrap().to_path_buf()).collect();
    assert_eq!(names, [temp.path().join("3.pdf"), temp.path().join("2.pdf")]);
    assert_eq!(files(temp.path()).unwrap().next().unwrap().message.unwrap().kind, "message");
    // A line that stands is not written again.
    let text = std::fs::read_to_string(temp.path().join(PLACE).join(JOURNAL)).unwrap();
    assert_eq!(text.lines().count(), 3);
    // A path that leads elsewhere did not come from us, and a line without an end never became true.
    journal.append(&[entry("c", "../x"), entry("d", "/x"), entry("e\"\\", "sub/x")], &|_| true).unwrap();
    let path = temp.path().join(PLACE).join(JOURNAL);
    let torn = std::fs::read_to_string(&path).unwrap() + r#"{"v":1,"key":"f"#;
    std::fs::write(&path, torn).unwrap();
    let last = files(temp.path()).unwrap().last().unwrap();
    assert_eq!(last.path.get().unwrap(), temp.path().join("sub/x"));
    assert_eq!(files(temp.path()).unwrap().count(), 3);
}

#[test]
fn leftovers_go_and_others_are_seen() {
    let temp = tempfile::tempdir().unwrap();
    let out = Dir::open(temp.path()).unwrap();
    let mut first = Journal::open(&out, Duration::ZERO, true).unwrap();
    first.desk().begin().unwrap();
    assert_eq!(Journal::open(&out, Duration::ZERO, true).unwrap_err().kind(), Kind::Temporary);
    first.release();
    let mut second = Journal::open(&out, Duration::ZERO, true).unwrap();
    assert!(!second.desk().place().has("new.1"));
    second.append(&[entry("k", "f")], &|_| true).unwrap();
    drop(second);
    assert!(!first.desk().has("k").unwrap());
    first.lock(Duration::ZERO).unwrap();
    assert!(first.desk().has("k").unwrap());
}

#[test]
fn what_a_lasting_one_keeps_does_not_grow_and_all_is_known() {
    let temp = tempfile::tempdir().unwrap();
    let out = Dir::open(temp.path()).unwrap();
    let mut journal = Journal::open(&out, Duration::ZERO, false).unwrap();
    let of = |from: usize, to: usize| (from..to).map(|n| entry(&n.to_string(), "f")).collect::<Vec<_>>();
    let has = |journal: &Journal, n: usize| journal.desk().has(&n.to_string()).unwrap();
    journal.append(&of(0, 10_000), &|_| true).unwrap();
    assert!((0..10_000).step_by(1000).all(|n| has(&journal, n)));
    assert!(journal.desk().lines().known.as_ref().unwrap().counts() >= 10_000);
    journal.release();
    assert!(journal.desk().lines().known.as_ref().unwrap().counts() < 9_000);
    // Another one writes meanwhile.
    Journal::open(&out, Duration::ZERO, false).unwrap().append(&of(10_000, 10_001), &|_| true).unwrap();
    journal.lock(Duration::ZERO).unwrap();
    journal.append(&of(10_001, 10_010), &|_| true).unwrap();
    assert!([3, 9_999, 10_000, 10_009].iter().all(|n| has(&journal, *n)));
    assert!(!has(&journal, 10_010));
    // The same line once more is not written, an old one as little as a new one.
    let size = size(temp.path());
    journal.append(&of(3, 4), &|_| false).unwrap();
    journal.append(&of(10_008, 10_010), &|_| true).unwrap();
    assert_eq!(super::size(temp.path()), size);
}
