//! A running loop, stopped and failed by the disk at each of its durable steps: what it writes of itself and of its probes
//! as well as mail and actions. Threads run side by side, so a step is not the same one each time; some of them will do.

use rustix::process::Signal;

use super::{Home, until};
use crate::bench::Running;

/// How many steps are tried; MAILLOOP_STEPS_TRIED=all for all of them.
const TRIED: usize = 8;

fn home() -> Home {
    let home = Home::new("run");
    home.edit(|text| text + "\n[loop.homework.probe]\nevery = \"1h\"\nlimit = \"3s\"\n");
    home.bench.deliver_pdf("one");
    home
}

/// A loop with this in its environment.
fn run(home: &Home, name: &str, value: &str) -> Running {
    home.bench.cmd("mail-loop").arg("run").env(name, value).spawn()
}

fn memory(home: &Home) -> serde_json::Value {
    let bytes =
        std::fs::read(home.bench.path("home/.local/state/mailloop/probe-homework")).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn on_server(home: &Home) -> usize {
    ["new", "cur"].iter().map(|place| home.bench.files(&format!("server/me@by.example/{place}")).len()).sum()
}

/// The PDF was acted on, or nobody knows; the probe came, or was lost for it was never sent; nothing else is left.
fn is_over(home: &Home) -> bool {
    let history = home.bench.cmd("mail-loop").args(["history", "--json"]).run().ok().json();
    let is_settled = |entry: &serde_json::Value| {
        entry["rule"] == "print" && ["done", "unknown"].contains(&entry["state"].as_str().unwrap_or_default())
    };
    let memory = memory(home);
    let probe = memory["came"].as_u64().unwrap_or(0) + memory["lost"].as_u64().unwrap_or(0) >= 1
        || home.says("cannot send a probe");
    history.iter().any(is_settled)
        && probe
        && memory["gone"].as_array().is_none_or(Vec::is_empty)
        && on_server(home) == 1
        && !home.bench.path("home/in/mailloop-probe.pdf").exists()
        && home.bench.files("home/Mail/school/new").len() + home.bench.files("home/Mail/school/cur").len()
            == 1
}

fn check(home: &Home, moment: &str) {
    let counted = home.bench.counted();
    let history =
        home.bench.cmd("mail-loop").args(["history", "--json", "--is", "unknown"]).run().ok().json();
    assert!(counted.len() <= 1, "{moment}: acted on twice");
    assert!(counted.len() == 1 || history.len() == 1, "{moment}: lost without a word");
    let ran = home.bench.cmd("mail-loop").arg("once").run();
    assert!(matches!(ran.status, Some(0 | 76)), "{moment}: {}", ran.shown());
    assert_eq!(home.bench.counted(), counted, "{moment}, once more");
}

/// Some of the steps of an undisturbed run, from the first to the last.
fn steps() -> Vec<usize> {
    let home = home();
    let run = run(&home, "MAILLOOP_STEPS", home.bench.path("steps").to_str().unwrap());
    until("it is over", || is_over(&home));
    run.signal(Signal::TERM);
    run.wait();
    let all = String::from_utf8(home.bench.read("steps")).unwrap().lines().count();
    assert!(all > 30, "{all} steps");
    match std::env::var("MAILLOOP_STEPS_TRIED") {
        Ok(word) if word == "all" => (1..=all).collect(),
        _ => (0..TRIED).map(|n| 1 + n * (all - 1) / (TRIED - 1)).collect(),
    }
}

#[test]
fn stopped_at_its_steps_it_ends_as_undisturbed() {
    for step in steps() {
        let (home, moment) = (home(), format!("stopped before step {step}"));
        let stopped = run(&home, "MAILLOOP_STOP", &format!("{step}-"));
        // The last ones may not come again: then there is nothing to stop.
        until("it is stopped, or over", || stopped.is_over() || is_over(&home));
        stopped.kill();
        stopped.wait();
        let again = home.run();
        until(&format!("{moment}, all is well again"), || is_over(&home));
        again.signal(Signal::TERM);
        again.wait();
        check(&home, &moment);
    }
}

#[test]
fn where_the_disk_is_full_at_a_step_the_same_process_recovers() {
    for step in steps() {
        let (home, moment) = (home(), format!("disk full at step {step}"));
        let run = run(&home, "MAILLOOP_FAIL", &step.to_string());
        until(&format!("{moment}, all is well again"), || {
            // By then it listens.
            if home.bench.path("home/.local/state/mailloop/lock-loop-homework").exists() {
                run.signal(Signal::USR1);
            }
            run.is_over() || is_over(&home)
        });
        let ended = run.is_over();
        run.signal(Signal::TERM);
        let ran = run.wait();
        // At its very first steps it does not start.
        if ended {
            assert!(matches!(ran.status, Some(73 | 74)), "{moment}: {}", ran.shown());
            assert!(home.bench.counted().is_empty(), "{moment}");
            continue;
        }
        check(&home, &moment);
    }
}
