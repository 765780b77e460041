//! The SMTP side, byte by byte.

use super::talk::Talk;
use crate::bench::Bench;

/// What lies in a user's `new/`, without the lines that the server put in front.
fn stored(bench: &Bench, user: &str) -> Vec<String> {
    let dir = format!("server/{user}/new");
    let texts = bench.files(&dir).into_iter().map(|name| bench.read(&format!("{dir}/{}", name.display())));
    texts
        .map(|bytes| {
            let text = String::from_utf8(bytes).unwrap();
            let (head, rest) = text.split_once(" +0").expect("the date of Received");
            assert!(head.starts_with("Return-Path: <"), "{text}");
            assert!(
                head.contains("\r\nReceived: from client.example ([127.0.0.1])\r\n\tby localhost"),
                "{text}"
            );
            rest.split_once("\r\n").expect("the end of Received").1.to_string()
        })
        .collect()
}

#[test]
fn pipelined_commands_are_answered_in_order_and_the_bytes_are_kept() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let mut talk = Talk::smtp(&server.smtp);
    talk.send(
        "MAIL FROM:<a@b.example> SIZE=20\r\nRCPT TO:<me@by.example>\r\nRCPT TO:<nobody@by.example>\r\n\
         RCPT TO:<ME+tag@BY.example>\r\nRCPT TO:<you@by.example>\r\nDATA\r\n",
    );
    for start in ["250 2.1.0", "250 2.1.5", "550 5.1.1", "250 2.1.5", "250 2.1.5", "354"] {
        talk.expect(start);
    }
    talk.send("Subject: x\r\n\r\n..one dot\r\nbare\nLF and\rCR\r\n.\r\nNOOP\r\nQUIT\r\n");
    for start in ["250 2.0.0", "250 2.0.0", "221 2.0.0"] {
        talk.expect(start);
    }
    assert!(talk.at_end());
    let wanted = "Subject: x\r\n\r\n.one dot\r\nbare\nLF and\rCR\r\n";
    assert_eq!(stored(&bench, "me@by.example"), [wanted]);
    assert_eq!(stored(&bench, "you@by.example"), [wanted]);
    assert!(bench.files("server/me@by.example/tmp").is_empty());
}

#[test]
fn a_dot_split_over_packets_ends_the_message_and_leaves_nothing_behind() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let mut talk = Talk::smtp(&server.smtp);
    talk.say("MAIL FROM:<>", "250");
    talk.say("RCPT TO:<me@by.example>", "250");
    talk.say("DATA", "354");
    // Each byte is its own packet; NOOP's answer would show if the dot were taken too early.
    for byte in b"a: b\r\n\r\nend\r\n.\r\n" {
        talk.send([*byte]);
    }
    talk.expect("250 2.0.0 stored");
    assert_eq!(stored(&bench, "me@by.example"), ["a: b\r\n\r\nend\r\n"]);
}

#[test]
fn bdat_takes_any_bytes_and_a_failed_one_is_read_over() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let mut talk = Talk::smtp(&server.smtp);
    talk.send("BDAT 6\r\nQUIT\r\n");
    talk.expect("503 5.5.1");
    talk.say("MAIL FROM:<a@b.example> BODY=8BITMIME SMTPUTF8", "250");
    talk.say("RCPT TO:<me@by.example>", "250");
    talk.send("BDAT 8\r\na: b\r\n\r\nBDAT 9 LAST\r\n.\r\n.\r\nxy\r\n");
    talk.expect("250 2.0.0 8 bytes");
    talk.expect("250 2.0.0 stored");
    // The last two bytes of what was sent are a line of their own.
    talk.expect("500 5.5.2");
    assert_eq!(stored(&bench, "me@by.example"), ["a: b\r\n\r\n.\r\n.\r\nxy\r"]);
}

#[test]
fn order_and_nonsense_are_told_and_survived() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let mut talk = Talk::connect(&server.smtp);
    talk.expect("220 ");
    talk.say("MAIL FROM:<a@b.example>", "503 5.5.1");
    talk.say("LHLO x", "500 5.5.1");
    talk.say("HELO x", "250 ");
    talk.say("RCPT TO:<me@by.example>", "503 5.5.1");
    talk.say("MAIL FROM:<a@b.example>", "250");
    talk.say("DATA", "554 5.5.1");
    talk.say("RCPT TO:<me@elsewhere.example>", "550 5.1.1");
    talk.say("RSET", "250");
    talk.say("\u{0}\u{1}\u{fe}garbage", "500 5.5.2");
    talk.say(&"x".repeat(100_000), "500 5.5.2 line too long");
    talk.say("VRFY me", "252");
    talk.say("EXPN all", "502");
    talk.say("NOOP", "250");
}

#[test]
fn too_big_is_552_before_or_after_the_bytes() {
    let bench = Bench::new();
    let mut command = bench.cmd("mail-sandbox").args(["--user", "me@by.example:secret", "--max-size", "10K"]);
    command = command.arg("-C").arg(bench.path("server"));
    let mut running = command.spawn();
    let url = running.line().strip_prefix("SMTP=").unwrap().to_string();
    let mut talk = Talk::smtp(&url);
    talk.say("MAIL FROM:<a@b.example> SIZE=10241", "552 5.3.4");
    talk.say("MAIL FROM:<a@b.example>", "250");
    talk.say("RCPT TO:<me@by.example>", "250");
    talk.say("DATA", "354");
    talk.send(format!("{}\r\n.\r\n", "x\r\n".repeat(10_000)));
    talk.expect("552 5.3.4");
    talk.say("MAIL FROM:<a@b.example>", "250");
    talk.say("RCPT TO:<me@by.example>", "250");
    talk.send(format!("BDAT 20000\r\n{}", "x".repeat(20_000)));
    talk.expect("552 5.3.4");
    talk.say("NOOP", "250");
    assert!(bench.files("server/me@by.example").iter().all(|path| path.ends_with("uidlist")));
}

#[test]
fn a_wrong_password_is_535_in_both_mechanisms() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let mut talk = Talk::smtp(&server.smtp);
    talk.say("AUTH PLAIN AG1lAHdyb25n", "535 5.7.8");
    talk.say("AUTH LOGIN", "334 VXNlcm5hbWU6");
    talk.say("bWU=", "334 UGFzc3dvcmQ6");
    talk.say("d3Jvbmc=", "535 5.7.8");
    talk.say("AUTH PLAIN", "334");
    talk.say("*", "501");
    talk.say("AUTH CRAM-MD5", "504");
    // "\0me@by.example\0secret"
    talk.say("AUTH PLAIN AG1lQGJ5LmV4YW1wbGUAc2VjcmV0", "235 2.7.0");
    talk.say("AUTH PLAIN AG1lQGJ5LmV4YW1wbGUAc2VjcmV0", "503");
}

#[test]
fn what_was_slipped_in_before_tls_is_thrown_away() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let mut talk = Talk::smtp(&server.smtp);
    talk.send("STARTTLS\r\nMAIL FROM:<evil@b.example>\r\n");
    talk.expect("220 2.0.0");
    talk.start_tls(&server.ca);
    // The first answer is that to NOOP, and nobody has said EHLO.
    talk.say("NOOP", "250 2.0.0");
    talk.say("MAIL FROM:<a@b.example>", "503 5.5.1 say EHLO first");
    let mut talk = Talk::connect(&server.imap);
    talk.expect("* OK");
    talk.send("a STARTTLS\r\nb LOGIN me secret\r\n");
    talk.expect("a OK");
    talk.start_tls(&server.ca);
    talk.say("c SELECT INBOX", "c BAD log in first");
}
