//! mail-loop on a disk that is full for a while. Needs no server but the sandbox, and root to have such a disk.

use std::collections::BTreeSet;

use rustix::process::Signal;

use super::product::SmallDisk;
use crate::bench::Bench;
use crate::looping::until;

const MESSAGES: usize = 150;

#[test]
#[ignore = "needs root: run tests/run"]
fn a_loop_waits_for_room_and_goes_on() {
    let bench = Bench::new();
    let disk = SmallDisk::at(&bench, "home", "1m");
    let server = bench.sandbox();
    let config = bench.configure("me@by.example", &server.smtp, &server.imap, "run", "");
    let script = "#!/bin/sh\necho \"$MAILLOOP_BEFORE $MAILLOOP_STATE\" >> \"$(dirname \"$0\")/alarms\"\n";
    let alarm = bench.write("alarm", script);
    std::fs::set_permissions(&alarm, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}alarm = [\"{}\"]\nalarm_after = \"1s\"\n", alarm.display()))
        .unwrap();
    let status = || bench.cmd("mail-loop").arg("status").run();
    let alarms = || std::fs::read_to_string(bench.path("alarms")).unwrap_or_default();
    let run = bench.cmd("mail-loop").arg("run").timeout(300).spawn();
    until("it lives", || status().status == Some(0));
    (0..MESSAGES).for_each(|n| bench.deliver_pdf(&format!("n{n}")));
    until("somebody is told", || alarms() == "ok degraded\n");
    let stands = status();
    assert!(stands.status == Some(1) && stands.out_text().contains("No space left"), "{}", stands.shown());
    let before = bench.counted();
    assert!(before.len() < MESSAGES, "the disk was large enough");
    disk.grow("50m");
    until("everything is acted on", || {
        run.signal(Signal::USR1);
        bench.counted().len() >= MESSAGES
    });
    until("all is well", || status().status == Some(0));
    until("that is told too", || alarms() == "ok degraded\ndegraded ok\n");
    run.signal(Signal::TERM);
    let ran = run.wait();
    let counted = bench.counted();
    let names: BTreeSet<&String> = counted.iter().collect();
    assert_eq!((counted.len(), names.len()), (MESSAGES, MESSAGES), "each once\n{}", ran.shown());
    let history = bench.cmd("mail-loop").args(["history", "--json", "--is", "done"]).run().ok().json();
    assert_eq!(history.len(), MESSAGES);
}

#[test]
#[ignore = "needs root: run tests/run"]
fn a_state_directory_without_room_hides_no_trouble() {
    let bench = Bench::new();
    let _disk = SmallDisk::at(&bench, "home/.local/state", "256k");
    let server = bench.sandbox();
    bench.configure("me@by.example", &server.smtp, &server.imap, "print", "");
    let status = || bench.cmd("mail-loop").arg("status").run();
    let run = bench.cmd("mail-loop").arg("run").spawn();
    until("it lives", || status().status == Some(0));
    let filled = bench.sh("cat /dev/zero > ~/.local/state/filler").run();
    assert!(filled.err_text().contains("No space left"), "{}", filled.shown());
    server.kill();
    until("that the server has gone is told", || {
        let stands = status();
        stands.status == Some(1) && stands.out_text().contains("school at imap://")
    });
    run.signal(Signal::TERM);
    run.wait();
}
