//! Messages that are made to do harm, each made here: every one ends, with little work and within 64 MiB, and nothing outside
//! the directory changes.

use super::{attached, base64, dissect, message, part};
use crate::bench::{Bench, pdf};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

/// How many seconds of a processor a message may cost. The promise is two; a build without optimisation on a machine
/// with other work gets far more, and still no cubic work, nor quadratic over these lengths, ends within it.
const WORK: u32 = 120;
/// What a process may have besides mapped files, in KiB.
const MEMORY: usize = 64 * 1024;

/// Takes a message apart with everything that is in it, under limits on memory and work (the kernel ends it at these);
/// the status is one of these.
fn run(name: &str, text: impl AsRef<[u8]>, statuses: &[i32]) {
    let bench = Bench::new();
    bench.write("m.eml", text);
    let line =
        format!("ulimit -d {MEMORY}; ulimit -t {WORK}; exec mail-dissect --all --no-sync -C out m.eml");
    // The kernel counts work; this only ends what waits for ever.
    let ran = bench.sh(&line).timeout(1200).run();
    assert!(ran.status.is_some_and(|status| statuses.contains(&status)), "{name}\n{}", ran.shown());
    assert!(!ran.err_text().contains("panicked"), "{name}\n{}", ran.shown());
}

fn multipart(boundary: &str, body: &str) -> String {
    format!("Content-Type: multipart/mixed; boundary={boundary}\n\n{body}")
}

#[test]
fn nests() {
    let nested: String = (0..10_000).map(|n| multipart(&format!("b{n}"), &format!("--b{n}\n"))).collect();
    run("10,000 nested parts", &nested, &[65]);
    run("rfc822 500 deep", "Content-Type: message/rfc822\n\n".repeat(500) + "Subject: x\n\nx\n", &[65]);
    run(
        "boundary in boundary",
        (0..2000).map(|n| multipart(&"b".repeat(n), "--b\n")).collect::<String>(),
        &[0, 65],
    );
    run("the same boundary", multipart("x", "--x\n").repeat(2000), &[0, 65]);
    run("the wrong boundary", multipart("y", "--x\nContent-Type: a/b\n").repeat(2000), &[0, 65]);
    let mut text = "Subject: x\n\nx\n".to_string();
    for _ in 0..30 {
        text = format!(
            "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n{}\n",
            base64(text.as_bytes())
        );
    }
    run("base64 in base64", text, &[0, 65]);
}

#[test]
fn floods() {
    run("1,000,000 parts", multipart("x", &"--x\n\n.\n".repeat(1_000_000)), &[65]);
    run("9,000 files", multipart("x", &"--x\nContent-Type: a/b\n\n.\n".repeat(9_000)), &[0]);
    run("1,000,000 header lines", "A: b\n".repeat(1_000_000) + "\nx", &[0]);
    run("dashes", multipart("x", &"--\n".repeat(4 << 20)), &[0]);
    run("parameters", format!("Content-Type: a/b{}\n\n.\n", ";\n filename*1*=x".repeat(100_000)), &[65]);
    run("one header line of 100 MB", format!("Subject: {}\n\nx", "y".repeat(100_000_000)), &[0]);
    run("one name of 8 MB", format!("Content-Type: a/b; name=\"{}\"\n\n.\n", "x".repeat(8 << 20)), &[65]);
    run("brackets", format!("Content-Type: a/b; name={}\n\n.\n", "(".repeat(1 << 20)), &[65]);
    let floods =
        [" =?a ?=a", "=?a?Q?", "=?a?Q?b?=", "=?utf-8?Q?a?= ", "=?utf-8?Q?", "=?", "?=", "=?utf-8?B?w6k=?="];
    for flood in floods {
        // Both within the limit for a head.
        let times = ((1 << 19) - 64) / flood.len();
        let text = format!("Subject: {0}\nContent-Type: a/b; name=\"{0}\"\n\n.\n", flood.repeat(times));
        run(&format!("words {flood}"), text, &[0]);
    }
    run("addresses", format!("From: {}\n\nx", "a@b, ".repeat(200_000)), &[0]);
    run("groups", format!("To: {}\n\nx", "g: a@b; ".repeat(100_000)), &[0]);
    run("lone carriage returns", "A: b\r".repeat(20 << 20), &[0]);
}

#[test]
fn bombs() {
    let head = "Content-Type: application/octet-stream; name=x\nContent-Transfer-Encoding:";
    run(
        "uuencode of 40 MB",
        format!("{head} x-uuencode\n\nbegin 644 x\n{}end\n", "_\n".repeat(20_000_000)),
        &[0],
    );
    run("equal signs", format!("{head} base64\n\n{}", "=".repeat(20 << 20)), &[0, 65]);
    run("blank lines", format!("{head} base64\n\nAAAA\n{}", "\n".repeat(40 << 20)), &[0]);
    run("begin lines", format!("Subject: x\n\n{}", "begin 644 x\n".repeat(1 << 20)), &[0]);
    run("many uuencoded", format!("Subject: x\n\n{}", "begin 644 x\n#0V%T\nend\n".repeat(20_000)), &[65]);
    let stream = |rest: &[u8]| [&[0x78, 0x9f, 0x3e, 0x22, 1, 0][..], rest].concat();
    let winmail = |bytes: &[u8]| part("Content-Type: application/ms-tnef; name=winmail.dat", bytes);
    let huge = stream(&[1, 3, 0x90, 6, 0, 0xff, 0xff, 0xff, 0xff, 0]);
    run("TNEF that claims 4 GB", winmail(&huge), &[65]);
    let render = [2, 2, 0x90, 6, 0, 0, 0, 0, 0, 0, 0];
    run("TNEF of many files", winmail(&stream(&render.repeat(500_000))), &[65]);
    let properties =
        [&[2, 5, 0x90, 6, 0, 8, 0, 0, 0][..], &[0xff, 0xff, 0xff, 0xff, 3, 0, 1, 0], &[0, 0]].concat();
    run("TNEF of many properties", winmail(&stream(&[&render[..], &properties].concat())), &[0]);
    let p7m = |bytes: &[u8]| part("Content-Type: application/pkcs7-mime; name=smime.p7m", bytes);
    run("p7m of open sequences", p7m(&[0x30, 0x80].repeat(5 << 20)), &[65]);
    let signed = [
        0x30, 0x80, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2, 0xa0, 0x80, 0x30, 0x80, 2, 1, 1, 0x31,
        0, 0x30, 0x80, 6, 1, 1, 0xa0, 0x80,
    ];
    run("p7m of open octets", p7m(&[&signed[..], &[0x24, 0x80].repeat(1 << 20)].concat()), &[0]);
    run("p7m of many pieces", p7m(&[&signed[..], &[0x24, 0x80], &[4, 0].repeat(2 << 20)].concat()), &[0]);
}

#[test]
fn cut_anywhere() {
    let whole = message(
        "m",
        &[attached("a.pdf", &pdf("a")), message("n", &[attached("b.pdf", &pdf("b"))]).replace("=_b", "i")],
    );
    let bench = Bench::new();
    let paths: String = (0..whole.len())
        .step_by(7)
        .map(|end| {
            bench.write(&format!("{end}.eml"), &whole.as_bytes()[..end]);
            format!("{end}.eml\n")
        })
        .collect();
    let ran = dissect(&bench).args(["--all", "--no-sync"]).stdin(paths).run();
    assert!(matches!(ran.status, Some(0 | 65)), "{}", ran.shown());
}

/// Every entry above the output directory: its inode, kind, size and content.
fn snapshot(bench: &Bench) -> BTreeMap<PathBuf, (u64, u32, Vec<u8>)> {
    let walk = walkdir::WalkDir::new(bench.path("")).into_iter();
    let outside = walk.filter_entry(|entry| !entry.path().ends_with("out") || entry.depth() != 1);
    outside
        .map(|entry| {
            let entry = entry.unwrap();
            let meta = entry.path().symlink_metadata().unwrap();
            let bytes = if meta.is_file() { std::fs::read(entry.path()).unwrap() } else { Vec::new() };
            (entry.into_path(), (meta.ino(), meta.mode(), bytes))
        })
        .collect()
}

#[test]
fn a_seeded_directory_leads_nowhere() {
    let bench = Bench::new();
    bench.write("outside/precious", "precious");
    std::fs::create_dir(bench.path("out")).unwrap();
    let nasty = ["link.pdf", "up.pdf", "pipe.pdf", "dir.pdf", "loop.pdf", "dev.pdf"];
    symlink(bench.path("outside/precious"), bench.path("out/link.pdf")).unwrap();
    symlink("../outside/new", bench.path("out/up.pdf")).unwrap();
    symlink("loop.pdf", bench.path("out/loop.pdf")).unwrap();
    symlink("/dev/null", bench.path("out/dev.pdf")).unwrap();
    symlink("../outside", bench.path("out/t@by.example")).unwrap();
    bench.sh("mkfifo out/pipe.pdf; mkdir out/dir.pdf").run().ok();
    let parts: Vec<_> = nasty.iter().map(|name| attached(name, &pdf(name))).collect();
    bench.write("m.eml", message("m", &parts));
    let before = snapshot(&bench);
    let ran = dissect(&bench).arg("m.eml").run().ok();
    assert_eq!(ran.lines().len(), nasty.len(), "{}", ran.shown());
    assert_eq!(dissect(&bench).arg("m.eml").run().ok().out_text(), "");
    dissect(&bench).args(["--by", "sender", "m.eml"]).run().fails(73);
    assert!(snapshot(&bench) == before, "something outside the directory changed");
}
