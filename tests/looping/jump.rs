//! The clock jumps by hours while the loop runs: it neither falls asleep nor asks without end, and says nothing wrong.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::probe::listening;
use super::{Home, until};
use crate::bench::{Cmd, Running};

const HOURS: i64 = 6;

struct Set {
    home: Home,
    clock: PathBuf,
}

impl Set {
    /// A loop whose clock can be set.
    fn new(home: Home) -> Set {
        let (source, clock) = (
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/looping/clock.c"),
            home.bench.path("clock.so"),
        );
        home.bench.cmd("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&clock).arg(source).run().ok();
        let set = Set { home, clock };
        set.jump_to(0);
        set
    }

    fn cmd(&self, word: &str) -> Cmd {
        let offset = self.home.bench.path("offset");
        self.home.bench.cmd("mail-loop").arg(word).env("LD_PRELOAD", &self.clock).env("CLOCK_OFFSET", offset)
    }

    /// The clock is so many hours before or behind the true time.
    fn jump_to(&self, hours: i64) {
        self.home.bench.write("offset.new", (hours * 3600).to_string());
        std::fs::rename(self.home.bench.path("offset.new"), self.home.bench.path("offset")).unwrap();
    }

    fn json(&self) -> serde_json::Value {
        self.cmd("status").arg("--json").run().json().remove(0)
    }

    /// What a printer that is off keeps is tried again, and what comes is acted on, when the clock stands so.
    fn works_at(&self, run: &Running, hours: i64) {
        let (off, new) = (format!("off{hours}"), format!("new{hours}"));
        self.home.bench.write("is-off", "");
        self.home.bench.deliver_pdf(&off);
        until("it waits", || self.json()["actions"]["later"] == 1);
        self.jump_to(hours);
        std::fs::remove_file(self.home.bench.path("is-off")).unwrap();
        self.home.bench.deliver_pdf(&new);
        until("what is new is acted on", || self.home.bench.counted().contains(&format!("{new}.pdf")));
        run.signal(Signal::USR1);
        until("what waited is", || self.home.bench.counted().contains(&format!("{off}.pdf")));
        until("all is well", || self.json()["health"] == "ok");
    }
}

#[test]
fn a_clock_that_jumps_by_hours_stops_nothing() {
    let set = Set::new(Home::new("run"));
    let home = &set.home;
    let imap = home.server.imap.clone();
    let (address, told) = listening(&imap);
    let script =
        "#!/bin/sh\ncd \"$(dirname \"$0\")\"\n[ ! -e is-off ] || exit 75\nprintf '%s\\n' \"$1\" >> counted\n";
    home.bench.write("count", script);
    let alarm = home.bench.path("alarms");
    let more = format!(
        "alarm = [\"touch\", \"{}\"]\nalarm_after = \"30s\"\n[loop.homework.probe]\nevery = \"1h\"\nlimit = \"5m\"\n",
        alarm.display()
    );
    home.edit(|text| text.replace(&imap, &address).replace("every = \"5m\"", "every = \"1s\"") + &more);
    let run = set.cmd("run").spawn();
    until("a probe went round", || set.json()["probe"]["came"] == 1);
    // Ahead, back to where it was, and behind: each time a probe is due, as far as anybody can tell, and no more than one.
    for (jumps, hours) in [(1, HOURS), (2, 0), (3, -HOURS)] {
        set.works_at(&run, hours);
        let sent = || set.json()["probe"]["sent"].as_u64().unwrap();
        until("a probe is sent", || sent() > jumps);
        until("and came", || set.json()["probe"]["came"].as_u64() == Some(sent()));
        assert_eq!((sent(), set.json()["probe"]["lost"].as_u64()), (jumps + 1, Some(0)));
    }
    run.signal(Signal::TERM);
    let ran = run.wait();
    assert!(!alarm.exists(), "{}", ran.shown());
    let mut counted = home.bench.counted();
    counted.dedup();
    assert_eq!(counted.len(), 6, "{counted:?}");
    let told = String::from_utf8_lossy(&told.lock().unwrap()).to_uppercase();
    let logins = told.matches("LOGIN").count() + told.matches("AUTHENTICATE").count();
    // The loop's own, and one to remove each probe.
    assert!((1..=5).contains(&logins), "{logins} logins\n{}", ran.shown());
    assert!(!ran.err_text().contains("trying again in"), "{}", ran.shown());
}
