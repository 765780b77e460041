//! Choosing, looking and limits.

use super::{attached, base64, dissect, hello, maildir, message, names, part, tree};
use crate::bench::{Bench, pdf, sha256};

/// A text, a picture shown within it, a PDF, a table, and something that is called a PDF.
fn variety(bench: &Bench) {
    let picture = "Content-Type: image/png; name=logo.png\nContent-Disposition: inline";
    let parts = [
        hello(),
        part(picture, b"\x89PNG\r\n\x1a\nx"),
        attached("hw1.pdf", &pdf("one")),
        attached("table.CSV", b"a,b"),
        part("Content-Type: application/pdf; name=false.pdf", b"<html>"),
    ];
    bench.write("m.eml", message("m", &parts));
}

#[test]
fn each_way_to_choose() {
    let chosen = |arguments: &[&str]| {
        let bench = Bench::new();
        variety(&bench);
        dissect(&bench).args(arguments).arg("m.eml").run().ok();
        names(&bench).join(" ")
    };
    assert_eq!(chosen(&[]), "hw1.pdf");
    assert_eq!(chosen(&["--ext", "csv"]), "table.CSV");
    assert_eq!(chosen(&["--ext", ".csv", "--name", "hw?.*"]), "hw1.pdf table.CSV");
    assert_eq!(chosen(&["--inline"]), "false.pdf logo.png");
    assert_eq!(chosen(&["--text"]), "attachment.txt");
    assert_eq!(chosen(&["--trust-label"]), "false.pdf hw1.pdf");
    assert_eq!(chosen(&["--part", "4", "--part", "2"]), "logo.png table.CSV");
    assert_eq!(chosen(&["--all"]), "false.pdf hw1.pdf logo.png table.CSV");
}

#[test]
fn what_is_called_a_pdf_and_is_none_is_told_once() {
    let bench = Bench::new();
    variety(&bench);
    let ran = dissect(&bench).arg("m.eml").run().ok().err_has("part 5 is called a PDF and is none");
    assert_eq!(ran.err_text().lines().count(), 1);
    assert_eq!(dissect(&bench).arg("m.eml").run().ok().err_text(), "");
    assert!(String::from_utf8(bench.read("out/.mailloop/journal")).unwrap().contains("is none"));
}

#[test]
fn looking_writes_nothing() {
    let bench = Bench::new();
    variety(&bench);
    let ran = dissect(&bench).args(["--list", "m.eml"]).run().ok();
    let lines = ran.lines();
    assert_eq!((lines.len(), lines[0].contains("m.eml")), (6, true), "{}", ran.shown());
    assert!(lines[3].starts_with("* ") && lines[3].contains("3  application/pdf"), "{}", ran.shown());
    let records = dissect(&bench).args(["--list", "--json", "m.eml"]).run().ok().json();
    assert_eq!((records.len(), &records[2]["sha256"]), (5, &sha256(&pdf("one")).into()));
    assert!(records.iter().all(|record| record["state"] == "listed" && record["path"].is_null()));
    let ran = dissect(&bench).args(["-n", "m.eml"]).run().ok().err_has("would write out/hw1.pdf");
    assert_eq!(ran.out_text(), "");
    assert_eq!(dissect(&bench).args(["-O", "--part", "3", "m.eml"]).run().ok().out, pdf("one"));
    assert_eq!(dissect(&bench).args(["-O", "m.eml"]).run().ok().out, pdf("one"));
    dissect(&bench).args(["-O", "--all", "m.eml"]).run().fails(64).err_has("parts 2, 3, 4, 5");
    dissect(&bench).args(["-O", "--part", "9", "m.eml"]).run().fails(66);
    assert!(!bench.path("out").exists());
}

#[test]
fn limits_are_said_and_what_was_found_is_saved() {
    let run = |arguments: &[&str], text: &str| {
        let bench = Bench::new();
        bench.write("m.eml", text);
        let ran = dissect(&bench).args(arguments).args(["--all", "m.eml"]).run().fails(65);
        (names(&bench).join(" "), ran.err_text())
    };
    let text = message("m", &[attached("a.pdf", &pdf("a")), attached("b.pdf", &[b'b'; 5000])]);
    let (saved, said) = run(&["--max-size", "4K"], &text);
    assert!(saved == "a.pdf" && said.contains("part 2 is longer than 4096 bytes"), "{saved}: {said}");
    let (saved, said) = run(&["--max-parts", "1"], &text);
    assert!(saved == "a.pdf" && said.contains("more than 1 parts"), "{saved}: {said}");
    let deep = message(
        "m",
        &[attached("a.pdf", &pdf("a")), message("n", &[attached("b.pdf", b"b")]).replace("=_b", "i")],
    );
    let (saved, said) = run(&["--max-depth", "1"], &deep);
    assert!(saved == "a.pdf" && said.contains("deeper than 1"), "{saved}: {said}");
    dissect(&Bench::new()).args(["--max-depth", "0", "x"]).run().fails(64);
}

#[test]
fn strict_takes_repairs_for_damage() {
    let bench = Bench::new();
    let junk = base64(&pdf("a")).replacen('\n', "!\n", 1);
    let head = "Content-Type: application/pdf; name=a.pdf\nContent-Transfer-Encoding: base64";
    bench.write("m.eml", message("m", &[format!("{head}\n\n{junk}\n")]));
    let ran = dissect(&bench).args(["--strict", "m.eml"]).run().fails(65).err_has("1 foreign bytes");
    assert_eq!(ran.lines(), ["./out/a.pdf"]);
    dissect(&bench).arg("m.eml").run().ok();
}

#[test]
fn containers_can_stay_closed() {
    let bench = Bench::new();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/messages/legacy/winmail.eml");
    dissect(&bench).args(["--no-containers", "--all", path]).run().ok();
    assert_eq!(names(&bench), ["winmail.dat"]);
    let path = path.replace("legacy/winmail", "rfc/encrypted-smime");
    dissect(&bench).args(["-v", &path]).run().ok().err_has("encrypted (S/MIME)");
}

#[test]
fn subdirectories() {
    let text = message("m/../x", &[attached("a.pdf", &pdf("a"))]);
    for (by, expected) in
        [("sender", "t@by.example"), ("date", "2026-11-21"), ("message", "m .. x@by.example")]
    {
        let bench = Bench::new();
        bench.write("m.eml", &text);
        let ran = dissect(&bench).args(["--by", by, "m.eml"]).run().ok();
        assert_eq!(ran.lines(), [format!("./out/{expected}/a.pdf")]);
        assert_eq!(tree(&bench).into_keys().collect::<Vec<_>>(), [format!("{expected}/a.pdf")]);
        assert_eq!(dissect(&bench).args(["--by", by, "m.eml"]).run().ok().out_text(), "");
        let pending = bench.cmd("mail-act").args(["--pending", "out", "--", "echo", "{}"]).run().ok();
        assert!(pending.out_text().contains(expected), "{}", pending.shown());
    }
}

#[test]
fn what_is_there_is_not_written_again() {
    let bench = Bench::new();
    let texts: Vec<_> = ["one", "two"].map(|word| message(word, &[attached("hw.pdf", &pdf(word))])).to_vec();
    maildir(&bench, "mail", &texts);
    dissect(&bench).arg("mail").run().ok();
    let steps = |bench: &Bench| {
        let _ = std::fs::remove_file(bench.path("steps"));
        dissect(bench).env("MAILLOOP_STEPS", bench.path("steps")).arg("mail").run().ok();
        String::from_utf8_lossy(&bench.read("steps")).into_owned()
    };
    if cfg!(debug_assertions) {
        let steps = steps(&bench);
        assert!(
            !steps.contains("rename") && !steps.contains("remove") && !steps.contains("append"),
            "{steps}"
        );
        assert!(!steps.contains("sync-group"), "{steps}");
    }
}

#[test]
fn any_number_of_threads_gives_the_same() {
    let run = |jobs: &str| {
        let bench = Bench::new();
        let texts: Vec<_> = (0..60)
            .map(|n| {
                message(
                    &n.to_string(),
                    &[attached("hw.pdf", &pdf(&n.to_string())), attached("same.pdf", &pdf("s"))],
                )
            })
            .collect();
        maildir(&bench, "mail", &texts);
        bench.write("junk", "");
        let ran = dissect(&bench).args(["--all", "-j", jobs, "mail", "missing", "mail"]).run().fails(66);
        (ran.out_text(), tree(&bench))
    };
    let one = run("1");
    assert_eq!(one.1.len(), 61);
    for jobs in ["2", "7"] {
        assert!(run(jobs) == one, "-j {jobs} gives something else");
    }
}

#[test]
fn an_mbox_names_no_message_by_its_path() {
    let bench = Bench::new();
    let one = message("one", &[attached("1.pdf", &pdf("1"))]);
    let two = message("two", &[attached("2.pdf", &pdf("2"))]);
    bench.write(
        "box",
        format!("From a@b Sat Nov 21 10:00:00 2026\n{one}\nFrom c@d Sat Nov 21 10:00:00 2026\n{two}"),
    );
    let records = dissect(&bench).args(["--json", "box"]).run().ok().json();
    let ids: Vec<_> =
        records.iter().map(|record| record["message"]["message_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["<one@by.example>", "<two@by.example>"]);
    assert!(records.iter().all(|r| r["message"]["path"].is_null() && r["message"]["mbox"] == "./box"));
    let ran = dissect(&bench).args(["--pending", "box"]).run().ok();
    assert_eq!(ran.out_text(), "");
}

#[test]
fn the_manual_names_every_option() {
    let manual = include_str!("../../man/mail-dissect.1").replace("\\-", "-");
    let help = dissect(&Bench::new()).arg("--help").run().ok().out_text();
    let options = help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2);
    let options: Vec<_> =
        options.map(|word| word.trim_end_matches(|c: char| !c.is_ascii_lowercase())).collect();
    assert!(options.len() > 20, "{options:?}");
    let common = ["--help", "--version", "--null", "--quiet", "--verbose"];
    for option in options.into_iter().filter(|option| !common.contains(option)) {
        assert!(manual.contains(option), "{option}");
    }
}

#[test]
fn messages_of_one_name_in_two_maildirs_are_two() {
    let bench = Bench::new();
    for (maildir, words) in [("A", "one"), ("B", "two")] {
        for sub in ["cur", "tmp"] {
            std::fs::create_dir_all(bench.path(&format!("{maildir}/{sub}"))).unwrap();
        }
        let part = super::attached("hw.pdf", &crate::bench::pdf(words));
        bench.write(&format!("{maildir}/new/1"), super::message(words, &[part]));
    }
    for maildir in ["A", "B"] {
        let pending = ["--pending", maildir, "-C", "o"];
        assert_eq!(bench.cmd("mail-dissect").args(pending).run().ok().lines().len(), 1, "{maildir}");
        assert!(bench.cmd("mail-dissect").args(pending).run().ok().lines().is_empty(), "{maildir}");
    }
    // A line that makes no sense in the journal is told; it stops neither dissect nor act.
    let journal = bench.path("o/.mailloop/journal");
    let text = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, format!("garbage\n{text}")).unwrap();
    let ran = bench.cmd("mail-act").args(["--pending", "o", "--", "lp"]).run().ok();
    assert_eq!(ran.lines().len(), 2, "{}", ran.shown());
    assert!(ran.err_text().contains("the line at byte 0 of"), "{}", ran.shown());
}

#[test]
fn a_directory_that_cannot_be_read_does_not_hide_the_rest() {
    let bench = Bench::new();
    let part = super::attached("hw.pdf", &crate::bench::pdf("x"));
    for sub in ["cur", "tmp"] {
        std::fs::create_dir_all(bench.path(&format!("A/{sub}"))).unwrap();
    }
    bench.write("A/new/1", super::message("x", &[part]));
    std::fs::create_dir(bench.path("A/.locked")).unwrap();
    std::fs::set_permissions(bench.path("A/.locked"), std::os::unix::fs::PermissionsExt::from_mode(0o000))
        .unwrap();
    let ran = bench.cmd("mail-dissect").args(["-C", "o", "A"]).run();
    std::fs::set_permissions(bench.path("A/.locked"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
    assert_eq!(ran.lines().len(), 1, "{}", ran.shown());
    // Root reads everything; everybody else is told.
    match rustix::process::geteuid().is_root() {
        true => assert_eq!(ran.status, Some(0), "{}", ran.shown()),
        false => assert!(ran.status == Some(66) && ran.err_text().contains(".locked"), "{}", ran.shown()),
    }
}

#[test]
fn a_head_that_is_cut_is_told_where_it_may_have_hidden_something() {
    let bench = Bench::new();
    let filler = "X-Filler: ".to_string() + &"x".repeat(2000) + "\n";
    bench.write("hidden.eml", filler.clone() + &message("m", &[attached("a.pdf", &pdf("a"))]));
    bench.write(
        "shown.eml",
        message("m", &[attached("a.pdf", &pdf("a"))]).replacen("\n\n", &format!("\n{filler}\n"), 1),
    );
    let ran = dissect(&bench).args(["--max-header", "1000", "hidden.eml"]).run();
    assert_eq!(ran.status, Some(65), "{}", ran.shown());
    let ran = ran.err_has("cannot save all of hidden.eml: head longer than 1000 bytes");
    assert_eq!(ran.err_text().lines().count(), 1);
    dissect(&bench).args(["--max-header", "1000", "shown.eml"]).run().ok();
    assert_eq!(names(&bench), ["a.pdf"]);
}

#[test]
fn each_part_that_is_not_written_is_told_with_its_message() {
    let bench = Bench::new();
    let two =
        |seed: &str| message("m", &[attached("a.pdf", &pdf(seed)), attached("b.pdf", &pdf(&seed.repeat(2)))]);
    bench.write("1.eml", two("one"));
    bench.write("2.eml", two("two"));
    // Every name for the first file of the first message is taken.
    let digest = sha256(&pdf("one"));
    for name in ["a", &format!("a-{}", &digest[..8]), &format!("a-{}", &digest[..16]), &format!("a-{digest}")]
    {
        std::fs::create_dir_all(bench.path(&format!("out/{name}.pdf"))).unwrap();
    }
    let ran = dissect(&bench).args(["1.eml", "2.eml"]).run();
    assert_eq!(ran.status, Some(73), "{}", ran.shown());
    let ran = ran.err_has("cannot save part 1, 2 of 1.eml: part 1: cannot create");
    assert_eq!((ran.err_text().lines().count(), ran.lines().len()), (1, 2), "{}", ran.shown());
}

#[test]
fn a_full_disk_names_every_message_that_was_not_saved() {
    if !cfg!(debug_assertions) {
        eprintln!("not run: a release build has no numbered steps");
        return;
    }
    let bench = Bench::new();
    for n in ["1", "2"] {
        bench.write(&format!("{n}.eml"), message(n, &[attached(&format!("{n}.pdf"), &pdf(n))]));
    }
    let run = |name: &str, value: &str| dissect(&bench).args(["1.eml", "2.eml"]).env(name, value).run();
    run("MAILLOOP_STEPS", "steps").ok();
    let steps = String::from_utf8(bench.read("steps")).unwrap();
    let number = |name: &str| steps.lines().find_map(|line| line.strip_suffix(name)).expect(name).trim();
    for step in ["sync-group", "append"] {
        std::fs::remove_dir_all(bench.path("out")).unwrap();
        // The lock, the journal and their directories are made anew: the same steps.
        let ran = run("MAILLOOP_FAIL", number(step));
        assert_eq!((ran.status, ran.out_text().as_str()), (Some(74), ""), "{step}\n{}", ran.shown());
        ran.err_has("cannot save part 1 of 1.eml: ").err_has("cannot save part 1 of 2.eml: ");
    }
}

#[test]
fn files_stay_where_the_journal_may_yet_name_them() {
    if !cfg!(debug_assertions) {
        eprintln!("not run: a release build has no numbered steps");
        return;
    }
    let bench = Bench::new();
    bench.write("m.eml", message("m", &[attached("a.pdf", &pdf("a"))]));
    let run = |steps: &str, fail: Option<String>| {
        let cmd = dissect(&bench).arg("m.eml").env("MAILLOOP_STEPS", steps);
        let ran = if let Some(fail) = fail { cmd.env("MAILLOOP_FAIL", fail).run() } else { cmd.run() };
        let text = String::from_utf8(bench.read(steps)).unwrap();
        let steps = text.lines().filter_map(|line| line.rsplit(' ').next()).map(str::to_string);
        (ran.status, steps.collect::<Vec<_>>())
    };
    let (status, steps) = run("whole", None);
    assert_eq!(status, Some(0));
    let append = steps.iter().position(|step| step == "append").unwrap() + 1;
    assert_eq!(steps[append], "sync");
    let again = |steps: &str, fail: String| {
        std::fs::remove_dir_all(bench.path("out")).unwrap();
        let (status, steps) = run(steps, Some(fail));
        assert_eq!(status, Some(74));
        (steps[append..].to_vec(), super::names(&bench))
    };
    // The journal's sync fails: it is cut back, which is synced, then the file goes.
    let (steps, names) = again("one", (append + 1).to_string());
    assert_eq!((steps, names), (["sync", "undo", "sync-undo", "remove"].map(String::from).to_vec(), vec![]));
    // That fails too: the file stays.
    let (steps, names) = again("all", format!("{}..", append + 1));
    assert_eq!((steps, names), (["sync", "undo"].map(String::from).to_vec(), vec!["a.pdf".to_string()]));
    dissect(&bench).arg("m.eml").run().ok();
}
