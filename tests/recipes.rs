//! The recipes for other people's programs do what they say, with those programs where they are installed. With
//! MAILLOOP_ALL=1 one that is not is a failure.

use std::path::Path;

use crate::bench::{Bench, Server, pdf};

fn recipe(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(name).display().to_string()
}

/// True if `program` is there; else says so, or fails where all must be.
fn there(bench: &Bench, program: &str) -> bool {
    let there = bench.cmd("sh").args(["-c", "command -v \"$0\"", program]).run().status == Some(0);
    assert!(there || std::env::var_os("MAILLOOP_ALL").is_none(), "{program} is not installed");
    if !there {
        eprintln!("{program} is not installed: its recipe was not tried");
    }
    there
}

fn home(act: &str) -> (Bench, Server) {
    let bench = Bench::new();
    let server = bench.sandbox();
    bench.configure("me@by.example", &server.smtp, &server.imap, act, "");
    (bench, server)
}

/// Every recipe stands in the folder's table, and the table names none that there is not.
#[test]
fn the_table_of_recipes_is_the_folder() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    let table = std::fs::read_to_string(dir.join("README.md")).unwrap();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "README.md" || table.contains(&format!("]({name})")), "{name} is not in the table");
    }
    for link in table.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(dir.join(link).exists(), "{link} is not there");
    }
}

#[test]
fn notmuch_takes_the_files_of_what_is_new() {
    let (bench, _server) = home("run");
    if !there(&bench, "notmuch") {
        return;
    }
    let root = bench.path("home/Mail/school");
    let config = format!(
        "[database]\npath={}\n[user]\nname=Me\nprimary_email=me@by.example\n[new]\ntags=new\nignore=/.*cursor.*/\n",
        root.display()
    );
    bench.write("home/.notmuch-config", config);
    bench.deliver_pdf("old");
    bench.cmd("mail-fetch").arg("school").run().ok();
    bench.sh("notmuch new --no-hooks --quiet && notmuch tag +files -- '*'").run().ok();

    let hook = std::fs::read(recipe("notmuch-post-new")).unwrap();
    bench.write("home/Mail/school/.notmuch/hooks/post-new", hook);
    bench.sh("chmod 700 ~/Mail/school/.notmuch/hooks/post-new").run().ok();
    bench.deliver_pdf("new one");
    bench.cmd("mail-fetch").arg("school").run().ok();
    let shown = bench.sh("notmuch new --quiet").run().ok();
    assert_eq!(shown.lines().len(), 1, "{}", shown.shown());
    assert_eq!(bench.read("home/in/new one.pdf"), pdf("new one"));
    assert!(!bench.path("home/in/old.pdf").exists(), "what was there before is left alone");
    bench.sh("test -z \"$(notmuch search --output=files not tag:files)\"").run().ok();

    // A message that is read, and so renamed, is still known.
    bench
        .sh("cd ~/Mail/school && for m in new/*; do mv $m cur/${m#new/}:2,S; done; notmuch new --quiet")
        .run()
        .ok();
    assert_eq!(bench.files("home/in").iter().filter(|file| file.extension().is_some()).count(), 1);
}

#[test]
fn mblaze_chooses_and_we_take_the_files() {
    let (bench, _server) = home("run");
    if !there(&bench, "mlist") {
        return;
    }
    for name in ["one", "two"] {
        bench.deliver_pdf(name);
    }
    bench.cmd("mail-fetch").arg("school").run().ok();
    let run = format!("{} ~/Mail/school", recipe("mblaze.sh"));
    let one = bench.sh(&format!("{run} 'subject =~ \"one\"'")).run().ok().lines();
    assert!(one.len() == 1 && one[0].ends_with("/in/one.pdf"), "{one:?}");
    // As the recipe says, into the next stage; what was taken out before is no news.
    let shown = bench.sh(&format!("{run} | mail-act -- lp -d office {{}}")).run().ok().lines();
    assert!(shown.len() == 1 && shown[0].ends_with("/in/two.pdf"), "{shown:?}");
    assert_eq!(bench.read("home/in/two.pdf"), pdf("two"));
    bench.sh("minc -q ~/Mail/school && mflag -S ~/Mail/school/cur/* >&2").run().ok();
    bench.deliver_pdf("three");
    bench.cmd("mail-fetch").arg("school").run().ok();
    assert_eq!(bench.sh("mlist -s ~/Mail/school").run().ok().lines().len(), 1, "the others are read");
    let unread = bench.sh(&run).run().ok().lines();
    assert!(unread.len() == 1 && unread[0].ends_with("/in/three.pdf"), "{unread:?}");
}

#[test]
fn paperless_gets_each_file_whole_and_once() {
    let (bench, _server) = home("run");
    let file = bench.path("home/.config/mailloop/config.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let rule = std::fs::read_to_string(recipe("paperless.toml")).unwrap();
    let text = text.replace("rules = [\"print\"]", "rules = [\"paperless\", \"print\"]");
    bench.write("home/.config/mailloop/config.toml", text.replace("[[rule]]", &format!("{rule}\n[[rule]]")));
    bench.deliver_pdf("invoice");
    bench.cmd("mail-loop").arg("once").run().ok();
    assert_eq!(bench.files("home/paperless/consume"), [Path::new("invoice.pdf")]);
    assert_eq!(bench.read("home/paperless/consume/invoice.pdf"), pdf("invoice"));
    assert_eq!(bench.counted(), ["invoice.pdf"], "and the next rule prints it");

    // It consumes what it was given; the same PDF in another mail does not come again.
    bench.sh("rm ~/paperless/consume/invoice.pdf; cp server/me@by.example/*/invoice* again").run().ok();
    bench.sh("sed s/Subject:/Subject:.again/ again >b && mv b server/me@by.example/new/again").run().ok();
    bench.cmd("mail-loop").arg("once").run().ok();
    assert!(bench.files("home/paperless/consume").is_empty());
    assert_eq!(bench.counted().len(), 2, "the rule that prints asks for the message");
}

#[test]
fn the_service_for_runit_runs_and_ends() {
    let (bench, _server) = home("run");
    bench.deliver_pdf("supervised");
    let supervised = bench.sh("command -v runsv").run().status == Some(0);
    bench.sh(&format!("mkdir -p sv/mailloop && cp {} sv/mailloop/run", recipe("runit-run"))).run().ok();
    let service = match supervised {
        true => bench.cmd("runsv").arg("sv/mailloop").spawn(),
        false => bench.cmd("sv/mailloop/run").spawn(),
    };
    bench.sh("until [ -s counted ]; do :; done").run().ok();
    assert_eq!(bench.counted(), ["supervised.pdf"]);
    service.signal(rustix::process::Signal::TERM);
    let ended = service.wait();
    // The supervisor ends itself; without one we see what ended the loop.
    assert_eq!((ended.status, ended.signal), if supervised { (Some(0), None) } else { (None, Some(15)) });
}
