//! A mail to itself through the whole loop.

use rustix::process::Signal;

use super::{Home, until};
use crate::bench::{base64_lines, pdf};

const PROBE: &str = "\n[loop.homework.probe]\nevery = \"1h\"\nlimit = \"200ms\"\n";

#[test]
fn a_probe_goes_round_and_leaves_nothing() {
    let home = Home::new("run");
    home.edit(|text| text + &PROBE.replace("200ms", "5m"));
    let run = home.run();
    until("it came back", || home.json()[0]["probe"]["came"] == 1);
    let probe = &home.json()[0]["probe"];
    assert!(probe["p50"].as_u64() == probe["p99"].as_u64() && probe["p99"].is_u64(), "{probe}");
    // Somebody who asks for the same cannot have it: an older probe's name and header are no probe.
    run.signal(Signal::USR1);
    until("it is gone here", || {
        home.bench.files("home/Mail/school/new").is_empty() && home.bench.files("home/in").len() <= 2
    });
    until("and on the server", || {
        ["new", "cur"]
            .iter()
            .all(|place| home.bench.files(&format!("server/me@by.example/{place}")).is_empty())
    });
    assert!(!home.bench.path("home/in/mailloop-probe.pdf").exists());
    home.bench.deliver_pdf("one");
    until("the loop works as ever", || home.bench.counted() == ["one.pdf"]);
    assert_eq!(home.status(), 0);
    run.signal(Signal::TERM);
    let ran = run.wait();
    assert!(ran.err.is_empty(), "{}", ran.shown());
    home.bench.cmd("mail-loop").arg("once").run().ok();
    assert_eq!(home.bench.counted(), ["one.pdf"]);
}

#[test]
fn a_lost_probe_is_told() {
    let home = Home::new("print");
    // What is sent there never comes back.
    let other = home.bench.sandbox_in("elsewhere", &["me@by.example:secret"]);
    let smtp = home.server.smtp.clone();
    home.edit(|text| text.replace(&smtp, &other.smtp) + PROBE);
    let run = home.run();
    until("it is lost", || home.json()[0]["probe"]["lost"] == 1);
    until("and told", || home.status() == 1 && home.says("a probe has not come back"));
    run.signal(Signal::TERM);
    run.wait();
}

#[test]
fn what_looks_like_a_probe_is_none() {
    let home = Home::new("run");
    home.edit(|text| text + &PROBE.replace("200ms", "5m"));
    let run = home.run();
    until("it came back", || home.json()[0]["probe"]["came"] == 1);
    home.bench.deliver_pdf("mailloop-probe");
    until("it is acted on as any file", || home.bench.counted() == ["mailloop-probe.pdf"]);
    assert!(home.bench.path("home/in/mailloop-probe.pdf").exists());
    assert_eq!(home.json()[0]["probe"]["came"], 1);
    run.signal(Signal::TERM);
    run.wait();
}

#[test]
fn a_probe_that_cannot_be_sent_waits_for_its_time() {
    let home = Home::new("run");
    home.edit(|text| text + &PROBE.replace("200ms", "5m"));
    let run = home.bench.cmd("mail-loop").arg("run").env("TMPDIR", home.bench.path("nowhere")).spawn();
    until("it is told", || home.says("cannot send a probe"));
    for name in ["one", "two", "three"] {
        home.bench.deliver_pdf(name);
        until("the loop works", || home.bench.counted().contains(&format!("{name}.pdf")));
    }
    run.signal(Signal::TERM);
    let ran = run.wait();
    assert_eq!(ran.err_text().matches("cannot send a probe").count(), 1, "{}", ran.shown());
}

/// A letter of a stranger with these lines in its header, and a PDF.
fn forge(home: &Home, name: &str, head: &str) {
    let text = format!(
        "{head}From: stranger@elsewhere.example\r\nTo: me@by.example\r\nSubject: {name}\r\nContent-Type: application/pdf; \
         name=\"{name}.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
        base64_lines(&pdf(name))
    );
    let aside = home.bench.write(&format!("server/me@by.example/tmp/{name}"), text);
    std::fs::create_dir_all(home.bench.path("server/me@by.example/new")).unwrap();
    std::fs::rename(aside, home.bench.path(&format!("server/me@by.example/new/{name}"))).unwrap();
}

#[test]
fn a_strangers_probe_is_none_and_that_it_causes_nothing_is_no_secret() {
    let home = Home::new("run");
    let other = home.bench.sandbox_in("elsewhere", &["me@by.example:secret"]);
    let smtp = home.server.smtp.clone();
    home.edit(|text| text.replace(&smtp, &other.smtp) + PROBE);
    let run = home.run();
    until("the true one is lost", || home.json()[0]["probe"]["lost"] == 1);
    let memory: serde_json::Value =
        serde_json::from_slice(&home.bench.read("home/.local/state/mailloop/probe-homework")).unwrap();
    let (sha256, out) = memory["out"].as_object().unwrap().iter().next().unwrap();
    // Even one who knows the token has not the file.
    forge(&home, "token", &format!("Mailloop-Probe: {}\r\n", out["token"].as_str().unwrap()));
    forge(&home, "mailloop-probe", &format!("Mailloop-Probe: {sha256}\r\nMailloop-Probe: x\r\n"));
    forge(&home, "plain", "");
    let skipped = || {
        let ran = home.bench.cmd("mail-loop").args(["history", "--json", "--is", "skipped"]).run().ok();
        ran.json()
    };
    until("all are told", || skipped().len() == 2 && home.bench.counted() == ["plain.pdf"]);
    for one in skipped() {
        let why = one["why"].as_str().unwrap();
        assert!(why.contains("one of ours, come back (mailloop-probe)"), "{one}");
    }
    let probe = &home.json()[0]["probe"];
    assert_eq!((&probe["came"], &probe["lost"]), (&0.into(), &1.into()), "{probe}");
    assert!(home.says("a probe has not come back"));
    assert!(home.bench.path("home/in/token.pdf").exists());
    run.signal(Signal::TERM);
    let said = run.wait();
    assert_eq!(said.err_text().matches("one of ours").count(), 2, "{}", said.shown());
    // Once: neither the next look nor another process tells it again.
    let again = home.bench.cmd("mail-loop").arg("once").run().ok();
    assert!(again.err.is_empty(), "{}", again.shown());
    assert_eq!((skipped().len(), home.bench.counted().len()), (2, 1));
}
