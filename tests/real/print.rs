//! The whole loop into a real print server: a private CUPS (tests/rig/cups) whose printer keeps what it is given.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::bench::{Bench, Cmd, Ran, Server, pdf};

/// A bench with a mail server, and a print server with the printer `office`; ended and wiped when dropped.
struct Shop {
    bench: Bench,
    mail: Server,
    dir: PathBuf,
    env: HashMap<String, String>,
}

/// A job as the printer got it.
struct Printed {
    bytes: Vec<u8>,
    facts: HashMap<String, String>,
}

impl Shop {
    fn open() -> Shop {
        let bench = Bench::new();
        let mail = bench.sandbox();
        // A name below /tmp that is open all the way to the user as whom cupsd starts its backends.
        let dir = tempfile::Builder::new()
            .prefix("mailloop-rig-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in("/tmp")
            .unwrap();
        let mut shop = Shop { bench, mail, dir: dir.keep(), env: HashMap::new() };
        shop.script("cups").run().ok();
        let env = std::fs::read_to_string(shop.dir.join("cups.env")).unwrap();
        let facts = env.lines().filter_map(|line| line.split_once('='));
        shop.env = facts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        shop
    }

    fn script(&self, name: &str) -> Cmd {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rig").join(name);
        self.bench.cmd(path.to_str().unwrap()).arg(&self.dir)
    }

    /// A configuration whose only rule is `rule`.
    fn configure(&self, rule: &str) {
        let file = self.bench.configure("me@by.example", &self.mail.smtp, &self.mail.imap, "run", "");
        let text = std::fs::read_to_string(&file).unwrap();
        let run = text.lines().find(|line| line.starts_with("run = ")).unwrap();
        self.bench.write("home/.config/mailloop/config.toml", text.replace(run, rule));
    }

    /// A program that finds our print server.
    fn cmd(&self, program: &str) -> Cmd {
        self.bench.cmd(program).env("CUPS_SERVER", &self.env["CUPS_SERVER"])
    }

    fn once(&self) -> Ran {
        self.cmd("mail-loop").args(["once", "--json"]).run()
    }

    /// Sends a PDF that only this name stands in; its bytes.
    fn send(&self, name: &str, subject: &str) -> Vec<u8> {
        let bytes = pdf(name);
        self.bench.write(&format!("./{name}.pdf"), &bytes);
        let words = ["-a", "school", "--to", "me@by.example", "-s", subject];
        self.bench.cmd("mail-inject").args(words).arg(format!("--attach=./{name}.pdf")).run().ok();
        bytes
    }

    /// How many jobs the printer has finished.
    fn count(&self) -> usize {
        let files = std::fs::read_dir(&self.env["CUPS_OUT"]).unwrap();
        files
            .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "data"))
            .count()
    }

    /// What the printer got as job `number`, once it has: CUPS says yes when it holds the job, and prints later.
    #[track_caller]
    fn printed(&self, number: usize) -> Printed {
        let path = |end: &str| Path::new(&self.env["CUPS_OUT"]).join(format!("{number}.{end}"));
        let deadline = Instant::now() + Duration::from_secs(30);
        while !path("data").exists() {
            assert!(Instant::now() < deadline, "job {number} did not arrive\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        let facts = std::fs::read_to_string(path("meta")).unwrap();
        let facts = facts.lines().filter_map(|line| line.split_once('='));
        Printed {
            bytes: std::fs::read(path("data")).unwrap(),
            facts: facts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("cups/log/error")).unwrap_or_default()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let down = self.script("down").arg("--wipe").run();
        if down.status != Some(0) {
            eprintln!("the print server did not go down:\n{}", down.shown());
        }
    }
}

/// The states in the records, in their order.
fn states(ran: &Ran) -> Vec<String> {
    ran.json().iter().map(|record| record["state"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
#[ignore = "needs a print server: run tests/run"]
fn what_was_mailed_is_printed_once_with_the_rules_options() {
    let shop = Shop::open();
    shop.configure(
        "print = \"office\"\nduplex = \"long-edge\"\nmedia = \"A4\"\ncopies = 2\ntitle = \"{subject}: {name}\"",
    );
    let sent = shop.send("-hw 1", "Übung 'drei'");
    assert_eq!(states(&shop.once().ok()), ["done"]);
    let printed = shop.printed(1);
    assert_eq!(printed.bytes, sent, "the printer got what was mailed");
    assert_eq!(printed.facts["printer"], "office");
    assert_eq!(printed.facts["copies"], "2");
    assert_eq!(printed.facts["type"], "application/pdf");
    assert!(printed.facts["title"].starts_with("Übung 'drei': "), "{}", printed.facts["title"]);
    let options: Vec<&str> = printed.facts["options"].split(' ').collect();
    assert!(options.contains(&"media=A4") && options.contains(&"sides=two-sided-long-edge"), "{options:?}");

    assert!(states(&shop.once().ok()).is_empty(), "nothing is left to do");
    shop.send("second", "another");
    assert_eq!(states(&shop.once().ok()), ["done"]);
    assert_eq!(
        shop.printed(2).bytes,
        pdf("second"),
        "the next job is the next file, not the first once more"
    );
    assert_eq!(shop.count(), 2);
}

#[test]
#[ignore = "needs a print server: run tests/run"]
fn a_command_of_your_own_prints_too() {
    let shop = Shop::open();
    shop.configure("print = \"office\"");
    let sent = [shop.send("a", "a"), shop.send("b c", "b")];
    let pipe = "mail-fetch school | mail-dissect -C in | mail-act";
    let run = format!("export CUPS_SERVER={}; {pipe} --run -- lp -d office {{}}", shop.env["CUPS_SERVER"]);
    shop.bench.sh(&run).run().ok();
    assert_eq!([shop.printed(1).bytes, shop.printed(2).bytes], sent);
    // The commands that are only shown are ones that a shell reads back.
    let shown = shop.bench.sh("mail-act in/* -- lp -d office -t '{name}' {}").run().ok();
    shop.cmd("sh").stdin(shown.out).run().ok();
    assert_eq!([shop.printed(3).bytes, shop.printed(4).bytes], sent);
    assert_eq!(shop.printed(4).facts["title"], "b c.pdf");
}

#[test]
#[ignore = "needs a print server: run tests/run"]
fn a_printer_that_is_off_prints_when_it_is_on_again() {
    let shop = Shop::open();
    shop.configure("print = \"office\"");
    // CUPS takes jobs for a printer that is off, and keeps them: it is CUPS' word that counts.
    shop.cmd("cupsdisable").arg("office").run().ok();
    let off = shop.send("off", "off");
    assert_eq!(states(&shop.once().ok()), ["done"]);
    assert_eq!(shop.count(), 0);
    shop.cmd("cupsenable").arg("office").run().ok();
    assert_eq!(shop.printed(1).bytes, off);

    // It takes none: lp ends with 1, nothing was printed, and it is tried again after a pause.
    shop.cmd("cupsreject").arg("office").run().ok();
    let refused = shop.send("refused", "refused");
    let ran = shop.once().fails(75).err_has("not accepting jobs").err_has("try 1 of 20");
    assert_eq!(states(&ran), ["later"], "{}", ran.shown());
    assert!(states(&shop.once()).is_empty(), "not before its time");
    shop.cmd("cupsaccept").arg("office").run().ok();
    shop.bench.cmd("mail-loop").args(["retry", "--last", "1"]).run().ok();
    assert_eq!(states(&shop.once().ok()), ["done"]);
    assert_eq!(shop.printed(2).bytes, refused);

    // The whole print server is gone, and comes back.
    shop.script("down").run().ok();
    let gone = shop.send("gone", "gone");
    assert_eq!(states(&shop.once().fails(75)), ["later"]);
    shop.script("cups").run().ok();
    let server = std::fs::read_to_string(shop.dir.join("cups.env")).unwrap();
    let server = server.lines().find_map(|line| line.strip_prefix("CUPS_SERVER=")).unwrap();
    shop.bench.cmd("mail-loop").args(["retry", "--last", "1"]).run().ok();
    let done = shop.cmd("mail-loop").args(["once", "--json"]).env("CUPS_SERVER", server).run().ok();
    assert_eq!(states(&done), ["done"]);
    assert_eq!(shop.printed(3).bytes, gone);
    assert_eq!(shop.count(), 3, "each was printed once");
}

#[test]
#[ignore = "needs a print server: run tests/run"]
fn a_printer_that_nobody_knows_is_given_up_at_last() {
    let shop = Shop::open();
    shop.configure("print = \"ofice\"\ntries = 2");
    shop.send("typo", "typo");
    let ran = shop.once().fails(75).err_has("The printer or class does not exist");
    assert_eq!(states(&ran), ["later"]);
    shop.bench.cmd("mail-loop").args(["retry", "1"]).run().ok();
    let ran = shop.once();
    let status = shop.bench.cmd("mail-loop").arg("status").run();
    assert_eq!(status.status, Some(1), "{}\n{}", ran.shown(), status.shown());
    // With a command of one's own its status says what it means: 1 is for good.
    let own = shop
        .bench
        .sh("mail-fetch school >&2 || true; mail-act home/in/* --run -- lp -d ofice")
        .run()
        .fails(69);
    own.err_has("lp failed with status 1");
}
