//! mail-inject and mail-queue against real Postfix and Dovecot: the extensions they offer, and servers that come and go.

use super::Rig;
use crate::bench::{Bench, Cmd, Ran};

/// A bench and the servers, and an account that logs in at Postfix over STARTTLS.
fn desk(env: &[(&str, &str)]) -> (Bench, Rig) {
    let (bench, rig) = (Bench::new(), Rig::up_with(env));
    bench.write("password", format!("{}\n", rig.get("RIG_PASS")));
    let config = format!(
        "[account.u2]\naddress = \"u2@rig.test\"\nsmtp = \"{}\"\ntls = \"starttls\"\ntls_ca = \"{}\"\nuser = \"u2\"\n\
         password_file = \"{}\"\nconnections = 3\n",
        rig.url("smtp", "SUBMISSION_PORT"),
        rig.ca().display(),
        bench.path("password").display()
    );
    bench.write("home/.config/mailloop/config.toml", config);
    (bench, rig)
}

/// In the clear, without a login.
fn inject(bench: &Bench, rig: &Rig, to: &str) -> Cmd {
    let url = format!("smtp://127.0.0.1:{}", rig.get("SMTP_PORT"));
    bench.cmd("mail-inject").args(["--smtp", &url, "--from", "u2@rig.test", "--to", to, "--json", "-vv"])
}

/// `to:outcome:class` of the only record.
fn fates(ran: &Ran) -> Vec<String> {
    let records = ran.json();
    assert_eq!(records.len(), 1, "{}", ran.shown());
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_string();
    let all = records[0]["recipients"].as_array().unwrap().iter();
    all.map(|each| format!("{}:{}:{}", text(&each["to"]), text(&each["outcome"]), text(&each["class"])))
        .collect()
}

/// The only message in a mailbox, with LF line ends.
fn only(rig: &Rig, user: &str) -> String {
    rig.await_mail(user, 1);
    let new = std::path::Path::new(rig.get("RIG_MAIL")).join(user).join("Maildir/new");
    let mut all = std::fs::read_dir(new).unwrap();
    let text = std::fs::read_to_string(all.next().unwrap().unwrap().path()).unwrap();
    assert!(all.next().is_none(), "{user} has more than one message");
    text.replace("\r\n", "\n")
}

#[test]
#[ignore = "needs real servers: run tests/run"]
fn chunks_reports_and_eight_bits() {
    let (bench, rig) = desk(&[]);
    let body = "Gr\u{fc}\u{df}e\n.\n..\n.x\nMAIL FROM:<evil@rig.test>\n\nend\n";
    let message = format!(
        "From: u2@rig.test\nTo: u1@rig.test\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
         Content-Transfer-Encoding: 8bit\n\n{body}"
    );
    let cmd =
        inject(&bench, &rig, "u1@rig.test").args(["-t", "--notify", "success,failure", "--ret", "hdrs"]);
    let ran = cmd.stdin(&message).run().ok();
    for wanted in ["C: BDAT ", " LAST", " BODY=8BITMIME", " RET=HDRS", " NOTIFY=SUCCESS,FAILURE", " SIZE="] {
        assert!(ran.err_text().contains(wanted), "{wanted}: {}", ran.shown());
    }
    let got = only(&rig, "u1");
    assert!(got.ends_with(&format!("\n\n{body}")), "{got}");
    // The report that was ordered comes to the sender.
    let report = only(&rig, "u2");
    assert!(report.contains("multipart/report") && report.contains("u1@rig.test"), "{report}");
    // An address that is not ASCII: accepted as an author, refused as an unknown user, never taken for another.
    let to = inject(&bench, &rig, "\u{fc}1@rig.test").args(["--body", "b"]).run().fails(69);
    assert!(to.err_text().contains(" SMTPUTF8"), "{}", to.shown());
    assert_eq!(fates(&to), ["\u{fc}1@rig.test:never:no-user"]);
    let url = format!("smtp://127.0.0.1:{}", rig.get("SMTP_PORT"));
    let words = ["--from", "j\u{fc}rgen@corpus.test", "--to", "u3@rig.test", "--body", "b", "-vv"];
    bench.cmd("mail-inject").args(["--smtp", &url]).args(words).run().ok().err_has(" SMTPUTF8");
}

#[test]
#[ignore = "needs real servers: run tests/run"]
fn one_of_three_is_refused_and_the_size_is_known_before() {
    let (bench, rig) = desk(&[("RIG_SIZE_LIMIT", "100000")]);
    let to = "u1@rig.test, nobody@rig.test, u3@rig.test, a@elsewhere.test";
    let ran = inject(&bench, &rig, to).args(["-s", "three", "--body", "b"]).run().fails(69);
    let wanted = [
        "u1@rig.test:done:",
        "nobody@rig.test:never:no-user",
        "u3@rig.test:done:",
        "a@elsewhere.test:never:auth-policy",
    ];
    let got = fates(&ran);
    assert_eq!(got[..3], wanted[..3], "{}", ran.shown());
    assert!(got[3].starts_with("a@elsewhere.test:never:"), "{}", ran.shown());
    for user in ["u1", "u3"] {
        assert!(only(&rig, user).contains("Subject: three\n"));
    }
    bench.write("large", vec![b'x'; 100_000]);
    let ran = inject(&bench, &rig, "u1@rig.test").args(["--attach", "large"]).run().fails(69);
    assert_eq!(fates(&ran), ["u1@rig.test:never:size"]);
    let ran = ran.err_has("takes at most 100000");
    assert!(!ran.err_text().contains("C: MAIL"), "{}", ran.shown());
}

#[test]
#[ignore = "needs real servers: run tests/run"]
fn the_queue_waits_for_the_server_and_two_runs_send_once() {
    const COUNT: usize = 40;
    let (bench, rig) = desk(&[]);
    rig.server("stop", "smtp");
    for n in 0..COUNT {
        let text =
            format!("From: u2@rig.test\nTo: u1@rig.test, u3@rig.test\nMessage-ID: <{n}.@rig.test>\n\nx\n");
        bench.write(&format!("m/{n}"), text);
    }
    let paths: String = (0..COUNT).map(|n| format!("m/{n}\n")).collect();
    bench.cmd("mail-inject").args(["--queue", "--batch"]).stdin(paths).run().ok();
    let queue = |words: &[&str]| bench.cmd("mail-queue").args(words);
    queue(&["run"]).run().fails(75).err_has("refused");
    assert_eq!(queue(&["list", "--relays"]).run().ok().lines().len(), 1);
    assert_eq!(queue(&["list"]).run().ok().lines().len(), COUNT);
    rig.server("start", "smtp");
    let first = queue(&["list"]).run().ok().lines()[0].split('\t').next().unwrap().to_string();
    queue(&["release", &first]).run().ok();
    let runs = [queue(&["run", "-j", "3"]).spawn(), queue(&["run", "-j", "3"]).spawn()];
    let mut sent: Vec<String> = runs.into_iter().flat_map(|run| run.wait().lines()).collect();
    // What one had in hand when the other looked waits for nobody.
    sent.extend(queue(&["run"]).run().ok().lines());
    sent.sort();
    let mut wanted: Vec<String> = (0..COUNT).map(|n| format!("<{n}.@rig.test>")).collect();
    wanted.sort();
    assert_eq!(sent, wanted);
    for user in ["u1", "u3"] {
        rig.await_mail(user, COUNT);
        assert_eq!(rig.held(user), COUNT, "{user}");
    }
    // Killed while it runs: what was in hand is told as unknown, nothing is lost.
    rig.server("kill", "smtp");
    bench
        .cmd("mail-inject")
        .args(["--queue", "-t"])
        .stdin("To: u1@rig.test\nSubject: late\n\nx\n")
        .run()
        .ok();
    queue(&["run"]).run().fails(75);
    rig.server("start", "smtp");
    let id = queue(&["list"]).run().ok().lines()[0].split('\t').next().unwrap().to_string();
    queue(&["release", &id]).run().ok();
    queue(&["run"]).run().ok();
    rig.await_mail("u1", COUNT + 1);
}

#[test]
#[ignore = "needs real servers: run tests/run"]
fn lmtp_over_a_socket_and_into_a_maildir() {
    let (bench, rig) = desk(&[]);
    let socket = format!("lmtp://{}/dovecot/run/lmtp", rig.get("RIG_DIR"));
    let words = ["--from", "a@corpus.test", "--to", "u3@rig.test, nobody@rig.test, u1@rig.test", "--json"];
    let text = ["-s", "by LMTP", "--body", ".\n"];
    for url in [socket, format!("lmtp://127.0.0.1:{}", rig.get("LMTP_PORT"))] {
        let ran = bench.cmd("mail-inject").args(["--smtp", &url]).args(words).args(text).run().fails(69);
        let wanted = ["u3@rig.test:done:", "nobody@rig.test:never:no-user", "u1@rig.test:done:"];
        assert_eq!(fates(&ran), wanted, "{url}: {}", ran.shown());
    }
    assert_eq!((rig.held("u3"), rig.held("u1")), (2, 2));
    // What we deliver ourselves Dovecot serves.
    let maildir = format!("{}/u4/Maildir", rig.get("RIG_MAIL"));
    let url = format!("local:{maildir}");
    let words = ["--from", "a@corpus.test", "--to", "u4@rig.test", "-s", "by hand", "--body", "there"];
    bench.cmd("mail-inject").args(["--smtp", &url]).args(words).run().ok();
    assert_eq!(rig.held("u4"), 1);
    bench.sh(&format!("chown -R mail:mail {maildir}")).run().ok();
    let user = format!("u4:{}", rig.get("RIG_PASS"));
    let url = format!("{}/INBOX;MAILINDEX=1", rig.url("imaps", "IMAPS_PORT"));
    let curl = bench.cmd("curl").args(["-sS", "--cacert", rig.get("RIG_CA"), "-u", &user, &url]);
    let message = curl.run().ok().out_text();
    assert!(message.contains("Return-Path: <a@corpus.test>") && message.contains("there"), "{message}");
}
