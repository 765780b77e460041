//! The IMAP side, byte by byte.

use super::talk::{Talk, deliver};
use crate::bench::Bench;

fn has(lines: &[String], wanted: &str) -> bool {
    lines.iter().any(|line| line == wanted)
}

#[track_caller]
fn assert_has(lines: &[String], wanted: &str) {
    assert!(has(lines, wanted), "no {wanted} in {lines:#?}");
}

fn append(talk: &mut Talk, mailbox: &str, flags: &str, message: &str) {
    talk.ok(format!("APPEND {mailbox} ({flags}) {{{}+}}\r\n{message}", message.len()));
}

#[test]
fn idle_tells_of_mail_flags_and_expunges_at_once() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let mut idler = Talk::inbox(&server.imap);
    idler.say("i IDLE", "+ idling");
    deliver(&server.smtp, "Subject: one\r\n\r\nx");
    idler.expect("* 1 EXISTS");
    idler.expect("* 1 RECENT");
    let mut other = Talk::inbox(&server.imap);
    other.ok("STORE 1 +FLAGS.SILENT (\\Flagged \\Deleted)");
    idler.expect("* 1 FETCH (UID 1 FLAGS (\\Flagged \\Deleted \\Recent))");
    other.ok("EXPUNGE");
    idler.expect("* 1 EXPUNGE");
    idler.say("DONE", "i OK");
    idler.ok("NOOP");
}

#[test]
fn idle_under_tls_is_told_and_woken_too() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let mut idler = Talk::tls(&server.imaps, &server.ca);
    idler.expect("* OK");
    // Three commands in one packet, the last of them IDLE.
    idler.send("a LOGIN me secret\r\nb SELECT INBOX\r\ni IDLE\r\n");
    while idler.line() != "+ idling" {}
    for k in 1..=3 {
        deliver(&server.smtp, "Subject: one\r\n\r\nx");
        idler.expect(&format!("* {k} EXISTS"));
        idler.expect(&format!("* {k} RECENT"));
    }
    idler.say("DONE", "i OK");
    assert_has(&idler.ok("SEARCH RECENT"), "* SEARCH 1 2 3");
}

#[test]
fn a_file_put_into_new_by_others_is_seen() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let mut talk = Talk::inbox(&server.imap);
    bench.write("server/me@by.example/new/1.x y:z", "Subject: not one\n\nx\n");
    bench.write("server/me@by.example/new/2.outside", "Subject: one\n\nx\n");
    bench.write("server/me@by.example/cur/3.outside:2,FS", "Subject: two\n\nx\n");
    assert_has(&talk.ok("NOOP"), "* 2 EXISTS");
    assert_has(
        &talk.ok("FETCH 1:2 (UID FLAGS RFC822.SIZE)"),
        "* 2 FETCH (FLAGS (\\Flagged \\Seen) UID 2 RFC822.SIZE 16)",
    );
    talk.say("i IDLE", "+ idling");
    bench.write("server/me@by.example/new/4.outside", "Subject: three\n\nx\n");
    talk.expect("* 3 EXISTS");
    talk.expect("* 2 RECENT");
    std::fs::remove_file(bench.path("server/me@by.example/cur/3.outside:2,FS")).unwrap();
    talk.expect("* 2 EXPUNGE");
    talk.say("DONE", "i OK");
}

#[test]
fn numbers_stay_until_an_expunge_may_be_told() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let mut one = Talk::imap(&server.imap);
    for k in 1..=4 {
        append(&mut one, "INBOX", "", &format!("Subject: {k}\r\n\r\n"));
    }
    one.ok("SELECT INBOX");
    let mut two = Talk::inbox(&server.imap);
    two.ok("STORE 2,3 +FLAGS (\\Deleted)");
    two.ok("EXPUNGE");
    // A FETCH by number must not renumber: message 4 is still message 4, and 2 is gone.
    let lines = one.command("FETCH 4 (UID)");
    assert_has(&lines, "* 4 FETCH (UID 4)");
    assert!(!lines.iter().any(|line| line.contains("EXPUNGE")), "{lines:?}");
    one.refused("FETCH 2 (UID)", "NO");
    one.refused("FETCH 5 (UID)", "BAD");
    let lines = one.ok("NOOP");
    assert_eq!(&lines[..2], ["* 3 EXPUNGE", "* 2 EXPUNGE"]);
    assert_has(&one.ok("FETCH 2 (UID)"), "* 2 FETCH (UID 4)");
    assert_has(&one.ok("UID FETCH 7:* (FLAGS)"), "* 2 FETCH (FLAGS (\\Recent) UID 4)");
}

#[test]
fn a_look_only_session_changes_nothing() {
    let bench = Bench::new();
    let server = bench.sandbox();
    deliver(&server.smtp, "Subject: one\r\n\r\nx");
    let mut talk = Talk::imap(&server.imap);
    let lines = talk.ok("EXAMINE inbox");
    assert_has(&lines, "* 1 RECENT");
    assert!(lines.last().unwrap().contains("[READ-ONLY]"));
    talk.ok("FETCH 1 (BODY[])");
    talk.refused("STORE 1 +FLAGS (\\Seen)", "NO");
    talk.refused("EXPUNGE", "NO");
    let lines = talk.ok("SELECT INBOX");
    assert_has(&lines, "* 1 RECENT");
    assert_has(&lines, "* OK [UNSEEN 1] the first unseen");
    assert_has(&talk.ok("FETCH 1 FLAGS"), "* 1 FETCH (FLAGS (\\Recent))");
}

#[test]
fn list_status_and_names_with_dots() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let mut talk = Talk::imap(&server.imap);
    talk.ok("CREATE a.b");
    talk.ok("CREATE a/b/c");
    append(&mut talk, "a.b", "\\Seen $Done", "Subject: x\r\n\r\n");
    let lines = talk.ok("LIST \"\" \"*\" RETURN (STATUS (MESSAGES UNSEEN UIDNEXT))");
    for wanted in [
        "* LIST (\\HasNoChildren) \"/\" INBOX",
        "* STATUS INBOX (MESSAGES 0 UNSEEN 0 UIDNEXT 1)",
        "* LIST (\\HasNoChildren) \"/\" a.b",
        "* STATUS a.b (MESSAGES 1 UNSEEN 0 UIDNEXT 2)",
        "* LIST (\\HasNoChildren) \"/\" a/b/c",
        "* STATUS a/b/c (MESSAGES 0 UNSEEN 0 UIDNEXT 1)",
    ] {
        assert_has(&lines, wanted);
    }
    assert_has(&talk.ok("LIST \"\" %"), "* LIST (\\Noselect \\HasChildren) \"/\" a");
    assert_has(&talk.ok("LIST \"\" \"\""), "* LIST (\\Noselect) \"/\" \"\"");
    talk.ok("SUBSCRIBE a.b");
    assert_eq!(talk.ok("LSUB \"\" *").len(), 2);
    assert_has(&talk.ok("LIST (SUBSCRIBED) \"\" *"), "* LIST (\\HasNoChildren \\Subscribed) \"/\" a.b");
    talk.ok("RENAME a/b/c x");
    talk.refused("SELECT a/b/c", "NO");
    talk.ok("SELECT x");
    talk.refused("CREATE x", "NO");
    talk.refused("DELETE INBOX", "NO");
    talk.refused("CREATE \"../../etc\"", "NO");
    talk.refused("CREATE \"a//b\"", "NO");
    talk.refused("STATUS nowhere (MESSAGES)", "NO");
    assert!(talk.refused("COPY 1 nowhere", "NO").contains("[TRYCREATE]"));
}

#[test]
fn moved_and_copied_messages_keep_flags_and_tell_their_uids() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let mut talk = Talk::imap(&server.imap);
    talk.ok("CREATE box");
    for k in 1..=3 {
        append(&mut talk, "INBOX", "\\Flagged $Done", &format!("Subject: {k}\r\n\r\n"));
    }
    talk.ok("SELECT INBOX");
    let last = talk.ok("UID COPY 1,3 box").pop().unwrap();
    assert!(last.contains(" 1,3 1:2] "), "{last}");
    let lines = talk.ok("MOVE 2 box");
    assert!(lines[0].starts_with("* OK [COPYUID ") && lines[0].contains(" 2 3] "), "{lines:?}");
    assert_eq!(lines[1], "* 2 EXPUNGE");
    assert!(talk.refused("MOVE 1 nowhere", "NO").contains("[TRYCREATE]"));
    talk.ok("SELECT box");
    assert_has(&talk.ok("FETCH 3 FLAGS"), "* 3 FETCH (FLAGS (\\Flagged $Done))");
    talk.ok("STORE 1:3 +FLAGS (\\Deleted)");
    assert_eq!(talk.ok("UID EXPUNGE 2").len(), 2);
    talk.ok("CLOSE");
    assert_has(&talk.ok("STATUS box (MESSAGES)"), "* STATUS box (MESSAGES 0)");
}

#[test]
fn append_in_all_its_forms() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let mut talk = Talk::imap(&server.imap);
    talk.say("a APPEND INBOX (\\Seen) \"14-Nov-2026 10:00:00 +0100\" {10}", "+ ");
    talk.send("Subject: x\r\n");
    assert!(talk.answer("a")[0].contains("[APPENDUID "));
    // Refused before a byte is sent where the client waits, after it where it does not.
    talk.say("b APPEND nowhere {10}", "b NO [TRYCREATE]");
    talk.say("c APPEND nowhere {10+}\r\nSubject: x", "c NO [TRYCREATE]");
    talk.say("d APPEND {5}", "+ ");
    talk.say("INBOX {3}", "+ ");
    talk.say("a:b", "d OK [APPENDUID");
    talk.say("e APPEND INBOX {999999999}", "e NO [TOOBIG]");
    talk.ok("SELECT INBOX");
    assert_has(&talk.ok("FETCH 1 INTERNALDATE"), "* 1 FETCH (INTERNALDATE \"14-Nov-2026 09:00:00 +0000\")");
    assert_has(&talk.ok("SEARCH ON 14-Nov-2026"), "* SEARCH 1");
}

#[test]
fn sections_and_searches() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let inner = "From: i@i.example\r\nSubject: inner\r\n\r\ninner body\r\n";
    let mail = format!(
        "From: Ann <ann@a.example>\r\nTo: me@by.example\r\nSubject: =?utf-8?B?R3LDvMOfZQ==?=\r\nDate: Wed, 4 Nov 2026 23:00:00 -0800\r\n\
         Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nsch=C3=B6n\r\n\
         --b\r\nContent-Type: message/rfc822\r\n\r\n{inner}\r\n--b--\r\n"
    );
    let mut talk = Talk::imap(&server.imap);
    append(&mut talk, "INBOX", "", &mail);
    append(&mut talk, "INBOX", "\\Answered kw", "Subject: other\r\n\r\nx\r\n");
    talk.ok("SELECT INBOX");
    for (section, wanted) in [
        ("1", "sch=C3=B6n"),
        ("2.HEADER", "From: i@i.example\r\nSubject: inner\r\n\r\n"),
        ("2.TEXT", "inner body\r\n"),
        ("2.1", "inner body\r\n"),
        ("2.MIME", "Content-Type: message/rfc822\r\n\r\n"),
        ("2", inner),
        ("2.HEADER.FIELDS (SUBJECT)", "Subject: inner\r\n\r\n"),
        ("", &mail),
    ] {
        talk.send(format!("f FETCH 1 (BODY.PEEK[{section}])\r\n"));
        talk.expect(&format!("* 1 FETCH (BODY[{section}] {{{}}}", wanted.len()));
        assert_eq!(String::from_utf8(talk.exactly(wanted.len())).unwrap(), wanted, "{section}");
        talk.expect(")");
        talk.expect("f OK");
    }
    assert_has(&talk.ok("FETCH 1 (BODY.PEEK[3])"), "* 1 FETCH (BODY[3] NIL)");
    assert_has(&talk.ok("FETCH 1 (BODY.PEEK[1]<3.3>)"), "* 1 FETCH (BODY[1]<3> {3}");
    for (keys, wanted) in [
        ("CHARSET UTF-8 SUBJECT {6+}\r\ngr\u{fc}\u{df}", " 1"),
        ("CHARSET UTF-8 BODY {6+}\r\nSCH\u{d6}N", " 1"),
        ("TEXT \"INNER BODY\"", " 1"),
        ("FROM ann OR KEYWORD kw UNANSWERED", " 1"),
        ("NOT ANSWERED", " 1"),
        ("KEYWORD KW", " 2"),
        ("SENTON 4-Nov-2026", " 1"),
        ("SENTBEFORE 4-Nov-2026", ""),
        ("HEADER DATE \"\"", " 1"),
        ("LARGER 100 UID 1:*", " 1"),
        ("*", " 2"),
        ("SUBJECT nothing", ""),
        ("NEW", " 1 2"),
    ] {
        let wanted = if keys == "NEW" { " 1" } else { wanted };
        assert_has(&talk.ok(format!("SEARCH {keys}")), &format!("* SEARCH{wanted}"));
    }
    talk.refused("SEARCH CHARSET KOI8-R ALL", "NO");
}

#[test]
fn nonsense_is_bad_and_the_session_goes_on() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let mut talk = Talk::connect(&server.imap);
    talk.expect("* OK");
    talk.say("a SELECT INBOX", "a BAD");
    talk.say("a LOGIN me wrong", "a NO [AUTHENTICATIONFAILED]");
    talk.say("a AUTHENTICATE PLAIN AG1lAHNlY3JldA==", "a OK [CAPABILITY");
    talk.say("a LOGIN me secret", "a BAD");
    talk.say("\u{1}\u{2}", "* BAD");
    talk.say("", "* BAD");
    talk.say("a FETCH 1 (FLAGS)", "a BAD");
    talk.say("a NONSENSE {5+}\r\nhello more", "a BAD");
    talk.say(&format!("a LOGIN {}", "x".repeat(500_000)), "* BAD");
    talk.say("a SELECT {9999999999}", "a BAD");
    talk.ok("SELECT INBOX");
    talk.refused("FETCH 0 (FLAGS)", "BAD");
    talk.refused("SEARCH SUBJECT", "BAD");
    talk.say("i IDLE", "+");
    talk.say("no", "i BAD");
    talk.ok("NOOP");
    talk.send("z LOGOUT\r\n");
    talk.expect("* BYE");
    talk.expect("z OK");
    assert!(talk.at_end());
}

#[test]
fn a_mailbox_deleted_under_a_session_ends_it_only() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let mut one = Talk::imap(&server.imap);
    one.ok("CREATE box");
    one.ok("SELECT box");
    one.say("i IDLE", "+");
    let mut two = Talk::imap(&server.imap);
    two.ok("DELETE box");
    one.expect("i OK");
    one.expect("* BYE");
    two.ok("CREATE box");
    two.ok("SELECT box");
}
