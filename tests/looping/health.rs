//! Who is told how the loop is: the service manager, the alarm, whoever asks for the status.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::process::Signal;

use super::{Home, until};
use crate::liar::{Liar, Lie};

fn hears(socket: &UnixDatagram, words: &str) {
    let mut buffer = [0; 4096];
    loop {
        let read = socket.recv(&mut buffer).unwrap_or_else(|why| panic!("{words} was not heard: {why}"));
        if String::from_utf8_lossy(&buffer[..read]).contains(words) {
            return;
        }
    }
}

fn told(name: &str, socket: UnixDatagram) {
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let home = Home::new("print");
    let cmd = home.bench.cmd("mail-loop").arg("run").env("NOTIFY_SOCKET", name);
    let run = cmd.env("WATCHDOG_USEC", "300000").spawn();
    hears(&socket, "READY=1");
    hears(&socket, "STATUS=homework: ok");
    hears(&socket, "WATCHDOG=1");
    run.signal(Signal::HUP);
    hears(&socket, "RELOADING=1\nMONOTONIC_USEC=");
    hears(&socket, "READY=1");
    run.signal(Signal::TERM);
    hears(&socket, "STOPPING=1");
    assert_eq!(run.wait().signal, Some(15));
}

#[test]
fn the_service_manager_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    told(&path.display().to_string(), UnixDatagram::bind(&path).unwrap());
    let name = format!("mailloop-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    told(&format!("@{name}"), UnixDatagram::bind_addr(&address).unwrap());
}

#[test]
fn the_alarm_is_told_each_change_once() {
    let home = Home::new("print");
    let script = "#!/bin/sh\necho \"$1 $MAILLOOP_BEFORE $MAILLOOP_STATE\" >> \"$(dirname \"$0\")/alarms\"\n";
    let alarm = home.bench.write("alarm", script);
    std::fs::set_permissions(&alarm, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let more = format!("alarm = [\"{}\", \"{{loop}}\"]\nalarm_after = \"0s\"\n", alarm.display());
    home.edit(|text| text + &more);
    let alarms = || std::fs::read_to_string(home.bench.path("alarms")).unwrap_or_default();
    let run = home.run();
    until("it lives", || home.status() == 0);
    let port = |url: &str| url.rsplit(':').next().unwrap().to_owned();
    let (imap, smtp) = (port(&home.server.imap), port(&home.server.smtp));
    home.server.kill();
    until("trouble is told", || alarms() == "homework ok degraded\n");
    let words =
        ["-C", "server", "--user", "me@by.example:secret", "--imap-port", &imap, "--smtp-port", &smtp];
    let again = home.bench.cmd("mail-sandbox").args(words).spawn();
    run.signal(Signal::USR1);
    until("that it is over too", || alarms() == "homework ok degraded\nhomework degraded ok\n");
    // An alarm that fails is trouble of its own.
    home.bench.write("alarm", "#!/bin/sh\nexit 3\n");
    again.kill();
    until("that is said", || home.says("alarm") && home.says("status 3"));
    run.signal(Signal::TERM);
    assert_eq!(run.wait().signal, Some(15));
}

#[test]
fn what_the_server_never_gives_is_told_until_somebody_knows_of_it() {
    let home = Home::new("print");
    let liar = Liar::start(Lie::Withheld);
    let imap = home.server.imap.clone();
    home.edit(|text| text.replace(&imap, &format!("imap://127.0.0.1:{}", liar.port)));
    home.bench.cmd("mail-loop").arg("once").run().fails(76).err_has("UID 2");
    assert_eq!(home.status(), 1);
    assert!(home.says("does not give 1 messages, first UID 2 of INBOX"));
    home.bench.cmd("mail-loop").args(["acknowledge", "nobody"]).run().fails(64);
    home.bench.cmd("mail-loop").arg("acknowledge").run().ok().err_has("UID 2");
    assert_eq!(home.status(), 0);
    assert!(home.says("known of: 1 messages"));
    // The same once more is no news; a status that says so stays.
    home.bench.cmd("mail-loop").arg("once").run();
    assert_eq!(home.status(), 0);
    assert_eq!(home.json()[0]["withheld"][0]["uid"], 2);
    liar.tell_the_truth();
    home.bench.cmd("mail-loop").arg("once").run().ok();
    assert!(!home.says("known of"));
}

#[test]
fn a_ledger_that_cannot_be_read_is_a_state_not_the_end_of_status() {
    let home = Home::new("print");
    home.bench.deliver_pdf("one");
    home.bench.cmd("mail-loop").arg("once").run().ok();
    assert_eq!(home.status(), 0);
    home.bench.write("home/.local/state/mailloop/act/ledger", "");
    assert_eq!(home.status(), 1);
    assert!(home.says("homework") && home.says("nobody can tell"));
    let json = home.json();
    assert!(json.last().unwrap()["why"].as_str().unwrap().contains("cannot use the ledger"), "{json:?}");
    // And nothing is done, whatever comes.
    home.bench.deliver_pdf("two");
    let ran = home.bench.cmd("mail-loop").arg("once").run().fails(74);
    assert!(ran.out.is_empty(), "{}", ran.shown());
}
