//! Progress on a real terminal (a pty that Python holds): messages, octets, rate, what is left; and nothing stays.

use super::Post;

/// Runs the words behind a terminal, and prints what a person would have seen.
const SCRIPT: &str = r#"
import os, pty, sys
seen = bytearray()
def keep(fd):
    data = os.read(fd, 65536)
    seen.extend(data)
    return b'.' if data else data
stdin = os.open('/dev/null', os.O_RDONLY)
os.dup2(stdin, 0)
status = pty.spawn(sys.argv[1:], keep)
with open('seen', 'wb') as file:
    file.write(seen)
sys.exit(os.waitstatus_to_exitcode(status))
"#;

/// The lines that stand on the terminal at the end: `\r` and the sequences that empty a line are obeyed.
fn at_the_end(seen: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut rest = seen.chars().peekable();
    while let Some(c) = rest.next() {
        let line = lines.last_mut().unwrap();
        match c {
            '\n' => lines.push(String::new()),
            // Whatever comes next overwrites it; here it is always shorter or emptied first.
            '\r' if rest.peek() != Some(&'\n') => line.clear(),
            '\r' => {}
            '\x1b' => {
                let sequence: String =
                    rest.by_ref().skip(1).take_while(|c| !c.is_ascii_alphabetic()).collect();
                assert!(sequence.chars().all(|c| c.is_ascii_digit() || c == ';' || c == '?'), "{sequence:?}");
            }
            c => line.push(c),
        }
    }
    lines
}

#[test]
fn a_terminal_shows_how_far_it_is_and_nothing_stays() {
    let post = Post::new();
    for n in 0..40 {
        post.deliver(&format!("m{n}"), &"a line of some length\r\n".repeat(20_000));
    }
    post.bench.write("terminal.py", SCRIPT);
    let program = env!("CARGO_BIN_EXE_mail-fetch");
    let words =
        ["--imap", &post.server.imap, "--user", "me@by.example", "--password-file", "password", "-C", "m"];
    let python = post.bench.cmd("python3").arg("terminal.py").arg(program).args(words).env("TERM", "xterm");
    python.run().ok();
    let seen = String::from_utf8(post.bench.read("seen")).unwrap();
    for part in ["/40 ", "iB/s", " left", "INBOX"] {
        assert!(seen.contains(part), "{part:?} is missing: {seen:?}");
    }
    let lines = at_the_end(&seen);
    let (last, records) = lines.split_last().unwrap();
    assert_eq!(last, "", "{seen:?}");
    assert_eq!(records.len(), 40, "{lines:?}");
    for line in records {
        assert!(line.starts_with("./m/new/") && post.bench.path(line).is_file(), "{line:?} in {seen:?}");
    }
}
