//! A mail to itself through the whole loop.

use rustix::process::Signal;

use super::{Home, until};

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
