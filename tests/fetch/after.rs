//! `--after` on servers that lack MOVE or UIDPLUS: what is sent, word by word.

use crate::bench::{Bench, Ran};
use crate::transcript::Transcript;

/// One message comes; the server has these capabilities besides.
fn up_to(capabilities: &str) -> String {
    format!(
        "S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\nC: a1 AUTHENTICATE PLAIN *\n\
         S: a1 OK [CAPABILITY IMAP4rev1 {capabilities}] in\n\
         C: a2 EXAMINE \"INBOX\"\nS: * 3 EXISTS\nS: * OK [UIDVALIDITY 5] x\nS: * OK [UIDNEXT 8] x\nS: a2 OK x\n\
         C: a3 UID SEARCH *\nS: * SEARCH 7\nS: a3 OK x\n\
         C: a4 UID FETCH 7 *\nS- * 3 FETCH (UID 7 FLAGS () BODY[] {{5}}\\r\\none\\r\\n)\\r\\n\nS: a4 OK x\n"
    )
}

const SELECT: &str =
    "C: a5 SELECT \"INBOX\"\nS: * 3 EXISTS\nS: * OK [UIDVALIDITY 5] x\nS: * OK [UIDNEXT 8] x\nS: a5 OK x\n";
const MARK: &str = "C: a7 UID STORE 7 +FLAGS.SILENT (\\Deleted)\nS: a7 OK x\n";

struct Desk(Bench);

impl Desk {
    fn new() -> Desk {
        let bench = Bench::new();
        bench.write("pw", "secret\n");
        Desk(bench)
    }

    /// Plays the script to one run that asks for this; nothing else may be said.
    #[track_caller]
    fn run(&self, after: &str, script: String) -> Ran {
        let play = Transcript::play([script]);
        let cmd = self.0.cmd("mail-fetch").args(["--imap", &play.url("imap"), "--user", "u", "-C", "m"]);
        let ran = cmd.args(["--password-file", "pw", "--timeout", "5s", "--after", after]).run();
        play.heard();
        ran
    }

    /// The message is here, once, whatever became of it there.
    #[track_caller]
    fn holds_it(&self) {
        let files = self.0.files("m/new");
        assert_eq!(files.len(), 1, "{files:?}");
        assert_eq!(self.0.read(&format!("m/new/{}", files[0].display())), b"one\r\n");
    }
}

fn bye(tag: u32) -> String {
    format!("C: a{tag} LOGOUT\nS: * BYE\nS: a{tag} OK\n")
}

#[test]
fn where_there_is_move_it_is_one_command() {
    for with in ["MOVE", "MOVE UIDPLUS"] {
        let desk = Desk::new();
        let script = format!("C: a6 UID MOVE 7 \"Old mail\"\nS: * 3 EXPUNGE\nS: a6 OK x\n{}", bye(7));
        let ran = desk.run("move:Old mail", up_to(with) + SELECT + &script).ok();
        assert_eq!(ran.lines().len(), 1, "{}", ran.shown());
        desk.holds_it();
    }
}

#[test]
fn without_move_it_is_copied_and_that_one_expunged() {
    let desk = Desk::new();
    let script = format!(
        "C: a6 UID COPY 7 \"Old\"\nS: a6 OK [COPYUID 9 7 1] x\n{MARK}C: a8 UID EXPUNGE 7\nS: * 3 EXPUNGE\nS: a8 OK x\n{}",
        bye(9)
    );
    desk.run("move:Old", up_to("UIDPLUS") + SELECT + &script).ok();
    desk.holds_it();
}

#[test]
fn what_could_not_be_copied_is_neither_marked_nor_expunged() {
    let desk = Desk::new();
    let script = format!("C: a6 UID COPY 7 \"Old\"\nS: a6 NO [TRYCREATE] no such mailbox\n{}", bye(7));
    let ran = desk.run("move:Old", up_to("UIDPLUS") + SELECT + &script).fails(69).err_has("no such mailbox");
    assert_eq!(ran.lines().len(), 1, "{}", ran.shown());
    desk.holds_it();
}

#[test]
fn deleting_is_by_uid() {
    let desk = Desk::new();
    let mark = MARK.replace("a7", "a6");
    let script = format!("{mark}C: a7 UID EXPUNGE 7\nS: * 3 EXPUNGE\nS: a7 OK x\n{}", bye(8));
    desk.run("delete", up_to("UIDPLUS") + SELECT + &script).ok();
    desk.holds_it();
}

/// A plain EXPUNGE would take what others marked: nothing is copied, marked or expunged, and it stays owed.
#[test]
fn where_there_is_only_a_plain_expunge_it_is_refused_and_made_up_for_later() {
    for after in ["delete", "delete-after:0", "move:Old"] {
        let desk = Desk::new();
        let ran = desk.run(after, up_to("IDLE") + SELECT + &bye(6)).fails(69).err_has("UIDPLUS");
        assert_eq!(ran.lines().len(), 1, "{after}: {}", ran.shown());
        desk.holds_it();
        // The same account on a server that can: nothing is new, and what was owed is done.
        let able = up_to("UIDPLUS MOVE");
        let able = able.split("C: a3").next().unwrap().replace("EXISTS", "EXISTS\nS: * 0 RECENT");
        let done = match after {
            "move:Old" => format!("C: a4 UID MOVE 7 \"Old\"\nS: a4 OK x\n{}", bye(5)),
            _ => {
                let mark = MARK.replace("a7", "a4");
                format!("{mark}C: a5 UID EXPUNGE 7\nS: a5 OK x\n{}", bye(6))
            }
        };
        desk.run(after, able + &SELECT.replace("a5", "a3") + &done).ok();
        desk.holds_it();
    }
}

#[test]
fn flags_need_neither() {
    for (after, flag) in [("seen", "\\Seen"), ("flag:$Fetched", "$Fetched")] {
        let desk = Desk::new();
        let script = format!("C: a6 UID STORE 7 +FLAGS.SILENT ({flag})\nS: a6 OK x\n{}", bye(7));
        desk.run(after, up_to("IDLE") + SELECT + &script).ok();
        desk.holds_it();
    }
}

/// Between COPY and EXPUNGE the line breaks: it is still there, so it is done again, and never expunged uncopied.
#[test]
fn cut_in_the_middle_of_a_move_it_is_made_up_for() {
    let desk = Desk::new();
    let cut = "C: a6 UID COPY 7 \"Old\"\nS: a6 OK x\nC: a7 UID STORE *\nCLOSE\n";
    let ran = desk.run("move:Old", up_to("UIDPLUS") + SELECT + cut).fails(75);
    assert_eq!(ran.lines().len(), 1, "{}", ran.shown());
    let again = up_to("UIDPLUS");
    let again = again.split("C: a3").next().unwrap().to_string() + &SELECT.replace("a5", "a3");
    let script = format!(
        "C: a4 UID COPY 7 \"Old\"\nS: a4 OK x\n{}C: a6 UID EXPUNGE 7\nS: a6 OK x\n{}",
        MARK.replace("a7", "a5"),
        bye(7)
    );
    desk.run("move:Old", again + &script).ok();
    desk.holds_it();
}

/// What is asked for today is nothing to what was fetched for something else: it stays, and stays owed.
#[test]
fn what_was_fetched_for_another_after_is_left_as_it_was_promised() {
    let desk = Desk::new();
    let ran = desk.run("delete-after:30", up_to("UIDPLUS MOVE") + &bye(5)).ok();
    assert_eq!(ran.lines().len(), 1, "{}", ran.shown());
    let nothing_new = up_to("UIDPLUS MOVE").split("C: a3").next().unwrap().to_string();
    for other in ["delete", "delete-after:0", "move:Old", "seen", "keep"] {
        desk.run(other, nothing_new.clone() + &bye(3)).ok();
    }
    desk.holds_it();
    // Its own time comes: as if it had been fetched long ago.
    let cursor = desk
        .0
        .files("m")
        .into_iter()
        .find(|file| file.to_string_lossy().starts_with("mailloop-cursor"))
        .unwrap();
    let cursor = format!("m/{}", cursor.display());
    let text = String::from_utf8(desk.0.read(&cursor)).unwrap();
    let since = text.find("\"owed\":").unwrap() + 7;
    let end = since + text[since..].find(',').unwrap();
    desk.0.write(&cursor, format!("{}1000{}", &text[..since], &text[end..]));
    let mark = MARK.replace("a7", "a4");
    let paid = format!("{mark}C: a5 UID EXPUNGE 7\nS: * 3 EXPUNGE\nS: a5 OK x\n{}", bye(6));
    desk.run("delete-after:30", nothing_new + &SELECT.replace("a5", "a3") + &paid).ok();
}

/// What moves into a mailbox that is fetched too would be fetched from there and moved there, for ever.
#[test]
fn where_messages_move_to_is_not_fetched_from() {
    let bench = Bench::new();
    bench.write("pw", "secret\n");
    let fetch = |url: &str, words: &[&str]| {
        let cmd =
            bench.cmd("mail-fetch").args(["--imap", url, "--user", "u", "-C", "m", "--password-file", "pw"]);
        cmd.args(["--timeout", "5s"]).args(words).run()
    };
    for words in [["Old", "--after", "move:Old"], ["inbox", "--after", "move:INBOX"]] {
        // Nobody is even asked.
        fetch("imap://127.0.0.1:1", &words).fails(64).err_has("this very mailbox");
    }
    let listed = up_to("MOVE").replace(
        "C: a2",
        "C: a2 LIST *\nS: * LIST () \"/\" Old\nS: * LIST () \"/\" INBOX\nS: a2 OK x\nC: a2",
    );
    let (before, after) = listed.split_once("C: a2 EXAMINE").unwrap();
    let after = format!("C: a2 EXAMINE{after}{SELECT}C: a6 UID MOVE 7 \"Old\"\nS: a6 OK x\n{}", bye(7));
    let later =
        (2..=7).rev().fold(after, |text, tag| text.replace(&format!("a{tag}"), &format!("a{}", tag + 1)));
    let play = Transcript::play([format!("{before}{later}")]);
    let ran = fetch(&play.url("imap"), &["*", "--after", "move:Old"]).ok().err_has("not fetched from where");
    play.heard();
    assert_eq!(ran.lines().len(), 1, "{}", ran.shown());
}
