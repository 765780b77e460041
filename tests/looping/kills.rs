//! SIGKILL at random moments under traffic.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Home, until};

/// MAILLOOP_KILLS times; each PDF is acted on once, or reported as unknown: never twice, never silently not at all.
#[test]
fn killed_at_random_moments_each_is_acted_on_once_or_unknown() {
    let kills: u64 = std::env::var("MAILLOOP_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let home = Home::new("run");
    let mut names = Vec::new();
    let mut seed = u64::from(std::process::id());
    for kill in 0..kills {
        let run = home.run();
        for n in 0..4 {
            let name = format!("k{kill}n{n}");
            home.bench.deliver_pdf(&name);
            names.push(format!("{name}.pdf"));
        }
        // Any moment between the start and a second later will do: this is no wait for something.
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        std::thread::sleep(Duration::from_millis((seed >> 33) % 700));
        run.kill();
        run.wait();
    }
    let run = home.run();
    let history = || home.bench.cmd("mail-loop").args(["history", "--json"]).run().ok().json();
    let settled =
        |entry: &&serde_json::Value| ["done", "unknown"].contains(&entry["state"].as_str().unwrap());
    until("all are settled", || history().iter().filter(settled).count() >= names.len());
    run.signal(rustix::process::Signal::TERM);
    run.wait();
    let (mut unknown, counted) = (0, home.bench.counted());
    let states: BTreeMap<String, String> = history()
        .iter()
        .map(|entry| {
            let name = entry["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
            (name, entry["state"].as_str().unwrap().to_owned())
        })
        .collect();
    for name in &names {
        let times = counted.iter().filter(|one| *one == name).count();
        assert!(times <= 1, "{name} was acted on {times} times");
        match states.get(name).map(String::as_str) {
            Some("done") => assert_eq!(times, 1, "{name} is said to be done"),
            Some("unknown") => unknown += 1,
            state => panic!("{name}: {state:?}"),
        }
    }
    eprintln!("{kills} kills, {} PDFs, {unknown} unknown", names.len());
}
