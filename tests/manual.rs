//! The manual pages are held to the programs: each names every command, option and key that there is, and their
//! examples are read as configurations. (Options of inject, queue and dissect are held to theirs beside their tests.)

use std::collections::BTreeSet;
use std::path::Path;

use mailloop::config::Config;

use crate::bench::Bench;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("man").join(name);
    std::fs::read_to_string(path).unwrap().replace("\\-", "-").replace("\\(dq", "\"")
}

/// The words that a page shows in bold.
fn bold(page: &str) -> BTreeSet<String> {
    let lines = page.lines().filter(|line| line.starts_with(".B"));
    let words = lines.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c)));
    words.map(str::to_owned).collect()
}

/// The long options in a help text.
fn options(help: &str) -> BTreeSet<String> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let named =
        lines.filter_map(|line| line.split([' ', ',', '=', '.', '[']).find(|word| word.starts_with("--")));
    named.filter(|word| !["--quiet", "--verbose"].contains(word)).map(str::to_owned).collect()
}

fn assert_named(page: &str, program: &str, words: &[&str]) {
    let help = Bench::new().cmd(program).args(words).arg("--help").run().ok().out_text();
    let (found, known) = (options(&help), bold(page));
    assert!(found.contains("--help"), "{help}");
    for option in found {
        assert!(known.contains(&option), "{program} {words:?}: {option} is not in the manual page");
    }
}

#[test]
fn mail_loop_1_names_every_command_and_option() {
    let page = page("mail-loop.1");
    let help = Bench::new().cmd("mail-loop").arg("--help").run().ok().out_text();
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let commands: Vec<&str> = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|word| !word.is_empty() && *word != "help")
        .collect();
    assert!(commands.len() >= 9, "{commands:?}");
    assert_named(&page, "mail-loop", &[]);
    for command in commands {
        assert!(bold(&page).contains(command), "{command} is not in the manual page");
        assert_named(&page, "mail-loop", &[command]);
    }
    for state in mailloop::store::ledger::State::ALL {
        assert!(page.contains(&format!(".B {}\n", state.word())), "the state {}", state.word());
    }
}

#[test]
fn mail_sandbox_1_names_every_option() {
    assert_named(&page("mail-sandbox.1"), "mail-sandbox", &[]);
}

#[test]
fn mail_fetch_1_names_every_option() {
    let page = page("mail-fetch.1");
    assert_named(&page, "mail-fetch", &[]);
    for short in ["-a", "-C", "-n", "-j", "-0", "-c", "-q", "-v"] {
        assert!(bold(&page).contains(short), "{short} is not in the manual page");
    }
}

/// The keys that the parser offers in the place of one that nobody knows, after `before`.
fn keys(before: &str) -> Vec<String> {
    let text = format!("{before}nobody-knows-this = 1\n");
    offered(&Config::parse(&text, Path::new("x"), None).unwrap_err().to_string())
}

fn offered(error: &str) -> Vec<String> {
    let Some((_, list)) = error.split_once("unknown field `nobody-knows-this`, expected ") else {
        return Vec::new();
    };
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn mailloop_5_names_every_key_of_the_file() {
    let known = bold(&page("mailloop.5"));
    let mut seen = 0;
    let first = keys("");
    assert!(first.contains(&"account".to_string()) && first.contains(&"loop".to_string()), "{first:?}");
    let tables =
        first.iter().flat_map(|key| [format!("[{key}]\n"), format!("[{key}.x]\n"), format!("[[{key}]]\n")]);
    for head in std::iter::once(String::new()).chain(tables) {
        for key in keys(&head) {
            assert!(known.contains(&key), "{head:?} knows {key}, the manual does not");
            seen += 1;
            // A key that is a table has keys of its own.
            let text = format!("{head}{key} = {{ nobody-knows-this = 1 }}\n");
            let inner = Config::parse(&text, Path::new("x"), None).err().map(|error| error.to_string());
            for inner in offered(&inner.unwrap_or_default()) {
                assert!(known.contains(&inner), "{key} in {head:?} knows {inner}, the manual does not");
            }
        }
    }
    assert!(seen > 55, "only {seen} keys were found");
}

#[test]
fn the_example_of_mailloop_5_is_a_configuration() {
    let page = page("mailloop.5");
    let example = page.split(".SH EXAMPLE").nth(1).unwrap();
    let example = example.split(".nf\n").nth(1).unwrap().split(".fi").next().unwrap();
    let bench = Bench::new();
    bench.write("config.toml", example);
    let said = bench.cmd("mail-act").args(["-c", "config.toml", "--check"]).run().ok().lines();
    assert_eq!(said.len(), 3, "{said:?}");
}

#[test]
fn the_pages_are_well_formed() {
    let bench = Bench::new();
    if bench.sh("command -v mandoc").run().status != Some(0) {
        eprintln!("mandoc is not installed: the manual pages were not checked");
        return;
    }
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("man")).unwrap() {
        let path = entry.unwrap().path();
        let said = bench.cmd("mandoc").args(["-Tlint", "-Wwarning"]).arg(&path).run().out_text();
        let said: Vec<&str> = said.lines().filter(|line| !line.contains("missing date")).collect();
        assert!(said.is_empty(), "{said:?}");
    }
}
