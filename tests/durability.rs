//! The whole way, stopped before and after every durable step of each program: inject → queue → fetch → dissect → act.
//!
//! After a stop the program is run again, then everything after it; in the end each PDF was acted on once, or somebody
//! is told that nobody knows. Then all of it runs once more, and nothing happens.

use crate::bench::{Bench, Cmd, Ran, pdf};

/// The programs in their order, as a user or a cron job calls them.
const STAGES: [&[&str]; 5] = [
    &[
        "mail-inject",
        "--queue",
        "-a",
        "school",
        "--to",
        "me@by.example",
        "-s",
        "homework",
        "--attach",
        "hw1.pdf",
    ],
    &["mail-queue", "run"],
    &["mail-fetch", "school"],
    &["mail-dissect", "--pending", "home/Mail/school", "-C", "home/in"],
    &["mail-act", "--pending", "home/in", "--run"],
];

struct Way {
    bench: Bench,
    _server: crate::bench::Server,
}

impl Way {
    fn new() -> Way {
        let bench = Bench::new();
        let server = bench.sandbox();
        bench.configure("me@by.example", &server.smtp, &server.imap, "run", "");
        bench.write("hw1.pdf", pdf("homework"));
        Way { bench, _server: server }
    }

    fn stage(&self, stage: usize) -> Cmd {
        let (program, words) = STAGES[stage].split_first().unwrap();
        self.bench.cmd(program).args(words)
    }

    /// A caller who was told nothing of a message calls again, unless the queue has it.
    fn again(&self, stage: usize) -> Option<Ran> {
        let queued = self.bench.cmd("mail-queue").args(["list", "--json"]).run().ok().json();
        (stage > 0 || queued.is_empty()).then(|| self.stage(stage).run())
    }

    /// True if the queue lists the message as unknown: then it may have been sent, and is not sent again.
    fn queue_is_unknown(&self) -> bool {
        let queued = self.bench.cmd("mail-queue").args(["list", "--json"]).run().ok().json();
        queued.iter().any(|one| one["recipients"][0]["state"] == "unknown")
    }

    fn action_is_unknown(&self) -> bool {
        let history = self.bench.cmd("mail-loop").args(["history", "--json"]).run().ok().json();
        history.iter().any(|entry| entry["state"] == "unknown")
    }

    fn steps(stage: usize) -> usize {
        let way = Way::new();
        for before in 0..stage {
            way.stage(before).run().ok();
        }
        way.stage(stage).env("MAILLOOP_STEPS", way.bench.path("steps")).run().ok();
        String::from_utf8(way.bench.read("steps")).unwrap().lines().count()
    }
}

fn stopped_everywhere(stage: usize) {
    let steps = Way::steps(stage);
    assert!(steps >= 4, "{steps} steps in {:?}", STAGES[stage]);
    for step in 1..=steps {
        for side in ["-", "+"] {
            let moment = format!("{} at step {step}{side} of {steps}", STAGES[stage][0]);
            let way = Way::new();
            for before in 0..stage {
                way.stage(before).run().ok();
            }
            let stopped = way.stage(stage).env("MAILLOOP_STOP", format!("{step}{side}")).run();
            assert_eq!(stopped.signal, Some(9), "{moment}: {}", stopped.shown());
            for rest in stage..STAGES.len() {
                if let Some(ran) = way.again(rest) {
                    assert!(matches!(ran.status, Some(0 | 76)), "{moment}: {}", ran.shown());
                }
            }
            let (counted, unsent, undone) =
                (way.bench.counted(), way.queue_is_unknown(), way.action_is_unknown());
            assert!(counted.len() <= 1, "{moment}: acted on twice");
            assert!(counted.len() == 1 || unsent || undone, "{moment}: lost without a word");
            for rest in 1..STAGES.len() {
                let ran = way.stage(rest).run();
                assert!(ran.lines().is_empty(), "{moment}, once more: {}", ran.shown());
            }
            assert_eq!(way.bench.counted(), counted, "{moment}, once more");
        }
    }
}

#[test]
fn inject_stopped_at_every_step() {
    stopped_everywhere(0);
}

#[test]
fn queue_stopped_at_every_step() {
    stopped_everywhere(1);
}

#[test]
fn fetch_stopped_at_every_step() {
    stopped_everywhere(2);
}

#[test]
fn dissect_stopped_at_every_step() {
    stopped_everywhere(3);
}

#[test]
fn act_stopped_at_every_step() {
    stopped_everywhere(4);
}
