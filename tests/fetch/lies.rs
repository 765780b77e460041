//! Servers that lie, stumble or say what nobody expects: each as a transcript.

use crate::bench::{Bench, Cmd, Ran};
use crate::transcript::Transcript;

/// Up to the download of UIDs 1 and 2 that the server says it has.
const UP_TO_FETCH: &str = "S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\nC: a1 AUTHENTICATE PLAIN *\nS: a1 OK [CAPABILITY IMAP4rev1 IDLE] in\n\
     C: a2 EXAMINE *\nS: * 2 EXISTS\nS: * OK [UIDVALIDITY 5] x\nS: * OK [UIDNEXT 3] x\nS: a2 OK x\nC: a3 UID SEARCH *\nS: * SEARCH 1 2\n\
     S: a3 OK x\nC: a4 UID FETCH 1:2 *\n";
const FIRST: &str = "S- * 1 FETCH (UID 1 FLAGS () BODY[] {5}\\r\\none\\r\\n)\\r\\n\n";
const SECOND: &str = "S- * 2 FETCH (UID 2 FLAGS () BODY[] {5}\\r\\ntwo\\r\\n)\\r\\n\n";
const BYE: &str = "C? a5 LOGOUT\nS: * BYE\nS: a5 OK";

fn fetch(bench: &Bench, url: &str) -> Cmd {
    bench.write("pw", "secret\n");
    bench.cmd("mail-fetch").args([
        "--imap",
        url,
        "--user",
        "u",
        "--password-file",
        "pw",
        "-C",
        "m",
        "--timeout",
        "5s",
    ])
}

/// Plays the scripts to one run.
#[track_caller]
fn play(scripts: &[String]) -> (Bench, Ran) {
    let bench = Bench::new();
    let play = Transcript::play(scripts.to_vec());
    let ran = fetch(&bench, &play.url("imap")).run();
    play.heard();
    for file in bench.files("m") {
        assert!(!file.starts_with("tmp"), "{} was left behind", file.display());
    }
    (bench, ran)
}

/// Plays the answer to the FETCH; what came is what is told.
#[track_caller]
fn answer(answer: &str) -> Ran {
    play(&[format!("{UP_TO_FETCH}{answer}\n{BYE}")]).1
}

/// The first message comes, the second is looked for again and passed over.
#[track_caller]
fn without_second(said: &str) {
    let missing = "S: a4 OK x\nC: a5 UID SEARCH *\nS: * SEARCH 2\nS: a5 OK x\nC: a6 LOGOUT\nS: a6 OK";
    let (_, ran) = play(&[format!("{UP_TO_FETCH}{FIRST}{said}\n{missing}")]);
    let ran = ran.fails(76).err_has("UID 2 skipped");
    assert_eq!(ran.lines().len(), 1, "{}", ran.shown());
}

#[test]
fn a_message_without_a_body_is_passed_over_and_the_rest_comes() {
    without_second("S: * 2 FETCH (UID 2 BODY[] NIL)");
    without_second("S: * 2 FETCH (UID 2 FLAGS (\\\\Seen))");
    without_second("S: * 2 FETCH (FLAGS ())");
    without_second("S: * OK nothing more");
    // Twice the same, and one that nobody asked for.
    without_second(&format!("{FIRST}{}", SECOND.replace("UID 2", "UID 77").trim_end()));
}

#[test]
fn what_was_passed_over_is_asked_for_again_and_told_once() {
    let listed = "C: a5 UID SEARCH *\nS: * SEARCH 2\nS: a5 OK x\nC: a6 LOGOUT\nS: a6 OK";
    let nil = format!("{UP_TO_FETCH}{FIRST}S: * 2 FETCH (UID 2 BODY[] NIL)\nS: a4 OK x\n{listed}");
    let again = nil.replace("SEARCH 1 2", "SEARCH 2").replace("FETCH 1:2", "FETCH 2").replace(FIRST, "");
    let whole = again.replace("BODY[] NIL)", "BODY[] \"two\")").replace(listed, BYE);
    let bench = Bench::new();
    let play = Transcript::play([nil, again, whole]);
    let run = || fetch(&bench, &play.url("imap")).arg("--json").run();
    let first = run().fails(76);
    assert_eq!(
        first.json()[1]["state"].as_str().or(first.json()[0]["state"].as_str()),
        Some("skipped"),
        "{}",
        first.shown()
    );
    // It is told once; that it did not come is the status each time.
    assert!(run().fails(76).err_text().is_empty());
    let last = run().ok();
    assert_eq!((last.json()[0]["uid"].as_u64(), last.json()[0]["size"].as_u64()), (Some(2), Some(3)));
    play.heard();
}

#[test]
fn a_fetch_that_ends_with_no_keeps_what_came() {
    for (code, status) in [("UNAVAILABLE", 75), ("SERVERBUG", 75), ("EXPUNGEISSUED", 76)] {
        let no = format!(
            "{FIRST}S: a4 NO [{code}] internal error\nC: a5 UID FETCH 2 *\nS: a5 NO [{code}] again\n\
             C: a6 UID SEARCH *\nS: * SEARCH 2\nS: a6 OK\nC: a7 LOGOUT\nS: a7 OK"
        );
        let (_, ran) = play(&[format!("{UP_TO_FETCH}{no}")]);
        let ran = ran.fails(status).err_has("UID 2 skipped");
        assert_eq!(ran.lines().len(), 1, "{}", ran.shown());
    }
}

#[test]
fn odd_but_legal_answers_are_understood() {
    for odd in [
        // Attributes in another order and case, unknown ones, sizes that do not match, other data in between.
        "S- * 1 fetch (body[] {5}\\r\\none\\r\\n FLAGS () X-THING (a (b \"c)\")) RFC822.SIZE 999 uid 1)\\r\\n\nS: * 2 RECENT\nS: * 3 EXISTS\n",
        "S: * NO Mailbox is at 95% of quota {5}\nS- * 1 FETCH (UID 1 EMAILID (x) BODY[] {5+}\\r\\none\\r\\n INTERNALDATE \"never\")\\r\\n\n",
        "S: * OK \\xe7\\x99\\xbb\\xe5\\xbd\\x95 [\nS: * XYZZY (1 2\nS: * ESEARCH (TAG \"a1\") UID COUNT 5\nS: * 1 FETCH (UID 1 BODY[] \"one\")\n",
        "S- * XDATA {4}\\r\\n\\r\\n)a x\\r\\n\nS- * 1 FETCH (UID 1 BODY[] ~{5}\\r\\none\\r\\n)\\r\\n\nS: * LIST () \"/\" x\n",
        "S- * 1 FETCH (UID 1 BODY[] {3}\\r\\none)\\n\nS: * 17 EXPUNGE\nS: * FLAGS ()\n",
    ] {
        let ran = answer(&format!("{odd}{SECOND}S: a4 OK {{5}}"));
        assert_eq!((ran.status, ran.lines().len()), (Some(0), 2), "{odd}\n{}", ran.shown());
    }
}

#[test]
fn nonsense_costs_the_connection_and_the_message_but_not_the_rest() {
    for (nonsense, status) in [
        ("S: * 1 FETCH (UID 1 BODY[] {9999999999}", 76),
        ("S: * 1 FETCH (UID 1 BODY[] {99999999999999999999999}", 76),
        ("S: a99 OK what", 76),
        ("S: hello", 76),
        // A line that only broke may hold next time.
        ("S- * 1 FETCH (UID 1 BODY[] {500}\\r\\nhalf", 75),
        ("S: * BYE I have had enough", 75),
    ] {
        // Alone the first one fails again; then the second is asked for.
        let up_to = |uids: &str| {
            let until = UP_TO_FETCH.find("C: a3").unwrap();
            format!("{}C: a3 UID FETCH {uids} *\n", &UP_TO_FETCH[..until])
        };
        let scripts = [
            format!("{UP_TO_FETCH}{nonsense}\n"),
            format!("{}{nonsense}\n", up_to("1")),
            format!("{}{SECOND}S: a3 OK\nC: a4 LOGOUT\nS: a4 OK", up_to("2")),
        ];
        let (_, ran) = play(&scripts);
        let ran = ran.fails(status).err_has("UID 1 skipped");
        assert_eq!(ran.lines().len(), 1, "{nonsense}\n{}", ran.shown());
        // Nothing was waited for in vain.
        assert!(!ran.err_text().contains("time limit"), "{nonsense}\n{}", ran.shown());
    }
}

#[test]
fn what_came_whole_before_the_line_broke_is_kept() {
    let (_, ran) = play(&[
        format!("{UP_TO_FETCH}{FIRST}S- * 2 FETCH (UID 2 BODY[] {{500}}\\r\\nhalf\n"),
        "S: * BYE busy".into(),
    ]);
    let ran = ran.fails(75).err_has("turned us away");
    assert_eq!(ran.lines().len(), 1, "{}", ran.shown());
}

#[test]
fn greetings_and_openings_that_go_wrong() {
    for (script, status, word) in [
        ("S: * BYE busy", 75, "turned us away"),
        ("S: * PREAUTH welcome", 76, "PREAUTH"),
        ("S: 220 smtp", 76, "no IMAP server"),
        ("S: * OK [CAPABILITY IMAP4rev1 LOGINDISABLED] x", 77, "no login"),
        ("S: * OK [CAPABILITY IMAP4rev2 AUTH=GSSAPI LOGINDISABLED] x", 77, "GSSAPI"),
    ] {
        let (_, ran) = play(&[script.to_string()]);
        ran.fails(status).err_has(word);
    }
    let login = "S: * OK [CAPABILITY IMAP4rev2 auth=plain sasl-ir] hi\nC: a1 AUTHENTICATE PLAIN *\nS: a1 OK [CAPABILITY imap4rev2 idle] in\nC: a2 EXAMINE *\n";
    for (opening, status, word) in [
        (
            "S: * NO it is nearly full\nS: * 0 EXISTS\nS: * OK [UIDVALIDITY 5] \\xff\nS: a2 OK [READ-ONLY] x\nC: a3 LOGOUT\nS: a3 OK",
            0,
            "",
        ),
        ("S: * BYE going down", 75, "going down"),
        ("S: * 1 EXISTS\nS: * OK [UIDVALIDITY 0] x\nS: a2 OK\nC: a3 LOGOUT\nS: a3 OK", 76, "no UIDVALIDITY"),
        ("S: * 1 EXISTS\nS: a2 OK\nC: a3 LOGOUT\nS: a3 OK", 76, "no UIDVALIDITY"),
        ("S: a2 NO [NONEXISTENT] gone\nC: a3 LOGOUT\nS: a3 OK", 69, "gone"),
        ("S: a2 BAD what", 76, "what"),
    ] {
        let (_, ran) = play(&[format!("{login}{opening}")]);
        assert_eq!(ran.status, Some(status), "{opening}\n{}", ran.shown());
        ran.err_has(word);
    }
}

#[test]
fn sasl_ir_announced_and_refused() {
    let script = "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\nC: a1 AUTHENTICATE PLAIN *\nS: a1 BAD too many arguments\n\
         C: a2 AUTHENTICATE PLAIN\nS: +\nC: *\nS: a2 OK\nC: a3 CAPABILITY\nS: * CAPABILITY IMAP4rev1\nS: a3 OK\nC: a4 EXAMINE *\n\
         S: * 0 EXISTS\nS: * OK [UIDVALIDITY 1] x\nS: a4 OK\nC: a5 LOGOUT\nS: a5 OK";
    play(&[script.to_string()]).1.ok();
}

/// A server that counts connections: it serves the next one when the last one is closed.
#[test]
fn a_connection_is_closed_before_the_next_is_made() {
    let again = format!(
        "{}C: a3 UID FETCH 1 *\n{FIRST}S: a3 OK\nC: a4 UID FETCH 2 *\n{SECOND}S: a4 OK\nC: a5 LOGOUT\nS: a5 OK",
        &UP_TO_FETCH[..UP_TO_FETCH.find("C: a3").unwrap()]
    );
    let ran = play(&[format!("{UP_TO_FETCH}S: hello\nSTALL"), again]).1.ok();
    assert_eq!(ran.lines().len(), 2, "{}", ran.shown());
}

/// A BAD to what came after a challenge is no trouble with the initial response: it is not all said again.
#[test]
fn a_login_that_was_understood_is_not_repeated() {
    let challenge = base64_simd::STANDARD.encode_to_string("r=somebody-else,s=QUJD,i=4096");
    let script = format!(
        "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=SCRAM-SHA-256] hi\nC: a1 AUTHENTICATE SCRAM-SHA-256 *\n\
         S: + {challenge}\nC: \nS: a1 BAD what\nC? a2 *\nS: +\nC? *\nS: a2 OK"
    );
    let bench = Bench::new();
    let play = Transcript::play([script]);
    fetch(&bench, &play.url("imap")).run().fails(76).err_has("what");
    assert_eq!(play.heard().len(), 2);
}

#[test]
fn a_token_is_fetched_again_once_when_it_is_refused() {
    for (mechanism, last) in [("XOAUTH2", "C: "), ("OAUTHBEARER", "C: AQ==")] {
        let refusal = "S: + eyJzdGF0dXMiOiI0MDEifQ==";
        let script = |again: &str| {
            format!(
                "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH={mechanism}] hi\nC: a1 AUTHENTICATE {mechanism} *\n{refusal}\n{last}\nS: a1 NO no\n\
                 C: a2 AUTHENTICATE {mechanism} *\n{again}"
            )
        };
        let bench = Bench::new();
        let good = "S: a2 OK [CAPABILITY IMAP4rev1] in\nC: a3 EXAMINE *\nS: * 0 EXISTS\nS: * OK [UIDVALIDITY 1] x\nS: a3 OK\nC: a4 LOGOUT\nS: a4 OK";
        let bad = format!("{refusal}\n{last}\nS: a2 NO no");
        let play = Transcript::play([script(good), script(&bad)]);
        let url = play.url("imap");
        let run = || {
            let cmd =
                bench.cmd("mail-fetch").args(["--imap", &url, "--user", "u", "-C", "m", "--timeout", "5s"]);
            cmd.args(["--token-command", "sh -c 'echo x >> asked; echo token'"]).run()
        };
        run().ok();
        run().fails(77).err_has("401");
        assert_eq!(bench.read("asked"), b"x\nx\nx\nx\n");
        let heard = play.heard();
        assert!(!heard.iter().any(|line| line.contains("LOGIN")), "{heard:?}");
    }
}

#[test]
fn a_server_of_rev2_answers_a_search_otherwise() {
    let bench = Bench::new();
    let play = Transcript::play([
        "S: * OK [CAPABILITY IMAP4rev2 AUTH=PLAIN] hi\nC: a1 AUTHENTICATE PLAIN *\nS: a1 OK [CAPABILITY IMAP4rev2] in\n\
         C: a2 EXAMINE *\nS: * 2 EXISTS\nS: * OK [UIDVALIDITY 5] x\nS: a2 OK x\nC: a3 UID SEARCH *\n\
         S: * ESEARCH (TAG \"a3\") UID ALL 1:2\nS: a3 OK x\nC: a4 UID FETCH 1:2 *\n"
            .to_string()
            + FIRST
            + SECOND
            + "S: a4 OK x\n"
            + BYE,
    ]);
    let ran = fetch(&bench, &play.url("imap")).run().ok();
    assert_eq!(ran.lines().len(), 2, "{}", ran.shown());
    let heard = play.heard();
    assert!(heard[0].contains("AUTHENTICATE PLAIN "), "it needs no word for SASL-IR: {heard:?}");
}

/// Nothing at all as a body is what servers say that cannot read a message: with `--after delete` it would be gone.
#[test]
fn an_empty_body_is_believed_only_where_its_size_says_the_same() {
    for empty in ["BODY[] \"\"", "BODY[] {0}\\r\\n"] {
        let came = format!(
            "{FIRST}S- * 2 FETCH (UID 2 {empty})\\r\\n\nS: a4 OK x\nC: a5 UID FETCH 2 (UID RFC822.SIZE *\n"
        );
        let no = "S: * 2 FETCH (UID 2 RFC822.SIZE 700)\nS: a5 OK x\nC: a6 UID SEARCH *\nS: * SEARCH 2\nS: a6 OK x\n";
        let delete = "C: a7 SELECT *\nS: * 2 EXISTS\nS: * OK [UIDVALIDITY 5] x\nS: a7 OK x\nC: a8 UID STORE 1 *\nS: a8 OK\n\
             C: a9 UID EXPUNGE 1\nS: a9 OK\nC: a10 LOGOUT\nS: a10 OK";
        let script = format!("{UP_TO_FETCH}{came}{no}{delete}").replace("IDLE]", "UIDPLUS]");
        let bench = Bench::new();
        let play = Transcript::play([script]);
        let ran = fetch(&bench, &play.url("imap")).args(["--after", "delete"]).run();
        play.heard();
        let ran = ran.fails(76).err_has("UID 2 skipped: the server gave an empty body");
        assert_eq!(ran.lines().len(), 1, "{}", ran.shown());
        let yes = "S: * 2 FETCH (UID 2 RFC822.SIZE 0)\nS: a5 OK x\nC: a6 LOGOUT\nS: a6 OK";
        let ran = play_one(&format!("{UP_TO_FETCH}{came}{yes}")).ok();
        assert_eq!(ran.lines().len(), 2, "{}", ran.shown());
    }
}

#[track_caller]
fn play_one(script: &str) -> Ran {
    play(&[script.to_string()]).1
}
