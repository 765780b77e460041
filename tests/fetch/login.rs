//! Logging in: which way is taken, what a server must show, and what never leaves this machine.

use crate::bench::{Bench, Cmd};
use crate::transcript::Transcript;

const REST: &str =
    "C: a2 EXAMINE *\nS: * 0 EXISTS\nS: * OK [UIDVALIDITY 1] x\nS: a2 OK\nC: a3 LOGOUT\nS: a3 OK";

fn fetch(bench: &Bench, url: &str) -> Cmd {
    bench.write("pw", "hunter2\n");
    let words = ["--user", "u", "--password-file", "pw", "-C", "m", "--timeout", "5s", "-vv"];
    bench.cmd("mail-fetch").args(["--imap", url]).args(words)
}

fn base64(text: &str) -> String {
    base64_simd::STANDARD.encode_to_string(text)
}

/// A server that offers these ways.
fn hello(ways: &str) -> String {
    format!("S: * OK [CAPABILITY IMAP4rev1 {ways}] hi\n")
}

#[test]
fn a_server_that_cannot_show_that_it_knows_the_password_is_left() {
    let offer = "AUTH=PLAIN AUTH=SCRAM-SHA-1 AUTH=SCRAM-SHA-256";
    let other = base64("r=somebody-else,s=QUJD,i=4096");
    for (offer, says, status, why) in [
        // A success that it never earned.
        (
            format!("{offer} SASL-IR"),
            "C: a1 AUTHENTICATE SCRAM-SHA-256 *\nS: a1 OK in".to_string(),
            76,
            "did not show",
        ),
        (
            offer.into(),
            "C: a1 AUTHENTICATE SCRAM-SHA-256\nS: +\nC: *\nS: a1 OK in".into(),
            76,
            "did not show",
        ),
        (
            offer.into(),
            format!("C: a1 AUTHENTICATE SCRAM-SHA-256\nS: +\nC: *\nS: + {other}\nC: \nS: a1 OK in"),
            76,
            "nonce",
        ),
        // Its own refusal is one.
        (
            format!("{offer} SASL-IR"),
            format!("C: a1 AUTHENTICATE SCRAM-SHA-256 *\nS: + {other}\nC: \nS: a1 NO no"),
            77,
            "check user and password",
        ),
        (
            "AUTH=SCRAM-SHA-1 SASL-IR".into(),
            "C: a1 AUTHENTICATE SCRAM-SHA-1 *\nS: a1 OK in".into(),
            76,
            "did not show",
        ),
    ] {
        let bench = Bench::new();
        let play = Transcript::play([hello(&offer) + &says]);
        let ran = fetch(&bench, &play.url("imap")).run().fails(status).err_has(why);
        let heard = play.heard().join("\n");
        let all = heard.clone() + &ran.shown();
        for secret in
            ["hunter2".to_string(), base64("hunter2"), base64("\0u\0hunter2"), "AUTHENTICATE PLAIN".into()]
        {
            assert!(!all.contains(&secret), "{all}");
        }
        // What we said to log in stands in no trace.
        let said = heard.split("SCRAM-SHA-256 ").nth(1).unwrap_or("(nothing)");
        assert!(!ran.err_text().contains(said), "{}", ran.shown());
    }
}

#[test]
fn the_way_that_was_asked_for_is_the_only_one() {
    let offer = hello("SASL-IR AUTH=PLAIN AUTH=LOGIN AUTH=SCRAM-SHA-256");
    let plain = format!("C: a1 AUTHENTICATE PLAIN {}\nS: a1 OK in\n{REST}", base64("\0u\0hunter2"));
    let login = format!("C: a1 LOGIN *\nS: a1 OK in\n{REST}");
    for (auth, script) in [("plain", plain), ("login", login)] {
        let bench = Bench::new();
        let rest = script.replace("a1 OK in", "a1 OK [CAPABILITY IMAP4rev1] in");
        let play = Transcript::play([offer.clone() + &rest]);
        fetch(&bench, &play.url("imap")).args(["--auth", auth]).run().ok();
        play.heard();
    }
    let bench = Bench::new();
    let play = Transcript::play([offer]);
    let ran = fetch(&bench, &play.url("imap")).args(["--auth", "scram-sha-1"]).run();
    ran.fails(77).err_has("SCRAM-SHA-1 was asked for, and it offers PLAIN, LOGIN, SCRAM-SHA-256");
    assert!(play.heard().is_empty());
}

#[test]
fn a_password_never_goes_in_the_clear_to_another_machine() {
    let bench = Bench::new();
    fetch(&bench, "imap://192.0.2.1").args(["--tls", "none"]).run().fails(78).err_has("without TLS");
    let account = "[account.far]\nimap = \"imap://192.0.2.1\"\ntls = \"none\"\nuser = \"u\"\npassword_command = [\"touch\", \
                   \"asked\"]\nmaildir = \"m\"\n";
    bench.write("config.toml", account);
    bench.cmd("mail-fetch").args(["-c", "config.toml", "far"]).run().fails(78).err_has("without TLS");
    assert!(!bench.path("asked").exists(), "the password was fetched for nothing");
}

#[test]
fn a_line_that_breaks_before_the_login_is_no_refused_login() {
    for (says, status, why) in [
        ("CLOSE", 75, "closed the connection"),
        ("S: * BYE too busy, come back later\nCLOSE", 75, "too busy, come back later"),
        ("S: a1 BAD what", 76, "what"),
    ] {
        let bench = Bench::new();
        let play = Transcript::play([format!("S: * OK ready\nC: a1 CAPABILITY\n{says}")]);
        let ran = fetch(&bench, &play.url("imap")).run().fails(status).err_has(why);
        let heard = play.heard();
        assert_eq!(heard, ["a1 CAPABILITY"], "{}", ran.shown());
    }
}
