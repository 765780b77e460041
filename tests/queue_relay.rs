//! mail-queue through the binary: servers that are down, stand in for each other, and are not to be fed too fast; what
//! senders are told; LMTP, unix sockets, Maildirs on this machine; and a run that goes on.

use super::bench::{Bench, Cmd};
use super::inject::hello;
use super::transcript::Transcript;

const ONE: &str = "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\nC: DATA\nS: 354 go\nC~ .\nS: 250 2.0.0 ok\n";

fn queue(bench: &Bench, words: &[&str]) -> Cmd {
    bench.cmd("mail-queue").args(words)
}

fn accept(bench: &Bench, account: &str) -> String {
    let words = ["--queue", "-a", account, "--to", "you@by.example", "-s", "s", "--body", "b"];
    bench.cmd("mail-inject").args(words).run().ok().out_text().trim().to_string()
}

/// An account a line: its name, its server, and what else is said of it.
fn configure(bench: &Bench, accounts: &[(&str, &str, &str)]) {
    bench.write("secret", "secret\n");
    let mut text = String::new();
    for (name, smtp, more) in accounts {
        // A server of ours asks for no login.
        let login = if smtp.contains("127.0.0.1") && !more.contains("user") { "user = \"\"\n" } else { "" };
        text += &format!("[account.{name}]\naddress = \"me@by.example\"\nsmtp = \"{smtp}\"\n{login}");
        text += &format!("password_file = \"{}\"\n{more}\n", bench.path("secret").display());
    }
    bench.write("home/.config/mailloop/config.toml", text);
}

fn nobody() -> String {
    format!("smtp://{}", std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

/// `state` of each recipient of each message.
fn states(bench: &Bench, more: &[&str]) -> Vec<String> {
    let records = queue(bench, &["list", "--json"]).args(more).run().ok().json();
    let all = records.iter().flat_map(|record| record["recipients"].as_array().unwrap().clone());
    all.map(|each| each["state"].as_str().unwrap().to_string()).collect()
}

/// Rewrites a line of every file of this name in the queue.
fn rewrite(bench: &Bench, dir: &str, end: &str, key: &str, value: &str) {
    let top = format!("home/.local/state/mailloop/queue/{dir}");
    for file in bench.files(&top).iter().filter(|file| file.to_string_lossy().ends_with(end)) {
        let path = format!("{top}/{}", file.display());
        let text = String::from_utf8(bench.read(&path)).unwrap();
        let lines = text.lines().map(|line| match line.split_once(": ") {
            Some((each, _)) if each == key => format!("{key}: {value}\n"),
            _ => format!("{line}\n"),
        });
        bench.write(&path, lines.collect::<String>());
    }
}

fn notices(bench: &Bench) -> Vec<String> {
    let all = bench.files("mail/new");
    all.iter()
        .map(|file| String::from_utf8(bench.read(&format!("mail/new/{}", file.display()))).unwrap())
        .collect()
}

#[test]
fn a_server_that_is_away_is_left_alone_and_shown() {
    let bench = Bench::new();
    configure(&bench, &[("me", &nobody(), "")]);
    for _ in 0..3 {
        accept(&bench, "me");
    }
    let ran = queue(&bench, &["run"]).run().fails(75);
    assert_eq!(ran.err_text().lines().count(), 1, "{}", ran.shown());
    assert_eq!(states(&bench, &[]), ["later"; 3]);
    // Nothing was written down for the messages: they were not tried.
    let tries: Vec<u64> = queue(&bench, &["list", "--json"])
        .run()
        .json()
        .iter()
        .map(|record| record["recipients"][0]["tries"].as_u64().unwrap())
        .collect();
    assert_eq!(tries, [0; 3]);
    let relay = &queue(&bench, &["list", "--relays", "--json"]).run().ok().json()[0];
    assert_eq!((relay["name"].as_str(), relay["failures"].as_u64()), (Some("me"), Some(1)));
    queue(&bench, &["run"]).run().fails(75).err_has("left alone until");
    // Its rest is over: it is probed, once.
    rewrite(&bench, "relay", ".down", "next", "2020-01-01T00:00:00Z");
    queue(&bench, &["run"]).run().fails(75).err_has("refused");
    let relay = &queue(&bench, &["list", "--relays", "--json"]).run().ok().json()[0];
    assert_eq!(relay["failures"].as_u64(), Some(2));
    // It is back.
    let play = Transcript::play([format!("{}{ONE}{ONE}{ONE}C: QUIT", hello(&[]))]);
    configure(&bench, &[("me", &play.url("smtp"), "")]);
    rewrite(&bench, "relay", ".down", "next", "2020-01-01T00:00:00Z");
    let ran = queue(&bench, &["run"]).run().ok().err_has("answers again");
    assert_eq!(ran.lines().len(), 3);
    play.heard();
    assert!(queue(&bench, &["list", "--relays"]).run().ok().lines().is_empty());
}

#[test]
fn the_fallback_stands_in_when_it_is_unreachable_not_when_it_refuses() {
    let bench = Bench::new();
    let play = Transcript::play([format!("{}{ONE}{ONE}C: QUIT", hello(&[]))]);
    configure(
        &bench,
        &[
            ("me", &nobody(), "fallback = [\"gone\", \"other\"]"),
            ("gone", &nobody(), ""),
            ("other", &play.url("smtp"), ""),
        ],
    );
    accept(&bench, "me");
    accept(&bench, "me");
    let ran = queue(&bench, &["run", "-v"]).run().ok().err_has("other stands in");
    assert_eq!(ran.lines().len(), 2);
    play.heard();
    assert_eq!(queue(&bench, &["list", "--relays"]).run().ok().lines().len(), 2);
    // Directly too.
    let play = Transcript::play([format!("{}{ONE}C: QUIT", hello(&[]))]);
    configure(&bench, &[("me", &nobody(), "fallback = [\"other\"]"), ("other", &play.url("smtp"), "")]);
    let words = ["-a", "me", "--to", "you@by.example", "-s", "s", "--body", "b"];
    bench.cmd("mail-inject").args(words).run().ok();
    play.heard();
    // It answers, and wants nothing of us: that stands.
    let (refusing, unused) = (Transcript::play(["S: 554 5.7.1 go away"]), Transcript::play(["CLOSE"]));
    configure(
        &bench,
        &[("me", &refusing.url("smtp"), "fallback = [\"other\"]"), ("other", &unused.url("smtp"), "")],
    );
    bench.cmd("mail-inject").args(words).run().fails(69).err_has("go away");
    refusing.heard();
    assert!(unused.heard().is_empty());
}

#[test]
fn closing_with_421_is_heeded() {
    let bench = Bench::new();
    let play = Transcript::play([format!(
        "{}{ONE}C: MAIL *\nS: 421 4.7.0 too many messages, slow down\n",
        hello(&[])
    )]);
    configure(&bench, &[("me", &play.url("smtp"), "")]);
    for _ in 0..4 {
        accept(&bench, "me");
    }
    let ran = queue(&bench, &["run"]).run().fails(75).err_has("421");
    assert_eq!(ran.lines().len(), 1);
    play.heard();
    let records = queue(&bench, &["list", "--json"]).run().ok().json();
    let tries: Vec<u64> =
        records.iter().map(|record| record["recipients"][0]["tries"].as_u64().unwrap()).collect();
    assert_eq!(tries, [1, 0, 0], "the others were not tried");
    assert!(
        records.iter().all(|record| record["recipients"][0]["class"].as_str() == Some("rate")),
        "{records:?}"
    );
}

#[test]
fn what_the_server_said_stands_though_its_memory_cannot_be_written() {
    // The second number: the same after the first hundred, in a transaction of its own.
    for count in [2, 102] {
        let bench = Bench::new();
        let envelope = |count: usize| {
            let commands = format!("C: MAIL *\n{}C: DATA\n", "C: RCPT *\n".repeat(count));
            format!("{commands}{}S: 354 go\nC~ .\n", "S: 250 ok\n".repeat(count + 1))
        };
        let first = if count > 100 { envelope(100) + &"S: 250 taken\n".repeat(100) } else { String::new() };
        let last = envelope(2) + "PAUSE\nS: 250 taken\nS: 421 4.3.2 closing\nCLOSE";
        let hello = hello(&["PIPELINING"]).replace("EHLO", "LHLO");
        let play = Transcript::play([hello + &first + &last]);
        let mut words: Vec<String> =
            ["--queue", "--from", "me@by.example", "-s", "s", "--body", "b", "--smtp", &play.url("lmtp")]
                .map(String::from)
                .to_vec();
        words.extend((0..count).map(|n| format!("--to=n{n}@y.example")));
        bench.cmd("mail-inject").args(&words).run().ok();
        let run = queue(&bench, &["run"]).spawn();
        play.await_pause();
        std::fs::remove_dir_all(bench.path("home/.local/state/mailloop/queue/relay")).unwrap();
        play.go();
        let ran = run.wait().fails(75).err_has("cannot remember").err_has("421");
        assert_eq!(ran.err_text().lines().count(), 2, "{}", ran.shown());
        play.heard();
        assert_eq!((ran.lines().len(), states(&bench, &[])), (1, vec!["later".to_string()]));
    }
}

#[test]
fn no_more_than_the_rate() {
    let bench = Bench::new();
    let play = Transcript::play([format!("{}{ONE}{ONE}C? QUIT", hello(&[]))]);
    configure(&bench, &[("me", &play.url("smtp"), "rate = \"2/d\"")]);
    for _ in 0..5 {
        accept(&bench, "me");
    }
    let ran = queue(&bench, &["run", "-v"]).run().fails(75).err_has("takes no more before");
    assert_eq!(ran.lines().len(), 2);
    // The next run knows without asking the server.
    assert!(queue(&bench, &["run"]).run().fails(75).lines().is_empty());
    play.heard();
    assert_eq!(states(&bench, &[]), ["due"; 3]);
}

#[test]
fn the_sender_is_told_once_that_it_waits_and_once_that_it_failed() {
    let bench = Bench::new();
    let more = format!("maildir = \"{}\"\nwarn = \"1h\"\nexpire = \"3d\"", bench.path("mail").display());
    configure(&bench, &[("me", &nobody(), &more)]);
    accept(&bench, "me");
    queue(&bench, &["run"]).run().fails(75);
    assert!(notices(&bench).is_empty());
    let ago = |hours: i64| (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours)).to_string();
    rewrite(&bench, "mail", "envelope", "accepted", &ago(2));
    for _ in 0..2 {
        queue(&bench, &["run"]).run().fails(75);
    }
    let told = notices(&bench);
    assert!(told.len() == 1 && told[0].contains("Subject: Your message is delayed\r\n"), "{told:?}");
    assert!(told[0].contains("Action: delayed\r\n") && told[0].contains("Will-Retry-Until: "), "{told:?}");
    rewrite(&bench, "mail", "envelope", "accepted", &ago(73));
    queue(&bench, &["run"]).run().err_has("given up after 3 days");
    queue(&bench, &["run"]).run();
    let told = notices(&bench);
    assert_eq!(told.len(), 2);
    assert!(told.iter().any(|text| text.contains("Action: failed\r\n")), "{told:?}");
    assert_eq!(states(&bench, &["--failed"]), ["failed"]);
}

/// Killed anywhere, one notice.
#[test]
fn a_notice_killed_at_every_step_is_written_once() {
    let bench = Bench::new();
    let refusal = format!(
        "{}C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 550 5.1.1 no\nC: RSET\nS: 250 ok\nC? RSET\nS: 250 ok\nC? QUIT",
        hello(&[])
    );
    let more = format!("maildir = \"{}\"", bench.path("mail").display());
    let mut stop = 1;
    loop {
        std::fs::remove_dir_all(bench.path("mail")).ok();
        std::fs::remove_dir_all(bench.path("home/.local")).ok();
        let play = Transcript::play([refusal.clone(), refusal.clone()]);
        configure(&bench, &[("me", &play.url("smtp"), &more)]);
        accept(&bench, "me");
        let ran = queue(&bench, &["run"]).env("MAILLOOP_STOP", format!("{stop}+")).run();
        queue(&bench, &["run"]).run();
        queue(&bench, &["run"]).run();
        assert_eq!(notices(&bench).len(), 1, "killed after step {stop}");
        assert_eq!(states(&bench, &["--failed"]), ["failed"], "killed after step {stop}");
        drop(play);
        if ran.signal != Some(9) {
            assert!(stop > 20, "only {stop} steps");
            break;
        }
        stop += 1;
    }
}

#[test]
fn lmtp_answers_for_each_recipient_also_over_a_unix_socket() {
    let bench = Bench::new();
    let script = "S: 220 hi\nC: LHLO [127.0.0.1]\nS: 250-hi\nS: 250 PIPELINING\nC: MAIL *\nC: RCPT *\nC: RCPT *\nC: DATA\n\
                  S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nC~ .\nS: 250 2.0.0 in\nS: 452 4.2.2 full\nC? QUIT\n";
    let play = Transcript::play([script]);
    let words =
        ["--from", "a@x.example", "--to", "b@y.example,c@y.example", "-s", "s", "--body", "b", "--json"];
    let fates = |ran: &super::bench::Ran| {
        let record = ran.json().remove(0);
        let all = record["recipients"].as_array().unwrap().clone();
        all.iter().map(|each| each["outcome"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    let ran = bench.cmd("mail-inject").args(["--smtp", &play.url("lmtp")]).args(words).run();
    assert_eq!(fates(&ran), ["done", "later"], "{}", ran.shown());
    let heard = play.address;
    // The same through a socket in the file system.
    let socket = bench.path("lmtp");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let again = Transcript::play([script]);
    let address = again.address;
    let bridge = std::thread::spawn(move || {
        let (unix, _) = listener.accept().unwrap();
        let tcp = std::net::TcpStream::connect(address).unwrap();
        let (mut from, mut to) = (unix.try_clone().unwrap(), tcp.try_clone().unwrap());
        let out = std::thread::spawn(move || std::io::copy(&mut from, &mut to).ok());
        let (mut from, mut to) = (tcp, unix);
        std::io::copy(&mut from, &mut to).ok();
        to.shutdown(std::net::Shutdown::Both).ok();
        out.join().ok();
    });
    let url = format!("lmtp://{}", socket.display());
    let ran = bench.cmd("mail-inject").args(["--smtp", &url]).args(words).run();
    assert_eq!(fates(&ran), ["done", "later"], "{}", ran.shown());
    bridge.join().unwrap();
    play.heard();
    again.heard();
    assert_ne!(heard, address);
}

#[test]
fn local_delivery_is_durable_and_once() {
    let bench = Bench::new();
    let url = format!("local:{}", bench.path("mail").display());
    let words = ["--smtp", &url, "--from", "a@x.example", "--to", "b@y.example", "-s", "s", "--body", "b"];
    bench.cmd("mail-inject").args(words).run().ok();
    assert_eq!(bench.files("mail/new").len(), 1);
    assert!(notices(&bench)[0].starts_with("Return-Path: <a@x.example>\r\n"));
    let mut stop = 1;
    loop {
        std::fs::remove_dir_all(bench.path("mail")).ok();
        bench.cmd("mail-inject").args(words).arg("--queue").run().ok();
        let ran = queue(&bench, &["run"]).env("MAILLOOP_STOP", format!("{stop}+")).run();
        queue(&bench, &["run"]).run();
        let unknown = states(&bench, &[]);
        let copies = bench.files("mail/new").len();
        assert!(copies == 1 || (copies == 0 && unknown == ["unknown"]), "{stop}: {copies} {unknown:?}");
        for record in queue(&bench, &["list", "--json"]).run().ok().json() {
            let id = record["id"].as_str().unwrap().to_string();
            // Asked to send it again, it still finds what is there.
            queue(&bench, &["release", "--resend-unknown", &id]).run().ok();
            queue(&bench, &["run"]).run().ok();
        }
        assert_eq!(bench.files("mail/new").len(), 1, "{stop}");
        if ran.signal != Some(9) {
            assert!(stop > 10);
            break;
        }
        stop += 1;
    }
}

#[test]
fn chunks_in_place_of_data_and_reports_are_ordered() {
    let bench = Bench::new();
    let play = Transcript::play([format!(
        "{}C: MAIL FROM:<a@x.example> RET=HDRS\nC: RCPT TO:<b@y.example> NOTIFY=FAILURE,DELAY\nC: RCPT TO:<c@y.example> NOTIFY=FAILURE,DELAY\n\
         S: 250 ok\nS: 250 ok\nS: 550 5.1.1 no\nC: BDAT *\nC~ .dots\nS: 250 ok\nC? QUIT",
        hello(&["PIPELINING", "CHUNKING", "DSN"])
    )]);
    let words = [
        "--from",
        "a@x.example",
        "--to",
        "b@y.example,c@y.example",
        "--notify",
        "failure,delay",
        "--ret",
        "hdrs",
    ];
    let ran = bench
        .cmd("mail-inject")
        .args(["--smtp", &play.url("smtp"), "-s", "s", "--body", ".dots"])
        .args(words)
        .run();
    ran.fails(69).err_has("c@y.example does not get");
    let heard = play.heard();
    let size: usize = heard
        .iter()
        .find_map(|line| line.strip_prefix("BDAT ")?.strip_suffix(" LAST")?.parse().ok())
        .unwrap();
    let from = heard.iter().position(|line| line.starts_with("BDAT")).unwrap();
    let until = heard.iter().position(|line| line == ".dots").unwrap();
    assert_eq!(
        heard[from + 1..=until].iter().map(|line| line.len() + 2).sum::<usize>(),
        size,
        "no dot is doubled"
    );
    // Cut after the last chunk: nobody knows.
    let play = Transcript::play([format!(
        "{}C: MAIL *\nC: RCPT *\nS: 250 ok\nS: 250 ok\nC: BDAT *\nC~ b\nCLOSE",
        hello(&["PIPELINING", "CHUNKING"])
    )]);
    let words = ["--from", "a@x.example", "--to", "b@y.example", "-s", "s", "--body", "b"];
    bench
        .cmd("mail-inject")
        .args(["--smtp", &play.url("smtp")])
        .args(words)
        .run()
        .fails(76)
        .err_has("may or may not");
    play.heard();
}

#[test]
fn watching_sends_what_comes_and_what_is_released() {
    let bench = Bench::new();
    let play =
        Transcript::play([format!("{}{ONE}C: QUIT", hello(&[])), format!("{}{ONE}C: QUIT", hello(&[]))]);
    configure(&bench, &[("me", &play.url("smtp"), "")]);
    let mut watching = queue(&bench, &["run", "--watch"]).spawn();
    let first = accept(&bench, "me");
    assert_eq!(watching.line(), first);
    let second = accept(&bench, "me");
    assert_eq!(watching.line(), second);
    watching.signal(rustix::process::Signal::TERM);
    let ran = watching.wait();
    assert_eq!(ran.signal, Some(15), "{}", ran.shown());
    play.heard();
}

#[test]
fn two_servers_are_served_side_by_side() {
    let bench = Bench::new();
    // The first waits until the second was served: one after the other this would never end.
    let slow = Transcript::play([format!("{}PAUSE\n{ONE}C: QUIT", hello(&[]))]);
    let quick = Transcript::play([format!("{}{ONE}C: QUIT", hello(&[]))]);
    configure(&bench, &[("a", &slow.url("smtp"), ""), ("b", &quick.url("smtp"), "")]);
    let (first, second) = (accept(&bench, "a"), accept(&bench, "b"));
    let mut running = queue(&bench, &["run"]).spawn();
    slow.await_pause();
    assert_eq!(running.line(), second);
    slow.go();
    assert_eq!(running.line(), first);
    assert_eq!(running.wait().status, Some(0));
    slow.heard();
    quick.heard();
}

/// Many messages, several connections, SIGKILL at random moments: each is delivered once or listed as unknown.
#[test]
fn killed_at_random_with_several_connections_loses_and_doubles_nothing() {
    const COUNT: usize = 500;
    let bench = Bench::new();
    let server = bench.sandbox();
    configure(&bench, &[("me", &server.smtp, "connections = 3")]);
    for n in 0..COUNT {
        let text = format!("From: me@by.example\nTo: you@by.example\nMessage-ID: <n{n}.@by.example>\n\nx\n");
        bench.write(&format!("m/{n}"), text);
    }
    let paths: String = (0..COUNT).map(|n| format!("m/{n}\n")).collect();
    bench.cmd("mail-inject").args(["--queue", "-a", "me", "--batch"]).stdin(paths).timeout(300).run().ok();
    let (mut kills, mut random) = (0, 0x9e37_79b9_7f4a_7c15_u64);
    let (_never, nothing) = std::sync::mpsc::channel::<()>();
    let delivered = || bench.files("server/you@by.example/new").len();
    loop {
        // Two runs side by side, one of them killed.
        let (killed, other) =
            (queue(&bench, &["run"]).timeout(300).spawn(), queue(&bench, &["run"]).timeout(300).spawn());
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = std::time::Duration::from_millis(20 + (random >> 33) % 150);
        let _ = nothing.recv_timeout(moment);
        killed.kill();
        other.kill();
        kills += usize::from(killed.wait().signal == Some(9));
        other.wait();
        if kills >= 20 || delivered() >= COUNT - 20 {
            break;
        }
    }
    assert!(kills > 3, "only {kills} kills");
    queue(&bench, &["run"]).timeout(300).run();
    let records = queue(&bench, &["list", "--json"]).run().ok().json();
    assert!(
        records.iter().all(|record| record["recipients"][0]["state"].as_str() == Some("unknown")),
        "{records:?}"
    );
    let mut copies = std::collections::BTreeMap::new();
    for file in bench.files("server/you@by.example/new") {
        let text = bench.read(&format!("server/you@by.example/new/{}", file.display()));
        let text = String::from_utf8_lossy(&text);
        let id = text.lines().find(|line| line.starts_with("Message-ID: ")).unwrap().to_string();
        *copies.entry(id).or_insert(0) += 1;
    }
    assert!(copies.values().all(|count| *count == 1), "{copies:?}");
    // What was not delivered is among the unknown, never lost.
    assert!(copies.len() + records.len() >= COUNT, "{} delivered, {} unknown", copies.len(), records.len());
}
