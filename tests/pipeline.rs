//! The programs chained in a real shell: plain, NUL-ended, JSON; killed in the middle and taken up again.
//!
//! The same lines run against the sandbox here and against real servers in `real/pipeline.rs`.

use crate::bench::{Bench, base64_lines, pdf};

/// Names that a shell or a line-based reader would trip over.
pub const NAMES: [&str; 4] = ["plain", "two words", "it's \"quoted\" $(id)", "día"];

/// Three messages with PDFs on the embedded server, and an account `school` for it.
fn bench() -> (Bench, crate::bench::Server) {
    let bench = Bench::new();
    let server = bench.sandbox();
    bench.configure("me@by.example", &server.smtp, &server.imap, "run", "");
    let messages: Vec<String> =
        NAMES.iter().enumerate().map(|(n, name)| message(n, name, "me@by.example")).collect();
    let mut paths = String::new();
    for (n, text) in messages.iter().enumerate() {
        bench.write(&format!("out/{n}.eml"), text);
        paths += &format!("out/{n}.eml\n");
    }
    bench.cmd("mail-inject").args(["-a", "school", "--batch"]).stdin(paths).run().ok();
    (bench, server)
}

/// A message with one PDF of this name.
pub fn message(n: usize, name: &str, to: &str) -> String {
    let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!(
        "From: me@by.example\r\nTo: {to}\r\nSubject: {n}\r\nDate: Sat, 21 Nov 2026 10:00:0{n} +0100\r\nMessage-ID: \
         <{n}@by.example>\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: \
         base64\r\nContent-Disposition: attachment; filename*=utf-8''{encoded}.pdf\r\n\r\n{}",
        base64_lines(&pdf(&format!("number {n}")))
    )
}

/// What `count` must have been run for, once each.
pub fn check_counted(bench: &Bench, wanted: usize) {
    let counted = bench.counted();
    assert_eq!(counted.len(), wanted, "{counted:?}");
    let mut once = counted.clone();
    once.dedup();
    assert_eq!(once, counted, "something was acted on twice");
}

/// Runs the commands that came out; `sh` must read back exactly the words.
pub fn plain(bench: &Bench) {
    let line = "mail-fetch school | mail-dissect -C ~/in | mail-act -- ./count {} > commands; sh -e commands";
    bench.sh(line).run().ok();
    check_counted(bench, NAMES.len());
    bench.sh("test -z \"$(mail-fetch school | mail-dissect -C ~/in | mail-act -- ./count {})\"").run().ok();
}

/// The same with paths that end in NUL.
pub fn nul(bench: &Bench) {
    let line = "mail-fetch -0 school | mail-dissect -0 -C ~/in | mail-act -0 -- ./count {} | sh -e";
    bench.sh(line).run().ok();
    check_counted(bench, NAMES.len());
}

/// JSON records from end to end; each action knows its file and its message.
pub fn json(bench: &Bench) {
    let line = "mail-fetch --json school | mail-dissect --json -C ~/in | mail-act --json --run";
    let actions = bench.sh(line).run().ok().json();
    assert_eq!(actions.len(), NAMES.len());
    for action in &actions {
        assert_eq!((action["state"].as_str(), action["rule"].as_str()), (Some("done"), Some("print")));
        assert_eq!(action["file"]["message"]["account"].as_str(), Some("school"));
        assert_eq!(action["file"]["message"]["mailbox"].as_str(), Some("INBOX"));
        assert!(action["file"]["message"]["uid"].is_u64());
    }
    check_counted(bench, NAMES.len());
}

/// Stages one by one, each asking for what is not finished.
pub fn pending(bench: &Bench) {
    let line =
        "mail-fetch school; mail-dissect --pending ~/Mail/school -C ~/in; mail-act --pending ~/in --run";
    bench.sh(line).run().ok();
    check_counted(bench, NAMES.len());
    let again = bench.sh(line).run().ok();
    assert!(again.lines().is_empty(), "{}", again.shown());
    check_counted(bench, NAMES.len());
}

/// Dissect dies in the middle of the pipe at this step, act at that one; the pending form finishes what was left.
pub fn killed(bench: &Bench, dissect: usize, act: usize) {
    let stop = |step: usize| if step == 0 { String::new() } else { format!("MAILLOOP_STOP={step}+ ") };
    let line = format!(
        "mail-fetch school | {}mail-dissect -C ~/in | {}mail-act --run || true",
        stop(dissect),
        stop(act)
    );
    bench.sh(&line).run().ok();
    let rest = "mail-dissect --pending ~/Mail/school -C ~/in; mail-act --pending ~/in --run";
    let ran = bench.sh(rest).run();
    // A command that ran while act died is unknown, and stays so; everything else is acted on once.
    let history = bench.cmd("mail-loop").args(["history", "--json"]).run().ok().json();
    let unknown = history.iter().filter(|entry| entry["state"] == "unknown").count();
    assert_eq!(ran.status, Some(if unknown > 0 { 76 } else { 0 }), "{}", ran.shown());
    let counted = bench.counted();
    let mut once = counted.clone();
    once.dedup();
    assert_eq!(once, counted, "something was acted on twice");
    assert!(counted.len() + unknown >= NAMES.len(), "{counted:?}, {unknown} unknown");
    assert!(counted.len() <= NAMES.len() && unknown <= 1);
}

#[test]
fn plain_paths() {
    plain(&bench().0);
}

#[test]
fn paths_that_end_in_nul() {
    nul(&bench().0);
}

#[test]
fn json_records() {
    json(&bench().0);
}

#[test]
fn what_is_pending() {
    pending(&bench().0);
}

#[test]
fn killed_in_the_middle() {
    for (dissect, act) in [(1, 0), (6, 0), (12, 0), (20, 0), (0, 4), (0, 7), (0, 9), (0, 12), (9, 5)] {
        killed(&bench().0, dissect, act);
    }
}
