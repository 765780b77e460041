//! What README.md and recipes/ say is run here as it stands there, on the embedded server.
//!
//! Only names of the outside world are exchanged: the servers of the example account, `pass`, `lp`, and the two commands
//! that would build or test everything once more.

use std::path::Path;

use crate::bench::{Bench, Server, pdf};

fn text(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The shell blocks of the README, in their order.
fn blocks() -> Vec<String> {
    let readme = text("README.md");
    let blocks = readme.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// A bench in which the README's commands find what they name.
fn home() -> (Bench, Server) {
    let bench = Bench::new();
    let server = bench.sandbox();
    for (name, script) in
        [("pass", "echo secret"), ("lp", "echo \"lp $*\" >> ~/printed"), ("tests/run", "echo ran")]
    {
        let path = bench.write(&format!("bin/{name}"), format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    }
    bench.write("hw1.pdf", pdf("homework 1"));
    (bench, server)
}

/// The block with the outside world exchanged.
fn local(block: &str, bench: &Bench, server: &Server) -> String {
    let block = block
        .replace("imaps://imap.by.example", &server.imap)
        .replace("smtps://smtp.by.example", &server.smtp)
        .replace("cargo run --release -- demo", "mail-loop demo")
        .replace("tests/run", "bin/tests/run");
    format!("PATH={}:$PATH\n{block}", bench.path("bin").display())
}

#[test]
fn every_command_of_the_readme_works() {
    let (bench, server) = home();
    let blocks = blocks();
    assert!(blocks[0].contains("cargo run --release -- demo") && blocks[1].contains("tests/run"));
    bench.deliver_pdf("welcome");
    for block in &blocks {
        let ran = bench.sh(&local(block, &bench, &server)).run().ok();
        if block.contains("--explain") && block.contains("mail-loop once") {
            assert!(ran.out_text().contains("welcome.pdf"), "{}", ran.shown());
        }
    }
    assert!(!bench.path("home/printed").exists(), "nothing is run before act = \"run\"");
    assert!(bench.path("home/in/hw1.pdf").is_file(), "what was injected came back");
    assert_eq!(std::fs::read(bench.path("files/hw1.pdf")).unwrap(), pdf("homework 1"));
}

#[test]
fn the_status_table_is_the_codes() {
    let readme = text("README.md");
    let rows: Vec<(u8, &str)> = (readme.lines())
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .filter_map(|(status, means)| Some((status.parse().ok()?, means)))
        .collect();
    assert_eq!(rows, mailloop::error::STATUSES);
}

#[test]
fn the_dependencies_are_those_of_the_manifest() {
    let manifest: toml::Table = text("Cargo.toml").parse().unwrap();
    let readme = text("README.md");
    let table = readme.split("## Dependencies").nth(1).unwrap();
    for name in manifest["dependencies"].as_table().unwrap().keys() {
        let named = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        assert!(
            named.flat_map(|cell| cell.split(", ")).any(|one| one == name),
            "{name} has no reason in the README"
        );
    }
}

#[test]
fn programs_of_the_readme_are_those_that_there_are() {
    let manifest: toml::Table = text("Cargo.toml").parse().unwrap();
    let readme = text("README.md");
    for program in manifest["bin"].as_array().unwrap() {
        let name = program["name"].as_str().unwrap();
        assert!(readme.contains(&format!("| `{name}` |")), "{name}");
        let help = Bench::new().cmd(name).arg("--help").run().ok().out_text();
        assert!(help.contains("Examples:"), "{name} --help teaches by example");
    }
}

#[test]
fn the_crontab_runs() {
    let (bench, server) = home();
    bench.configure("me@by.example", &server.smtp, &server.imap, "run", "");
    let crontab = text("recipes/crontab");
    let commands = crontab.lines().filter(|line| line.starts_with('*'));
    for (number, line) in commands.enumerate() {
        let command: Vec<&str> = line.splitn(6, ' ').collect();
        bench.deliver_pdf(&format!("cron{number}"));
        bench.sh(command[5]).run().ok();
    }
    // The first two lines are two ways of the same, the third sends what is queued.
    assert_eq!(bench.counted(), ["cron0.pdf", "cron1.pdf"]);
}

#[test]
fn the_units_start_what_there_is() {
    let (bench, server) = home();
    bench.configure("me@by.example", &server.smtp, &server.imap, "run", "");
    bench.deliver_pdf("unit");
    for unit in ["mailloop.service", "mailloop-once.service"] {
        let text = text(&format!("recipes/{unit}"));
        let start = text.lines().find_map(|line| line.strip_prefix("ExecStart=%h/.cargo/bin/")).unwrap();
        let words: Vec<&str> = start.split(' ').collect();
        if words == ["mail-loop", "run"] {
            let run = bench.cmd("mail-loop").arg("run").spawn();
            bench.sh("until [ -s counted ]; do :; done").run().ok();
            run.signal(rustix::process::Signal::TERM);
            assert_eq!(run.wait().signal, Some(15));
        } else {
            bench.cmd(words[0]).args(&words[1..]).run().ok();
        }
    }
    assert_eq!(bench.counted(), ["unit.pdf"]);
    assert!(text("recipes/mailloop-once.timer").contains("[Timer]"));
    if bench.cmd("sh").args(["-c", "command -v systemd-analyze"]).run().status == Some(0) {
        let units =
            ["mailloop.service", "mailloop-once.service", "mailloop-once.timer", "mailloop-system.service"];
        for unit in units {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(unit);
            let whose = if unit == "mailloop-system.service" { "--system" } else { "--user" };
            let ran = bench.cmd("systemd-analyze").args(["verify", "--man=no", whose]).arg(&path);
            // The user's manager is asked for nothing, but wants to know where it would be.
            let ran = ran.env("XDG_RUNTIME_DIR", bench.path("tmp")).run();
            // That the program is not installed there is no fault of the unit.
            let wrong = ran.err_text();
            for fault in ["Unknown", "Failed to parse", "Failed to init", "nvalid", "gnoring"] {
                assert!(!wrong.contains(fault), "{wrong}");
            }
        }
    } else {
        eprintln!("systemd-analyze is not installed: the units' syntax was not checked");
    }
}

#[test]
fn the_shell_recipes_run() {
    let (bench, server) = home();
    bench.configure("me@by.example", &server.smtp, &server.imap, "run", "");
    let recipe =
        |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(name).display().to_string();
    bench.write("outbox/a b.pdf", pdf("a"));
    bench.write("outbox/-c.pdf", pdf("c"));
    let send = format!("{} outbox school me@by.example", recipe("send-folder.sh"));
    bench.sh(&send).run().ok();
    bench.sh(&send).run().ok();
    assert_eq!(bench.files("outbox/sent").len(), 2);
    let print = format!("{} school", recipe("print-homework.sh"));
    let shown = bench.sh(&print).run().ok();
    assert_eq!(shown.lines().len(), 2, "{}", shown.shown());
    assert!(bench.counted().is_empty());
    bench.sh(&format!("RUN=1 {print}")).run().ok();
    bench.sh(&format!("RUN=1 {print}")).run().ok();
    assert_eq!(bench.counted().len(), 2);
}
