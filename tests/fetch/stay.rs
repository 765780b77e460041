//! `--idle`: what comes is fetched, and silence, goodbyes and half lines are got over.

use crate::bench::{Bench, Ran, Running};
use crate::transcript::Transcript;

use super::Post;
use super::cut::Knife;

pub(super) const LOGIN: &str = "S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR IDLE] hi\nC: a1 AUTHENTICATE PLAIN *\nS: a1 OK [CAPABILITY IMAP4rev1 IDLE] in\n\
     C: a2 EXAMINE *\n";
pub(super) const EMPTY: &str =
    "S: * 0 EXISTS\nS: * OK [UIDVALIDITY 5] x\nS: * OK [UIDNEXT 1] x\nS: a2 OK x\n";
/// A connection on which the message is there.
pub(super) const GOOD: &str = "S: * 1 EXISTS\nS: * OK [UIDVALIDITY 5] x\nS: * OK [UIDNEXT 2] x\nS: a2 OK x\nC: a3 UID SEARCH *\nS: * SEARCH 1\nS: a3 OK\n\
     C: a4 UID FETCH *\nS- * 1 FETCH (UID 1 BODY[] {3}\\r\\none)\\r\\n\nS: a4 OK\nC? a5 IDLE\nS: + idling\nSTALL";

pub(super) fn stay(bench: &Bench, url: &str) -> Running {
    bench.write("pw", "secret\n");
    let cmd =
        bench.cmd("mail-fetch").args(["--imap", url, "--user", "u", "--password-file", "pw", "-C", "m"]);
    cmd.args(["-vv", "--timeout", "1s", "--idle=2s", "--state", "state"]).timeout(60).spawn()
}

/// It waited for the server as long as its options say, once, then for the shortest of its pauses, and for nothing else.
#[track_caller]
pub(super) fn one_pause(name: &str, ran: &Ran) {
    let said = ran.err_text();
    let pauses: Vec<&str> = said.lines().filter(|line| line.contains("trying again in")).collect();
    assert!(pauses.len() == 1 && pauses[0].contains("again in 1 s"), "{name}: {}", ran.shown());
    assert!(said.matches("within the time limit").count() <= 1, "{name}: {}", ran.shown());
}

#[test]
fn whatever_the_server_does_the_next_message_comes() {
    for (name, bad) in [
        ("silence before the greeting", "STALL".to_string()),
        ("half a greeting", "S- * O\nSTALL".to_string()),
        ("silence at the login", "S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\nC: a1 *\nSTALL".to_string()),
        ("silence while opening", format!("{LOGIN}S: * 1 EXISTS\nSTALL")),
        ("goodbye while idle", format!("{LOGIN}{EMPTY}C: a3 IDLE\nS: + idling\nS: * BYE restarting")),
        ("a black hole while idle", format!("{LOGIN}{EMPTY}C: a3 IDLE\nS: + idling\nSTALL")),
        ("no answer to IDLE", format!("{LOGIN}{EMPTY}C: a3 IDLE\nSTALL")),
        ("half a line while idle", format!("{LOGIN}{EMPTY}C: a3 IDLE\nS: + idling\nS- * 1 EXI\nSTALL")),
        ("an answer to no question", format!("{LOGIN}{EMPTY}C: a3 IDLE\nS: a3 OK done already\nSTALL")),
        ("nonsense while idle", format!("{LOGIN}{EMPTY}C: a3 IDLE\nS: + idling\nS: what\nCLOSE")),
    ] {
        let bench = Bench::new();
        let play = Transcript::play([bad, format!("{LOGIN}{GOOD}")]);
        let mut running = stay(&bench, &play.url("imap"));
        let line = running.line();
        assert!(bench.path(&line).is_file(), "{name}: {line}");
        running.signal(rustix::process::Signal::TERM);
        let ran = running.wait();
        assert_eq!(ran.signal, Some(15), "{name}");
        one_pause(name, &ran);
    }
}

/// How many octets the server says up to and with its answer to STARTTLS.
fn said_in_the_clear(imap: &str) -> u64 {
    use std::io::{BufRead, BufReader, Write};
    let socket = std::net::TcpStream::connect(imap.trim_start_matches("imap://")).unwrap();
    let (mut out, mut lines) = (socket.try_clone().unwrap(), BufReader::new(socket));
    let mut said = String::new();
    lines.read_line(&mut said).unwrap();
    out.write_all(b"s1 STARTTLS\r\n").unwrap();
    while !said.contains("s1 OK") {
        assert!(lines.read_line(&mut said).unwrap() > 0, "{said}");
    }
    said.len() as u64
}

#[test]
fn silence_before_and_inside_tls_is_got_over() {
    for (name, starttls, octets) in [
        ("no answer to the first word of TLS", false, 0),
        ("half a record of the handshake", false, 3),
        ("silence in the middle of the handshake", false, 300),
        ("half an answer to STARTTLS", true, -5),
        ("silence after STARTTLS", true, 0),
        ("half a record after STARTTLS", true, 3),
        ("silence in the middle of the handshake after STARTTLS", true, 300),
    ] {
        let post = Post::new();
        post.deliver("one", "1");
        let server = if starttls { &post.server.imap } else { &post.server.imaps };
        let address = server.split("://").nth(1).unwrap().replace("localhost", "127.0.0.1");
        let clear = if starttls { said_in_the_clear(server) } else { 0 };
        let knife = Knife::new(&address, clear.saturating_add_signed(octets), false);
        let port = knife.url.rsplit(':').next().unwrap();
        let (scheme, more) =
            if starttls { ("imap", vec!["--tls", "starttls"]) } else { ("imaps", Vec::new()) };
        let cmd = post.fetch_from(&format!("{scheme}://localhost:{port}"), "m").args(more);
        let cmd = cmd.arg("--tls-ca").arg(&post.server.ca).args(["-v", "--timeout", "1s"]);
        let mut running = cmd.args(["--idle=2s", "--state", "state"]).timeout(60).spawn();
        let line = running.line();
        assert!(knife.cut.try_recv().is_ok(), "{name}: the line was never silent");
        assert!(post.bench.path(&line).is_file(), "{name}: {line}");
        running.signal(rustix::process::Signal::TERM);
        let ran = running.wait();
        assert_eq!(ran.signal, Some(15), "{name}: {}", ran.shown());
        one_pause(name, &ran);
    }
}

#[test]
fn news_before_the_answer_to_idle_is_not_missed() {
    let bench = Bench::new();
    let rest = "C: a3 IDLE\nS: * 1 EXISTS\nS: + idling\nC: DONE\nS: a3 OK\nC: a4 UID SEARCH *\nS: * SEARCH 1\nS: a4 OK\nC: a5 UID FETCH *\n\
         S- * 1 FETCH (UID 1 BODY[] {3}\\r\\none)\\r\\n\nS: a5 OK\nC? a6 IDLE\nSTALL";
    let play = Transcript::play([format!("{LOGIN}{EMPTY}{rest}")]);
    let mut running = stay(&bench, &play.url("imap"));
    assert!(running.line().contains("V5U1."));
}

#[test]
fn all_mailboxes_are_waited_on_and_the_heartbeat_tells() {
    let post = Post::new();
    let python = |script: &str| {
        let head = format!(
            "import imaplib\nhost, port = '{}'.rsplit('/', 1)[-1].split(':')\nimap = imaplib.IMAP4(host, int(port)); \
             imap.login('me@by.example', 'secret')\n",
            post.server.imap
        );
        post.bench.write("do.py", head + script);
        post.bench.cmd("python3").arg("do.py").run().ok();
    };
    python("for name in ['a', 'b']:\n  imap.create(name)");
    let cmd = post.fetch("m").args(["--idle=1h", "--state", "state", "INBOX", "a", "b"]);
    let mut running = cmd.spawn();
    for name in ["INBOX", "a", "b", "a", "INBOX"] {
        python(&format!("imap.append('{name}', None, None, b'Subject: x\\r\\n\\r\\nx\\r\\n')"));
        let line = running.line();
        let wanted = if name == "INBOX" { "/m/new/".to_string() } else { format!("/.{name}/new/") };
        assert!(format!("/{line}").contains(&wanted), "{name}: {line}");
    }
    let beat = post
        .bench
        .files("state")
        .into_iter()
        .find(|file| file.to_string_lossy().starts_with("heartbeat-fetch"));
    let beat = String::from_utf8(post.bench.read(&format!("state/{}", beat.unwrap().display()))).unwrap();
    assert!(beat.contains("\"answered\":\"20"), "{beat}");
    running.signal(rustix::process::Signal::TERM);
    let ran = running.wait();
    assert_eq!(
        (ran.signal, ran.err_text().as_str()),
        (Some(15), ""),
        "an end that was asked for is no trouble"
    );
}

#[test]
fn a_refused_login_ends_it() {
    let bench = Bench::new();
    let play = Transcript::play([
        "S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\nC: a1 *\nS: a1 NO [AUTHENTICATIONFAILED] wrong",
    ]);
    stay(&bench, &play.url("imap")).wait().fails(77).err_has("given up");
    assert_eq!(play.heard().len(), 1);
}

/// Plays [`LOGIN`] and [`EMPTY`], then says that it is still here until DONE comes; true if DONE came.
fn says_that_it_is_here(listener: &std::net::TcpListener) -> bool {
    use std::io::{BufRead, BufReader, Write};
    let (socket, _) = listener.accept().unwrap();
    let (mut out, mut lines) = (socket.try_clone().unwrap(), BufReader::new(socket));
    let mut said = String::new();
    for step in format!("{LOGIN}{EMPTY}C: a3 IDLE\nS: + idling").lines() {
        match step.strip_prefix("S: ") {
            Some(line) => out.write_all(format!("{line}\r\n").as_bytes()).unwrap(),
            None => assert!(lines.read_line(&mut said).unwrap() > 0),
        }
    }
    lines.get_ref().set_read_timeout(Some(std::time::Duration::from_millis(400))).unwrap();
    for _ in 0..100 {
        let mut line = String::new();
        if lines.read_line(&mut line).is_ok() {
            return line == "DONE\r\n";
        }
        out.write_all(b"* OK Still here\r\n").unwrap();
    }
    false
}

#[test]
fn a_server_that_keeps_talking_is_asked_in_time_too() {
    let bench = Bench::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let running = stay(&bench, &format!("imap://{}", listener.local_addr().unwrap()));
    assert!(says_that_it_is_here(&listener), "IDLE of 2 s never ended");
    running.signal(rustix::process::Signal::TERM);
    running.wait();
}

#[test]
fn no_answer_to_done_is_no_answer() {
    let bench = Bench::new();
    let silent = format!("{LOGIN}{EMPTY}C: a3 IDLE\nS: + idling\nC: DONE\nSTALL");
    let play = Transcript::play([silent, format!("{LOGIN}{GOOD}")]);
    let mut running = stay(&bench, &play.url("imap"));
    assert!(bench.path(&running.line()).is_file());
    running.signal(rustix::process::Signal::TERM);
    running.wait().err_has("no answer to DONE");
}

#[test]
fn a_command_that_gives_no_password_is_asked_again() {
    let bench = Bench::new();
    bench.write("once", "if [ -e asked ]; then echo secret; else touch asked; exit 1; fi\n");
    let play = Transcript::play([format!("{LOGIN}{GOOD}")]);
    let url = play.url("imap");
    let cmd = bench.cmd("mail-fetch").args(["--imap", &url, "--user", "u", "-C", "m", "--timeout", "1s"]);
    let cmd = cmd.args(["--password-command", "sh once", "--idle=2s", "--state", "state"]);
    let mut running = cmd.timeout(12).spawn();
    assert!(bench.path(&running.line()).is_file());
    running.signal(rustix::process::Signal::TERM);
    running.wait().err_has("gave no password");
    let cmd = bench.cmd("mail-fetch").args(["--imap", &url, "--user", "u", "-C", "m"]);
    cmd.args(["--password-command", "false"]).run().fails(75);
}

/// A connection of its own is for a mailbox, not for a word: `!top` is not "all but top".
#[test]
fn a_mailbox_that_looks_like_an_exclusion_is_waited_on_alone() {
    let login = "S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR IDLE] hi\nC: a1 AUTHENTICATE PLAIN *\n\
                 S: a1 OK [CAPABILITY IMAP4rev1 IDLE] in\n";
    let list = |tag: u32| {
        format!(
            "C: a{tag} LIST *\nS: * LIST () \"/\" INBOX\nS: * LIST () \"/\" \"!top\"\nS: * LIST () \"/\" Secret\nS: a{tag} OK\n"
        )
    };
    let open = |tag: u32, name: &str| {
        format!(
            "C: a{tag} EXAMINE \"{name}\"\nS: * 0 EXISTS\nS: * OK [UIDVALIDITY 5] x\nS: * OK [UIDNEXT 1] x\nS: a{tag} OK x\n"
        )
    };
    let first =
        format!("{login}{}{}{}C: a5 IDLE\nS: + idling\nCLOSE", list(2), open(3, "!top"), open(4, "INBOX"));
    // It connected while the first was served.
    let own = open(2, "!top").replace("0 EXISTS", "1 EXISTS").replace("UIDNEXT 1", "UIDNEXT 2");
    let own = format!(
        "{login}{own}C: a3 UID SEARCH *\nS: * SEARCH 1\nS: a3 OK\nC: a4 UID FETCH *\n\
         S- * 1 FETCH (UID 1 BODY[] {{3}}\\r\\none)\\r\\n\nS: a4 OK\nC? a5 IDLE\nS: + idling\nSTALL"
    );
    let bench = Bench::new();
    let play = Transcript::play([first, own]);
    bench.write("pw", "secret\n");
    let cmd =
        bench.cmd("mail-fetch").args(["--imap", &play.url("imap"), "--user", "u", "--password-file", "pw"]);
    let cmd = cmd.args(["-C", "m", "--idle=1h", "--state", "state", "--timeout", "5s", "*", "!Secret"]);
    let mut running = cmd.timeout(20).spawn();
    assert!(running.line().contains("top/new/"));
    running.signal(rustix::process::Signal::TERM);
    running.wait();
    play.heard();
}

/// What comes between the search and another opening of the mailbox is announced by nobody.
#[test]
fn what_came_before_the_mailbox_was_opened_again_is_not_waited_for() {
    let first = format!("{LOGIN}{}", GOOD.split("C? a5").next().unwrap());
    // A second message came just before SELECT.
    let select = "C: a5 SELECT *\nS: * 2 EXISTS\nS: * OK [UIDVALIDITY 5] x\nS: * OK [UIDNEXT 3] x\nS: a5 OK x\n\
        C: a6 UID STORE 1 *\nS: a6 OK\nC: a7 UID SEARCH *\nS: * SEARCH 2\nS: a7 OK\nC: a8 UID FETCH 2 *\n\
        S- * 2 FETCH (UID 2 BODY[] {3}\\r\\ntwo)\\r\\n\nS: a8 OK\nSTALL";
    let bench = Bench::new();
    bench.write("pw", "secret\n");
    let play = Transcript::play([format!("{first}{select}")]);
    let cmd =
        bench.cmd("mail-fetch").args(["--imap", &play.url("imap"), "--user", "u", "--password-file", "pw"]);
    let cmd = cmd.args(["-C", "m", "--idle=1h", "--state", "state", "--timeout", "5s", "--after", "seen"]);
    let mut running = cmd.timeout(20).spawn();
    assert_ne!(running.line(), running.line());
    running.signal(rustix::process::Signal::TERM);
    running.wait();
    play.heard();
}

#[test]
fn no_time_at_all_is_refused() {
    let bench = Bench::new();
    bench.write("pw", "secret\n");
    for times in [
        &["--idle=0s"][..],
        &["--idle=1m", "--poll", "0s"],
        &["--timeout", "0s"],
        &["--idle", "--timeout", "0m"],
    ] {
        let cmd = bench.cmd("mail-fetch").args(["--imap", "imap://127.0.0.1:1", "--user", "u"]);
        let cmd = cmd.args(["--password-file", "pw", "-C", "m", "--state", "state"]);
        cmd.args(times).timeout(5).run().fails(64).err_has("no time at all");
    }
    let cmd = bench.cmd("mail-fetch").args(["--imap", "imap://127.0.0.1:1", "--user", "u", "-C", "m"]);
    let longer = cmd.args(["--password-file", "pw", "--state", "state", "--idle", "--poll", "3m"]);
    longer.timeout(5).run().fails(64).err_has("--poll").err_has("--idle=3m");
    let account = "[account.x]\nimap = \"imaps://h.example\"\nmaildir = \"/tmp/x\"\n";
    for (text, place) in [
        (format!("{account}timeout = \"0s\"\n"), "line 4"),
        (format!("{account}[loop.l]\naccount = \"x\"\nfiles = \"/tmp/y\"\nevery = \"0m\"\n"), "line 7"),
    ] {
        bench.write("home/.config/mailloop/config.toml", text);
        bench.cmd("mail-fetch").arg("x").run().fails(78).err_has(place).err_has("no time at all");
    }
}

/// IDLE is announced and refused: the mailbox is asked for instead, over the same connection.
#[test]
fn a_refused_idle_is_replaced_by_asking() {
    for no in ["NO not for you", "BAD what", "NO [UNAVAILABLE] too many watchers"] {
        // The DONE of a refused IDLE would be a strange command.
        let rest = format!(
            "C: a3 IDLE\nS: a3 {no}\nC: a4 NOOP\nS: a4 OK\nC: a5 NOOP\nS: * 1 EXISTS\nS: a5 OK\nC: a6 UID SEARCH *\n\
             S: * SEARCH 1\nS: a6 OK\nC: a7 UID FETCH *\nS- * 1 FETCH (UID 1 BODY[] {{3}}\\r\\none)\\r\\n\nS: a7 OK\n\
             C? a8 NOOP\nSTALL"
        );
        let bench = Bench::new();
        bench.write("pw", "secret\n");
        let play = Transcript::play([format!("{LOGIN}{EMPTY}{rest}")]);
        let cmd = bench.cmd("mail-fetch").args(["--imap", &play.url("imap"), "--user", "u", "-C", "m"]);
        let cmd = cmd.args(["--password-file", "pw", "--timeout", "5s", "--state", "state", "--idle=1h"]);
        let mut running = cmd.args(["--poll", "300ms"]).timeout(20).spawn();
        assert!(running.line().contains("V5U1."));
        running.signal(rustix::process::Signal::TERM);
        let ran = running.wait();
        assert_eq!(ran.signal, Some(15), "{}", ran.shown());
        assert_eq!(
            ran.err_text().matches("asking for news every now and then").count(),
            1,
            "{}",
            ran.shown()
        );
        let heard = play.heard();
        assert_eq!(heard.iter().filter(|line| line.ends_with("IDLE")).count(), 1, "{heard:?}");
        assert!(!heard.contains(&"DONE".to_string()), "{heard:?}");
    }
}

/// Servers say with each IDLE how many messages there are: as long as there are no more, that ends none.
#[test]
fn what_is_known_already_does_not_end_idle() {
    use std::io::{BufRead, BufReader, Read, Write};
    let bench = Bench::new();
    bench.write("pw", "secret\n");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("imap://{}", listener.local_addr().unwrap());
    let cmd =
        bench.cmd("mail-fetch").args(["--imap", &url, "--user", "u", "--password-file", "pw", "-C", "m"]);
    let running = cmd.args(["--idle=1h", "--state", "state", "--timeout", "5s"]).timeout(20).spawn();
    let (socket, _) = listener.accept().unwrap();
    let (mut out, mut lines) = (socket.try_clone().unwrap(), BufReader::new(socket));
    let script = GOOD.replace("UIDNEXT 2", "UIDNEXT 9").replace("* 1 EXISTS", "* 7 EXISTS");
    for step in format!("{LOGIN}{script}").lines().filter(|step| *step != "STALL") {
        let (word, said) = step.split_once(' ').unwrap();
        match word {
            "S:" => out.write_all(format!("{said}\r\n").as_bytes()).unwrap(),
            "S-" => out.write_all(said.replace("\\r\\n", "\r\n").as_bytes()).unwrap(),
            _ => assert!(lines.read_line(&mut String::new()).unwrap() > 0),
        }
    }
    // One goes, and none comes; one goes and one comes.
    out.write_all(b"* 7 EXISTS\r\n* 7 EXISTS\r\n* 3 EXPUNGE\r\n* 6 EXISTS\r\n").unwrap();
    lines.get_ref().set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    let heard = lines.get_mut().read(&mut [0; 99]);
    assert!(heard.is_err(), "it ended IDLE for what it knew");
    out.write_all(b"* 3 EXPUNGE\r\n* 6 EXISTS\r\n").unwrap();
    lines.get_ref().set_read_timeout(Some(std::time::Duration::from_secs(15))).unwrap();
    let mut said = String::new();
    lines.read_line(&mut said).unwrap();
    assert_eq!(said, "DONE\r\n");
    running.signal(rustix::process::Signal::TERM);
    running.wait();
}
