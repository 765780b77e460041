//! The pipelines of `tests/pipeline.rs`, through Postfix and Dovecot.

use super::Rig;
use crate::bench::Bench;
use crate::pipeline;

/// Four messages with PDFs for u1, sent by mail-inject and delivered by Postfix.
fn bench(rig: &Rig, already: usize) -> Bench {
    let bench = Bench::new();
    bench.write("password", format!("{}\n", rig.get("RIG_PASS")));
    let (smtps, imaps) = (rig.url("smtps", "SMTPS_PORT"), rig.url("imaps", "IMAPS_PORT"));
    let more = format!("user = \"u1\"\ntls_ca = \"{}\"", rig.get("RIG_CA"));
    bench.configure("u1@rig.test", &smtps, &imaps, "run", &more);
    if already == 0 {
        let mut paths = String::new();
        for (n, name) in pipeline::NAMES.iter().enumerate() {
            bench.write(&format!("out/{n}.eml"), pipeline::message(n, name, "u1@rig.test"));
            paths += &format!("out/{n}.eml\n");
        }
        bench.cmd("mail-inject").args(["-a", "school", "--batch"]).stdin(paths).run().ok();
        rig.await_mail("u1", pipeline::NAMES.len());
    }
    bench
}

#[test]
#[ignore = "needs real servers: run tests/run"]
fn pipelines_through_postfix_and_dovecot() {
    let rig = Rig::up();
    pipeline::plain(&bench(&rig, 0));
    // The mailbox stays as it is; every bench has a Maildir of its own and fetches all of it.
    pipeline::nul(&bench(&rig, 1));
    pipeline::json(&bench(&rig, 1));
    pipeline::pending(&bench(&rig, 1));
    for (dissect, act) in [(6, 0), (12, 0), (0, 7), (0, 9)] {
        pipeline::killed(&bench(&rig, 1), dissect, act);
    }
}

#[test]
#[ignore = "needs real servers: run tests/run"]
fn a_loop_sees_what_dovecot_announces() {
    let rig = Rig::up();
    let bench = bench(&rig, 0);
    let mut run = bench.cmd("mail-loop").args(["run", "--json"]).spawn();
    for _ in pipeline::NAMES {
        assert!(run.line().contains("\"state\":\"done\""));
    }
    bench.write("late.pdf", crate::bench::pdf("late"));
    bench.cmd("mail-inject").args(["-a", "school", "--to", "u1@rig.test", "--attach", "late.pdf"]).run().ok();
    assert!(run.line().contains("late.pdf"));
    bench.cmd("mail-loop").arg("status").run().ok();
    rig.server("restart", "imap");
    bench.write("later.pdf", crate::bench::pdf("later"));
    // Postfix notices only by its next login that Dovecot, which checks passwords for it, was restarted.
    let again = "until mail-inject -a school --to u1@rig.test --attach later.pdf; do test $? = 75; done";
    bench.sh(again).run().ok();
    assert!(run.line().contains("later.pdf"));
    run.signal(rustix::process::Signal::TERM);
    assert_eq!(run.wait().signal, Some(15));
    pipeline::check_counted(&bench, pipeline::NAMES.len() + 2);
}
