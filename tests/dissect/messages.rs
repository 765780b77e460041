//! Messages in files with what must come out beside each (tests/data/messages), with LF and with CRLF line ends. What
//! was got in place of what was expected is written beside it as NAME.got.

use super::dissect;
use crate::bench::{Bench, sha256};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/messages")
}

#[test]
fn every_message_gives_what_stands_beside_it() {
    let walk = walkdir::WalkDir::new(folder()).sort_by_file_name();
    let paths: Vec<_> = walk.into_iter().map(|entry| entry.unwrap().into_path()).collect();
    let messages: Vec<_> = paths.iter().filter(|path| path.extension().is_some_and(|e| e == "eml")).collect();
    assert!(messages.len() > 60, "{} messages", messages.len());
    let mut wrong = Vec::new();
    for path in messages {
        let bytes = std::fs::read(path).unwrap();
        let crlf: Vec<u8> =
            bytes.iter().flat_map(|b| if *b == b'\n' { vec![b'\r', b'\n'] } else { vec![*b] }).collect();
        let expected = std::fs::read_to_string(path.with_extension("expect")).unwrap();
        let expected: Vec<Value> = expected.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for (ends, bytes) in [("lf", bytes), ("crlf", crlf)] {
            let got = taken(&bytes);
            if got != expected {
                let lines: Vec<_> = got.iter().map(Value::to_string).collect();
                std::fs::write(path.with_extension(format!("{ends}.got")), lines.join("\n") + "\n").unwrap();
                wrong.push(format!("{} ({ends})", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "see the .got beside each: {wrong:#?}");
}

/// What comes out of a message, in the form of an .expect.
fn taken(bytes: &[u8]) -> Vec<Value> {
    let bench = Bench::new();
    bench.write("m.eml", bytes);
    let ran = dissect(&bench).args(["--all", "--json", "--no-sync", "m.eml"]).run();
    let mut got: Vec<_> = ran
        .json()
        .iter()
        .map(|record| {
            let file = record["path"].as_str().unwrap().strip_prefix("./out/").unwrap();
            let bytes = bench.read(&format!("out/{file}"));
            let noted = record["notes"].as_array().is_some_and(|notes| !notes.is_empty());
            assert_eq!(record["sha256"], sha256(&bytes));
            json!({"part": record["part"], "file": file, "name": record["name"], "size": bytes.len(),
                "sha256": record["sha256"], "noted": noted})
        })
        .collect();
    got.push(json!({"status": ran.status}));
    got
}
