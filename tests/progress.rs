//! Progress is for terminals: it is there while a large message or a long queue goes out, it mixes with nothing that is
//! said meanwhile, and nothing of it remains. Elsewhere there is none.

use super::bench::{Bench, pdf};
use super::inject::hello;
use super::sink::{Cut, Sink};
use super::transcript::Transcript;

/// Runs words on a terminal of its own and prints what was written to it as JSON: all of it, and the lines that stand on
/// it at the end.
const ON_A_TERMINAL: &str = r#"
import json, os, pty, re, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
seen = b""
while True:
    try:
        more = os.read(terminal, 65536)
    except OSError:
        break
    if not more:
        break
    seen += more
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
text = seen.decode("utf-8", "replace")
lines, row, column = [""], 0, 0
for word in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|.", text, re.S):
    if word == "\r":
        column = 0
    elif word == "\n":
        row += 1
        lines += [""] * (row + 1 - len(lines))
    elif word in ("\x1b[2K", "\x1b[0K", "\x1b[K"):
        lines[row] = lines[row][:column] if word != "\x1b[2K" else ""
    elif word.startswith("\x1b[") and word.endswith("A"):
        row = max(0, row - int(word[2:-1] or 1))
    elif not word.startswith("\x1b"):
        lines[row] = lines[row].ljust(column)[:column] + word + lines[row][column + 1:]
        column += 1
print(json.dumps({"status": status, "seen": text, "lines": lines}))
"#;

struct Shown {
    seen: String,
    /// Without the empty one at the end.
    lines: Vec<String>,
}

fn on_a_terminal(bench: &Bench, words: &[&str], status: i64) -> Shown {
    on_a("xterm", bench, words, status)
}

fn on_a(kind: &str, bench: &Bench, words: &[&str], status: i64) -> Shown {
    let ran = bench.cmd("python3").args(["-c", ON_A_TERMINAL]).args(words).env("TERM", kind).run().ok();
    let record = ran.json().remove(0);
    let lines = record["lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().trim_end());
    let mut lines: Vec<String> = lines.map(str::to_string).collect();
    assert_eq!(record["status"].as_i64(), Some(status), "{lines:#?}");
    assert_eq!(lines.pop().as_deref(), Some(""), "the last line is ended: {record}");
    Shown { seen: record["seen"].as_str().unwrap().to_string(), lines }
}

#[test]
fn a_large_message_shows_how_far_it_is_and_leaves_nothing() {
    let bench = Bench::new();
    bench.write("large.pdf", [pdf("x"), vec![b'\n'; 8 << 20]].concat());
    let sink = Sink::open(&["PIPELINING"], Cut::Never);
    let url = sink.url();
    let words = ["--smtp", &url, "--from", "a@x.example", "--to", "b@y.example", "--attach", "large.pdf"];
    let shown = on_a_terminal(&bench, &[&["mail-inject"][..], &words].concat(), 0);
    assert!(shown.seen.contains("MiB/"), "{:?}", shown.seen);
    assert!(
        matches!(&shown.lines[..], [id] if id.starts_with('<') && id.ends_with('>')),
        "{:?}",
        shown.lines
    );
    // On a terminal that can do nothing, asked to be quiet, and without a terminal: nothing.
    let dumb = on_a("dumb", &bench, &[&["mail-inject"][..], &words].concat(), 0);
    assert!(!dumb.seen.contains(['\x1b', '/']), "{:?}", dumb.seen);
    let quiet = on_a_terminal(&bench, &[&["mail-inject", "-q"][..], &words].concat(), 0);
    assert!(!quiet.seen.contains("MiB"), "{:?}", quiet.seen);
    let ran = bench.cmd("mail-inject").args(words).run().ok();
    assert_eq!(ran.err_text(), "");
    // The same from the queue.
    bench.cmd("mail-inject").args(words).arg("--queue").run().ok();
    let shown = on_a_terminal(&bench, &["mail-queue", "run"], 0);
    assert!(shown.seen.contains("MiB/"), "{:?}", shown.seen);
    assert_eq!(shown.lines.len(), 1, "{:?}", shown.lines);
}

#[test]
fn a_long_queue_shows_how_far_it_is_between_what_it_says() {
    let bench = Bench::new();
    let one = "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\nC: DATA\nS: 354 go\nC~ .\nS: 250 2.0.0 ok\n";
    let no =
        "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 450 4.2.0 not now\nC: RSET\nS: 250 ok\nC: RSET\nS: 250 ok\n";
    let play = Transcript::play([format!("{}{}{}C? QUIT", hello(&[]), one.repeat(10), no.repeat(2))]);
    for n in 0..12 {
        bench.write(&format!("{n:02}.eml"), format!("From: a@x\nTo: b@y\nMessage-ID: <{n:02}@x>\n\nx\n"));
    }
    let paths: String = (0..12).map(|n| format!("{n:02}.eml\n")).collect();
    bench
        .cmd("mail-inject")
        .args(["--smtp", &play.url("smtp"), "--queue", "--batch"])
        .stdin(paths)
        .run()
        .ok();
    let shown = on_a_terminal(&bench, &["mail-queue", "run"], 75);
    play.heard();
    assert!(shown.seen.contains("/12 messages"), "{:?}", shown.seen);
    let ids: Vec<String> = (0..10).map(|n| format!("<{n:02}@x>")).collect();
    assert_eq!(shown.lines.len(), 12, "{:#?}", shown.lines);
    assert!(ids.iter().all(|id| shown.lines.contains(id)), "{:#?}", shown.lines);
    let complaints = shown.lines.iter().filter(|line| line.starts_with("mail-queue: b@y has not got <"));
    assert_eq!(complaints.count(), 2, "{:#?}", shown.lines);
}
