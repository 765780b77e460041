//! Names of mailboxes on the wire: in UTF-8 where that applies, and in modified UTF-7 everywhere else.

use crate::bench::Bench;
use crate::transcript::Transcript;

const OLD: &str = "Entw&APw-rfe &- Co";
const NEW: &str = "Entwürfe & Co";

/// Fetches the mailbox from a server that offers this and names it so on the wire; `enable` is played after the login.
#[track_caller]
fn fetch(offer: &str, enable: &str, wire: &str, quoted: bool, search: &str) {
    let mut tag = 1;
    let mut next = || {
        tag += 1;
        tag
    };
    let listed = match quoted {
        true => format!("S: * LIST () \"/\" \"{wire}\"\n"),
        false => format!("S- * LIST () \"/\" {{{}}}\\r\\n{wire}\\r\\n\n", wire.len()),
    };
    let mut script = format!(
        "S: * OK [CAPABILITY {offer} AUTH=PLAIN SASL-IR] hi\nC: a1 *\nS: a1 OK [CAPABILITY {offer}] in\n"
    );
    for line in enable.lines() {
        script += &format!(
            "{}\n",
            line.replace("TAG", &format!("a{}", if line.starts_with("C:") { next() } else { 2 }))
        );
    }
    let (list, open, seek, load, select, moved, end) =
        (next(), next(), next(), next(), next(), next(), next());
    script += &format!("C: a{list} LIST \"\" \"{wire}\"*\n{listed}S: a{list} OK x\n");
    script += &format!(
        "C: a{open} EXAMINE \"{wire}\"\nS: * 1 EXISTS\nS: * OK [UIDVALIDITY 5] x\nS: a{open} OK x\n"
    );
    script += &format!(
        "C: a{seek} UID SEARCH {search} (FROM ü)\nS: * SEARCH 1\nS: * ESEARCH (TAG \"a\") UID ALL 1\nS: a{seek} OK x\n"
    );
    script += &format!("C: a{load} UID FETCH *\nS: * 1 FETCH (UID 1 BODY[] \"one\")\nS: a{load} OK x\n");
    script += &format!(
        "C: a{select} SELECT \"{wire}\"\nS: * 1 EXISTS\nS: * OK [UIDVALIDITY 5] x\nS: a{select} OK x\n"
    );
    script +=
        &format!("C: a{moved} UID MOVE 1 \"{wire}/x\"\nS: a{moved} OK x\nC: a{end} LOGOUT\nS: a{end} OK");
    let bench = Bench::new();
    bench.write("pw", "secret\n");
    let play = Transcript::play([script]);
    let cmd =
        bench.cmd("mail-fetch").args(["--imap", &play.url("imap"), "--user", "u", "--password-file", "pw"]);
    let cmd = cmd.args([
        "-C",
        "m",
        "--timeout",
        "5s",
        "--match",
        "FROM ü",
        "--after",
        &format!("move:{NEW}/x"),
        NEW,
    ]);
    let ran = cmd.run();
    play.heard();
    let ran = ran.ok();
    // On disk it is the same, however it came.
    assert!(ran.lines()[0].contains("m/.Entw&APw-rfe &- Co/new/"), "{}", ran.shown());
}

#[test]
fn in_utf8_where_nothing_else_is_spoken_and_nowhere_else() {
    let (charset, plain) = ("CHARSET UTF-8 UID 1:*", "UID 1:*");
    fetch("IMAP4rev1 MOVE", "", OLD, true, charset);
    fetch("IMAP4rev1 MOVE UTF8=ACCEPT ENABLE", "", OLD, false, charset);
    fetch("IMAP4rev1 IMAP4rev2 MOVE ENABLE", "", OLD, true, charset);
    fetch("IMAP4rev1 MOVE ENABLE UTF8=ONLY", "C: TAG ENABLE UTF8=ACCEPT\nS: TAG NO no\n", OLD, true, charset);
    fetch("IMAP4rev2", "", NEW, true, charset);
    fetch("IMAP4rev2", "", NEW, false, charset);
    let enabled = "C: TAG ENABLE UTF8=ACCEPT\nS: * ENABLED UTF8=ACCEPT\nS: TAG OK x\n";
    fetch("IMAP4rev1 MOVE ENABLE UTF8=ONLY", enabled, NEW, true, plain);
}

/// What a server names must not end a command of ours and begin another.
#[test]
fn a_name_with_a_line_break_is_no_command() {
    let bench = Bench::new();
    bench.write("pw", "secret\n");
    let script = "S: * OK [CAPABILITY IMAP4rev2 AUTH=PLAIN] hi\nC: a1 *\nS: a1 OK [CAPABILITY IMAP4rev2] in\nC: a2 LIST *\n\
        S- * LIST () \"/\" {18}\\r\\nx\\r\\na3 DELETE INBOX\\r\\n\nS: * LIST () \"/\" y\nS: a2 OK\nC: a3 EXAMINE \"y\"\n\
        S: * 0 EXISTS\nS: * OK [UIDVALIDITY 5] x\nS: a3 OK\nC: a4 LOGOUT\nS: a4 OK";
    let play = Transcript::play([script]);
    let cmd =
        bench.cmd("mail-fetch").args(["--imap", &play.url("imap"), "--user", "u", "--password-file", "pw"]);
    let ran = cmd.args(["-C", "m", "--timeout", "5s", "*"]).run();
    play.heard();
    ran.fails(69).err_has("a line break");
}
