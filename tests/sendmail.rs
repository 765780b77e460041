//! mail-inject under the name sendmail: for cron, for git send-email, with the relay there and not there.

use super::bench::{Bench, Cmd, Server};

/// `sendmail` and `mailq` on PATH, and an account with a Maildir for notices.
fn install(bench: &Bench, smtp: &str) {
    std::fs::create_dir_all(bench.path("bin")).unwrap();
    for name in ["sendmail", "mailq"] {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_mail-inject"), bench.path(&format!("bin/{name}")))
            .unwrap();
    }
    bench.write("secret", "secret\n");
    let config = format!(
        "[account.me]\naddress = \"me@by.example\"\nsmtp = \"{smtp}\"\npassword_file = \"{}\"\nmaildir = \"{}\"\n",
        bench.path("secret").display(),
        bench.path("mail").display()
    );
    bench.write("home/.config/mailloop/config.toml", config);
}

fn sendmail(bench: &Bench, words: &[&str]) -> Cmd {
    bench.cmd(bench.path("bin/sendmail").to_str().unwrap()).args(words)
}

/// The messages that lie in a user's mailbox on the sandbox.
fn mailbox(server: &Server, user: &str) -> Vec<String> {
    let Ok(dir) = std::fs::read_dir(server.dir.join(user).join("new")) else { return Vec::new() };
    let mut all: Vec<String> = dir
        .map(|entry| String::from_utf8_lossy(&std::fs::read(entry.unwrap().path()).unwrap()).into_owned())
        .collect();
    all.sort();
    all
}

const CRON: &str = "From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@host> /bin/date\n\
                    MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nAuto-Submitted: auto-generated\n\n\
                    Sun Nov 22\n.\n..dots\n";

#[test]
fn cron_is_served_also_while_the_relay_is_away() {
    let bench = Bench::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    install(&bench, &format!("smtp://{free}"));
    // As Debian's cron calls it, and as cronie does; the relay is away: 0, and the queue has both.
    let words = ["-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root"];
    sendmail(&bench, &words).stdin(CRON).run().ok().err_has("refused");
    sendmail(&bench, &["-FCronDaemon", "-i", "-odi", "-oem", "-oi", "-t", "-f", "root"])
        .stdin(CRON)
        .run()
        .ok();
    let listed = bench.cmd(bench.path("bin/mailq").to_str().unwrap()).run().ok();
    assert_eq!(listed.lines().len(), 2, "{}", listed.shown());
    assert_eq!(sendmail(&bench, &["-bp"]).run().ok().lines().len(), 2);
    let server = bench.sandbox();
    install_server(&bench, &free.to_string(), &server);
    // The relay is being left alone for a minute; releasing says "now".
    let ids: Vec<String> =
        listed.lines().iter().map(|line| line.split('\t').next().unwrap().to_string()).collect();
    bench.cmd("mail-queue").arg("release").args(&ids).run().ok();
    sendmail(&bench, &["-q"]).run().ok();
    let got = mailbox(&server, "me@by.example");
    assert_eq!(got.len(), 2);
    for text in got {
        for wanted in [
            "From: Cron Daemon <me@by.example>\r\n",
            "To: root <me@by.example>\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "@by.example>\r\n",
            "\r\n\r\nSun Nov 22\r\n.\r\n..dots\r\n",
        ] {
            assert!(text.contains(wanted), "{wanted:?} in {text}");
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let host = host.trim();
        assert!(host.len() < 5 || !text.contains(host), "the host's name {host} in {text}");
    }
}

fn install_server(bench: &Bench, old: &str, server: &Server) {
    let path = "home/.config/mailloop/config.toml";
    let text = String::from_utf8(bench.read(path)).unwrap();
    bench.write(path, text.replace(&format!("smtp://{old}"), &server.smtp));
}

#[test]
fn sent_at_once_bcc_taken_out_and_a_lone_dot_ends_it() {
    let bench = Bench::new();
    let server = bench.sandbox();
    install(&bench, &server.smtp);
    let text = "To: you@by.example\nBcc: me@by.example\nSubject: x\n\nbody\n.\nnot this\n";
    sendmail(&bench, &["-t"]).stdin(text).run().ok();
    for user in ["you@by.example", "me@by.example"] {
        let got = mailbox(&server, user);
        assert_eq!(got.len(), 1);
        assert!(!got[0].contains("Bcc") && !got[0].contains("not this"), "{}", got[0]);
        assert!(
            got[0].contains("From: me@by.example\r\nDate: ") && got[0].contains("\r\n\r\nbody\r\n"),
            "{}",
            got[0]
        );
    }
    assert!(bench.files("home/.local/state/mailloop/queue").iter().all(|file| !file.ends_with("message")));
    // No header at all, a name as recipient, an empty sender.
    sendmail(&bench, &["-F", "A Script", "-f", "<>", "root"]).stdin("just text\n").run().ok();
    let got = mailbox(&server, "me@by.example");
    assert!(
        got.iter().any(|text| text.contains("From: A Script <me@by.example>\r\n")
            && text.contains("\r\n\r\njust text\r\n")),
        "{got:?}"
    );
}

/// The work grows with the recipients, not with their square; the kernel ends it at so many seconds of processor time.
#[test]
fn many_recipients_cost_little_each() {
    let bench = Bench::new();
    let list: Vec<String> = (0..60_000).map(|n| format!("n{n}@x")).collect();
    bench.write("m", format!("From: a@x.example\nTo: {}\n\nhi\n", list.join(",\n ")));
    let line = "ulimit -t 25; exec mail-inject -n -t --smtp smtp://127.0.0.1:9 < m > out";
    bench.sh(line).timeout(600).run().ok();
}

/// Also where a dot may end the input, no line of it is in memory.
#[test]
fn a_line_of_any_length_is_taken_in_little_memory() {
    let bench = Bench::new();
    install(&bench, "smtp://127.0.0.1:9");
    let megabytes = 40;
    let script = format!(
        "ulimit -v {}; (printf 'Subject: x\\n\\n'; head -c {} /dev/zero | tr '\\0' a; printf '\\n.\\nnot this\\n') \
         | bin/sendmail -odq you@by.example",
        48 * 1024,
        megabytes << 20
    );
    bench.sh(&script).run().ok();
    let dir = "home/.local/state/mailloop/queue/mail";
    let message = bench.files(dir).into_iter().find(|file| file.ends_with("message")).unwrap();
    let message = bench.read(&format!("{dir}/{}", message.display()));
    assert!(message.len() > megabytes << 20 && !message.ends_with(b"not this\r\n"));
}

#[test]
fn none_of_our_options_and_no_account_is_told() {
    let bench = Bench::new();
    let server = bench.sandbox();
    install(&bench, &server.smtp);
    for words in [&["--smtp", "smtp://127.0.0.1:9", "you@by.example"][..], &["--queue"], &["-a", "x"], &[]] {
        sendmail(&bench, words).stdin("Subject: x\n\nx\n").run().fails(64);
    }
    bench.write("home/.config/mailloop/config.toml", "");
    sendmail(&bench, &["you@by.example"]).stdin("Subject: x\n\nx\n").run().fails(78).err_has("no account");
    assert!(mailbox(&server, "you@by.example").is_empty());
}

#[test]
fn refused_is_told_and_the_sender_finds_a_notice() {
    let bench = Bench::new();
    let server = bench.sandbox();
    install(&bench, &server.smtp);
    let text = "From: me@by.example\nSubject: to nobody\n\nx\n";
    sendmail(&bench, &["nobody@by.example"])
        .stdin(text)
        .run()
        .fails(69)
        .err_has("nobody@by.example does not get");
    let notices = bench.files("mail/new");
    assert_eq!(notices.len(), 1);
    let notice = String::from_utf8(bench.read(&format!("mail/new/{}", notices[0].display()))).unwrap();
    assert!(notice.contains("Final-Recipient: rfc822; nobody@by.example\r\nAction: failed\r\n"), "{notice}");
    assert!(notice.contains("\r\nSubject: to nobody\r\n"), "{notice}");
    let failed = bench.cmd("mail-queue").args(["list", "--failed", "--json"]).run().ok().json();
    assert_eq!(failed[0]["recipients"][0]["class"].as_str(), Some("no-user"));
    // Once, whatever runs later.
    bench.cmd("mail-queue").arg("run").run().ok();
    assert_eq!(bench.files("mail/new").len(), 1);
}

#[test]
fn git_send_email_works_with_it() {
    let bench = Bench::new();
    if bench.cmd("git").args(["send-email", "--dump-aliases"]).run().status != Some(0) {
        assert!(std::env::var_os("MAILLOOP_ALL").is_none(), "git send-email is not installed");
        eprintln!("git send-email is not installed; this test did not run");
        return;
    }
    let server = bench.sandbox();
    install(&bench, &server.smtp);
    let patches = "git init -q repo && cd repo && git config user.name 'M\u{fc}ller, J' && git config user.email me@by.example
        for n in 1 2 3; do echo $n > f; git add f; git commit -qm \"patch $n: Gr\u{fc}\u{df}e\"; done
        git format-patch -q -3 -o ../patches";
    bench.sh(patches).run().ok();
    let send = "cd repo && git send-email --quiet --confirm=never --sendmail-cmd=\"$HOME/../bin/sendmail\" \
                --envelope-sender=me@by.example --to you@by.example --bcc me@by.example ../patches/*.patch";
    bench.sh(send).run().ok();
    assert_eq!((mailbox(&server, "you@by.example").len(), mailbox(&server, "me@by.example").len()), (3, 3));
    for text in mailbox(&server, "you@by.example") {
        assert!(text.contains("\r\nSubject: [PATCH ") && !text.to_lowercase().contains("\r\nbcc:"), "{text}");
        assert!(text.contains("\r\nX-Mailer: git-send-email"), "{text}");
    }
    // Offline: git is rid of them, and they go when the server is back.
    server.kill();
    bench.sh(send).run().ok();
    assert_eq!(bench.cmd("mail-queue").args(["list"]).run().ok().lines().len(), 3);
}
