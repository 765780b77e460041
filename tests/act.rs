//! mail-act through the binary: quoting, placeholders, rules, once, brakes, crashes.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::bench::{Bench, Cmd, Ran, pdf, sha256};

/// A command that counts its runs: each adds a line with its arguments to `count`.
const COUNT: &str = "#!/bin/sh\necho \"$@\" >>count\n";

fn bench() -> Bench {
    let bench = Bench::new();
    script(&bench, "counter", COUNT);
    bench.write("in/a.pdf", pdf("one"));
    bench
}

fn script(bench: &Bench, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = bench.write(name, text);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).expect("our own file");
}

fn act(bench: &Bench, words: &[&str]) -> Cmd {
    bench.cmd("mail-act").args(words)
}

/// How often the counter ran.
fn count(bench: &Bench) -> usize {
    std::fs::read_to_string(bench.path("count")).unwrap_or_default().lines().count()
}

fn config(bench: &Bench, text: &str) {
    bench.write("config.toml", text);
}

/// A message in a Maildir, and a file record that says `in/a.pdf` came out of it.
fn record(bench: &Bench, head: &str) -> Value {
    let message = bench.write("Mail/cur/1700000000.V1U7.abc,S=9:2,", format!("{head}\n\nbody\n"));
    for name in ["new", "tmp"] {
        std::fs::create_dir_all(bench.path("Mail").join(name)).expect("the bench's disk");
    }
    json!({"v": 1, "kind": "file", "state": "written", "path": "./in/a.pdf", "name": "a.pdf", "colour": "red",
        "message": {"v": 1, "kind": "message", "path": message.to_str().expect("a temporary path"), "subject": "forged",
            "from": ["boss@by.example"]}})
}

#[test]
fn one_command_for_each_path_from_arguments_or_stdin() {
    let bench = bench();
    bench.write("in/b c.pdf", pdf("two"));
    let lp = ["--", "lp", "-d", "office", "{}"];
    let ran = act(&bench, &["in/a.pdf", "in/b c.pdf"]).args(lp).run().ok();
    assert_eq!(ran.lines(), ["lp -d office ./in/a.pdf", "lp -d office './in/b c.pdf'"]);
    let ran = act(&bench, &lp).stdin("in/a.pdf\n./in/b c.pdf\n").run().ok();
    assert_eq!(ran.lines(), ["lp -d office ./in/a.pdf", "lp -d office './in/b c.pdf'"]);
    let ran = act(&bench, &["-0", "--", "lp"]).stdin("in/a.pdf\0in/b c.pdf\0").run().ok();
    assert_eq!(ran.lines(), ["lp ./in/a.pdf", "lp './in/b c.pdf'"]);
    // A missing file is one line, the rest goes on.
    let ran = act(&bench, &["in/no", "in/a.pdf"]).args(lp).run().fails(66).err_has("in/no");
    assert_eq!(ran.lines(), ["lp -d office ./in/a.pdf"]);
    // Nothing of this touched a state directory.
    assert!(!bench.path("home/.local").exists());
}

#[test]
fn nothing_to_do_it_with_is_a_usage_error() {
    let bench = bench();
    act(&bench, &["in/a.pdf"]).run().fails(64).err_has("after --");
    act(&bench, &["in/a.pdf", "--"]).run().fails(64);
    act(&bench, &["--pending", "--", "lp"]).run().fails(64);
    act(&bench, &["in/a.pdf", "--", "{}"]).run().fails(64).err_has("may not come from a message");
    act(&bench, &["in/a.pdf", "--", "sh", "-c", "lp {}"]).run().fails(64).err_has("script");
    act(&bench, &["--help"]).run().ok();
}

#[test]
fn placeholders_come_from_the_messages_bytes() {
    let bench = bench();
    let record = record(
        &bench,
        "From: =?utf-8?q?P?= <prof@by.example>\nSubject: =?utf-8?Q?h=C3=A4=E2=80=AE_=00?=\n\tb\nDate: Sat, 21 Nov 2026 10:00:00 +0100",
    );
    let command =
        ["--json", "--", "x", "{name}|{from}|{date}|{}", "{subject}", "{sha256}", "{rule}", "{other} {"];
    let ran = act(&bench, &command).stdin(record.to_string()).run().ok();
    let action = &ran.json()[0];
    let digest = sha256(&bench.read("in/a.pdf"));
    assert_eq!(action["argv"][1], "a.pdf|prof@by.example|2026-11-21T10:00:00+01:00|./in/a.pdf");
    let subject = action["argv"][2].as_str().unwrap();
    assert!(subject.starts_with("hä") && subject.ends_with('b') && !subject.contains(['\u{202e}', '\0']));
    assert_eq!(action["argv"].as_array().unwrap()[3..], [json!(digest), json!(""), json!("{other} {")]);
    assert_eq!((&action["state"], &action["rule"]), (&json!("emitted"), &Value::Null));
    assert_eq!(
        (&action["file"]["colour"], &action["file"]["type"]),
        (&json!("red"), &json!("application/pdf"))
    );
}

#[test]
fn no_value_becomes_an_option() {
    let bench = bench();
    let record = record(&bench, "From: -o@by.example\nSubject: -dother").to_string();
    let with = |words: &[&str]| act(&bench, &["--json", "--"]).args(words).stdin(&record).run();
    let ran = with(&["lp", "-t", "{subject}"]).fails(65).err_has("would be taken for an option");
    assert_eq!(ran.json()[0]["state"], "failed");
    assert_eq!(with(&["lp", "-t{subject}", "{from}"]).fails(65).lines().len(), 1);
    assert_eq!(with(&["lp", "--", "{from}"]).ok().json()[0]["argv"][2], "-o@by.example");
    // A path never does.
    bench.write("-rf", "x");
    assert_eq!(act(&bench, &["--", "rm"]).stdin("-rf\n").run().ok().lines(), ["rm ./-rf"]);
    // Refused once, not at every run.
    let run = |status| {
        act(&bench, &["--json", "--run", "--", "./counter", "{subject}"]).stdin(&record).run().fails(status)
    };
    run(65);
    run(0);
    assert_eq!(count(&bench), 0);
}

const RULES: &str = r#"
[[rule]]
name = "pictures"
type = "image/*"
run = ["./counter", "picture"]
[[rule]]
name = "print"
type = "application/pdf"
from = ["*@by.example"]
run = ["./counter", "{rule}", "{from}", "{}"]
"#;

#[test]
fn the_first_matching_rule_decides_on_bytes() {
    let bench = bench();
    config(&bench, RULES);
    let ours = record(&bench, "From: Prof <prof@by.example>").to_string();
    let rules = ["-c", "config.toml", "--json"];
    let ran = act(&bench, &rules).stdin(&ours).run().ok();
    assert_eq!(ran.json()[0]["argv"], json!(["./counter", "print", "prof@by.example", "./in/a.pdf"]));
    assert_eq!(ran.json()[0]["why"], "its type is application/pdf and it is from prof@by.example");
    let ran = act(&bench, &rules).arg("--explain").stdin(&ours).run().ok();
    assert_eq!((&ran.json()[0]["state"], &ran.json()[0]["rule"]), (&json!("skipped"), &json!("print")));
    // The record says boss@by.example, the message does not.
    for head in [
        "From: x@evil.example",
        "From: boss@by.example <x@evil.example>",
        "From: \"boss@by.example\" <x@evil.example>",
        "From: =?utf-8?q?boss=40by.example?= <x@evil.example>",
        "From: x@evil.example (boss@by.example)",
        "From: <x@evil.example> boss@by.example",
        "From: boss@by.example@evil.example",
        "From: x@evil.example\n (boss@by.example)",
        "From: boss@by.example\nSender: y\nFROM : x@evil.example",
        "From: boss@by.examp\u{142}e",
        "From: a@by.example\nFrom: b@by.example",
        "From: a@by.example, b@c",
        "To: x",
    ] {
        let other = record(&bench, head).to_string();
        assert!(act(&bench, &rules).stdin(&other).run().ok().lines().is_empty(), "{head}");
    }
    // Nor does a name or a claimed type count, nor a file of unknown origin.
    bench.write("in/b.pdf", "only text");
    act(&bench, &["-c", "config.toml", "in/a.pdf", "in/b.pdf"]).run().ok();
    let said = act(&bench, &["-c", "config.toml", "--explain", "in/a.pdf", "in/b.pdf"]).run().ok().lines();
    assert_eq!(
        said,
        [
            "./in/a.pdf: rule pictures does not match: its type is application/pdf, not image/*",
            "./in/a.pdf: rule print does not match: its sender is not known: it is not known which message it came in",
            "./in/a.pdf: no rule matches, nothing is done",
            "./in/b.pdf: rule pictures does not match: its type is text/plain, not image/*",
            "./in/b.pdf: rule print does not match: its type is text/plain, not application/pdf",
            "./in/b.pdf: no rule matches, nothing is done",
        ]
    );
    assert!(act(&bench, &["--rule", "pictures"]).args(rules).stdin(&ours).run().ok().lines().is_empty());
    act(&bench, &["--rule", "no"]).args(rules).stdin(&ours).run().fails(64).err_has("pictures, print");
}

#[test]
fn a_record_of_other_bytes_is_refused() {
    let bench = bench();
    let mut record = record(&bench, "From: a@by.example");
    record["sha256"] = json!("00");
    let ran = act(&bench, &["--json", "--", "lp"]).stdin(record.to_string()).run().fails(65);
    assert!(ran.err_has("not those that its record speaks of").lines().is_empty());
    let bad = "no json\n{\"v\":1,\"kind\":\"file\"}\n";
    act(&bench, &["--json", "--", "lp"]).stdin(bad).run().fails(65);
}

#[test]
fn a_bad_rule_is_a_bad_configuration() {
    let bench = bench();
    for (run, word) in [
        ("['lp', '{nmae}']", "{nmae}"),
        ("['{path}']", "may not come from a message"),
        ("['bash', '-ec', 'lp {path}']", "script"),
    ] {
        config(&bench, &format!("[[rule]]\nname = 'p'\nrun = {run}\n"));
        act(&bench, &["-c", "config.toml", "in/a.pdf"]).run().fails(78).err_has(word);
    }
    config(&bench, "[auth]\ndkim = false\n[[rule]]\nname = 'p'\nauthenticated = true\nrun = ['lp']\n");
    act(&bench, &["-c", "config.toml", "in/a.pdf"]).run().fails(78).err_has("authenticated");
}

#[test]
fn run_acts_once_and_again_when_asked() {
    let bench = bench();
    let run = ["in/a.pdf", "--run", "--", "./counter", "{}"];
    assert!(act(&bench, &run).run().ok().lines().is_empty());
    act(&bench, &run).run().ok();
    assert_eq!(count(&bench), 1);
    let ran = act(&bench, &["--json"]).args(run).run().ok();
    assert_eq!(ran.json()[0]["state"], "skipped");
    let ran = act(&bench, &["--again", "--json"]).args(run).run().ok();
    assert_eq!((&ran.json()[0]["state"], &ran.json()[0]["exit"]), (&json!("done"), &json!(0)));
    assert_eq!(count(&bench), 2);
    // Other words are another command; a copy of the bytes is the same file.
    bench.write("in/copy.pdf", pdf("one"));
    act(&bench, &["in/copy.pdf", "--run", "--", "./counter", "{}"]).run().ok();
    act(&bench, &["in/copy.pdf", "--run", "--", "./counter", "more", "{}"]).run().ok();
    assert_eq!(bench.read("count"), b"./in/a.pdf\n./in/a.pdf\nmore ./in/copy.pdf\n");
}

#[test]
fn the_message_is_part_of_what_is_done_once() {
    let bench = bench();
    config(
        &bench,
        "[[rule]]\nname = 'each'\nrun = ['./counter', 'each']\n[[rule]]\nname = 'file'\nonce_per = 'file'\nrun = ['./counter', 'file']\n",
    );
    for rule in ["each", "file"] {
        for subject in ["1", "2", "2"] {
            let record = record(&bench, &format!("From: a@by.example\nSubject: {subject}")).to_string();
            act(&bench, &["-c", "config.toml", "--json", "--run", "--rule", rule]).stdin(record).run().ok();
        }
    }
    let counted = String::from_utf8(bench.read("count")).unwrap();
    let rules: Vec<&str> = counted.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(rules, ["each", "each", "file"]);
}

#[test]
fn once_prints_once_and_dry_run_claims_nothing() {
    let bench = bench();
    let once = ["in/a.pdf", "--once", "--", "lp"];
    let lp = ["lp ./in/a.pdf"];
    assert_eq!(act(&bench, &["-n"]).args(once).run().ok().lines(), lp);
    assert_eq!(act(&bench, &once).run().ok().lines(), lp);
    assert!(act(&bench, &once).run().ok().lines().is_empty());
    assert!(act(&bench, &["-n"]).args(once).run().ok().lines().is_empty());
    assert_eq!(act(&bench, &["--again"]).args(once).run().ok().lines(), lp);
    // What was printed once is not run either: it is the same command for the same file.
    act(&bench, &["in/a.pdf", "--run", "--", "lp"]).run().ok();
}

#[test]
fn a_failing_command_is_told_and_settled() {
    let bench = bench();
    script(&bench, "fail", "#!/bin/sh\necho more paper >&2\nexit $1\n");
    let run = |words: &[&str], status| {
        act(&bench, &["in/a.pdf", "--run", "--json"]).args(words).run().fails(status)
    };
    let ran = run(&["--", "./fail", "3", "{}"], 69).err_has("./fail failed with status 3: more paper");
    assert_eq!((&ran.json()[0]["state"], &ran.json()[0]["exit"]), (&json!("failed"), &json!(3)));
    assert!(run(&["--", "./fail", "3", "{}"], 0).out_text().contains("skipped"));
    run(&["--", "./fail", "75", "{}"], 75).err_has("for now").err_has("try 1 of 20, the next from");
    let ran = run(&["--", "./fail", "75", "{}"], 75).err_has("tried again from");
    assert_eq!(ran.json()[0]["state"], "skipped");
    run(&["--again", "--", "./fail", "75", "{}"], 75).err_has("try 2 of 20");
    let ran = run(&["--", "sh", "-c", "kill -9 $$"], 69).err_has("signal 9");
    assert_eq!(ran.json()[0]["signal"], 9);
    let ran =
        run(&["--timeout", "50ms", "--", "sh", "-c", "sleep 600"], 75).err_has("took longer than 0.05s");
    assert_eq!(ran.json()[0]["state"], "later");
    // What could not start surely did not happen: it may be tried again without asking.
    run(&["--", "./later"], 66).err_has("./later");
    script(&bench, "later", COUNT);
    run(&["--", "./later"], 0);
    assert_eq!(count(&bench), 1);
}

#[test]
fn too_many_in_an_hour_are_held() {
    let bench = bench();
    bench.write("in/b.pdf", pdf("two"));
    bench.write("in/c.pdf", pdf("three"));
    config(&bench, "[[rule]]\nname = 'p'\nrun = ['./counter']\nmax_per_hour = 2\n");
    bench.write("in/d.pdf", pdf("four"));
    let all = ["-c", "config.toml", "in/a.pdf", "in/b.pdf", "in/c.pdf", "in/d.pdf"];
    // What is only shown is no action, and nothing remembers it: all of it is shown.
    assert_eq!(act(&bench, &all).run().ok().lines().len(), 4);
    let ran = act(&bench, &["--run", "--json"])
        .args(all)
        .run()
        .fails(75)
        .err_has("c.pdf: held")
        .err_has("2 files held");
    assert_eq!(
        ran.json().iter().map(|a| a["state"].clone()).collect::<Vec<_>>(),
        ["done", "done", "held", "held"]
    );
    act(&bench, &["--run"]).args(all).run().fails(75);
    assert_eq!(count(&bench), 2);
}

#[test]
fn mail_from_before_the_start_is_skipped() {
    let bench = bench();
    config(
        &bench,
        "[account.school]\nmaildir = 'Mail'\nstart = 2024-01-01T00:00:00Z\n[[rule]]\nname = 'p'\nrun = ['./counter']\n",
    );
    let run = |message: Value| {
        let mut file = record(&bench, "From: a@by.example");
        for (name, value) in message.as_object().unwrap() {
            file["message"][name] = value.clone();
        }
        act(&bench, &["-c", "config.toml", "--json"]).stdin(file.to_string()).run().ok().json()[0].clone()
    };
    // By its Maildir and the time in its name, by its account and record.
    let skipped = run(json!({}));
    assert_eq!(skipped["state"], "skipped");
    assert!(skipped["why"].as_str().unwrap().contains("before the start of account school"));
    assert_eq!(run(json!({"account": "school", "received": "2023-12-31T23:59:59Z"}))["state"], "skipped");
    assert_eq!(run(json!({"account": "school", "received": "2024-01-01T00:00:00Z"}))["state"], "emitted");
    assert_eq!(run(json!({"account": "other"}))["state"], "emitted");
}

#[test]
fn commands_see_a_clean_environment_and_the_facts() {
    let bench = bench();
    script(&bench, "env.sh", "#!/bin/sh\nenv >env.txt\ncat >stdin.txt\n");
    let record = record(&bench, "From: a@by.example\nSubject: two\n words").to_string();
    act(&bench, &["--json", "--run", "--", "./env.sh"])
        .stdin(record)
        .env("SECRET", "x")
        .env("LC_ALL", "C")
        .run()
        .ok();
    let text = String::from_utf8(bench.read("env.txt")).unwrap();
    let mut names: Vec<&str> =
        text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    // A shell sets these itself.
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "HOME",
            "LANG",
            "LC_ALL",
            "MAILLOOP_FROM",
            "MAILLOOP_MESSAGE",
            "MAILLOOP_NAME",
            "MAILLOOP_PATH",
            "MAILLOOP_SHA256",
            "MAILLOOP_SUBJECT",
            "MAILLOOP_TYPE",
            "PATH",
            "TMPDIR",
            "XDG_CONFIG_HOME",
            "XDG_STATE_HOME"
        ]
    );
    assert!(text.contains("MAILLOOP_SUBJECT=two words\n") && text.contains("MAILLOOP_FROM=a@by.example\n"));
    assert!(bench.read("stdin.txt").is_empty());
}

#[test]
fn two_at_once_act_once() {
    let bench = bench();
    for n in 0..20 {
        bench.write(&format!("in/{n}.pdf"), pdf(&n.to_string()));
    }
    let paths: String = (0..20).map(|n| format!("in/{n}.pdf\n")).collect();
    let run = || act(&bench, &["--run", "--", "./counter"]).stdin(&paths).spawn();
    let running = [run(), run(), run()];
    for each in running {
        each.wait().ok();
    }
    assert_eq!(count(&bench), 20);
}

/// Starts a command that waits until it is told to go on, and returns once it runs.
fn start_waiting(bench: &Bench) -> crate::bench::Running {
    script(bench, "wait", "#!/bin/sh\necho x >>count\necho started >started\nread line <go\n");
    bench.sh("mkfifo started go").run().ok();
    let running = act(bench, &["in/a.pdf", "--run", "--", "./wait"]).spawn();
    assert_eq!(bench.read("started"), b"started\n");
    running
}

#[test]
fn while_it_runs_no_lock_is_held_and_another_process_leaves_it_alone() {
    let bench = bench();
    bench.write("in/b.pdf", pdf("two"));
    let running = start_waiting(&bench);
    let ran = act(&bench, &["in/a.pdf", "--run", "--again", "--json", "--", "./wait"]).run().ok();
    assert_eq!(ran.json()[0]["state"], "skipped");
    assert!(ran.out_text().contains("another process is at it"));
    act(&bench, &["in/b.pdf", "--run", "--", "./counter"]).run().ok();
    bench.sh("echo >go").run().ok();
    running.wait().ok();
    assert_eq!(count(&bench), 2);
}

#[test]
fn killed_while_it_runs_is_unknown_and_not_repeated() {
    let bench = bench();
    let running = start_waiting(&bench);
    running.kill();
    running.wait();
    let again = ["in/a.pdf", "--run", "--json", "--", "./wait"];
    for _ in 0..2 {
        let ran = act(&bench, &again).run().fails(76).err_has("nobody knows");
        assert_eq!(ran.json()[0]["state"], "unknown");
    }
    assert_eq!(count(&bench), 1);
    // What still runs of the killed one takes the first word, the repeated one the second.
    bench.sh("echo >go").run().ok();
    let running = act(&bench, &["--again"]).args(again).spawn();
    bench.sh("cat started; echo >go").run().ok();
    assert_eq!(running.wait().ok().json()[0]["state"], "done");
    act(&bench, &again).run().ok();
    assert_eq!(count(&bench), 2);
}

#[test]
fn asked_to_end_it_finishes_the_command_and_settles() {
    let bench = bench();
    let running = start_waiting(&bench);
    running.signal(rustix::process::Signal::TERM);
    bench.sh("echo >go").run().ok();
    assert_eq!(running.wait().signal, Some(15));
    act(&bench, &["in/a.pdf", "--run", "--", "./wait"]).run().ok();
    assert_eq!(count(&bench), 1);
    // Waiting for more on stdin, it ends at once.
    bench.sh("mkfifo pipe").run().ok();
    let mut running = bench.sh("exec mail-act -- lp <pipe").spawn();
    let mut pipe = std::fs::OpenOptions::new().write(true).open(bench.path("pipe")).unwrap();
    pipe.write_all(b"in/a.pdf\n").unwrap();
    assert_eq!(running.line(), "lp ./in/a.pdf");
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(running.wait().signal, Some(15));
}

#[test]
fn stopped_at_every_step_it_acts_once_or_says_that_it_does_not_know() {
    let run = |bench: &Bench, env: &str, value: &str| -> Ran {
        let paths = ["in/a.pdf", "in/b.pdf"];
        act(bench, &paths).args(["--run", "--", "./counter"]).env(env, value).run()
    };
    let fresh = || {
        let bench = bench();
        bench.write("in/b.pdf", pdf("two"));
        bench
    };
    let whole = fresh();
    run(&whole, "MAILLOOP_STEPS", whole.path("steps").to_str().unwrap()).ok();
    let steps = String::from_utf8(whole.read("steps")).unwrap().lines().count();
    assert!(steps >= 4, "claim and settle, twice");
    for step in 1..=steps {
        for (env, value) in [
            ("MAILLOOP_STOP", format!("{step}-")),
            ("MAILLOOP_STOP", format!("{step}+")),
            ("MAILLOOP_FAIL", step.to_string()),
        ] {
            let bench = fresh();
            let stopped = run(&bench, env, &value);
            assert_ne!(stopped.status, Some(0), "{env}={value}");
            let after = run(&bench, "LANG", "C");
            let unknown = after.err_text().matches("nobody knows").count();
            let text = String::from_utf8(std::fs::read(bench.path("count")).unwrap_or_default()).unwrap();
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            let before = lines.len();
            lines.dedup();
            assert_eq!(lines.len(), before, "{env}={value}: twice: {text}\n{}", after.shown());
            assert!(
                unknown <= 1 && lines.len() + unknown >= 2,
                "{env}={value}: lost: {text}\n{}",
                after.shown()
            );
            assert_eq!(after.status, Some(if unknown == 0 { 0 } else { 76 }), "{}", after.shown());
            let third = run(&bench, "LANG", "C");
            assert_eq!(third.status, after.status, "{}", third.shown());
            assert_eq!(count(&bench), lines.len());
        }
    }
}

#[test]
fn a_closed_pipe_ends_it_by_that_signal() {
    let bench = bench();
    let ran = bench.sh("yes in/a.pdf | mail-act -- lp | head -n 1").run().ok();
    assert_eq!(ran.lines(), ["lp ./in/a.pdf"]);
}

#[test]
fn a_path_need_not_be_utf8() {
    let bench = bench();
    let name = OsStr::from_bytes(b"in/\xff\n'.pdf");
    std::fs::write(bench.path("in").parent().unwrap().join(name), pdf("x")).unwrap();
    let stdin = [name.as_bytes(), b"\0"].concat();
    let ran = act(&bench, &["-0", "--", "./counter", "a{}", "{name}"]).stdin(&stdin).run().ok();
    bench.cmd("sh").stdin(&ran.out).run().ok();
    assert_eq!(bench.read("count"), b"a./in/\xff\n'.pdf \xef\xbf\xbd '.pdf\n");
    let ran = act(&bench, &["in", "--", "lp"]).run().fails(66).err_has("no regular file");
    assert!(ran.lines().is_empty());
}

#[test]
fn a_state_directory_that_others_can_write_to_is_refused() {
    let bench = bench();
    bench.sh("mkdir state; chmod 777 state").run().ok();
    act(&bench, &["--state", "state", "--run", "in/a.pdf", "--", "./counter"]).run().fails(78);
    assert_eq!(count(&bench), 0);
}

/// Arguments as rude as they can be: no NUL, anything else.
fn arguments() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let rude = prop::sample::select(
        &b"'\"\\$`!^*?[]{}()<>|&;#~=%, \t\n\r-+/.:@_aZ09\x01\x1b\x7f\x80\xc3\xa4\xff"[..],
    );
    let byte = prop_oneof![4 => rude, 1 => 1u8..=255];
    let phrase = prop::sample::select(
        &[
            "$(touch x)",
            "`touch x`",
            "$HOME",
            "'",
            "\\\n",
            "a=b",
            "~",
            "\n",
            "--",
            "-e",
            "!!",
            "${x}",
            "{a,b}",
            "",
        ][..],
    )
    .prop_map(|text| text.as_bytes().to_vec());
    let word = prop_oneof![3 => prop::collection::vec(byte, 0..12), 1 => phrase];
    prop::collection::vec(word, 0..5)
}

/// Prints its arguments, each with a NUL behind it.
const ARGUMENTS: &str = "#!/bin/sh\nfor word; do printf '%s\\0' \"$word\"; done\n";

/// Those that are there.
fn shells(bench: &Bench) -> Vec<Vec<&'static str>> {
    let mut shells = vec![vec!["sh"]];
    for shell in
        [vec!["dash"], vec!["bash"], vec!["bash", "--posix"], vec!["busybox", "sh"], vec!["ksh"], vec!["zsh"]]
    {
        if bench.sh(&format!("command -v {}", shell[0])).run().status == Some(0) {
            shells.push(shell);
        }
    }
    shells
}

#[test]
fn a_programs_name_is_never_a_keyword() {
    let bench = bench();
    let names = [
        "if", "then", "fi", "for", "in", "do", "done", "case", "esac", "while", "until", "function",
        "select", "time", "coproc", "{", "}", "!", "]]", "((", "a=b", "#x", "~", "*", "-x", "end", "repeat",
    ];
    for name in names {
        script(&bench, &format!("bin/{name}"), ARGUMENTS);
        let printed = act(&bench, &["in/a.pdf", "--", name, "x"]).run().ok().out;
        for shell in shells(&bench) {
            let path =
                format!("{}:{}", bench.path("bin").display(), std::env::var("PATH").unwrap_or_default());
            let ran = bench.cmd(shell[0]).args(&shell[1..]).env("PATH", path).stdin(&printed).run().ok();
            assert_eq!(ran.out_text(), "x\0./in/a.pdf\0", "{}: {name}", shell.join(" "));
        }
    }
}

#[test]
fn sh_reads_back_exactly_the_command() {
    let bench = bench();
    script(&bench, "show", ARGUMENTS);
    let shells = shells(&bench);
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let checked = runner.run(&arguments(), |words| {
        let words: Vec<OsString> = words.into_iter().map(OsString::from_vec).collect();
        let printed = act(&bench, &["in/a.pdf", "--", "./show", "{}"]).args(&words).run().ok().out;
        // Where a placeholder came up by chance the command holds what it stands for.
        let mut wanted: Vec<Vec<u8>> = vec![b"./in/a.pdf".to_vec()];
        wanted.extend(words.iter().map(|word| replaced(word)));
        for shell in &shells {
            let ran = bench.cmd(shell[0]).args(&shell[1..]).stdin(&printed).run().ok();
            let mut seen: Vec<Vec<u8>> = ran.out.split(|b| *b == 0).map(<[u8]>::to_vec).collect();
            seen.pop();
            prop_assert_eq!(&seen, &wanted, "{}: {}", shell.join(" "), String::from_utf8_lossy(&printed));
        }
        Ok(())
    });
    if let Err(why) = checked {
        panic!("{why}");
    }
    assert!(!Path::new(&bench.path("x")).exists());
}

fn replaced(word: &OsStr) -> Vec<u8> {
    let parts: Vec<&[u8]> = split_at(word.as_bytes(), b"{}");
    parts.join(&b"./in/a.pdf"[..])
}

fn split_at<'a>(mut bytes: &'a [u8], at: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(place) = bytes.windows(at.len()).position(|window| window == at) {
        parts.push(&bytes[..place]);
        bytes = &bytes[place + at.len()..];
    }
    parts.push(bytes);
    parts
}

/// A message with this PDF, in the Maildir `Mail`.
fn letter(bench: &Bench, number: u32, from: &str, pdf: &[u8]) {
    let body = base64_simd::STANDARD.encode_to_string(pdf);
    let lines: Vec<&str> =
        body.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).expect("base64")).collect();
    let text = format!(
        "From: {from}\nSubject: number {number}\nMIME-Version: 1.0\nContent-Type: application/pdf; name=work.pdf\n\
         Content-Transfer-Encoding: base64\n\n{}\n",
        lines.join("\n")
    );
    bench.write(&format!("Mail/new/170000000{number}.V1U{number}.abc,S={}", text.len()), text);
    for name in ["cur", "tmp"] {
        std::fs::create_dir_all(bench.path("Mail").join(name)).expect("the bench's disk");
    }
}

/// Three messages from two people, two of them with the same PDF, taken apart into `out`.
fn dissected() -> Bench {
    let bench = bench();
    letter(&bench, 1, "prof@by.example", &pdf("one"));
    letter(&bench, 2, "prof@by.example", &pdf("one"));
    letter(&bench, 3, "x@evil.example", &pdf("two"));
    config(&bench, RULES);
    bench.cmd("mail-dissect").args(["-C", "out", "Mail"]).run().ok();
    bench
}

#[test]
fn pending_takes_what_is_not_settled() {
    let bench = dissected();
    let pending = ["-c", "config.toml", "--pending", "out"];
    assert_eq!(act(&bench, &pending).run().ok().lines().len(), 2);
    let ran = act(&bench, &["--run", "--json"]).args(pending).run().ok();
    assert_eq!(ran.json().len(), 2);
    assert_eq!(ran.json()[0]["file"]["message"]["subject"], "number 1");
    for mode in ["--run", "--once", "--json", "-n"] {
        assert!(act(&bench, &[mode]).args(pending).run().ok().lines().is_empty());
    }
    assert_eq!(count(&bench), 2);
    // A finished one stays finished when its file has gone, and what is done is not done again with --again.
    std::fs::remove_file(bench.path("out/work.pdf")).unwrap();
    act(&bench, &["--run", "--again"]).args(pending).run().ok();
    assert_eq!(count(&bench), 2);
    // Another command has done nothing yet. That a file was removed is its owner's decision: said, no failure, and
    // once what is done is remembered.
    let ran = act(&bench, &["--pending", "out", "--", "lp"]).run().ok().err_has("work.pdf: it was removed");
    assert_eq!(ran.lines().len(), 1);
    let gone = ["--pending", "out", "--once", "--", "lp"];
    assert_eq!(act(&bench, &gone).run().ok().err_has("work.pdf: it was removed").lines().len(), 1);
    let again = act(&bench, &gone).run().ok();
    assert!(again.out.is_empty() && again.err.is_empty(), "{}", again.shown());
    // Mail that came since is taken, even from another directory.
    letter(&bench, 4, "prof@by.example", &pdf("three"));
    bench.cmd("mail-dissect").args(["--pending", "Mail", "-C", "out"]).run().ok();
    bench
        .sh("mkdir -p far; cp counter far; cd far; mail-act -c ../config.toml --pending ../out --run")
        .run()
        .ok();
    assert_eq!(std::fs::read_to_string(bench.path("far/count")).unwrap().lines().count(), 1);
}

#[test]
fn a_path_finds_its_message_in_the_journal_beside_it() {
    let bench = dissected();
    let ran = bench
        .sh("ls -1 out/*.pdf | mail-act -c config.toml; mail-act -c config.toml --explain out/*.pdf")
        .run()
        .ok();
    let said = ran.out_text();
    assert!(said.starts_with("./counter print prof@by.example ./out/work"), "{said}");
    assert!(said.contains("it is from x@evil.example, not from *@by.example"), "{said}");
    // A file that was changed since is no longer what came from there.
    bench.write("out/work.pdf", pdf("forged"));
    assert!(act(&bench, &["-c", "config.toml", "out/work.pdf"]).run().ok().lines().is_empty());
}

#[test]
fn a_path_in_a_subdirectory_finds_its_message_in_the_journal_above() {
    let bench = dissected();
    bench.sh("mail-dissect --no-sync --by sender -C sorted Mail").run().ok();
    let ran = bench.sh("ls -1 sorted/*/*.pdf | mail-act -c config.toml --explain").run().ok();
    let said = ran.out_text();
    assert!(said.contains("it is from prof@by.example"), "{said}");
    assert!(said.contains("it is from x@evil.example, not from *@by.example"), "{said}");
    let ran = bench.sh("ls -1 sorted/*/*.pdf | mail-act -c config.toml").run().ok();
    assert!(
        ran.out_text().starts_with("./counter print prof@by.example ./sorted/prof@by"),
        "{}",
        ran.shown()
    );
    // Also from within, where the name says nothing of the directory; and not through another user's journal.
    let within = bench.sh("cd sorted/prof@by.example; mail-act -c ../../config.toml *.pdf").run().ok();
    assert!(!within.lines().is_empty(), "{}", within.shown());
    bench.sh("chmod go+w sorted/.mailloop").run().ok();
    let ran = bench.sh("mail-act -c config.toml sorted/*/*.pdf").run().ok();
    assert!(ran.lines().is_empty(), "{}", ran.shown());
}

#[test]
fn what_a_crash_left_is_finished_by_pending() {
    let bench = dissected();
    script(
        &bench,
        "wait",
        "#!/bin/sh\necho x >>count\nmv \"$1\" taken\necho started >started\nread line <go\n",
    );
    bench.sh("mkfifo started go").run().ok();
    let pending = ["--pending", "out", "--run", "--", "./wait"];
    let running = act(&bench, &pending).spawn();
    assert_eq!(bench.read("started"), b"started\n");
    running.kill();
    running.wait();
    bench.sh("echo >go").run().ok();
    // The first is unknown and its file has gone; the second lost its file to it, the third is done.
    let running = act(&bench, &["--json"]).args(pending).spawn();
    bench.sh("cat started; echo >go").run().ok();
    let ran = running.wait();
    assert_eq!(ran.status, Some(76), "{}", ran.shown());
    assert!(ran.err_text().contains("nobody knows"), "{}", ran.shown());
    assert_eq!(
        ran.json().iter().map(|a| a["state"].clone()).collect::<Vec<_>>(),
        ["unknown", "skipped", "done"]
    );
}

#[test]
fn the_manual_knows_every_flag() {
    let help = Bench::new().cmd("mail-act").arg("--help").run().ok().out_text();
    let page = include_str!("../man/mail-act.1").replace("\\-", "-");
    let options = help.split("Options:").nth(1).unwrap().split("Examples:").next().unwrap();
    let lines = options.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let flags = lines.filter_map(|line| line[line.find("--")?..].split([' ', ',', '.']).next());
    let missing: Vec<&str> = flags.filter(|flag| !page.contains(flag)).collect();
    assert!(options.matches("--").count() > 15 && missing.is_empty(), "{missing:?}");
}
