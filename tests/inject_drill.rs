//! mail-inject and mail-queue against servers at their worst: refusals at each stage, cuts after each byte, silence,
//! garbage and floods; and addresses made to smuggle commands. The queue is never stuck, and nobody gets two.

use super::bench::{Bench, Cmd, Ran};
use super::inject::hello;
use super::sink::{Cut, Sink};
use super::transcript::Transcript;

use std::io::{Read, Write};
use std::net::TcpListener;

use mailloop::cli::Login;
use mailloop::config::Peer;
use mailloop::mail::address::Address;
use mailloop::net::smtp::{Mail, Smtp};
use mailloop::record::Outcome;

const ONE: &str =
    "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\nC: DATA\nS: 354 go\nC~ .\nS: 250 2.0.0 ok\nC? QUIT";

fn queue(bench: &Bench, words: &[&str]) -> Cmd {
    bench.cmd("mail-queue").args(words)
}

fn accept(bench: &Bench, url: &str, to: &str, more: &[&str]) {
    let words = ["--queue", "--smtp", url, "--from", "me@by.example", "--to", to, "-s", "s", "--body", "b"];
    bench.cmd("mail-inject").args(words).args(more).run().ok();
}

/// `(id, state)` of all that is there.
fn states(bench: &Bench, more: &[&str]) -> Vec<(String, String)> {
    let records = queue(bench, &["list", "--json"]).args(more).run().ok().json();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_string();
    records.iter().map(|record| (text(&record["id"]), text(&record["recipients"][0]["state"]))).collect()
}

/// Whatever a server says or breaks off, the next one is asked, and the message goes.
#[test]
fn the_queue_is_never_stuck() {
    let banner = "S: 220 hi\nC: EHLO *\nS: 250 hi\n";
    let to_rcpt = "C: MAIL *\nS: 250 ok\nC: RCPT *\n";
    let to_data = "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\nC: DATA\n";
    let to_dot = format!("{to_data}S: 354 go\nC~ .\n");
    let reset = "C: RSET\nS: 250 ok\nC? QUIT";
    let resets = "C: RSET\nS: 250 ok\nC: RSET\nS: 250 ok\nC? QUIT";
    let stages = [
        ("banner", String::new(), ""),
        ("EHLO", "S: 220 hi\nC: EHLO *\n".into(), ""),
        ("MAIL", format!("{banner}C: MAIL *\n"), reset),
        ("RCPT", format!("{banner}{to_rcpt}"), resets),
        ("DATA", format!("{banner}{to_data}"), reset),
        ("dot", format!("{banner}{to_dot}"), "C? QUIT"),
    ];
    for (stage, start, end) in &stages {
        let before_dot = *stage != "dot";
        let opening = matches!(*stage, "banner" | "EHLO");
        for (word, answer, wanted) in [
            ("4xx", format!("S: 450 4.2.0 not now\n{end}"), "later"),
            ("5xx", format!("S: 550 5.7.1 never\n{end}"), if opening { "later" } else { "failed" }),
            ("cut", "CLOSE".into(), if before_dot { "later" } else { "unknown" }),
            ("half a reply", "S- 250-o\nCLOSE".into(), if before_dot { "later" } else { "unknown" }),
            ("silence", "STALL".into(), if before_dot { "later" } else { "unknown" }),
            (
                "garbage",
                "S- \\x00\\xff\\xfe220 ok\\r\\n\nSTALL".into(),
                if before_dot { "later" } else { "unknown" },
            ),
        ] {
            let bench = Bench::new();
            let good = format!("{}{ONE}", hello(&[]));
            let scripts: Vec<String> = std::iter::once(format!("{start}{answer}")).chain([good]).collect();
            let play = Transcript::play(scripts);
            accept(&bench, &play.url("smtp"), "a@y.example", &["--timeout", "300ms"]);
            let ran = queue(&bench, &["run"]).run();
            let place: &[&str] = if wanted == "failed" { &["--failed"] } else { &[] };
            let listed = states(&bench, place);
            let what = format!("{word} at {stage}: {}", ran.shown());
            assert_eq!(listed.len(), 1, "{what}");
            assert_eq!(listed[0].1, wanted, "{what}");
            assert!(ran.status != Some(0), "{what}");
            assert_eq!(ran.out_text(), "", "{what}");
            // People decide, or time passes: it goes at once.
            let words: &[&str] =
                if wanted == "unknown" { &["release", "--resend-unknown"] } else { &["release"] };
            queue(&bench, words).arg(&listed[0].0).run().ok();
            let again = queue(&bench, &["run"]).run();
            assert_eq!((again.status, again.lines().len()), (Some(0), 1), "{what}\nthen {}", again.shown());
            play.heard();
        }
    }
}

/// Cut after every single byte, in both directions: what is told is true.
#[test]
fn cut_after_each_byte_the_outcome_is_true() {
    let message = b"From: a@x\r\nTo: b@y\r\n\r\n.dots\r\nb\r\n";
    for abilities in [&["PIPELINING", "8BITMIME"][..], &[]] {
        let whole = Sink::open(abilities, Cut::Never);
        assert_eq!(outcome(&whole, message), Some(Outcome::Done));
        let told = whole.told();
        // Where the client heard the answer, and where the server saw the end.
        let bye = "221 bye\r\n".len();
        let (answered, seen) = (told.said - bye, told.heard - "QUIT\r\n".len());
        // A dot was doubled, and one ends it.
        let begun = seen - message.len() - 4;
        let go = answered - "250 2.0.0 taken\r\n".len();
        for n in 0..=told.said {
            let sink = Sink::open(abilities, Cut::Said(n));
            let outcome = outcome(&sink, message);
            let taken = !sink.told().messages.is_empty();
            // Told to go on, the client sends all of it, also to one that has just gone.
            let wanted = match (n >= answered, taken || n == go) {
                (true, _) => Some(Outcome::Done),
                (false, true) => Some(Outcome::Unknown),
                (false, false) => Some(Outcome::Later),
            };
            assert_eq!(outcome, wanted, "cut after {n} of {answered} bytes were said; taken: {taken}");
        }
        for n in 0..told.heard {
            let sink = Sink::open(abilities, Cut::Heard(n));
            let outcome = outcome(&sink, message);
            let taken = !sink.told().messages.is_empty();
            assert_eq!(taken, n >= seen, "{n}");
            match outcome {
                Some(Outcome::Done) => assert!(n >= seen, "{n} of {seen}"),
                Some(Outcome::Unknown) => assert!(n >= begun, "{n}: it was not even begun at {begun}"),
                Some(Outcome::Later) | None => assert!(n < seen, "{n} of {seen}"),
                other => panic!("{other:?} when cut after {n} bytes were heard"),
            }
        }
    }
}

/// Of one message over a session of its own; none where there was no session.
fn outcome(sink: &Sink, message: &[u8]) -> Option<Outcome> {
    let peer = Peer::of_url(&sink.url().parse().unwrap(), &Login::default()).unwrap();
    let mut session = match Smtp::open(&peer, None) {
        Ok(session) => session,
        Err(error) => {
            assert_eq!(error.status(), 75, "{error}");
            return Some(Outcome::Later);
        }
    };
    let (from, to) = (Address::parse("a@x").unwrap(), [Address::parse("b@y").unwrap()]);
    let size = message.len() as u64;
    let mail = Mail { from: Some(&from), to: &to, size, eight_bit: false, dsn: Default::default() };
    let answers = session.send(&mail, &mut &message[..], &mut |_| Ok(())).unwrap();
    if session.is_usable() {
        session.close();
    }
    Some(answers[0].outcome)
}

/// The same for the queue, at some of the places (MAILLOOP_EVERY=1: at all).
#[test]
fn cut_anywhere_the_queue_sends_it_once_or_says_unknown() {
    let step = std::env::var("MAILLOOP_EVERY").ok().and_then(|text| text.parse().ok()).unwrap_or(23);
    let abilities = ["PIPELINING"];
    let bench = Bench::new();
    let sink = Sink::open(&abilities, Cut::Never);
    accept(&bench, &sink.url(), "a@y.example", &[]);
    queue(&bench, &["run"]).run().ok();
    let told = sink.told();
    let cuts = (0..told.said).map(Cut::Said).chain((0..told.heard).map(Cut::Heard)).step_by(step);
    for (number, cut) in cuts.enumerate() {
        let sink = Sink::open(&abilities, cut);
        let state = format!("state-{number}");
        accept(&bench, &sink.url(), "a@y.example", &["--state", &state]);
        queue(&bench, &["run", "--state", &state]).run();
        let left = states(&bench, &["--state", &state]);
        if let [(id, word)] = &left[..]
            && word == "later"
        {
            queue(&bench, &["release", "--state", &state, id]).run().ok();
            queue(&bench, &["run", "--state", &state]).run().ok();
        }
        let left = states(&bench, &["--state", &state]);
        let taken = sink.told().messages.len();
        match &left[..] {
            [] => assert_eq!(taken, 1, "{cut:?}"),
            [(_, word)] => assert!(word == "unknown" && taken <= 1, "{cut:?}: {word}, taken {taken} times"),
            _ => panic!("{left:?}"),
        }
    }
}

#[test]
fn an_idle_connection_that_is_closed_costs_nothing() {
    let bench = Bench::new();
    let one = ONE.trim_end_matches("C? QUIT");
    let play = Transcript::play([
        format!("{}{one}S: 421 4.4.2 idle, goodbye\nCLOSE", hello(&[])),
        format!("{}{one}C? MAIL *\nS: 421 4.4.2 timeout\nCLOSE", hello(&[])),
        format!("{}{ONE}", hello(&[])),
    ]);
    for _ in 0..3 {
        accept(&bench, &play.url("smtp"), "a@y.example", &[]);
    }
    assert_eq!(queue(&bench, &["run"]).run().ok().lines().len(), 3);
    play.heard();
    assert!(states(&bench, &[]).is_empty());
}

/// 100 MB without a line end, and a reply that never ends, a line at a time: given up early, in little memory.
#[test]
fn floods_are_cut_off_early() {
    for (flood, kind) in [(vec![b'x'; 64 * 1024], "a line"), (b"250-more\r\n".repeat(6000), "a reply")] {
        let bench = Bench::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.write_all(b"220 hi\r\n").unwrap();
            let mut sent = 0;
            while sent < 100_000_000 && socket.write_all(&flood).is_ok() {
                sent += flood.len();
            }
            sent
        });
        let words = ["--from", "a@x.example", "--to", "b@y.example", "--body", "b"];
        // A tenth of the flood would not fit.
        let limited =
            format!("ulimit -v 400000 && exec mail-inject --smtp smtp://{address} {}", words.join(" "));
        bench.sh(&limited).run().fails(76);
        let sent = server.join().unwrap();
        assert!(sent < 20_000_000, "{sent} bytes of {kind} were taken");
    }
}

/// A byte now and then keeps no wait alive for ever.
#[test]
fn a_dripping_server_is_given_up() {
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
        // Reading waits without sleeping, and sees the client go.
        while socket.write_all(b"2").is_ok() {
            if matches!(socket.read(&mut [0; 64]), Ok(0)) {
                break;
            }
        }
    });
    let words = ["--from", "a@x.example", "--to", "b@y.example", "--body", "b", "--timeout", "200ms"];
    let url = format!("smtp://{address}");
    bench.cmd("mail-inject").args(["--smtp", &url]).args(words).timeout(20).run().fails(75);
    server.join().unwrap();
}

/// What each recipient given as `to` becomes on the wire; an error is the status.
fn recipients(args: &[&str], stdin: &str) -> Result<Vec<String>, Option<i32>> {
    let bench = Bench::new();
    let sink = Sink::open(&["PIPELINING", "8BITMIME", "SMTPUTF8"], Cut::Never);
    let cmd = bench.cmd("mail-inject").args(["--smtp", &sink.url()]).args(args).stdin(stdin);
    let ran: Ran = cmd.run();
    let told = sink.told();
    if ran.status != Some(0) {
        assert!(!told.commands.iter().any(|line| line.starts_with("RCPT")), "{told:?}\n{}", ran.shown());
        assert!(told.messages.is_empty(), "{told:?}");
        return Err(ran.status);
    }
    let mut found = Vec::new();
    for line in &told.commands {
        // Each line is one of ours, whole.
        let verb = line.split([' ', ':']).next().unwrap();
        assert!(["EHLO", "MAIL", "RCPT", "DATA", "QUIT"].contains(&verb), "{line:?}");
        if let Some(rest) = line.strip_prefix("RCPT TO:<") {
            found.push(rest.strip_suffix('>').unwrap().to_string());
        }
    }
    assert_eq!(told.commands.iter().filter(|line| line.starts_with("MAIL")).count(), 1, "{told:?}");
    assert_eq!(told.messages.len(), 1);
    Ok(found)
}

#[test]
fn addresses_never_become_commands() {
    let long = format!("{}@y.example", "a".repeat(10_000));
    let to = |list: &str| recipients(&["--from", "me@x.example", "--to", list, "--body", "b"], "");
    let finished =
        |list: &str| recipients(&["-t"], &format!("From: me@x.example\nTo: {list}\nSubject: s\n\nb\n"));
    for (list, wanted) in [
        ("-oQ/tmp@y.example", Ok(&["-oQ/tmp@y.example"][..])),
        ("--attach=/etc/passwd@y.example", Ok(&["--attach=/etc/passwd@y.example"])),
        ("-X <-f@y.example>", Ok(&["-f@y.example"])),
        ("\"quoted strings\"@y.example", Ok(&["\"quoted strings\"@y.example"])),
        ("\"a> b, <c\"@y.example", Ok(&["\"a> b, <c\"@y.example"])),
        ("\"a\\\" RCPT TO:<evil@z>\"@y.example", Ok(&["\"a\\\" RCPT TO:<evil@z>\"@y.example"])),
        ("J\u{fc}rgen <j\u{fc}rgen@y.example>", Ok(&["j\u{fc}rgen@y.example"])),
        ("a@b\u{fc}cher.example", Ok(&["a@b\u{fc}cher.example"])),
        ("(no) a@y.example (comment (nested) \\) here), b@y.example", Ok(&["a@y.example", "b@y.example"])),
        (
            "friends: a@y.example, \"B, C\" <b@y.example>; c@y.example",
            Ok(&["a@y.example", "b@y.example", "c@y.example"]),
        ),
        ("<@relay.example,@other.example:a@y.example>", Ok(&["a@y.example"])),
        ("a@y.example> RCPT TO:<evil@z.example", Err(())),
        ("<a@y.example>\u{1b}[31m", Err(())),
        ("a b@y.example", Err(())),
        ("a@y.example b@z.example", Err(())),
        ("a@\u{202e}y.example", Err(())),
        ("@y.example", Err(())),
        ("a@[1.2.3.4]]", Err(())),
        ("empty:;", Err(())),
        (&long, Err(())),
    ] {
        let wanted = |status| {
            wanted
                .map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>())
                .map_err(|()| Some(status))
        };
        assert_eq!(to(list), wanted(64), "--to {list:?}");
        assert_eq!(finished(list), wanted(65), "To: {list:?}");
    }
    // A line break ends an argument's use; in a message it can only fold, or begin the next field.
    for end in ["\r\n", "\n", "\r"] {
        for list in [
            format!("a@y.example{end}RCPT TO:<evil@z.example>"),
            format!("a@y.example{end}Bcc: evil@z.example"),
        ] {
            assert_eq!(to(&list), Err(Some(64)), "{list:?}");
            let from = ["--from", list.as_str(), "--to", "a@y.example", "--body", "b"];
            assert_eq!(recipients(&from, ""), Err(Some(64)), "{list:?}");
            let name = format!("\"N{end}RCPT TO:<evil@z.example>\" <a@y.example>");
            assert_eq!(to(&name), Err(Some(64)), "{name:?}");
        }
    }
    assert_eq!(finished("a@y.example\n RCPT TO:<evil@z.example>"), Err(Some(65)));
    assert_eq!(finished("a\0@y.example"), Err(Some(65)));
    assert_eq!(finished("a@y.example\0"), Err(Some(65)));
    assert_eq!(finished("\"N\0\" <a@y.example>"), Err(Some(65)));
    assert_eq!(recipients(&["-t", "--from", "a\nb@x.example"], "To: a@y.example\n\n"), Err(Some(64)));
}

#[test]
fn nor_do_other_values_and_files() {
    let bench = Bench::new();
    let evil = "x\r\n.\r\nMAIL FROM:<evil@z.example>\r\nRCPT TO:<evil@z.example>\r\n";
    bench.write("evil", evil);
    bench.write("zero", "a\0b\n");
    bench.write("evil.eml", format!("From: a@x.example\nTo: b@y.example\n\n{evil}"));
    bench.write("list", "evil.eml\n-n\nevil.eml\0x\n");
    let send = |args: &[&str], stdin: &[u8]| {
        let sink = Sink::open(&["PIPELINING"], Cut::Never);
        let ran = bench.cmd("mail-inject").args(["--smtp", &sink.url()]).args(args).stdin(stdin).run();
        let told = sink.told();
        for line in &told.commands {
            assert!(!line.contains("evil@z"), "{told:?}");
        }
        (ran.status, told.messages.len())
    };
    let base = ["--from", "-f@x.example", "--to", "-t@y.example"];
    let with = |more: &[&str]| send(&[&base[..], more].concat(), b"");
    for more in [
        &["-s", "-n", "--body", "-t"][..],
        &["-s", "s", "--body", evil],
        &["--body-file", "evil"],
        &["--body-file", "zero"],
        &["--html", "evil"],
        &["--body", "b", "--attach", "evil"],
        &["--body", "b", "--attach", "zero"],
    ] {
        assert_eq!(with(more), (Some(0), 1), "{more:?}");
    }
    for more in
        [["-s", evil], ["--header", "X: a\nBcc: evil@z.example"], ["--header", "X\r\nBcc: evil@z.example"]]
    {
        assert_eq!(with(&[&more[..], &["--body", "b"]].concat()), (Some(64), 0), "{more:?}");
    }
    assert_eq!(send(&["-t"], &bench.read("evil.eml")), (Some(0), 1));
    // Paths are paths: one that is not there is told, the rest goes.
    assert_eq!(send(&["--batch"], &bench.read("list")), (Some(66), 1));
    assert_eq!(send(&["--batch", "-0"], b"evil.eml\0evil.eml\nRCPT TO:<evil@z.example>\0"), (Some(66), 1));
    // The configuration is no way in either.
    for address in ["a@x.example\\r\\nRCPT TO:<evil@z.example>", "a\\u0000@x.example", "a@x.example>"] {
        let sink = Sink::open(&[], Cut::Never);
        let text = format!("[account.me]\naddress = \"{address}\"\nsmtp = \"{}\"\nuser = \"\"\n", sink.url());
        bench.write("config.toml", text);
        let words = ["-c", "config.toml", "-a", "me", "--to", "b@y.example", "--body", "b"];
        bench.cmd("mail-inject").args(words).run().fails(78);
        assert!(sink.told().commands.is_empty());
    }
}

/// Eight bits for a server that takes seven: converted, or refused where a signature covers them.
#[test]
fn eight_bits_for_a_seven_bit_server() {
    let bench = Bench::new();
    let plain = "From: a@x.example\nTo: b@y.example\nSubject: Gr\u{fc}\u{df}e\n\nf\u{fc}r dich \n.\n";
    let signed = "From: a@x.example\nTo: b@y.example\nMIME-Version: 1.0\nContent-Type: multipart/signed; boundary=B\n\n\
                  --B\nContent-Transfer-Encoding: 8bit\n\n\u{fc}\n--B\n\nsig\n--B--\n";
    bench.write("plain.eml", plain);
    bench.write("signed.eml", signed);
    let words = ["--batch", "--json"];
    for queued in [false, true] {
        let sink = Sink::open(&["PIPELINING"], Cut::Never);
        let url = sink.url();
        let inject = |more: &[&str]| {
            bench
                .cmd("mail-inject")
                .args(["--smtp", &url])
                .args(words)
                .args(more)
                .stdin("{\"v\":1,\"kind\":\"message\",\"path\":\"plain.eml\"}\n{\"v\":1,\"kind\":\"message\",\"path\":\"signed.eml\"}\n")
                .run()
        };
        let ran = match queued {
            false => inject(&["-v"]),
            true => {
                inject(&["--queue"]).ok();
                queue(&bench, &["run", "--json", "-v"]).run()
            }
        };
        let ran = ran.fails(69).err_has("8BITMIME").err_has("signed");
        let outcomes: Vec<String> = (ran.json().iter())
            .map(|record| record["recipients"][0]["outcome"].as_str().unwrap().to_string())
            .collect();
        assert_eq!(outcomes, ["done", "never"], "{}", ran.shown());
        let told = sink.told();
        assert!(told.commands.iter().all(|line| !line.contains("BODY=")), "{told:?}");
        let text = String::from_utf8(told.messages[0].clone()).unwrap();
        assert!(
            text.is_ascii() && text.contains("Content-Transfer-Encoding: quoted-printable\r\n"),
            "{text}"
        );
        assert!(text.ends_with("\r\n\r\nf=C3=BCr dich=20\r\n.\r\n"), "{text}");
        assert!(text.contains("Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n"), "{text}");
    }
    // What a dry run shows is for one that takes eight.
    let shown = bench.cmd("mail-inject").args(["-n", "-t"]).stdin(plain).run().ok().out_text();
    assert!(shown.contains("f\u{fc}r dich"), "{shown}");
    // Outside of parts nothing can be encoded.
    let sink = Sink::open(&[], Cut::Never);
    let around = signed.replace("signed", "mixed").replace("\u{fc}", "u") + "list f\u{fc}r dich\n";
    let ran = bench.cmd("mail-inject").args(["--smtp", &sink.url(), "-t"]).stdin(around).run();
    ran.fails(69).err_has("5.6.3").err_has("outside of its parts");
    assert!(sink.told().messages.is_empty());
    // As it is for one that takes eight.
    let sink = Sink::open(&["8BITMIME"], Cut::Never);
    bench.cmd("mail-inject").args(["--smtp", &sink.url(), "--batch"]).stdin("signed.eml\n").run().ok();
    let told = sink.told();
    assert!(told.commands.iter().any(|line| line.ends_with(" BODY=8BITMIME")), "{told:?}");
    let text = String::from_utf8(told.messages[0].clone()).unwrap();
    assert!(text.contains("\r\n\u{fc}\r\n"), "{text}");
}

/// Lines that no relay must take: in another encoding, or noted where a signature covers them.
#[test]
fn lines_over_998_bytes() {
    let bench = Bench::new();
    let long = "word ".repeat(400);
    let plain = format!("From: a@x.example\nTo: b@y.example\n\n{long}\nshort\n");
    let show = |text: &str| bench.cmd("mail-inject").args(["-n", "-t"]).stdin(text).run().ok().out_text();
    let shown = show(&plain);
    assert!(shown.lines().all(|line| line.len() <= 998) && shown.contains("quoted-printable"), "{shown}");
    let signed = format!(
        "From: a@x.example\nTo: b@y.example\nContent-Type: multipart/signed; boundary=B\n\n--B\n\n{long}\n--B--\n"
    );
    assert!(show(&signed).contains(&long));
    let sink = Sink::open(&[], Cut::Never);
    let url = sink.url();
    let send =
        |text: &str| bench.cmd("mail-inject").args(["--smtp", &url, "-t", "-v"]).stdin(text).run().ok();
    send(&plain).err_has("a line of 2000 bytes: 1 part(s) go as quoted-printable");
    send(&signed).err_has("a line of 2000 bytes: it stays, since a part of it is signed");
    assert_eq!(sink.told().messages.len(), 2);
}
