//! Servers that give the password back: whoever reads what our programs say must not learn it.

use crate::bench::Bench;
use crate::inject::hello;
use crate::transcript::Transcript;

const SECRET: &str = "hunter2";

fn base64(text: &str) -> String {
    base64_simd::STANDARD.encode_to_string(text)
}

/// Every form in which it may come back.
fn forms() -> Vec<String> {
    let forms = [SECRET.into(), "HUNTER2".into(), base64(SECRET), base64(&format!("\0u\0{SECRET}"))];
    let longer = [base64(&format!("{SECRET} again")), base64(&format!("so {SECRET}")), base64("or=hunter2.")];
    forms.into_iter().chain(longer).collect()
}

/// Nothing of it, and of what else is named, is in there.
#[track_caller]
fn assert_silent(text: &str, more: &[&str]) {
    for secret in forms().iter().map(String::as_str).chain(more.iter().copied()) {
        assert!(!text.to_lowercase().contains(&secret.to_lowercase()), "{secret} is told:\n{text}");
    }
}

#[test]
fn an_imap_server_that_says_it_is_not_quoted() {
    let echo = forms().join(" ");
    let ok = format!("S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR IDLE] {echo}\nC: a1 *\n");
    let scram = "S: * OK [CAPABILITY IMAP4rev1 AUTH=SCRAM-SHA-256 SASL-IR] hi\nC: a1 *\n";
    let (challenge, salted) = (base64(&format!("x={SECRET}")), base64("r=nobody,s=QUJD,i=4096"));
    let into = format!("{ok}S: a1 OK [CAPABILITY IMAP4rev1 IDLE] {echo}\nC: a2 EXAMINE *\n");
    let open = "S: * 0 EXISTS\nS: * OK [UIDVALIDITY 5] x\nS: * OK [UIDNEXT 1] x\nS: a2 OK x\nC: a3 IDLE\n";
    let scripts = [
        format!("S: * BYE {echo}"),
        format!("S: {echo}"),
        format!(
            "{ok}S: * NO {echo}\nS: * {echo}\nS: * CAPABILITY {echo}\nS: + {}\nC? *\nS: + {SECRET}",
            base64(&echo)
        ),
        format!("{ok}S: a1 NO [UNAVAILABLE] {echo}\nCLOSE"),
        format!("{ok}S: * BYE {echo}\nCLOSE"),
        format!("{scram}S: + {challenge}\nC? \nS: a1 NO [UNAVAILABLE] {echo}"),
        format!("{scram}S: + {salted}\nC? *\nS: a1 BAD {echo}"),
        format!("{into}S: * NO {echo}\nS: * BYE {echo}\nCLOSE"),
        format!("{into}S: a2 BAD {echo}\nCLOSE"),
        format!("{into}{open}S: a3 NO {echo}\nCLOSE"),
        // It ends here.
        format!("{ok}S: a1 NO {echo}"),
    ];
    let bench = Bench::new();
    bench.write("pw", SECRET);
    let play = Transcript::play(scripts);
    let cmd = bench.cmd("mail-fetch").args(["--imap", &play.url("imap"), "--user", "u", "-C", "m", "-vv"]);
    let cmd = cmd.args(["--password-file", "pw", "--timeout", "5s", "--state", "state", "--json"]);
    // What the heartbeat holds at the end is what it held before: each line of trouble.
    let ran = cmd.args(["--idle=1h", "--poll", "1s"]).env("MAILLOOP_PAUSE", "1").run();
    let heard = play.heard().join("\n");
    let ran = ran
        .fails(77)
        .err_has("(secret)")
        .err_has("S: + (…)")
        .err_has("S: a1 NO (…)")
        .err_has("* CAPABILITY (…)");
    let mut all = ran.shown();
    for file in bench.files("state") {
        all += &String::from_utf8_lossy(&bench.read(&format!("state/{}", file.display())));
    }
    assert!(all.contains("\"trouble\":\"cannot log in"), "{all}");
    let said = heard.lines().filter_map(|line| line.rsplit(' ').next()).filter(|word| word.len() > 13);
    let more: Vec<&str> = said.chain([challenge.as_str(), salted.as_str()]).collect();
    assert_silent(&all, &more);
}

#[test]
fn an_smtp_server_that_says_it_is_not_quoted() {
    let echo = forms().join(" ");
    let offer = |ways: &str| hello(&[ways, &format!("X-{echo}")]);
    let mail = "C: MAIL *\nS: 250 ECHO\nC: RCPT *\nS: 250 ECHO\nC: DATA\nS: 354 ECHO\nC~ .\nS: 250 2.0.0 ECHO\nC? QUIT";
    let (challenge, salted) = (base64(&format!("x={SECRET}")), base64("r=nobody,s=QUJD,i=4096"));
    let no = "C? *\nS: 454 4.7.0 ECHO";
    for (script, status) in [
        ("S: 454 ECHO".to_string(), 75),
        ("S: ECHO".into(), 76),
        (offer("AUTH PLAIN") + "C: AUTH *\nS: 535-5.7.8 ECHO\nS: 535 5.7.8 ECHO", 77),
        (offer("AUTH PLAIN") + "C: AUTH *\nS: 334 ECHO\nC? QUIT", 77),
        (offer("AUTH PLAIN") + "C: AUTH *\nS: 335 ECHO ECHO\nS: ECHO", 77),
        (offer("AUTH LOGIN") + "C: AUTH *\nS: 334 ECHO\nC: *\nS: 334 ECHO\nC: *\nS: 535 ECHO", 77),
        (
            offer("AUTH SCRAM-SHA-256")
                + &format!("C: AUTH *\nS: 334 {challenge}\nC: *\nS: 501 ECHO\nC? QUIT"),
            76,
        ),
        (offer("AUTH SCRAM-SHA-256") + &format!("C: AUTH *\nS: 334 {salted}\n{no}"), 76),
        (offer("AUTH PLAIN") + "C: AUTH *\nS: 235 ECHO\n" + mail, 0),
        (
            offer("AUTH PLAIN")
                + "C: AUTH *\nS: 235 ECHO\nC: MAIL *\nS: 550 ECHO\nC? RSET\nS: 250 ECHO\nC? QUIT",
            69,
        ),
        (offer("AUTH PLAIN") + "C: AUTH *\nS: 235 ECHO\nC: MAIL *\nS: ECHO", 75),
    ] {
        let bench = Bench::new();
        bench.write("pw", SECRET);
        let play = Transcript::play([script.replace("ECHO", &echo)]);
        let cmd = bench.cmd("mail-inject").args([
            "--smtp",
            &play.url("smtp"),
            "--from",
            "me@x.example",
            "-vv",
            "--json",
        ]);
        let cmd = cmd.args([
            "--user",
            "u",
            "--password-file",
            "pw",
            "--to",
            "you@y.example",
            "-s",
            "s",
            "--body",
            "b",
        ]);
        let ran = cmd.args(["--timeout", "5s"]).run();
        assert_eq!(ran.status, Some(status), "{script}\n{}", ran.shown());
        let heard = play.heard().join("\n");
        let said =
            heard.lines().filter(|line| line.starts_with("AUTH")).filter_map(|line| line.split(' ').nth(2));
        let more: Vec<&str> = said.chain([challenge.as_str(), salted.as_str()]).collect();
        assert_silent(&ran.shown(), &more);
    }
}
