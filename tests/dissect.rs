//! mail-dissect as its users see it: right bytes, safe names, nothing lost, nothing twice.

mod doubtful;
mod hostile;
mod messages;
mod options;
mod property;

use crate::bench::{Bench, Cmd, pdf, sha256};
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;

fn base64(bytes: &[u8]) -> String {
    let text = base64_simd::STANDARD.encode_to_string(bytes);
    let lines: Vec<_> =
        text.as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    lines.join("\n")
}

/// A part with these header lines.
fn part(head: &str, bytes: &[u8]) -> String {
    format!("{head}\nContent-Transfer-Encoding: base64\n\n{}\n", base64(bytes))
}

fn attached(name: &str, bytes: &[u8]) -> String {
    part(
        &format!(
            "Content-Type: application/octet-stream\nContent-Disposition: attachment; filename=\"{name}\""
        ),
        bytes,
    )
}

fn message(subject: &str, parts: &[String]) -> String {
    let mut text = format!(
        "From: Teacher <t@by.example>\nTo: me@by.example\nSubject: {subject}\nMessage-ID: <{subject}@by.example>\n\
         Date: Sat, 21 Nov 2026 10:00:00 +0100\nMIME-Version: 1.0\n\
         Content-Type: multipart/mixed; boundary=\"=_b\"\n\nA preamble.\n"
    );
    for part in parts {
        text += &format!("--=_b\n{part}\n");
    }
    text + "--=_b--\n"
}

fn hello() -> String {
    "Content-Type: text/plain\n\nHello, the %PDF-1.7 format is nice.\n".to_string()
}

fn dissect(bench: &Bench) -> Cmd {
    bench.cmd("mail-dissect").arg("-C").arg("out")
}

/// Every file below `out` but for the journal, with its bytes.
fn tree(bench: &Bench) -> BTreeMap<String, Vec<u8>> {
    let names = bench.files("out").into_iter().map(|name| name.display().to_string());
    names
        .filter(|name| !name.starts_with(".mailloop"))
        .map(|name| (name.clone(), bench.read(&format!("out/{name}"))))
        .collect()
}

fn names(bench: &Bench) -> Vec<String> {
    tree(bench).into_keys().collect()
}

/// Puts messages into the Maildir `rel`.
fn maildir(bench: &Bench, rel: &str, messages: &[String]) {
    for sub in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(bench.path(rel).join(sub)).expect("a Maildir in the bench");
    }
    for (number, message) in messages.iter().enumerate() {
        bench.write(
            &format!("{rel}/new/17000000{number:02}.V1U{number}.0123456789abcdef,S={}", message.len()),
            message,
        );
    }
}

#[test]
fn pdfs_are_told_by_their_bytes() {
    let bench = Bench::new();
    let (one, two) = (pdf("one"), pdf("two"));
    let text = message(
        "m",
        &[
            hello(),
            attached("hw1.dat", &one),
            part("Content-Type: image/png; name=x.png", b"\x89PNG\r\n\x1a\nx"),
            part("Content-Type: image/jpeg", &two),
        ],
    );
    bench.write("m.eml", text.replace('\n', "\r\n"));
    let ran = dissect(&bench).arg("m.eml").run().ok();
    assert_eq!(ran.lines(), ["./out/hw1.dat", "./out/attachment.pdf"], "{}", ran.shown());
    assert_eq!(
        tree(&bench),
        BTreeMap::from([("hw1.dat".into(), one.clone()), ("attachment.pdf".into(), two)])
    );
    // Once more: nothing new; --json says what is there.
    assert_eq!(dissect(&bench).arg("m.eml").run().ok().out_text(), "");
    let ran = dissect(&bench).arg("--json").arg("m.eml").run().ok();
    let record = &ran.json()[0];
    let expected = serde_json::json!({"v": 1, "kind": "file", "state": "present", "path": "./out/hw1.dat", "name": "hw1.dat",
        "type": "application/pdf", "said": "application/octet-stream", "part": "2", "size": one.len(), "sha256": sha256(&one), "notes": []});
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&record[key], value, "{key}");
    }
    let message = &record["message"];
    assert_eq!(message["from"], serde_json::json!(["t@by.example"]));
    assert_eq!(message["date"], "2026-11-21T10:00:00+01:00");
    assert_eq!(
        (&message["message_id"], &message["uid"]),
        (&"<m@by.example>".into(), &serde_json::Value::Null)
    );
}

#[test]
fn all_and_types_choose_others() {
    let bench = Bench::new();
    let text = message(
        "m",
        &[
            hello(),
            attached("a.bin", b"some bytes"),
            part("Content-Type: image/png", b"\x89PNG\r\n\x1a\nx"),
            "Content-Type: text/html\n\n<p>\n".into(),
        ],
    );
    bench.write("m.eml", text);
    assert_eq!(
        dissect(&bench).arg("--all").arg("m.eml").run().ok().lines(),
        ["./out/a.bin", "./out/attachment.png"]
    );
    assert_eq!(
        dissect(&bench).args(["--type", "text/*", "m.eml"]).run().ok().lines(),
        ["./out/attachment.txt", "./out/attachment.html"]
    );
    dissect(&bench).args(["--type", "x", "--all", "m.eml"]).run().fails(64);
    dissect(&bench).arg("--nonsense").run().fails(64);
}

#[test]
fn messages_within_messages_are_opened() {
    let bench = Bench::new();
    let (one, two) = (pdf("one"), pdf("two"));
    let inner = message("inner", &[attached("one.pdf", &one)]).replace("=_b", "inner");
    let encoded = part(
        "Content-Type: message/rfc822",
        inner.replace("one.pdf", "two.pdf").replace(&base64(&one), &base64(&two)).as_bytes(),
    );
    bench.write("m.eml", message("m", &[format!("Content-Type: message/rfc822\n\n{inner}"), encoded]));
    let ran = dissect(&bench).arg("--json").arg("m.eml").run().ok();
    let parts: Vec<_> = ran.json().iter().map(|record| record["part"].clone()).collect();
    assert_eq!(parts, ["1.1", "2.1"]);
    assert_eq!(tree(&bench), BTreeMap::from([("one.pdf".into(), one), ("two.pdf".into(), two)]));
}

#[test]
fn two_files_of_one_name_are_both_kept() {
    let bench = Bench::new();
    let (one, two) = (pdf("one"), pdf("two"));
    bench.write(
        "a.eml",
        message("a", &[attached("hw.pdf", &one), attached("hw.pdf", &two), attached("hw.pdf", &one)]),
    );
    let suffixed = format!("hw-{}.pdf", &sha256(&two)[..8]);
    let ran = dissect(&bench).arg("a.eml").run().ok();
    assert_eq!(ran.lines(), ["./out/hw.pdf".to_string(), format!("./out/{suffixed}")]);
    assert_eq!(tree(&bench), BTreeMap::from([("hw.pdf".into(), one), (suffixed, two)]));
    assert_eq!(dissect(&bench).arg("a.eml").run().ok().out_text(), "");
}

#[test]
fn names_cannot_leave_the_directory_or_use_what_was_planted() {
    let bench = Bench::new();
    bench.write("outside", "precious");
    std::fs::create_dir(bench.path("out")).unwrap();
    symlink(bench.path("outside"), bench.path("out/link.pdf")).unwrap();
    symlink(bench.path("dangling"), bench.path("out/nowhere.pdf")).unwrap();
    bench.sh("mkfifo out/pipe.pdf; mkdir out/dir.pdf").run().ok();
    let sent = [
        "../../up.pdf",
        "/abs.pdf",
        "link.pdf",
        "nowhere.pdf",
        "pipe.pdf",
        "dir.pdf",
        ".bashrc",
        "-rf",
        ".mailloop/journal",
    ];
    let parts: Vec<_> = sent.iter().map(|name| attached(name, &pdf(name))).collect();
    bench.write("m.eml", message("m", &parts));
    dissect(&bench).arg("m.eml").run().ok();
    let digest = |name: &str| sha256(&pdf(name))[..8].to_string();
    let mut expected: Vec<String> =
        ["up.pdf", "abs.pdf", "bashrc.pdf", "rf.pdf", "journal.pdf"].map(String::from).to_vec();
    expected.extend(
        ["link", "nowhere", "pipe", "dir"]
            .map(|name| format!("{name}-{}.pdf", digest(&format!("{name}.pdf")))),
    );
    expected.sort();
    assert_eq!(names(&bench), expected);
    assert_eq!(bench.read("outside"), b"precious");
    assert!(!bench.path("dangling").exists());
    let above: Vec<_> = bench.files("").into_iter().filter(|file| !file.starts_with("out")).collect();
    assert_eq!(above, [Path::new("m.eml"), Path::new("outside")]);
}

#[test]
fn damage_is_repaired_and_noted() {
    let bench = Bench::new();
    let one = pdf("one");
    let unpadded = base64(&one).trim_end_matches('=').replacen('\n', "!\n", 1);
    let head = "Content-Type: application/pdf; name=a.pdf\nContent-Transfer-Encoding: base64 ";
    let text = message("m", &[format!("{head}\n\n{unpadded}\n")]);
    // The last boundary went missing too.
    bench.write("m.eml", text.replace("--=_b--\n", ""));
    let ran = dissect(&bench).arg("--json").arg("m.eml").run().ok();
    assert!(ran.json()[0]["notes"].as_array().is_some_and(|notes| !notes.is_empty()), "{}", ran.shown());
    assert_eq!(tree(&bench), BTreeMap::from([("a.pdf".into(), one)]));
}

#[test]
fn one_bad_item_is_one_line_and_the_rest_goes_on() {
    let bench = Bench::new();
    let deep: String =
        (0..200).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n")).collect();
    bench.write("deep.eml", deep);
    bench.write("junk.eml", [0xff, 0, 13, 10, 45, 45]);
    bench.write("good.eml", message("m", &[attached("a.pdf", &pdf("a"))]));
    let ran = dissect(&bench).args(["deep.eml", "junk.eml", "good.eml"]).run().fails(65).err_has("deep.eml");
    assert_eq!(
        (ran.lines(), ran.err_text().lines().count()),
        (vec!["./out/a.pdf".to_string()], 1),
        "{}",
        ran.shown()
    );
    // It is finished all the same: cron hears of it once.
    let ran = dissect(&bench).args(["--pending", "deep.eml", "good.eml"]).run().ok();
    assert_eq!((ran.out_text(), ran.err_text()), (String::new(), String::new()));
    dissect(&bench).args(["missing.eml", "good.eml"]).run().fails(66).err_has("missing.eml");
    dissect(&bench).args(["home", "good.eml"]).run().fails(66).err_has("Maildir");
    let all_junk = "Content-Type: a/b\nContent-Transfer-Encoding: base64\n\n!!!!\n".to_string();
    bench.write("lost.eml", message("l", &[all_junk]));
    dissect(&bench).args(["--all", "lost.eml"]).run().fails(65).err_has("part 1");
    assert_eq!(names(&bench), ["a.pdf"]);
}

#[test]
fn a_part_that_is_called_a_pdf_and_is_none_is_told() {
    let bench = Bench::new();
    bench.write("m.eml", message("m", &[attached("x.pdf", b"<html>"), attached("y.pdf", &pdf("y"))]));
    let ran = dissect(&bench).arg("m.eml").run().ok().err_has("part 1");
    assert_eq!(ran.lines(), ["./out/y.pdf"]);
}

#[test]
fn stdin_gives_paths_or_records_or_a_message() {
    let bench = Bench::new();
    bench.write("a.eml", message("a", &[attached("a.pdf", &pdf("a"))]));
    bench.write("b\nc.eml", message("b", &[attached("b.pdf", &pdf("b"))]));
    let text = bench.write("c.eml", message("c", &[attached("c.pdf", &pdf("c"))]));
    assert_eq!(dissect(&bench).stdin("a.eml\n\n").run().ok().lines(), ["./out/a.pdf"]);
    assert_eq!(dissect(&bench).arg("-0").stdin("a.eml\0b\nc.eml\0").run().ok().out, b"./out/b.pdf\0");
    let record = serde_json::json!({"v": 1, "kind": "message", "state": "delivered", "path": text, "account": "school",
        "uid": 7, "from": ["forged@by.example"], "colour": "red"});
    let input =
        format!("{record}\n{{\"v\":1,\"kind\":\"message\",\"state\":\"skipped\",\"path\":null}}\nnonsense\n");
    let ran = dissect(&bench).arg("--json").stdin(input).run().fails(65);
    let message = &ran.json()[0]["message"];
    assert_eq!(
        (&message["account"], &message["uid"], &message["colour"]),
        (&"school".into(), &7.into(), &"red".into())
    );
    assert_eq!(message["from"], serde_json::json!(["t@by.example"]), "the sender is read from the message");
    let ran = dissect(&bench).arg("-").stdin(self::message("d", &[attached("d.pdf", &pdf("d"))])).run().ok();
    assert_eq!(ran.lines(), ["./out/d.pdf"]);
}

#[test]
fn a_file_is_said_before_the_input_ends() {
    let bench = Bench::new();
    bench.write("a.eml", message("a", &[attached("a.pdf", &pdf("a"))]));
    let mut running = bench.sh("mkfifo go; { echo a.eml; cat go; } | mail-dissect -C out").spawn();
    assert_eq!(running.line(), "./out/a.pdf");
    // While it waits, another may work there.
    bench.write("b.eml", message("b", &[attached("b.pdf", &pdf("b"))]));
    dissect(&bench).args(["--timeout", "10s", "b.eml"]).run().ok();
    bench.sh("echo b.eml > go").run().ok();
    assert_eq!(running.wait().ok().out_text(), "./out/a.pdf\n");
    assert_eq!(names(&bench), ["a.pdf", "b.pdf"]);
}

#[test]
fn another_at_work_there_is_temporary() {
    let bench = Bench::new();
    bench.write("a.eml", message("a", &[attached("a.pdf", &pdf("a"))]));
    dissect(&bench).arg("a.eml").run().ok();
    let lock = std::fs::File::open(bench.path("out/.mailloop/lock")).unwrap();
    lock.lock().unwrap();
    dissect(&bench).args(["--timeout", "0s", "a.eml"]).run().fails(75).err_has("lock");
}

#[test]
fn pending_takes_what_is_not_finished() {
    let bench = Bench::new();
    let texts: Vec<_> = (0..3)
        .map(|n| message(&n.to_string(), &[attached(&format!("{n}.pdf"), &pdf(&n.to_string()))]))
        .collect();
    maildir(&bench, "mail", &texts[..1]);
    maildir(&bench, "mail/.sub", &texts[1..2]);
    maildir(&bench, "mail/nested/deep", &texts[2..]);
    let pending = || dissect(&bench).args(["--pending", "mail"]);
    assert_eq!(pending().run().ok().lines(), ["./out/0.pdf", "./out/1.pdf", "./out/2.pdf"].map(String::from));
    // Finished stays finished, wherever the message and its file go.
    bench.sh("mv mail/new/* mail/cur/$(ls mail/new):2,S; rm out/0.pdf").run().ok();
    assert_eq!(pending().run().ok().out_text(), "");
    assert_eq!(pending().arg("--again").run().ok().lines(), ["./out/0.pdf"]);
    dissect(&bench).args(["--again", "mail"]).run().fails(64);
}

#[test]
fn a_message_that_left_new_is_found() {
    let bench = Bench::new();
    maildir(&bench, "mail", &[message("m", &[attached("a.pdf", &pdf("a"))])]);
    let path = bench.files("mail").pop().unwrap();
    bench.sh("mv mail/new/* mail/cur/$(ls mail/new):2,RS").run().ok();
    assert_eq!(
        dissect(&bench).stdin(format!("mail/{}\n", path.display())).run().ok().lines(),
        ["./out/a.pdf"]
    );
}

#[test]
fn killed_at_every_step_it_ends_as_if_undisturbed() {
    if !cfg!(debug_assertions) {
        eprintln!("not run: a release build has no numbered steps");
        return;
    }
    let texts = [
        message("a", &[attached("hw.pdf", &pdf("a")), hello()]),
        message("b", &[attached("hw.pdf", &pdf("b")), attached("more.pdf", &pdf("more"))]),
    ];
    let fresh = || {
        let bench = Bench::new();
        maildir(&bench, "mail", &texts);
        bench
    };
    let pending = |bench: &Bench| dissect(bench).args(["--pending", "mail"]);
    let bench = fresh();
    pending(&bench).env("MAILLOOP_STEPS", bench.path("steps")).run().ok();
    let steps = String::from_utf8(bench.read("steps")).unwrap().lines().count();
    assert!(steps > 8, "{steps} steps");
    let digests = |bench: &Bench| -> Vec<_> {
        tree(bench).into_iter().map(|(name, bytes)| (name, sha256(&bytes))).collect()
    };
    let expected = (digests(&bench), records(&bench));
    for step in 1..=steps {
        for side in ["-", "+"] {
            let bench = fresh();
            let ran = pending(&bench).env("MAILLOOP_STOP", format!("{step}{side}")).run();
            assert_eq!(ran.signal, Some(9), "step {step}{side}\n{}", ran.shown());
            for line in ran.lines() {
                assert!(bench.path(&line).exists(), "step {step}{side}: {line} was said and is not there");
            }
            pending(&bench).run().ok();
            assert_eq!((digests(&bench), records(&bench)), expected, "after step {step}{side}");
            assert_eq!(pending(&bench).run().ok().out_text(), "", "after step {step}{side}");
            let aside: Vec<_> = bench.files("out/.mailloop");
            assert_eq!(aside, [Path::new("journal"), Path::new("lock")], "after step {step}{side}");
        }
        let bench = fresh();
        let ran = pending(&bench).env("MAILLOOP_FAIL", step.to_string()).run();
        assert!(matches!(ran.status, Some(73 | 74)), "step {step} fails\n{}", ran.shown());
        let mut there: Vec<String> = tree(&bench).into_keys().map(|name| format!("./out/{name}")).collect();
        let mut told: Vec<String> = ran.lines().iter().map(ToString::to_string).collect();
        there.sort();
        told.sort();
        assert_eq!(there, told, "step {step} fails: what was not told is not there");
        pending(&bench).run().ok();
        assert_eq!((digests(&bench), records(&bench)), expected, "after a full disk at step {step}");
    }
}

/// The journal without what differs between two benches.
fn records(bench: &Bench) -> Vec<String> {
    let text = String::from_utf8(bench.read("out/.mailloop/journal")).expect("JSON is UTF-8");
    let root = bench.path("").display().to_string();
    text.lines().map(|line| line.replace(&root, "")).collect()
}

#[test]
fn a_corpus_comes_out_as_its_oracle_says() {
    let Some(corpus) = std::env::var_os("MAILLOOP_CORPUS") else {
        eprintln!("not run: MAILLOOP_CORPUS names no directory with oracle.jsonl");
        return;
    };
    let oracle = std::fs::read_to_string(Path::new(&corpus).join("oracle.jsonl")).unwrap();
    let (mut right, mut wrong, mut named, mut misnamed) = (0, Vec::new(), 0, Vec::new());
    for line in oracle.lines() {
        let oracle: serde_json::Value = serde_json::from_str(line).unwrap();
        let id = oracle["id"].as_str().unwrap();
        let bench = Bench::new();
        let ran = dissect(&bench)
            .args(["--all", "--json", "--no-sync"])
            .arg(Path::new(&corpus).join(id))
            .run()
            .ok();
        let mut records = ran.json();
        for want in oracle["expected"].as_array().unwrap() {
            for _ in 0..want["copies"].as_u64().unwrap_or(1) {
                let fits = |got: &serde_json::Value| is_that(&bench, got, want);
                let names = want["names"].as_array();
                let named_so =
                    |got: &serde_json::Value| names.is_none_or(|names| names.contains(&got["name"]));
                let best = records.iter().position(|got| fits(got) && named_so(got));
                let Some(at) = best.or_else(|| records.iter().position(fits)) else {
                    wrong.push(format!("{id}: {want}"));
                    continue;
                };
                right += 1;
                let got = records.remove(at);
                if named_so(&got) {
                    named += 1
                } else {
                    misnamed.push(format!("{id}: {} {names:?}", got["name"]))
                }
            }
        }
    }
    eprintln!("{right} right, wrong: {wrong:#?}, {named} named right, misnamed: {misnamed:#?}");
    assert!(wrong.len() <= 1, "{wrong:#?}");
    assert!(misnamed.len() * 100 <= named + misnamed.len(), "{misnamed:#?}");
}

/// True if a file has the bytes that are wanted, line ends apart where the transfer encoding leaves them open.
fn is_that(bench: &Bench, got: &serde_json::Value, want: &serde_json::Value) -> bool {
    let digest = &got["sha256"];
    if digest == &want["sha256"] || want["alt_sha256"].as_array().is_some_and(|other| other.contains(digest))
    {
        return true;
    }
    if want["eol_lenient"] != true {
        return false;
    }
    let bytes = bench.read(got["path"].as_str().expect("a path in UTF-8"));
    let mut plain = Vec::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        if *byte != b'\r' || bytes.get(at + 1) != Some(&b'\n') {
            plain.push(*byte);
        }
    }
    while plain.last() == Some(&b'\n') {
        plain.pop();
    }
    want["norm_sha256"] == sha256(&plain)
}
