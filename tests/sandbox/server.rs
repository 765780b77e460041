//! The server as a process: restarts, crashes, its form with a command, its limits.

use std::time::{Duration, Instant};

use mailloop::sandbox::{self, Options, User};
use rustix::process::Signal;

use super::talk::{Talk, deliver};
use crate::bench::Bench;

#[test]
fn uids_flags_and_keywords_outlive_a_crash() {
    let bench = Bench::new();
    let server = bench.sandbox();
    for k in 1..=3 {
        deliver(&server.smtp, &format!("Subject: {k}\r\n\r\nx"));
    }
    let mut talk = Talk::inbox(&server.imap);
    talk.ok("STORE 1 +FLAGS (\\Seen $Done)");
    talk.ok("STORE 3 +FLAGS (\\Deleted)");
    talk.ok("EXPUNGE");
    let before = talk.ok("SELECT INBOX");
    let kept = |lines: &[String]| {
        let wanted = |line: &&String| line.contains("[UIDVALIDITY") || line.contains("[UIDNEXT");
        lines.iter().filter(wanted).cloned().collect::<Vec<_>>()
    };
    deliver(&server.smtp, "Subject: 4\r\n\r\nx");
    server.kill();
    drop(server);
    // As if the power had failed before the last line of the list came to the disk.
    let list = String::from_utf8(bench.read("server/me@by.example/uidlist")).unwrap();
    let cut = list.trim_end().rfind('\n').unwrap();
    bench.write("server/me@by.example/uidlist", &list[..cut + 4]);

    let server = bench.sandbox();
    let mut talk = Talk::imap(&server.imap);
    let after = talk.ok("SELECT INBOX");
    assert_eq!(kept(&before)[0], kept(&after)[0]);
    assert!(after.contains(&"* OK [UIDNEXT 5] the next one".to_string()), "{after:#?}");
    let lines = talk.ok("FETCH 1:3 (UID FLAGS)");
    assert_eq!(
        &lines[..3],
        [
            "* 1 FETCH (FLAGS (\\Seen $Done) UID 1)",
            "* 2 FETCH (FLAGS () UID 2)",
            "* 3 FETCH (FLAGS (\\Recent) UID 4)",
        ]
    );
}

#[test]
fn a_command_gets_the_addresses_and_its_status_is_ours() {
    let bench = Bench::new();
    let run = |script: &str| {
        let user = ["--user", "me@by.example:secret", "--", "sh", "-c", script];
        bench.cmd("mail-sandbox").arg("-C").arg(bench.path("box")).args(user).run()
    };
    let ran = run("echo $SMTP $IMAP $SMTPS $IMAPS; test -s \"$CA\"").ok();
    let words: Vec<String> = ran.out_text().split_whitespace().map(str::to_string).collect();
    let starts = ["smtp://127.0.0.1:", "imap://127.0.0.1:", "smtps://localhost:", "imaps://localhost:"];
    assert_eq!(words.len(), 4);
    assert!(words.iter().zip(starts).all(|(word, start)| word.starts_with(start)), "{words:?}");
    run("exit 3").fails(3);
    run("kill -9 $$").fails(137);
    let command = ["--user", "me@by.example:secret", "--", "/no/such/program"];
    bench.cmd("mail-sandbox").arg("-C").arg(bench.path("box")).args(command).run().fails(66);
}

#[test]
fn term_ends_it_and_its_command() {
    let bench = Bench::new();
    let command = ["--user", "me@by.example:secret", "--", "sh", "-c", "echo up; exec sleep 100"];
    let mut running = bench.cmd("mail-sandbox").arg("-C").arg(bench.path("box")).args(command).spawn();
    assert_eq!(running.line(), "up");
    running.signal(Signal::TERM);
    let ran = running.wait();
    assert_eq!(ran.status, Some(143), "{}", ran.shown());

    let command = ["--user", "me@by.example:secret"];
    let mut running = bench.cmd("mail-sandbox").arg("-C").arg(bench.path("box")).args(command).spawn();
    let url = running.line().strip_prefix("SMTP=").unwrap().to_string();
    let mut talk = Talk::smtp(&url);
    running.signal(Signal::TERM);
    assert_eq!(running.wait().signal, Some(15));
    assert!(talk.at_end());
}

#[test]
fn wrong_command_lines_are_64_and_a_taken_port_73() {
    let bench = Bench::new();
    let run = |args: &[&str]| bench.cmd("mail-sandbox").arg("-C").arg(bench.path("box")).args(args).run();
    run(&[]).fails(64);
    run(&["--user", "nobody"]).fails(64).err_has("local@domain:password");
    run(&["--user", "../../x@y:secret"]).fails(64);
    run(&["--user", "a@b:1", "--user", "A@B:2"]).fails(64);
    let server = bench.sandbox();
    let port = server.smtp.rsplit_once(':').unwrap().1;
    run(&["--user", "a@b:1", "--smtp-port", port]).fails(73).err_has(port);
}

#[test]
fn big_messages_pass_through_without_being_held_in_memory() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let line = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab\r\n";
    let body = line.repeat(1024);
    let times = 512;
    let mut talk = Talk::smtp(&server.smtp);
    talk.say("MAIL FROM:<a@b.example>", "250");
    talk.say("RCPT TO:<me@by.example>", "250");
    talk.say("DATA", "354");
    talk.send("Subject: big\r\n\r\n");
    for _ in 0..times {
        talk.send(&body);
    }
    talk.send(".\r\n");
    talk.expect("250");
    let size = body.len() * times;
    let mut talk = Talk::inbox(&server.imap);
    talk.send("f FETCH 1 (BODY[TEXT] BODYSTRUCTURE)\r\n");
    talk.expect(&format!("* 1 FETCH (FLAGS (\\Seen \\Recent) BODY[TEXT] {{{size}}}"));
    for _ in 0..times {
        assert!(talk.exactly(body.len()) == body.as_bytes());
    }
    talk.expect(&format!(" BODYSTRUCTURE (\"text\" \"plain\" NIL NIL NIL \"7bit\" {size} {}", 1024 * times));
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap_or_default();
    if let Some(peak) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kib < 24 * 1024, "peak {kib} KiB for a message of {size} bytes");
    }
}

#[test]
fn too_many_connections_are_turned_away_and_the_others_live() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let mut first = Talk::imap(&server.imap);
    let mut others: Vec<Talk> = (0..99).map(|_| Talk::smtp(&server.smtp)).collect();
    Talk::connect(&server.smtp).expect("421 4.3.2");
    Talk::connect(&server.imap).expect("* BYE");
    first.ok("NOOP");
    others[0].say("QUIT", "221");
    assert!(others[0].at_end());
    // The place is free once the server's thread has left, which nobody tells us: try until it is.
    let end = Instant::now() + Duration::from_secs(20);
    while !Talk::connect(&server.smtp).line().starts_with("220") {
        assert!(Instant::now() < end, "the place is not given back");
    }
}

#[test]
fn as_a_library_it_stops_promptly_and_keeps_its_secrets() {
    let bench = Bench::new();
    let user = User { address: "me@by.example".into(), password: "secret".into() };
    let options = Options { dir: bench.path("box"), users: vec![user], ..Options::default() };
    assert!(!format!("{options:?}").contains("secret"));
    let server = sandbox::start(options.clone()).unwrap();
    let mut idler = Talk::inbox(&server.imap_url());
    idler.say("i IDLE", "+");
    let mut sender = Talk::smtp(&server.smtp_url());
    // Both stay, and say nothing: whoever waited for them would wait for half an hour.
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        server.stop();
        tell.send(())
    });
    told.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(idler.at_end() && sender.at_end());
    drop(sandbox::start(options).unwrap());
}

/// The same numbers at each run (an LCG of Knuth's).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

#[test]
fn garbled_dialogues_never_make_it_stumble() {
    const IMAP: &str = "a LOGIN me secret\r\nb SELECT INBOX\r\nc APPEND INBOX (\\Seen) {20+}\r\nSubject: x\r\n\r\nhello\r\n\r\n\
        d FETCH 1:* (ENVELOPE BODYSTRUCTURE BODY[1.HEADER.FIELDS (A)]<1.2>)\r\ne SEARCH OR TEXT x NOT (SUBJECT y 1:*)\r\n\
        f STORE 1 +FLAGS (\\Deleted kw)\r\ng LIST \"\" \"%\" RETURN (STATUS (MESSAGES))\r\nh UID COPY 1 INBOX\r\ni IDLE\r\nDONE\r\nj EXPUNGE\r\n";
    const SMTP: &str = "EHLO x\r\nMAIL FROM:<a@b.c> SIZE=9 BODY=8BITMIME\r\nRCPT TO:<me@by.example>\r\nDATA\r\nSubject: x\r\n\r\n..y\r\n.\r\n\
        MAIL FROM:<>\r\nRCPT TO:<me+x@by.example>\r\nBDAT 5\r\na: b\nBDAT 2 LAST\r\nxxAUTH PLAIN AG1lAHNlY3JldA==\r\nRSET\r\nVRFY x\r\n";
    let bench = Bench::new();
    let user = ["--user", "me@by.example:secret"];
    let mut running = bench.cmd("mail-sandbox").arg("-C").arg(bench.path("server")).args(user).spawn();
    let smtp = running.line().strip_prefix("SMTP=").unwrap().to_string();
    let imap = running.line().strip_prefix("IMAP=").unwrap().to_string();
    let mut dice = Dice(7);
    for round in 0..200 {
        let (url, dialogue) = if round % 2 == 0 { (&imap, IMAP) } else { (&smtp, SMTP) };
        let mut bytes = dialogue.as_bytes().to_vec();
        for _ in 0..=dice.below(6) {
            let at = dice.below(bytes.len());
            match dice.below(4) {
                0 => bytes[at] = dice.below(256) as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, b"{}()\"\\%*<>:\r\n\0 9\xff"[dice.below(16)]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let mut talk = Talk::connect(url);
        talk.send(&bytes);
        talk.finish();
    }
    deliver(&smtp, "Subject: still here\r\n\r\nx");
    assert!(Talk::inbox(&imap).ok("SEARCH SUBJECT \"still here\"")[0].starts_with("* SEARCH "));
    running.signal(Signal::TERM);
    let ran = running.wait();
    assert!(ran.err.is_empty(), "{}", ran.shown());
}
