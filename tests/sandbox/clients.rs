//! Real clients against the server: curl, Python's smtplib and imaplib, swaks, mbsync.

use crate::bench::{Bench, Server, pdf};

/// True if the client is there. Else says so in one line; with MAILLOOP_ALL=1 that is a failure.
fn installed(bench: &Bench, client: &str) -> bool {
    let there = bench.sh(&format!("command -v {client}")).run().status == Some(0);
    let all = std::env::var("MAILLOOP_ALL").is_ok_and(|all| all == "1");
    assert!(there || !all, "{client} is not installed");
    if !there {
        eprintln!("skipped: {client} is not installed");
    }
    there
}

fn port(url: &str) -> &str {
    url.rsplit_once(':').expect("an address of the sandbox").1
}

/// A message with a real PDF in it.
fn message() -> String {
    let body = base64_simd::STANDARD.encode_to_string(pdf("from a client"));
    let lines: Vec<&str> =
        body.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!(
        "From: a@b.example\r\nTo: me@by.example\r\nSubject: pdf\r\nContent-Type: application/pdf; name=a.pdf\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}\r\n",
        lines.join("\r\n")
    )
}

#[test]
fn curl_sends_and_fetches_in_plain_and_under_tls() {
    let bench = Bench::new();
    if !installed(&bench, "curl") {
        return;
    }
    let server = bench.sandbox();
    bench.write("mail.eml", message());
    let envelope = ["--mail-from", "a@b.example", "--mail-rcpt", "me@by.example", "-T", "mail.eml"];
    let curl = || bench.cmd("curl").args(["-sS", "--max-time", "30", "--cacert"]).arg(&server.ca);
    curl().arg(&server.smtp).args(envelope).run().ok();
    curl().arg(&server.smtps).args(envelope).args(["-u", "me:secret"]).run().ok();
    curl().args(["--ssl-reqd", "-u", "me:secret"]).args(envelope).arg(&server.smtp).run().ok();
    for (uid, url) in [(1, &server.imap), (2, &server.imaps), (3, &server.imap)] {
        let ran =
            curl().args(["-u", "me@by.example:secret"]).arg(format!("{url}/INBOX;UID={uid}")).run().ok();
        assert!(ran.out_text().ends_with(&message()), "{}", ran.shown());
    }
    let found =
        curl().args(["-u", "me:secret"]).arg(format!("{}/INBOX?SUBJECT%20pdf", server.imaps)).run().ok();
    assert_eq!(found.lines(), ["* SEARCH 1 2 3"]);
    // 67: login denied; 60: the certificate is not trusted.
    curl().args(["-u", "me:wrong"]).arg(format!("{}/", server.imaps)).run().fails(67);
    bench.cmd("curl").args(["-sS", "-u", "me:secret"]).arg(format!("{}/", server.imaps)).run().fails(60);
}

const PYTHON: &str = r#"
import imaplib, os, smtplib, ssl, sys, time
smtp, smtps, imap, imaps = (int(p) for p in sys.argv[1:5])
tls = ssl.create_default_context(cafile=sys.argv[5])
mail = open('mail.eml', 'rb').read()

def refused(kind, act):
    try:
        act()
    except kind as why:
        return str(why)
    raise AssertionError('it was to fail')

with smtplib.SMTP('127.0.0.1', smtp) as s:
    s.starttls(context=tls)
    s.ehlo()
    assert s.has_extn('chunking') and not s.has_extn('starttls')
    assert '535' in refused(smtplib.SMTPAuthenticationError, lambda: s.login('me', 'wrong'))
    s.login('me@by.example', 'secret')
    left = s.sendmail('a@b.example', ['me+x@by.example', 'nobody@by.example'], mail)
    assert left['nobody@by.example'][0] == 550, left
with smtplib.SMTP_SSL('localhost', smtps, context=tls) as s:
    s.sendmail('a@b.example', ['me@by.example'], mail)

i = imaplib.IMAP4('127.0.0.1', imap)
i.starttls(ssl_context=tls)
refused(imaplib.IMAP4.error, lambda: i.login('me', 'wrong'))
i.authenticate('PLAIN', lambda _: b'\0me\0secret')
assert i.select()[1] == [b'2']
assert i.search(None, 'UNSEEN', 'SUBJECT', '"pdf"')[1] == [b'1 2']
whole = i.fetch('1', '(BODY[])')[1][0][1]
assert whole.endswith(mail), whole
assert i.fetch('1:2', '(FLAGS)')[1] == [b'1 (FLAGS (\\Seen \\Recent))', b'2 (FLAGS (\\Recent))']
i.create('Trash'); i.subscribe('Trash')
assert i.lsub()[1] == [b'(\\HasNoChildren) "/" Trash']
i.append('Trash', '(\\Draft)', imaplib.Time2Internaldate(1e9), mail)
i.uid('COPY', '2', 'Trash')
i.uid('STORE', '2', '+FLAGS', r'(\Deleted)')
assert i.expunge()[1] == [b'2']
assert i.status('Trash', '(MESSAGES UNSEEN)')[1] == [b'Trash (MESSAGES 2 UNSEEN 2)']
i.select('Trash', readonly=True)
assert b'09-Sep-2001 01:46:40' in i.fetch('1', '(INTERNALDATE)')[1][0]
structure = i.fetch('1', '(BODYSTRUCTURE)')[1][0]
assert b'("application" "pdf" ("name" "a.pdf") NIL NIL "base64"' in structure, structure
assert i.logout()[0] == 'BYE'
with imaplib.IMAP4_SSL('localhost', imaps, ssl_context=tls) as i:
    i.login('me', 'secret')
    assert i.noop()[0] == 'OK'
"#;

#[test]
fn python_sends_searches_and_moves() {
    let bench = Bench::new();
    if !installed(&bench, "python3") {
        return;
    }
    let server = bench.sandbox();
    bench.write("mail.eml", message());
    let ports = [&server.smtp, &server.smtps, &server.imap, &server.imaps].map(|url| port(url));
    bench.cmd("python3").args(["-c", PYTHON]).args(ports).arg(&server.ca).run().ok();
}

#[test]
fn swaks_logs_in_both_ways() {
    let bench = Bench::new();
    if !installed(&bench, "swaks") {
        return;
    }
    let server = bench.sandbox();
    let swaks = |more: &[&str]| {
        let to = ["--server", "127.0.0.1", "--from", "a@b.example", "--to", "me@by.example"];
        bench.cmd("swaks").args(to).args(["--port", port(&server.smtp)]).args(more).run()
    };
    let login = ["--auth-user", "me@by.example", "--auth-password", "secret"];
    swaks(&[]).ok();
    swaks(&[&["--auth", "PLAIN"], &login[..]].concat()).ok();
    swaks(&[&["--auth", "LOGIN"], &login[..]].concat()).ok();
    swaks(&["--auth", "PLAIN", "--auth-user", "me", "--auth-password", "wrong"]).fails(28);
    swaks(&["--to", "nobody@by.example"]).fails(24);
    // Its TLS needs a Perl module that is not always there.
    if swaks(&["--support"]).out_text().contains("TLS supported") {
        swaks(&[&["--tls", "--auth", "PLAIN"], &login[..]].concat()).ok();
    }
    assert!(bench.files("server/me@by.example/new").len() >= 3);
}

fn mbsync(bench: &Bench, server: &Server) {
    let rc = format!(
        "IMAPAccount box\nHost localhost\nPort {}\nUser me@by.example\nPass secret\nSSLType IMAPS\nCertificateFile {}\n\n\
         IMAPStore far\nAccount box\n\nMaildirStore near\nPath {near}/\nInbox {near}/INBOX\nSubFolders Verbatim\n\n\
         Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n",
        port(&server.imaps),
        server.ca.display(),
        near = bench.path("near").display(),
    );
    bench.write("mbsyncrc", rc);
    bench.cmd("mbsync").args(["-c", "mbsyncrc", "all"]).run().ok();
}

#[test]
fn mbsync_brings_both_sides_together() {
    let bench = Bench::new();
    if !installed(&bench, "mbsync") {
        return;
    }
    let server = bench.sandbox();
    for k in 0..20 {
        super::talk::deliver(&server.smtp, &format!("Subject: {k}\r\nMessage-ID: <{k}@b.example>\r\n\r\nx"));
    }
    std::fs::create_dir_all(bench.path("near")).unwrap();
    mbsync(&bench, &server);
    assert_eq!(bench.files("near/INBOX/new").len(), 20);
    // A flag, a removal and a new mailbox with a message from this side, a new message from that one.
    let mut names = bench.files("near/INBOX/new").into_iter();
    let flag = names.next().unwrap();
    let from = bench.path("near/INBOX/new").join(&flag);
    std::fs::rename(from, bench.path("near/INBOX/cur").join(format!("{}:2,FS", flag.display()))).unwrap();
    let gone = names.next().unwrap();
    let from = bench.path("near/INBOX/new").join(&gone);
    std::fs::rename(from, bench.path("near/INBOX/cur").join(format!("{}:2,T", gone.display()))).unwrap();
    for sub in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(bench.path("near/work").join(sub)).unwrap();
    }
    bench.write("near/work/new/1.mine", "Subject: mine\n\nx\n");
    super::talk::deliver(&server.smtp, "Subject: late\r\n\r\nx");
    mbsync(&bench, &server);
    mbsync(&bench, &server);
    let mut talk = super::talk::Talk::inbox(&server.imap);
    let lines = talk.ok("STATUS INBOX (MESSAGES UNSEEN)");
    assert_eq!(lines[0], "* STATUS INBOX (MESSAGES 20 UNSEEN 19)");
    assert_eq!(talk.ok("SEARCH FLAGGED SEEN")[0].split(' ').count(), 3);
    assert_eq!(talk.ok("STATUS work (MESSAGES)")[0], "* STATUS work (MESSAGES 1)");
}
