//! mail-inject through the binary: what is composed, what is refused, and what becomes of each recipient when the
//! server is rude.

use super::bench::{Bench, Cmd, pdf};
use super::transcript::Transcript;

/// A greeting and an EHLO answer with these abilities.
pub(crate) fn hello(abilities: &[&str]) -> String {
    let mut script = String::from("S: 220 rude ESMTP\nC: EHLO [127.0.0.1]\nS: 250-rude\n");
    for ability in abilities {
        script += &format!("S: 250-{ability}\n");
    }
    script + "S: 250 HELP\n"
}

fn inject(bench: &Bench, url: &str, to: &[&str]) -> Cmd {
    let cmd =
        bench.cmd("mail-inject").args(["--smtp", url, "--from", "me@x.example", "-s", "s", "--body", "b"]);
    to.iter().fold(cmd, |cmd, to| cmd.args(["--to", to]))
}

/// `to:outcome` for each recipient of the only record.
fn fates(ran: &super::bench::Ran) -> Vec<String> {
    let records = ran.json();
    assert_eq!(records.len(), 1, "{}", ran.shown());
    let recipients = records[0]["recipients"].as_array().expect("a list").clone();
    let fate = |each: &serde_json::Value| {
        format!("{}:{}", each["to"].as_str().expect("a text"), each["outcome"].as_str().expect("a text"))
    };
    recipients.iter().map(fate).collect()
}

/// Each stage refused for now and for good, with and without PIPELINING.
#[test]
fn refusals_at_each_stage() {
    let stages = [
        ("C: MAIL *\nS: CODE no\nC? RSET\nS: 250 ok\nC? QUIT\n", "MAIL"),
        (
            "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: CODE no\nC? RSET\nS: 250 ok\nC? RSET\nS: 250 ok\nC? QUIT\n",
            "RCPT",
        ),
        (
            "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\nC: DATA\nS: CODE no\nC? RSET\nS: 250 ok\nC? QUIT\n",
            "DATA",
        ),
        (
            "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\nC: DATA\nS: 354 go\nC~ .\nS: CODE no\nC? QUIT\nS: 221 bye\n",
            "dot",
        ),
    ];
    let bench = Bench::new();
    for (script, stage) in stages {
        for (code, status, outcome) in [("451 4.3.0", 75, "later"), ("554 5.7.1", 69, "never")] {
            let play = Transcript::play([hello(&["8BITMIME"]) + &script.replace("CODE", code)]);
            let ran = inject(&bench, &play.url("smtp"), &["you@y.example"]).arg("--json").run();
            let ran = ran.fails(status).err_has(&format!("{code} no"));
            assert_eq!(fates(&ran), [format!("you@y.example:{outcome}")], "{stage} {code}");
            play.heard();
        }
    }
    // Pipelined: the refusal of MAIL makes all that follow fail, and is the reason that counts.
    let script =
        "C: MAIL *\nC: RCPT *\nC: DATA\nS: 550 no\nS: 503 what\nS: 503 what\nC: RSET\nS: 250 ok\nC? QUIT\n";
    let play = Transcript::play([hello(&["PIPELINING"]) + script]);
    inject(&bench, &play.url("smtp"), &["you@y.example"]).run().fails(69).err_has("550 no");
    play.heard();
}

#[test]
fn before_the_first_message() {
    let bench = Bench::new();
    for (script, status, says) in [
        ("S: 554 5.7.1 go away\n", 69, "554 5.7.1 go away"),
        ("S: 421 4.3.2 busy\n", 75, "421 4.3.2 busy"),
        ("S: 220 hi\nC: EHLO *\nS: 550 no\n", 69, "550 no"),
        ("S: 220 hi\nC: EHLO *\nCLOSE\n", 75, "closed the connection"),
        ("S: hello there\n", 76, "no SMTP reply"),
        ("S- 220-x\\r\\n220", 75, "closed the connection"),
        ("CLOSE", 75, "closed the connection"),
    ] {
        let play = Transcript::play([script]);
        let ran = inject(&bench, &play.url("smtp"), &["you@y.example"]).run().fails(status).err_has(says);
        assert_eq!(ran.out_text(), "", "{script}");
        play.heard();
    }
    // Nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().expect("bound");
    inject(&bench, &format!("smtp://{free}"), &["you@y.example"]).run().fails(75);
}

#[test]
fn an_old_server_knows_only_helo() {
    let bench = Bench::new();
    let play = Transcript::play([
        "S: 220 hi\nC: EHLO *\nS: 502 what\nC: HELO *\nS: 250 hi\nC: MAIL FROM:<me@x.example>\nS: 250 ok\n\
         C: RCPT TO:<you@y.example>\nS: 250 ok\nC: DATA\nS: 354 go\nC~ .\nS: 250 ok\nC? QUIT",
    ]);
    inject(&bench, &play.url("smtp"), &["you@y.example"]).run().ok();
    play.heard();
}

#[test]
fn one_of_three_is_refused() {
    let bench = Bench::new();
    for (abilities, pipelined) in [(&["PIPELINING"][..], true), (&[][..], false)] {
        let replies = ["250 ok", "550 5.1.1 no such user", "451 4.7.1 greylisted"];
        let script = match pipelined {
            true => format!(
                "C: MAIL *\nC: RCPT TO:<a@y.example>\nC: RCPT *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: {}\nS: {}\nS: {}\n",
                replies[0], replies[1], replies[2]
            ),
            false => {
                let each: String = replies.iter().map(|reply| format!("C: RCPT *\nS: {reply}\n")).collect();
                format!("C: MAIL *\nS: 250 ok\n{each}C: DATA\n")
            }
        };
        let play =
            Transcript::play([hello(abilities) + &script + "S: 354 go\nC~ .\nS: 250 2.0.0 as 1\nC? QUIT"]);
        let to = ["a@y.example", "b@y.example", "c@y.example"];
        let ran = inject(&bench, &play.url("smtp"), &to).arg("--json").run();
        // Never 75: sending it again would give a@y.example a second one.
        let ran = ran.fails(69).err_has("b@y.example does not get").err_has("c@y.example has not got");
        assert_eq!(fates(&ran), ["a@y.example:done", "b@y.example:never", "c@y.example:later"]);
        play.heard();
    }
}

#[test]
fn nobody_accepted_but_the_server_waits_for_data() {
    let bench = Bench::new();
    let play = Transcript::play([hello(&["PIPELINING"])
        + "C: MAIL *\nC: RCPT *\nC: DATA\nS: 250 ok\nS: 550 no\nS: 354 go\nC: .\nS: 554 none\nC: RSET\nS: 250 ok\nC? QUIT"]);
    inject(&bench, &play.url("smtp"), &["a@y.example"]).run().fails(69);
    play.heard();
}

#[test]
fn cut_before_the_dot_is_later_and_after_it_unknown() {
    let bench = Bench::new();
    let start = "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\nC: DATA\n";
    for (end, status, outcome) in [
        ("CLOSE", 75, "later"),
        ("S: 421 4.3.2 going down\nCLOSE", 75, "later"),
        ("S: 354 go\nC~ .\nCLOSE", 76, "unknown"),
        ("S: 354 go\nC~ .\nS: what?\n", 76, "unknown"),
        ("S: 354 go\nC~ .\nS: 354 more?\n", 76, "unknown"),
        ("S: 354 go\nC~ .\nS: 421 4.3.2 going down\n", 75, "later"),
        ("S: 250 weird\nSTALL", 75, "later"),
    ] {
        let play = Transcript::play([format!("{}{start}{end}", hello(&[]))]);
        let ran = inject(&bench, &play.url("smtp"), &["a@y.example"]).arg("--json").run().fails(status);
        assert_eq!(fates(&ran), [format!("a@y.example:{outcome}")], "{end}");
        play.heard();
    }
    // Silence after the dot, with a limit.
    let play = Transcript::play([format!("{}{start}S: 354 go\nC~ .\nSTALL", hello(&[]))]);
    let ran =
        inject(&bench, &play.url("smtp"), &["a@y.example"]).args(["--json", "--timeout", "200ms"]).run();
    assert_eq!(fates(&ran.fails(76)), ["a@y.example:unknown"]);
    play.heard();
}

#[test]
fn starttls_is_never_done_without() {
    let bench = Bench::new();
    bench.write("secret", "hunter2\n");
    let login = ["--tls", "starttls", "--user", "me", "--password-file", "secret"];
    for (script, status, says) in [
        (hello(&["AUTH PLAIN"]) + "STALL", 76, "offers no STARTTLS"),
        (
            hello(&["STARTTLS"]) + "C: STARTTLS\nS- 220 go\\r\\n250 injected\\r\\n\nSTALL",
            76,
            "in front of TLS",
        ),
        (hello(&["STARTTLS"]) + "C: STARTTLS\nS: 454 not now\nSTALL", 75, "454 not now"),
        (hello(&["STARTTLS"]) + "C: STARTTLS\nS: 501 no\nSTALL", 76, "501 no"),
    ] {
        let play = Transcript::play([script]);
        inject(&bench, &play.url("smtp"), &["a@y.example"]).args(login).run().fails(status).err_has(says);
        let heard = play.heard();
        assert!(heard.iter().all(|line| line.starts_with("EHLO") || line == "STARTTLS"), "{heard:?}");
    }
}

#[test]
fn a_password_never_goes_in_the_clear_to_another_machine() {
    let bench = Bench::new();
    bench.write("secret", "hunter2\n");
    let args = ["--tls", "none", "--user", "me", "--password-file", "secret"];
    inject(&bench, "smtp://192.0.2.1", &["a@y.example"]).args(args).run().fails(78).err_has("without TLS");
}

#[test]
fn logins() {
    let bench = Bench::new();
    bench.write("secret", "hunter2\nnot this\n");
    let login = ["--user", "me", "--password-file", "secret"];
    let rest = "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\nC: DATA\nS: 354 go\nC~ .\nS: 250 ok\nC? QUIT";
    for (abilities, script, status) in [
        ("AUTH LOGIN PLAIN", format!("C: AUTH PLAIN AG1lAGh1bnRlcjI=\nS: 235 ok\n{rest}"), 0),
        (
            "AUTH LOGIN",
            format!(
                "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: bWU=\nS: 334 UGFzc3dvcmQ6\nC: aHVudGVyMg==\nS: 235 ok\n{rest}"
            ),
            0,
        ),
        ("AUTH PLAIN", "C: AUTH PLAIN *\nS: 535 5.7.8 no\n".into(), 77),
        ("AUTH PLAIN", "C: AUTH PLAIN *\nS: 454 4.7.0 later\n".into(), 75),
        ("AUTH GSSAPI", "STALL".into(), 77),
        ("SIZE", "STALL".into(), 77),
    ] {
        let play = Transcript::play([hello(&[abilities]) + &script]);
        let ran =
            inject(&bench, &play.url("smtp"), &["a@y.example"]).args(login).arg("-vv").run().fails(status);
        assert!(
            !ran.err_text().contains("hunter2") && !ran.err_text().contains("aHVudGVyMg"),
            "{}",
            ran.shown()
        );
        play.heard();
    }
}

#[test]
fn tokens() {
    let bench = Bench::new();
    let rest = "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\nC: DATA\nS: 354 go\nC~ .\nS: 250 ok\nC? QUIT";
    let xoauth2 = base64_simd::STANDARD.encode_to_string("user=a=b@x.example\x01auth=Bearer t0ken\x01\x01");
    let why = base64_simd::STANDARD.encode_to_string("{\"status\":\"401\"}");
    for (offer, script, status) in [
        ("AUTH XOAUTH2 PLAIN", format!("C: AUTH XOAUTH2 {xoauth2}\nS: 235 ok\n{rest}"), 0),
        ("AUTH XOAUTH2 OAUTHBEARER", format!("C: AUTH OAUTHBEARER *\nS: 235 ok\n{rest}"), 0),
        ("AUTH XOAUTH2", format!("C: AUTH XOAUTH2 *\nS: 334 {why}\nC: \nS: 535 5.7.8 no\n"), 77),
        ("AUTH OAUTHBEARER", format!("C: AUTH OAUTHBEARER *\nS: 334 {why}\nC: AQ==\nS: 535 5.7.8 no\n"), 77),
        // Never a token as a password.
        ("AUTH PLAIN LOGIN", "STALL".into(), 77),
    ] {
        let play = Transcript::play([hello(&[offer]) + &script]);
        let login = ["--user", "a=b@x.example", "--token-command", "printf t0ken"];
        let ran = inject(&bench, &play.url("smtp"), &["you@y.example"]).args(login).arg("-vv").run();
        assert_eq!(ran.status, Some(status), "{}", ran.shown());
        assert!(!ran.err_text().contains("t0ken"), "{}", ran.shown());
        for line in play.heard().iter().filter(|line| line.starts_with("AUTH OAUTHBEARER ")) {
            let text = base64_simd::STANDARD.decode_to_vec(line.split(' ').nth(2).unwrap()).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert!(text.starts_with("n,a=a=3Db@x.example,\x01host=127.0.0.1\x01port="), "{text:?}");
        }
    }
}

#[test]
fn a_server_that_cannot_show_that_it_knows_the_password_is_left() {
    let bench = Bench::new();
    bench.write("secret", "hunter2\n");
    let encoded = |text: &str| base64_simd::STANDARD.encode_to_string(text);
    let other = encoded("r=somebody-else,s=QUJD,i=4096");
    let plain = encoded("\0me\0hunter2");
    let rest = "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\nC: DATA\nS: 354 go\nC~ .\nS: 250 ok\nC: QUIT";
    for (words, offer, script, status, why) in [
        (
            vec![],
            "AUTH PLAIN SCRAM-SHA-1 SCRAM-SHA-256",
            "C: AUTH SCRAM-SHA-256 *\nS: 235 ok\nC? QUIT".into(),
            76,
            "did not show",
        ),
        (
            vec![],
            "AUTH PLAIN SCRAM-SHA-1",
            "C: AUTH SCRAM-SHA-1 *\nS: 235 ok\nC? QUIT".into(),
            76,
            "did not show",
        ),
        (
            vec![],
            "AUTH SCRAM-SHA-256",
            format!("C: AUTH SCRAM-SHA-256 *\nS: 334 {other}\nC: *\nS: 501 as you like\nC? QUIT"),
            76,
            "nonce",
        ),
        (
            vec![],
            "AUTH SCRAM-SHA-256",
            "C: AUTH SCRAM-SHA-256 *\nS: 535 5.7.8 no\nC? QUIT".into(),
            77,
            "5.7.8",
        ),
        (
            vec!["--auth", "plain"],
            "AUTH PLAIN SCRAM-SHA-256",
            format!("C: AUTH PLAIN {plain}\nS: 235 ok\n{rest}"),
            0,
            "",
        ),
        (vec!["--auth", "login"], "AUTH PLAIN SCRAM-SHA-256", "C? QUIT".into(), 77, "LOGIN was asked for"),
    ] {
        let play = Transcript::play([hello(&[offer]) + &script]);
        let login = ["--user", "me", "--password-file", "secret", "-vv"];
        let ran = inject(&bench, &play.url("smtp"), &["you@y.example"]).args(login).args(words).run();
        assert_eq!(ran.status, Some(status), "{}", ran.shown());
        let ran = ran.err_has(why);
        let heard = play.heard();
        assert!(status == 0 || !heard.iter().any(|line| line.contains("AUTH PLAIN")), "{heard:?}");
        let said = heard.iter().find_map(|line| line.strip_prefix("AUTH SCRAM-SHA-256 "));
        assert!(!ran.err_text().contains(said.unwrap_or("hunter2")), "{}", ran.shown());
    }
}

#[test]
fn what_the_server_cannot_take_is_not_offered() {
    let bench = Bench::new();
    let play = Transcript::play([hello(&["SIZE 100"]) + "C? QUIT"]);
    inject(&bench, &play.url("smtp"), &["a@y.example"]).run().fails(69).err_has("at most 100");
    assert_eq!(play.heard(), ["EHLO [127.0.0.1]", "QUIT"]);
    let play = Transcript::play([hello(&[]) + "C? QUIT"]);
    inject(&bench, &play.url("smtp"), &["jürgen@y.example"]).run().fails(69).err_has("SMTPUTF8");
    assert_eq!(play.heard(), ["EHLO [127.0.0.1]", "QUIT"]);
    let play = Transcript::play([hello(&["SMTPUTF8", "8BITMIME", "SIZE"])
        + "C: MAIL FROM:<me@x.example> SIZE=*\nS: 250 ok\nC: RCPT TO:<jürgen@y.example>\nS: 550 no\nC? RSET"]);
    inject(&bench, &play.url("smtp"), &["jürgen@y.example"]).run().fails(69);
    let heard = play.heard();
    assert!(heard[1].ends_with(" BODY=8BITMIME SMTPUTF8"), "{heard:?}");
}

#[test]
fn dots_and_bare_line_ends_cannot_smuggle() {
    let bench = Bench::new();
    let one = "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\nC: DATA\nS: 354 go\nC~ .\nS: 250 ok\n";
    let play = Transcript::play([hello(&[]) + one + "C: QUIT"]);
    let evil = "From: a@x\nTo: b@x\n\n.\nhi\r.\rMAIL FROM:<evil@x>\r\n.\r\n..\nend";
    bench.cmd("mail-inject").args(["--smtp", &play.url("smtp"), "-t"]).stdin(evil).run().ok();
    let heard = play.heard();
    let body = heard.iter().skip_while(|line| !line.is_empty()).skip(1).cloned().collect::<Vec<_>>();
    assert_eq!(body, ["..", "hi", "..", "MAIL FROM:<evil@x>", "..", "...", "end", ".", "QUIT"]);
}

#[test]
fn a_batch_goes_over_one_connection_and_survives_its_end() {
    let bench = Bench::new();
    let one = "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\nC: DATA\nS: 354 go\nC~ .\nS: 250 ok\n";
    let play = Transcript::play([
        format!("{}{one}{one}", hello(&[])),
        // The first connection was closed while idle; nothing is lost and nothing doubled.
        format!("{}{one}C: QUIT", hello(&[])),
    ]);
    for n in 1..=3 {
        bench.write(&format!("{n}.eml"), format!("From: a@x\nTo: b@x\nMessage-ID: <{n}@x>\n\n{n}\n"));
    }
    let paths = "1.eml\nmissing.eml\n2.eml\n3.eml\n";
    let ran = bench.cmd("mail-inject").args(["--smtp", &play.url("smtp"), "--batch"]).stdin(paths).run();
    let ran = ran.fails(66).err_has("missing.eml");
    assert_eq!(ran.lines(), ["<1@x>", "<2@x>", "<3@x>"]);
    assert_eq!(play.heard().iter().filter(|line| *line == "DATA").count(), 3);
}

#[test]
fn bad_input_sends_nothing() {
    let bench = Bench::new();
    let server = bench.sandbox();
    bench.write("a.pdf", pdf("x"));
    let send = |args: &[&str], status| {
        let cmd = bench.cmd("mail-inject").args(["--smtp", &server.smtp]).args(args);
        let ran = cmd.stdin("").run().fails(status);
        assert_eq!(ran.out_text(), "", "{}", ran.shown());
    };
    let good = ["--from", "me@by.example", "--to", "you@by.example"];
    let with = |more: &[&str], status| send(&[&good[..], more].concat(), status);
    with(&["--attach", "a.pdf", "--attach", "nosuch.pdf"], 66);
    with(&["--attach", "."], 66);
    with(&["--body-file", "nosuch"], 66);
    with(&["--attach", "nosuch.pdf", "-n"], 66);
    with(&["-s", "a\r\nBcc: evil@by.example"], 64);
    with(&["--header", "X: a\nBcc: evil@by.example"], 64);
    with(&["--header", "no colon"], 64);
    with(&["--nonsense"], 64);
    with(&["--password-file", "a", "--password-command", "b"], 64);
    with(&["--to", "me@by.example\r\nRCPT TO:<evil@by.example>"], 64);
    with(&["--to", &format!("{}@by.example", "a".repeat(10_000))], 64);
    with(&["--tls", "starttls", "--tls-fingerprint", "12"], 64);
    with(&["-c", "nosuch.toml"], 66);
    send(&["--from", "me@by.example"], 64);
    send(&["--to", "me@by.example"], 64);
    send(&["-t"], 65);
    let ran = bench
        .cmd("mail-inject")
        .args(["--smtp", &server.smtp, "-t"])
        .stdin("From: a@x\n\nno recipient")
        .run();
    ran.fails(65).err_has("recipient");
    bench.cmd("mail-inject").args(["-a", "nosuch"]).args(good).run().fails(78);
    bench.cmd("mail-inject").args(good).run().fails(64).err_has("--smtp");
    assert!(bench.files("server").iter().all(|file| !file.to_string_lossy().contains("/new/")));
}

/// Python takes the message apart and finds the same names and bytes.
#[test]
fn python_reads_what_is_composed() {
    let bench = Bench::new();
    let long = format!("{}.pdf", "ü".repeat(90));
    let names = ["hw1.pdf", "Übung 1.pdf", "q\"uo;te.bin", long.as_str(), "日本.txt", "empty", "note.eml"];
    for name in names {
        let bytes = match name {
            "empty" => Vec::new(),
            "note.eml" => b"From: a@x\n\nhi\n".to_vec(),
            _ => pdf(name),
        };
        bench.write(name, bytes);
    }
    let body = format!("Grüße,\n.\n\nFrom me = you\n{}\n", "lang ".repeat(400));
    let mut cmd = bench.cmd("mail-inject").args([
        "-n",
        "--from",
        "Jürgen Müller <me@by.example>",
        "--to",
        "\"Doe, John\" <you@by.example>, b@x.example",
        "--cc",
        "c@x.example",
        "--bcc",
        "secret@x.example",
        "-s",
        "Übung — 1 with a rather long subject, longer than one line",
        "--header",
        "X-Tag: zwölf",
        "--body",
        &body,
    ]);
    for name in names {
        cmd = cmd.args(["--attach", name]);
    }
    let shown = cmd.run().ok();
    bench.write("message.eml", &shown.out);
    let script = r#"
import email, email.policy, sys, json
raw = open("message.eml", "rb").read()
assert b"secret@x.example" not in raw
assert raw.isascii() and raw.replace(b"\r\n", b"").find(b"\n") < 0
assert max(len(line) for line in raw.split(b"\r\n")) <= 998
for policy in (email.policy.default, email.policy.compat32):
    m = email.message_from_bytes(raw, policy=policy)
    parts = list(m.walk())
    names = [p.get_filename() for p in parts[2:]]
    if policy is email.policy.compat32:
        from email.utils import collapse_rfc2231_value
        names = [collapse_rfc2231_value(p.get_param("filename", header="content-disposition")) for p in parts[2:]]
    assert names == sys.argv[2:], names
    for name, part in zip(names, parts[2:]):
        assert part.get_payload(decode=True) == open(name, "rb").read(), name
        assert part["Content-Transfer-Encoding"] == "base64"
    assert parts[1].get_payload(decode=True).replace(b"\r\n", b"\n").decode() == sys.argv[1]
m = email.message_from_bytes(raw, policy=email.policy.default)
assert m["Subject"] == "Übung — 1 with a rather long subject, longer than one line", m["Subject"]
assert m["X-Tag"] == "zwölf", m["X-Tag"]
assert m["From"].addresses[0].display_name == "Jürgen Müller", m["From"]
assert [a.addr_spec for a in m["To"].addresses] == ["you@by.example", "b@x.example"]
assert m["To"].addresses[0].display_name == "Doe, John", m["To"]
assert m["Date"].datetime and m["Message-ID"].endswith("@by.example>")
types = [p.get_content_type() for p in list(m.walk())[2:]]
assert types[0] == "application/pdf" and types[6] == "application/octet-stream", types
assert not m.defects and not any(p.defects for p in m.walk()), [p.defects for p in m.walk()]
"#;
    bench.write("check.py", script);
    bench.cmd("python3").arg("check.py").arg(&body).args(names).run().ok();
}

#[test]
fn bodies_come_back_exactly() {
    let bench = Bench::new();
    let server = bench.sandbox();
    bench.write("a.pdf", pdf("one"));
    bench.write("text", "from a file\n");
    for (args, wanted) in [
        (&["--body", "plain\n"][..], "plain\n"),
        (&["--body", "Grüße\n.\n"][..], "Grüße\n.\n"),
        (&["--body-file", "text"][..], "from a file\n"),
        (&["--body-file", "-"][..], "from stdin\n"),
        (&["--body", "x\n", "--attach", "a.pdf"][..], "x\n"),
    ] {
        let cmd = bench.cmd("mail-inject").args(["--smtp", &server.smtp, "--from", "me@by.example"]);
        let ran = cmd.args(["--to", "you@by.example"]).args(args).stdin("from stdin\n").run().ok();
        let id = ran.out_text().trim().to_string();
        let script = r#"
import email, email.policy, glob, sys
for path in glob.glob("server/you@by.example/new/*"):
    m = email.message_from_bytes(open(path, "rb").read().replace(b"\r\n", b"\n"), policy=email.policy.default)
    if m["Message-ID"] == sys.argv[1]:
        text = m.get_body().get_content().replace("\r\n", "\n")
        assert text == sys.argv[2], repr(text)
        for part in m.iter_attachments():
            assert part.get_content() == open(part.get_filename(), "rb").read()
        sys.exit(0)
sys.exit("not there")
"#;
        bench.cmd("python3").arg("-c").arg(script).arg(&id).arg(wanted).run().ok();
    }
}

#[test]
fn a_finished_message_keeps_its_bytes() {
    let bench = Bench::new();
    let message = "From: Me <me@by.example>\nX-Odd:  two  blanks\t\nBcc: you@by.example,\n me@by.example\nTo: me@by.example\n\nbody\n";
    let cmd = bench.cmd("mail-inject").args(["-n", "-t"]).stdin(message);
    let text = cmd.run().ok().out_text();
    let start = "From: Me <me@by.example>\r\nX-Odd:  two  blanks\t\r\nTo: me@by.example\r\nDate: ";
    assert!(text.starts_with(start) && text.ends_with("@by.example>\r\n\r\nbody\r\n"), "{text}");
    let server = bench.sandbox();
    let send = |args: &[&str]| {
        let cmd = bench.cmd("mail-inject").args(["--smtp", &server.smtp, "-t", "--json"]).args(args);
        fates(&cmd.stdin(message).run().ok())
    };
    assert_eq!(send(&[]), ["you@by.example:done", "me@by.example:done"]);
    assert_eq!(send(&["--to", "me@by.example", "--from", "you@by.example"]), ["me@by.example:done"]);
}

#[test]
fn a_reader_that_leaves_and_a_text_that_is_missing() {
    let bench = Bench::new();
    bench.write("large", vec![b'x'; 4 << 20]);
    let show = "mail-inject -n --from a@x.example --to b@x.example --attach large";
    let ran = bench.sh(&format!("{{ {show} && echo 0 >status || echo $? >status; }} | head -n 1")).run().ok();
    assert_eq!((ran.lines(), ran.err_text()), (vec!["From: a@x.example".to_string()], String::new()));
    assert_eq!(bench.read("status"), b"141\n");
    let words = ["-n", "--from", "a@x.example", "--to", "b@x.example", "-s", "only this"];
    bench.cmd("mail-inject").args(words).stdin("lost").run().ok().err_has("--body-file -");
}

#[test]
fn trust_before_credentials() {
    let bench = Bench::new();
    let server = bench.sandbox();
    bench.write("secret", "secret\n");
    bench.write("wrong", "wrong\n");
    let send = |url: &str, args: &[&str]| {
        let cmd = inject(&bench, url, &["you@by.example"]).args(["--user", "me@by.example"]);
        cmd.args(args).run()
    };
    let ca = server.ca.to_str().unwrap();
    for (url, tls) in [(&server.smtps, "implicit"), (&server.smtp, "starttls")] {
        let url = url.replace("127.0.0.1", "localhost");
        send(&url, &["--tls", tls, "--tls-ca", ca, "--password-file", "secret"]).ok();
        send(&url, &["--tls", tls, "--tls-ca", ca, "--password-file", "wrong"]).fails(77);
        send(&url, &["--tls", tls, "--password-file", "secret"]).fails(76).err_has("certificate");
    }
}

#[test]
fn silence_and_garbage_have_limits() {
    let bench = Bench::new();
    let flood = format!("S: 220 hi\nC: EHLO *\nS- {}\nSTALL", "x".repeat(3_000_000));
    let endless = format!("S: 220 hi\nC: EHLO *\n{}STALL", "S: 250-again\n".repeat(20_000));
    for (script, status) in [
        ("STALL".to_string(), 75),
        ("S: 220 hi\nC: EHLO *\nSTALL".into(), 75),
        (hello(&[]) + "C: MAIL *\nSTALL", 75),
        (hello(&[]) + "C: MAIL *\nS: 250 ok\nC: RCPT *\nSTALL", 75),
        (hello(&[]) + "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\nC: DATA\nSTALL", 75),
        (hello(&["PIPELINING"]) + "C: MAIL *\nC: RCPT *\nC: DATA\nS: 250 ok\nSTALL", 75),
        (flood, 76),
        (endless, 76),
    ] {
        let play = Transcript::play([script]);
        let ran = inject(&bench, &play.url("smtp"), &["a@y.example"]).args(["--timeout", "300ms"]).run();
        assert_eq!(ran.fails(status).out_text(), "");
        play.heard();
    }
}

#[test]
fn more_recipients_than_a_server_must_take_go_in_groups() {
    let bench = Bench::new();
    let group = |n: usize| {
        let asked = "C: RCPT *\n".repeat(n);
        format!(
            "C: MAIL *\n{asked}C: DATA\nS: 250 ok\n{}S: 354 go\nC~ .\nS: 250 ok\n",
            "S: 250 ok\n".repeat(n)
        )
    };
    let play = Transcript::play([hello(&["PIPELINING"]) + &group(100) + &group(50) + "C: QUIT"]);
    let list: Vec<String> = (0..150).map(|n| format!("u{n}@y.example")).collect();
    let ran = inject(&bench, &play.url("smtp"), &[&list.join(", ")]).arg("--json").run().ok();
    assert_eq!(fates(&ran).len(), 150);
    play.heard();
}

#[test]
fn asked_to_end_it_still_hears_the_answer_that_decides() {
    let bench = Bench::new();
    let start = "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\nC: DATA\nS: 354 go\nC~ .\nPAUSE\nS: 250 2.0.0 ok\nC? QUIT";
    let play = Transcript::play([hello(&[]) + start]);
    let running = inject(&bench, &play.url("smtp"), &["a@y.example"]).arg("--json").spawn();
    play.await_pause();
    running.signal(rustix::process::Signal::TERM);
    play.go();
    let ran = running.wait();
    assert_eq!(ran.signal, Some(15), "{}", ran.shown());
    assert_eq!(fates(&ran), ["a@y.example:done"]);
    play.heard();
}

#[test]
fn help_teaches() {
    let bench = Bench::new();
    for program in ["mail-inject", "mail-queue"] {
        let text = bench.cmd(program).arg("--help").run().ok().out_text();
        assert!(text.contains("Examples:\n") && text.contains("Status"), "{text}");
        bench.cmd(program).arg("--version").run().ok();
    }
}

/// Each long flag of the two programs stands in its manual page.
#[test]
fn the_manual_knows_every_flag() {
    let bench = Bench::new();
    for (program, words) in [
        ("mail-inject", &["--help"][..]),
        ("mail-queue", &["--help"]),
        ("mail-queue", &["run", "--help"]),
        ("mail-queue", &["list", "--help"]),
        ("mail-queue", &["release", "--help"]),
    ] {
        let help = bench.cmd(program).args(words).run().ok().out_text();
        let page = format!("{}/man/{program}.1", env!("CARGO_MANIFEST_DIR"));
        let page = std::fs::read_to_string(page).unwrap().replace("\\-", "-");
        let flags = help.lines().filter_map(|line| {
            let line = line.trim_start();
            let at = line.find("--").filter(|_| line.starts_with('-'))?;
            line[at..].split([' ', ',', '=', '.']).next()
        });
        let flags: Vec<&str> =
            flags.filter(|flag| !["--quiet", "--verbose", "--null"].contains(flag)).collect();
        assert!(flags.len() > 4, "{help}");
        for flag in flags {
            assert!(page.contains(flag), "{program}: {flag} is not in the manual page");
        }
    }
}
