//! mail-act's rules through the binary: what they ask, what they do, brakes, tries; and what a hand says of claims.

use serde_json::{Value, json};

use crate::bench::{Bench, Cmd, Ran, base64_lines, pdf};

const COUNT: &str = "#!/bin/sh\nprintf '%s\\n' \"$*\" >>count\n";

struct Desk(Bench);

impl Desk {
    /// A desk with rules and no mail.
    fn new(rules: &str) -> Desk {
        let desk = Desk(Bench::new());
        desk.script("counter", COUNT);
        desk.rules(rules);
        for name in ["new", "cur", "tmp"] {
            std::fs::create_dir_all(desk.0.path("Mail").join(name)).unwrap();
        }
        desk
    }

    fn rules(&self, rules: &str) {
        self.0.write("config.toml", format!("[account.school]\nmaildir = 'Mail'\n{rules}"));
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.0.write(name, text);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(path, mode).unwrap();
    }

    /// Mail with a PDF of that name and content, in a mailbox; taken apart into `out`.
    fn mail_in(&self, directory: &str, head: &str, name: &str, content: &str) {
        let text = format!(
            "{head}\nMIME-Version: 1.0\nContent-Type: application/pdf; name={name}\n\
             Content-Transfer-Encoding: base64\n\n{}\n",
            base64_lines(&pdf(content))
        );
        let number = self.0.files(&format!("Mail/{directory}new")).len();
        self.0
            .write(&format!("Mail/{directory}new/170000000{number}.V1U{number}.abc,S={}", text.len()), text);
        for name in ["cur", "tmp"] {
            std::fs::create_dir_all(self.0.path(&format!("Mail/{directory}{name}"))).unwrap();
        }
        let maildir = format!("Mail/{}", directory.trim_end_matches('/'));
        self.0.cmd("mail-dissect").args(["--pending", maildir.trim_end_matches('/'), "-C", "out"]).run().ok();
    }

    fn mail(&self, head: &str, name: &str) {
        self.mail_in("", head, name, name);
    }

    fn pending(&self, words: &[&str]) -> Cmd {
        self.0.cmd("mail-act").args(["-c", "config.toml", "--pending", "out"]).args(words)
    }

    /// The rules' names of the commands that would be run.
    fn matching(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .pending(&["--json"])
            .run()
            .ok()
            .json()
            .iter()
            .map(|action| {
                let name = action["file"]["path"].as_str().unwrap().rsplit('/').next().unwrap().to_string();
                format!("{} {name}", action["rule"].as_str().unwrap())
            })
            .collect();
        names.sort();
        names
    }

    fn run(&self, status: i32) -> Ran {
        self.pending(&["--run", "--json"]).run().fails(status)
    }

    fn states(&self, status: i32) -> Vec<String> {
        self.run(status).json().iter().map(|action| action["state"].as_str().unwrap().to_string()).collect()
    }

    fn counted(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.0.path("count")).unwrap_or_default();
        text.lines().map(String::from).collect()
    }

    /// How many PDFs lie in `out`.
    fn pdfs(&self) -> usize {
        self.0.files("out").iter().filter(|path| path.extension().is_some_and(|end| end == "pdf")).count()
    }

    fn claims(&self, words: &[&str]) -> Cmd {
        self.0.cmd("mail-loop").args(["-c", "config.toml"]).args(words)
    }

    fn history(&self, words: &[&str]) -> Vec<Value> {
        self.claims(&["history", "--json"]).args(words).run().ok().json()
    }
}

#[test]
fn rules_ask_for_places_people_names_sizes_and_ages() {
    let desk = Desk::new("");
    desk.mail("From: prof@by.example\nTo: me@by.example\nCc: all@by.example\nSubject: Homework 3", "hw3.pdf");
    desk.mail_in(
        ".Work.Plans/",
        "From: boss@by.example\nTo: me@by.example\nSubject: plan",
        "plan.pdf",
        "plan",
    );
    for (conditions, wanted) in [
        ("", vec!["r hw3.pdf", "r plan.pdf"]),
        ("file = 'HW*.pdf'", vec!["r hw3.pdf"]),
        ("account = 'school'\nmailbox = 'INBOX'", vec!["r hw3.pdf"]),
        ("mailbox = 'Work/*'", vec!["r plan.pdf"]),
        ("account = 'work'", vec![]),
        ("to = ['all@*', 'nobody@x']", vec!["r hw3.pdf"]),
        ("subject = 'homework *'", vec!["r hw3.pdf"]),
        ("not = { subject = 'homework *' }", vec!["r plan.pdf"]),
        ("not = { from = 'boss@by.example', file = 'hw*' }", vec!["r hw3.pdf", "r plan.pdf"]),
        ("larger_than = '1M'", vec![]),
        ("smaller_than = '1M'", vec!["r hw3.pdf", "r plan.pdf"]),
        ("older_than = '2d'", vec!["r hw3.pdf", "r plan.pdf"]),
        ("newer_than = '2d'", vec![]),
    ] {
        desk.rules(&format!("[[rule]]\nname = 'r'\nrun = ['lp']\n{conditions}\n"));
        assert_eq!(desk.matching(), wanted, "{conditions}");
    }
    let said = desk.pending(&["--explain"]).run().ok().out_text();
    assert!(said.contains("./out/hw3.pdf: rule r does not match: its age is"), "{said}");
}

#[test]
fn what_a_record_says_of_places_proves_nothing() {
    let desk = Desk::new("[[rule]]\nname = 'r'\nrun = ['lp']\nmailbox = 'Work'\n");
    desk.mail("From: a@b", "a.pdf");
    let mut record =
        desk.0.cmd("mail-dissect").args(["--json", "-C", "elsewhere", "Mail"]).run().ok().json().remove(0);
    record["message"]["mailbox"] = json!("Work");
    record["message"]["account"] = json!("school");
    let act = desk.0.cmd("mail-act").args(["-c", "config.toml", "--json"]).stdin(record.to_string());
    assert!(act.run().ok().lines().is_empty());
}

#[test]
fn machines_bounces_and_our_own_mail_never_cause_an_action() {
    let desk = Desk::new(
        "[[rule]]\nname = 'r'\nrun = ['./counter', '{name}']\n[[rule]]\nname = 'l'\nlist_id = '*'\nrun = ['./counter', 'list', '{name}']\n",
    );
    for (number, head) in [
        "Auto-Submitted: auto-replied",
        "Return-Path: <>",
        "Mailloop-Probe: 7",
        "X-Other: y\nAUTO-SUBMITTED: auto-generated",
    ]
    .iter()
    .enumerate()
    {
        desk.mail(&format!("{head}\nFrom: a@b"), &format!("machine{number}.pdf"));
    }
    desk.mail("List-Id: <l.b>\nFrom: a@b", "list.pdf");
    desk.mail("Auto-Submitted: no\nReturn-Path: <a@b>\nFrom: a@b", "person.pdf");
    let said = desk.pending(&["--explain"]).run().ok().out_text();
    assert!(
        said.contains("machine1.pdf: no action: its message is a bounce (its return path is empty)"),
        "{said}"
    );
    assert!(said.contains("list.pdf: rule r does not match: it came through the mailing list l.b"), "{said}");
    desk.run(0);
    desk.run(0);
    let mut counted = desk.counted();
    counted.sort();
    assert_eq!(counted, ["list list.pdf", "person.pdf"]);
    // A command from the command line is held back too, and that is said; one that is only shown is not.
    let words = ["out/machine0.pdf", "--", "./counter"];
    desk.0
        .cmd("mail-act")
        .arg("--run")
        .args(words)
        .run()
        .ok()
        .err_has("no action: its message was sent by a machine");
    assert_eq!(desk.counted().len(), 2);
    assert_eq!(desk.0.cmd("mail-act").args(words).run().ok().lines(), ["./counter ./out/machine0.pdf"]);
}

#[test]
fn continue_does_one_thing_and_the_next() {
    let desk = Desk::new(
        "[[rule]]\nname = 'keep'\ncontinue = true\ncopy = 'kept'\n[[rule]]\nname = 'count'\nrun = ['./counter', '{name}']\n\
         [[rule]]\nname = 'never'\nrun = ['false']\n",
    );
    desk.mail("From: a@b", "a.pdf");
    assert_eq!(desk.matching(), ["count a.pdf", "keep a.pdf"]);
    assert_eq!(desk.states(0), ["done", "done"]);
    assert!(desk.run(0).lines().is_empty());
    assert_eq!((desk.0.read("kept/a.pdf"), desk.counted().len()), (pdf("a.pdf"), 1));
    // The file may go once everything is settled.
    std::fs::remove_file(desk.0.path("out/a.pdf")).unwrap();
    assert!(desk.run(0).err.is_empty());
    // A rule that continues is not forgotten because the one after it was quicker.
    desk.mail("From: a@b\nSubject: second", "b.pdf");
    desk.rules("[[rule]]\nname = 'count'\nrun = ['./counter', '{name}']\n");
    desk.run(0);
    desk.rules("[[rule]]\nname = 'late'\ncontinue = true\nrun = ['./counter', 'late']\n[[rule]]\nname = 'count'\nrun = ['./counter', '{name}']\n");
    assert_eq!(desk.run(0).json().last().unwrap()["rule"], "late");
}

#[test]
fn move_and_copy_never_replace() {
    let desk = Desk::new("[[rule]]\nname = 'm'\nmove = 'a dir/papers'\n");
    desk.mail("From: a@b", "a.pdf");
    assert_eq!(desk.pending(&[]).run().ok().lines(), ["mv -n -- ./out/a.pdf 'a dir/papers/'"]);
    desk.0.write("a dir/papers/a.pdf", "somebody's");
    assert_eq!(desk.states(0), ["done"]);
    assert_eq!(desk.0.read("a dir/papers/a.pdf"), b"somebody's");
    assert_eq!(desk.0.files("a dir/papers").len(), 2);
    assert!(!desk.0.path("out/a.pdf").exists());
    assert!(desk.run(0).err.is_empty());
    // The same file in another message is another action, and comes to the same.
    desk.mail_in("", "From: a@b\nSubject: again", "a.pdf", "a.pdf");
    assert!(desk.run(0).err.is_empty());
    assert_eq!((desk.0.files("a dir/papers").len(), desk.pdfs()), (2, 0));
    let why = desk.history(&["--last", "1"])[0]["why"].as_str().unwrap().to_string();
    assert!(why.starts_with("it lies in a dir/papers/a-"), "{why}");
}

#[test]
fn a_directory_that_cannot_be_made_is_tried_again() {
    let desk = Desk::new("[[rule]]\nname = 'm'\nmove = 'papers'\ntries = 2\n");
    desk.0.write("papers", "no directory");
    desk.mail("From: a@b", "a.pdf");
    assert_eq!(desk.states(73), ["later"]);
    std::fs::remove_file(desk.0.path("papers")).unwrap();
    // Its time has not come yet, and that is no news; a hand makes it due.
    assert!(desk.run(0).lines().is_empty());
    desk.claims(&["retry", "1"]).run().ok();
    assert_eq!(desk.states(0), ["done"]);
    assert_eq!(desk.0.read("papers/a.pdf"), pdf("a.pdf"));
}

#[test]
fn print_is_lp_in_short() {
    let desk = Desk::new(
        "[[rule]]\nname = 'p'\nprint = 'office'\nduplex = 'long-edge'\nmedia = 'A4'\ncopies = 2\ntitle = 'from {from}: {name}'\n",
    );
    desk.mail("From: a@b", "a.pdf");
    assert_eq!(
        desk.pending(&[]).run().ok().lines(),
        [
            "lp -d office -n 2 -o 'media=A4' -o 'sides=two-sided-long-edge' -t 'from a@b: a.pdf' -- ./out/a.pdf"
        ]
    );
    desk.rules("[[rule]]\nname = 'p'\nprint = ''\n");
    assert_eq!(desk.pending(&[]).run().ok().lines(), ["lp -t a.pdf -- ./out/a.pdf"]);
}

#[test]
fn an_explanation_names_the_rules_that_nobody_asked() {
    let rule = |name: &str, more: &str| format!("[[rule]]\nname = '{name}'\nrun = ['lp']\n{more}\n");
    let all =
        ["a", "b", "c"].map(|name| rule(name, if name == "a" { "type = 'application/pdf'" } else { "" }));
    let desk = Desk::new(&all.concat());
    desk.mail("From: a@b", "a.pdf");
    let said = desk.pending(&["--explain"]).run().ok().lines();
    assert!(
        said[0].contains("rule a matches") && said[1].ends_with(": not asked after that: b, c"),
        "{said:?}"
    );
    assert_eq!(said.len(), 2);
}

#[test]
fn a_rule_that_makes_no_sense_is_told_with_its_place() {
    let desk = Desk::new("");
    for (rule, why) in [
        ("", "write one of run, move, copy, print"),
        ("run = ['lp']\nmove = 'x'", "more than one of run, move, copy, print"),
        ("move = 'x'\ncontinue = true", "nothing can continue after a move"),
        ("run = ['lp']\ncopies = 2", "go with print"),
        ("print = '-x'", "does not begin with -"),
        ("print = 'x'\ncopies = 0", "copies must be at least 1"),
        ("run = ['lp']\nnot = {}", "excludes nothing"),
        ("run = ['lp']\ntries = 0", "tries must be at least 1"),
        ("run = ['lp', \"a\\u0000b\"]", "a NUL"),
        ("copy = '~prof/in'", "only ~/ stands for a home"),
        ("move = ''", "has no name"),
    ] {
        desk.rules(&format!("[[rule]]\nname = 'r'\n{rule}\n"));
        let check = desk.0.cmd("mail-act").args(["-c", "config.toml", "--check"]).run().fails(78);
        assert!(check.err_has(why).err_text().contains("line 3, column 1: rule \"r\""), "{rule}");
    }
    for name in ["argv:x", "(gone)", "a\\nb"] {
        desk.rules(&format!("[[rule]]\nname = \"{name}\"\nrun = ['lp']\n"));
        let check = desk.0.cmd("mail-act").args(["-c", "config.toml", "--check"]).run().fails(78);
        check.err_has("a rule's name begins");
    }
    for (rule, place) in [
        ("run = ['lp']\nnot = { authenticated = true }", "line 6, column 9"),
        ("run = ['lp']\nlarger_than = 'big'", "line 6, column 15"),
        ("run = ['lp']\nfrom = []", "line 6, column 8"),
        ("run = ['lp']\nsubjects = 'x'", "line 6, column 1"),
        ("print = 'x'\nduplex = 'yes'", "line 6, column 10"),
    ] {
        desk.rules(&format!("[[rule]]\nname = 'r'\n{rule}\n"));
        desk.0.cmd("mail-act").args(["-c", "config.toml", "--check"]).run().fails(78).err_has(place);
    }
}

#[test]
fn check_says_each_rule_in_a_sentence() {
    let desk = Desk::new(
        "[[rule]]\nname = 'print'\ntype = 'application/pdf'\nfrom = ['*@a', '*@b']\nnot = { subject = 'draft*', newer_than = '90m' }\n\
         print = 'office'\nmax_per_hour = 30\nmax_size = '1K'\n[[rule]]\nname = 'rest'\ncontinue = true\ncopy = '~/all'\nonce_per = 'file'\n",
    );
    let home = desk.0.path("home");
    assert_eq!(
        desk.0.cmd("mail-act").args(["-c", "config.toml", "--check"]).run().ok().lines(),
        [
            "rule print takes each file of which the type by content is application/pdf and the only From is *@a or *@b, \
             but not where the subject is draft* and the message came less than 1h30m ago; prints it with lp -d office -t \
             '{name}' -- '{path}', once for each message that brings it, at most 30 times an hour, files of more than 1024 \
             bytes only when asked; From can be forged"
                .to_string(),
            format!(
                "rule rest takes every file; copies it to {}/all, once whoever sends it; whoever sends it; the rules \
                 after it are asked too",
                home.display()
            ),
        ]
    );
}

#[test]
fn a_file_is_moved_only_once_all_before_that_is_done() {
    let desk = Desk::new(
        "[[rule]]\nname = 'print'\ncontinue = true\nrun = ['./printer']\n[[rule]]\nname = 'file'\nmove = 'filed'\n",
    );
    let filed = || desk.0.files("filed").len();
    desk.script("printer", "#!/bin/sh\nexit 75\n");
    desk.mail("From: a@b", "a.pdf");
    assert_eq!(desk.states(75), ["later"]);
    desk.script("printer", "#!/bin/sh\nexit 1\n");
    desk.claims(&["retry", "--is", "later"]).run().ok();
    assert_eq!((desk.states(69), desk.pdfs(), filed()), (vec!["failed".to_string()], 1, 0));
    assert_eq!((desk.states(0).len(), desk.pdfs(), filed()), (0, 1, 0), "it can still be printed");
    desk.script("printer", "#!/bin/sh\necho \"$1\" >>count\n");
    desk.claims(&["retry", "--is", "failed"]).run().ok();
    assert_eq!(desk.states(0), ["done", "done"]);
    assert_eq!((desk.counted().len(), desk.pdfs(), filed()), (1, 0, 1));
    // What nobody wants any more holds nothing up; a command that is not there does.
    std::fs::remove_file(desk.0.path("printer")).unwrap();
    desk.mail("From: a@b", "b.pdf");
    desk.run(66);
    assert_eq!((desk.pdfs(), filed()), (1, 1));
    desk.claims(&["forget", "--path", "*/b.pdf"]).run().ok();
    assert_eq!(desk.states(0), ["done"]);
    assert_eq!((desk.pdfs(), filed()), (0, 2));
    // What is only shown is shown whole.
    desk.mail("From: a@b", "c.pdf");
    assert_eq!(desk.pending(&[]).run().ok().lines().len(), 2);
    assert_eq!(desk.pending(&["--once"]).run().ok().lines().len(), 2);
}

#[test]
fn too_large_a_file_is_held_until_somebody_asks() {
    let desk =
        Desk::new("[[rule]]\nname = 'r'\nmax_size = 10\nmax_per_hour = 1\nrun = ['./counter', '{name}']\n");
    desk.mail("From: a@b", "a.pdf");
    desk.pending(&[]).run().fails(69).err_has("more than max_size, 10");
    let ran = desk.run(69);
    assert_eq!(ran.err_has("held by rule r").json()[0]["state"], "held");
    assert!(desk.run(0).err.is_empty(), "told once");
    let held = desk.history(&["--is", "held"]);
    assert_eq!((held.len(), &held[0]["number"]), (1, &json!(1)));
    desk.claims(&["retry", "--is", "held"]).run().ok();
    assert_eq!(desk.states(0), ["done"]);
    assert_eq!(desk.counted().len(), 1);
}

#[test]
fn what_waits_for_room_is_not_written_down_again_and_again() {
    let desk = Desk::new("[[rule]]\nname = 'r'\nmax_per_hour = 1\nrun = ['./counter', '{name}']\n");
    for name in ["a.pdf", "b.pdf", "c.pdf", "d.pdf"] {
        desk.mail("From: a@b", name);
    }
    desk.run(75);
    assert_eq!((desk.counted().len(), desk.history(&["--is", "held"]).len()), (1, 3));
    // An hour later, and there is no room again.
    let act = "home/.local/state/mailloop/act";
    let next = desk.history(&["--is", "held"])[0]["next"].as_str().unwrap().to_string();
    let ledger = String::from_utf8(desk.0.read(&format!("{act}/ledger"))).unwrap();
    desk.0.write(&format!("{act}/ledger"), ledger.replace(&next, "2020-01-01T00:00:00Z"));
    std::fs::remove_file(desk.0.path(&format!("{act}/rows"))).unwrap();
    let lines = || desk.0.read(&format!("{act}/ledger")).iter().filter(|byte| **byte == b'\n').count();
    let before = lines();
    desk.run(75);
    assert_eq!((lines() - before, desk.counted().len()), (1, 1));
    desk.claims(&["retry", "--is", "held"]).run().ok();
    assert_eq!(desk.states(0), ["done"; 3]);
}

#[test]
fn what_was_asked_for_though_too_large_is_tried_again_as_the_rest_is() {
    let desk = Desk::new("[[rule]]\nname = 'r'\nmax_size = 10\nrun = ['./busy', '{name}']\n");
    desk.script("busy", "#!/bin/sh\nexit 75\n");
    desk.mail("From: a@b", "a.pdf");
    desk.run(69);
    desk.claims(&["retry", "--is", "held"]).run().ok();
    assert_eq!(desk.states(75), ["later"]);
    // Its time has come.
    let next = desk.history(&["--last", "1"])[0]["next"].as_str().unwrap().to_string();
    let act = "home/.local/state/mailloop/act";
    let ledger = String::from_utf8(desk.0.read(&format!("{act}/ledger"))).unwrap();
    desk.0.write(&format!("{act}/ledger"), ledger.replace(&next[..4], "2020"));
    std::fs::remove_file(desk.0.path(&format!("{act}/rows"))).unwrap();
    assert_eq!(desk.states(75), ["later"], "nobody has to ask twice");
}

#[test]
fn what_fails_for_now_is_given_up_in_the_open() {
    let desk = Desk::new("[[rule]]\nname = 'r'\ntries = 3\nrun = ['./busy', '{name}']\n");
    desk.script("busy", "#!/bin/sh\necho x >>count\necho \"no paper\" >&2\nexit 75\n");
    desk.mail("From: a@b", "a.pdf");
    assert_eq!(desk.states(75), ["later"]);
    assert!(desk.run(0).lines().is_empty(), "its time has not come");
    let entry = &desk.history(&[])[0];
    let wait = entry["next"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
        - entry["settled"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let wait = wait.total(jiff::Unit::Second).unwrap();
    assert!((59.0..=60.0).contains(&wait), "{entry}");
    for state in ["later", "dead"] {
        let ran = desk.pending(&["--run", "--json", "--again"]).run().fails(75);
        assert_eq!(ran.json()[0]["state"], state, "{}", ran.shown());
    }
    assert_eq!(desk.counted().len(), 3);
    assert!(desk.run(0).err.is_empty(), "told once");
    let dead = desk.history(&["--is", "dead"]);
    assert!(
        dead[0]["why"].as_str().unwrap().contains("no paper; given up after 3 tries, `mail-loop retry 3`"),
        "{dead:?}"
    );
    assert_eq!(desk.claims(&["history", "--output", "3"]).run().ok().lines(), ["no paper"]);
    desk.claims(&["history", "--output", "4"]).run().fails(66);
    // Tries are counted anew once somebody asked.
    desk.claims(&["retry", "3"]).run().ok();
    assert_eq!(desk.states(75), ["later"]);
    desk.claims(&["forget", "--is", "later", "--last", "1"]).run().ok();
    assert!(desk.run(0).lines().is_empty());
    assert_eq!(desk.counted().len(), 4);
}

#[test]
fn what_waits_for_a_try_and_no_rule_takes_any_more_is_told() {
    let rule = "[[rule]]\nname = 'r'\nfrom = 'a@b'\nrun = ['./busy']\n";
    let desk = Desk::new(rule);
    desk.script("busy", "#!/bin/sh\nexit 75\n");
    let letters = || desk.0.files("home/.local/state/mailloop/dead-letters/new").len();
    desk.mail("From: a@b", "a.pdf");
    desk.mail("From: a@b", "b.pdf");
    desk.run(75);
    assert!(desk.run(0).lines().is_empty(), "their time has not come");
    // Who sent it cannot be told any more.
    let first = desk.history(&["--path", "*/a.pdf"])[0]["number"].to_string();
    let message =
        desk.0.files("Mail/new").into_iter().find(|name| name.to_string_lossy().contains("U0")).unwrap();
    std::fs::remove_file(desk.0.path("Mail/new").join(message)).unwrap();
    desk.claims(&["retry", &first]).run().ok();
    let ran = desk.run(69);
    assert_eq!(ran.err_has("rule r does not take it any more").json()[0]["state"], "dead");
    assert_eq!((desk.history(&["--is", "dead"]).len(), letters()), (1, 1));
    assert!(desk.run(0).err.is_empty(), "told once");
    // Another rule took the place of the first.
    desk.claims(&["retry", "--is", "later"]).run().ok();
    desk.script("counter", "#!/bin/sh\nprintf '%s\\n' \"$1\" >>count\n");
    desk.rules(&format!("[[rule]]\nname = 's'\nrun = ['./counter', '{{name}}']\n{rule}"));
    desk.run(69).err_has("rule r does not take it any more");
    assert_eq!((desk.counted(), letters()), (vec!["b.pdf".to_string()], 2));
    assert!(desk.run(0).err.is_empty());
}

#[test]
fn what_waits_for_a_try_and_is_removed_is_settled() {
    let desk = Desk::new("[[rule]]\nname = 'r'\nrun = ['false75']\n");
    desk.script("false75", "#!/bin/sh\nexit 75\n");
    desk.rules("[[rule]]\nname = 'r'\nrun = ['./false75']\n");
    desk.mail("From: a@b", "a.pdf");
    desk.run(75);
    desk.claims(&["retry", "1"]).run().ok();
    std::fs::remove_file(desk.0.path("out/a.pdf")).unwrap();
    desk.run(0).err_has("removed before it could be tried again");
    assert!(desk.run(0).err.is_empty());
    assert_eq!(desk.history(&[])[0]["state"], "skipped");
}

#[test]
fn a_hand_settles_what_nobody_knows() {
    let desk = Desk::new("[[rule]]\nname = 'r'\nrun = ['./slow']\n");
    desk.script("slow", "#!/bin/sh\necho x >>count\nkill -9 $PPID\n");
    desk.mail("From: a@b", "a.pdf");
    assert_eq!(desk.pending(&["--run"]).run().signal, Some(9));
    desk.run(76).err_has("`mail-loop settle done 1` says that it was");
    assert_eq!(desk.history(&["--is", "unknown"]).len(), 1);
    desk.claims(&["settle", "done", "1", "--why", "it lay in the tray"]).run().ok();
    assert!(desk.run(0).err.is_empty());
    assert_eq!(desk.history(&["--is", "done"])[0]["why"], "it lay in the tray");
    for words in [&["retry", "9"][..], &["retry"], &["settle", "eaten", "1"], &["forget", "--is", "dead"]] {
        desk.claims(words).run().fails(64);
    }
    // A rule may say that once more does no harm.
    let desk = Desk::new("[[rule]]\nname = 'r'\nrepeatable = true\nrun = ['./slow']\n");
    desk.script("slow", "#!/bin/sh\necho x >>count\n[ -e once ] && exit; touch once; kill -9 $PPID\n");
    desk.mail("From: a@b", "a.pdf");
    assert_eq!(desk.pending(&["--run"]).run().signal, Some(9));
    assert_eq!(desk.states(0), ["done"]);
    assert_eq!(desk.counted().len(), 2);
}

#[test]
fn history_shows_what_is_asked_for() {
    let desk = Desk::new(
        "[[rule]]\nname = 'a'\nfile = 'a*'\nrun = ['true']\n[[rule]]\nname = 'b'\nrun = ['false']\n",
    );
    desk.mail("From: a@b", "a.pdf");
    desk.mail("From: a@b", "b.pdf");
    desk.run(69);
    for (words, numbers) in [
        (&[][..], vec![1, 2]),
        (&["2"], vec![2]),
        (&["--is", "failed"], vec![2]),
        (&["--is", "failed", "--is", "done"], vec![1, 2]),
        (&["--rule", "A"], vec![1]),
        (&["--path", "*/b.pdf"], vec![2]),
        (&["--since", "1h"], vec![1, 2]),
        (&["--since", "2999-01-01T00:00:00Z"], vec![]),
        (&["--last", "1"], vec![2]),
    ] {
        let found: Vec<u64> =
            desk.history(words).iter().filter_map(|entry| entry["number"].as_u64()).collect();
        assert_eq!(found, numbers, "{words:?}");
    }
    desk.claims(&["history", "--is", "eaten"]).run().fails(64).err_has("unknown, later, dead");
}

/// Runs until nothing stops it, after a stop at every step; then looks.
fn stopped_everywhere(rules: &str, clear: impl Fn(), look: impl Fn(&Desk, &str)) {
    let fresh = || {
        clear();
        let desk = Desk::new(rules);
        desk.mail("From: a@b", "a.pdf");
        desk.mail("From: a@b\nSubject: two", "b.pdf");
        desk
    };
    let whole = fresh();
    whole.pending(&["--run"]).env("MAILLOOP_STEPS", whole.0.path("steps")).run().ok();
    look(&whole, "undisturbed");
    let steps = String::from_utf8(whole.0.read("steps")).unwrap().lines().count();
    assert!(steps >= 10, "{steps} steps");
    for step in 1..=steps {
        for (variable, value) in [
            ("MAILLOOP_STOP", format!("{step}-")),
            ("MAILLOOP_STOP", format!("{step}+")),
            ("MAILLOOP_FAIL", step.to_string()),
        ] {
            let moment = format!("{variable}={value} of {steps}");
            let desk = fresh();
            let stopped = desk.pending(&["--run"]).env(variable, &value).run();
            assert!(
                stopped.status != Some(0) || variable == "MAILLOOP_FAIL",
                "{moment}: {}",
                stopped.shown()
            );
            // What failed for now waits its time, unless somebody asks.
            let after = desk.pending(&["--run", "--again"]).run();
            assert_eq!(after.status, Some(0), "{moment}: {}", after.shown());
            look(&desk, &moment);
            let third = desk.pending(&["--run"]).run().ok();
            assert!(third.err.is_empty(), "{moment}: {}", third.shown());
            look(&desk, &moment);
            let unknown = desk.history(&["--is", "unknown"]);
            let last = |file: &str| desk.history(&["--path", file]).last().unwrap()["state"].clone();
            assert_eq!(
                (last("*/a.pdf"), last("*/b.pdf")),
                (json!("done"), json!("done")),
                "{moment}: {unknown:?}"
            );
        }
    }
}

#[test]
fn a_move_stopped_at_every_step_moves_once() {
    stopped_everywhere(
        "[[rule]]\nname = 'm'\nmove = 'papers'\n",
        || {},
        |desk, moment| {
            assert_eq!(desk.0.files("papers").len(), 2, "{moment}");
            assert_eq!(desk.0.read("papers/a.pdf"), pdf("a.pdf"), "{moment}");
            assert_eq!(desk.pdfs(), 0, "{moment}");
        },
    );
}

#[test]
fn a_copy_stopped_at_every_step_copies_once() {
    stopped_everywhere(
        "[[rule]]\nname = 'c'\ncopy = 'papers'\n",
        || {},
        |desk, moment| {
            let names: Vec<_> =
                std::fs::read_dir(desk.0.path("papers")).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(names.len(), 2, "{moment}: {names:?}");
            assert_eq!(desk.0.read("papers/b.pdf"), pdf("b.pdf"), "{moment}");
            assert_eq!(desk.0.read("out/a.pdf"), pdf("a.pdf"), "{moment}");
        },
    );
}

#[test]
fn a_move_to_another_file_system_stopped_at_every_step_moves_once() {
    use std::os::unix::fs::MetadataExt;
    let shm = std::path::Path::new("/dev/shm");
    let here = std::fs::metadata(std::env::temp_dir()).unwrap().dev();
    let Ok(other) = tempfile::tempdir_in(shm) else { return eprintln!("skipped: no /dev/shm") };
    if std::fs::metadata(other.path()).unwrap().dev() == here {
        return eprintln!("skipped: /dev/shm is where the tests are");
    }
    let rules = format!("[[rule]]\nname = 'm'\nmove = '{}'\n", other.path().display());
    let clear = || {
        std::fs::remove_dir_all(other.path()).unwrap();
        std::fs::create_dir(other.path()).unwrap();
    };
    stopped_everywhere(&rules, clear, |desk, moment| {
        let names: Vec<_> =
            std::fs::read_dir(other.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{moment}: {names:?}");
        assert_eq!(std::fs::read(other.path().join("b.pdf")).unwrap(), pdf("b.pdf"), "{moment}");
        assert_eq!(desk.pdfs(), 0, "{moment}");
    });
}
