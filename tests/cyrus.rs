//! mail-fetch against Cyrus IMAP (tests/rig/cyrus): a second opinion on what an IMAP server says, by people who wrote
//! neither Dovecot nor this. Ignored by `cargo test`; `tests/run` starts them.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::bench::{Bench, Cmd, sha256};

/// A private Cyrus with the users u1 and u2, ended and wiped when dropped.
struct Cyrus {
    bench: Bench,
    dir: PathBuf,
    port: String,
}

/// What the test's own client does before its errand. `append` uses LITERAL+ every other time.
const CLIENT: &str = r#"
import hashlib, imaplib, pathlib, random, sys
imap = imaplib.IMAP4("127.0.0.1", int(sys.argv[1])); imap.login("u1", "rig-secret")
pathlib.Path("sent").mkdir(exist_ok=True)
count = 0
def append(text, mailbox="INBOX", flags=""):
    global count
    count += 1
    pathlib.Path(f"sent/{mailbox.replace('/', '_')}-{hashlib.sha256(text).hexdigest()}-{count}").write_bytes(text)
    if count % 2:
        assert imap.append(f'"{mailbox}"', f"({flags})", None, text)[0] == "OK"
        return
    imap.send(b'x%d APPEND "%s" (%s) {%d+}\r\n' % (count, mailbox.encode(), flags.encode(), len(text)) + text + b"\r\n")
    while not (line := imap.readline()).startswith(b"x%d " % count): assert line.startswith(b"* "), line
    assert line.startswith(b"x%d OK" % count), line
"#;

/// Fifty messages of many kinds, two of them alike and one large.
const FIFTY: &str = r#"
random.seed(3)
kinds = [
    b"plain text\r\n", b"", b"no line end", b"caf\xc3\xa9 \xe9\xff\r\n", b"x" * 9000 + b"\r\n", b".\r\n..\r\n.\r\n",
    b")\r\n* 1 FETCH (UID 1 BODY[] {3}\r\nabc)\r\na4 OK done\r\n", b"{5}\r\n~{7}\r\n", b"\r\n" * 300,
]
flags = ["", r"\Seen", r"\Seen \Flagged", r"\Answered", "$Label1", r"\Draft \Seen", ""]
for n in range(47):
    append(b"From: a@rig.test\r\nSubject: number %d\r\n\r\n" % n + kinds[n % len(kinds)], flags=flags[n % len(flags)])
for _ in range(2):
    append(b"Subject: a twin\r\n\r\nx\r\n")
lines = b"".join(b"%076d\r\n" % random.getrandbits(250) for _ in range(1000))
append(b"Subject: large\r\n\r\n" + lines * 250)
"#;

impl Cyrus {
    #[track_caller]
    fn up() -> Cyrus {
        let bench = Bench::new();
        bench.write("password", "rig-secret\n");
        let dir = tempfile::Builder::new().prefix("mailloop-rig-").tempdir_in("/tmp").unwrap().keep();
        let mut cyrus = Cyrus { bench, dir, port: String::new() };
        cyrus.script("up").run().ok();
        let env = std::fs::read_to_string(cyrus.dir.join("env")).unwrap();
        cyrus.port = env.lines().find_map(|line| line.strip_prefix("IMAP_PORT=")).unwrap().to_owned();
        cyrus
    }

    fn script(&self, verb: &str) -> Cmd {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rig/cyrus");
        self.bench.cmd(path.to_str().unwrap()).arg(verb).arg(&self.dir)
    }

    /// Runs the test's own client; what it prints.
    #[track_caller]
    fn client(&self, errand: &str) -> Vec<String> {
        self.bench.write("client.py", format!("{CLIENT}{errand}\nimap.logout()\n"));
        self.bench.cmd("python3").args(["client.py", &self.port]).run().ok().lines()
    }

    /// How many messages are in the mailbox.
    #[track_caller]
    fn number(&self, mailbox: &str) -> String {
        self.client(&format!("print(imap.select('{mailbox}', readonly=True)[1][0].decode())"))[0].clone()
    }

    fn fetch(&self, maildir: &str) -> Cmd {
        let url = format!("imap://127.0.0.1:{}", self.port);
        let cmd = self.bench.cmd("mail-fetch").args(["--imap", &url, "--user", "u1", "-C", maildir]);
        cmd.args(["--password-file", "password", "--timeout", "20s"])
    }

    /// The digests of all files in these directories, each as often as there is a file.
    fn digests(&self, dirs: &[&str]) -> Vec<String> {
        let inside = |dir: &&str| -> Vec<String> {
            let files = self.bench.files(dir).into_iter();
            files.map(|file| sha256(&self.bench.read(&format!("{dir}/{}", file.display())))).collect()
        };
        let mut digests: Vec<String> = dirs.iter().flat_map(inside).collect();
        digests.sort();
        digests
    }

    #[track_caller]
    fn holds_everything(&self, maildir: &str) {
        let held = self.digests(&[&format!("{maildir}/new"), &format!("{maildir}/cur")]);
        assert_eq!(held, self.digests(&["sent"]));
        assert!(self.bench.files(&format!("{maildir}/tmp")).is_empty());
    }
}

impl Drop for Cyrus {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            eprintln!("Cyrus said:\n{log}");
        }
        let down = self.script("down").run();
        if down.status != Some(0) {
            eprintln!("Cyrus did not go down:\n{}", down.shown());
        }
    }
}

#[test]
#[ignore = "needs Cyrus: run tests/run"]
fn fifty_messages_come_back_byte_by_byte() {
    let cyrus = Cyrus::up();
    cyrus.client(FIFTY);
    assert_eq!(cyrus.fetch("m").run().ok().lines().len(), 50);
    cyrus.holds_everything("m");
    let flagged = |letters: &str| {
        cyrus.bench.files("m/cur").iter().filter(|file| file.to_string_lossy().ends_with(letters)).count()
    };
    assert_eq!((flagged(":2,S"), flagged(":2,FS"), flagged(":2,R"), flagged(":2,DS")), (7, 7, 7, 6));
    assert!(cyrus.fetch("m").run().ok().lines().is_empty());
    assert_eq!(
        cyrus.client("imap.select('INBOX', readonly=True); print(imap.search(None, 'SEEN')[1])").len(),
        1
    );
    assert_eq!(cyrus.number("INBOX"), "50");
    cyrus.fetch("m").args(["--tls", "starttls"]).run().fails(76);
}

#[test]
#[ignore = "needs Cyrus: run tests/run"]
fn many_mailboxes_and_nothing_new_opens_none() {
    let cyrus = Cyrus::up();
    cyrus.client(
        "for name in ['work', 'work/2026', 'a.b', '&ZeVnLIqe-', 'two words']:\n    imap.create(f'\"{name}\"')\n    for n in range(3): \
         append(b'Subject: %d\\r\\n\\r\\n%s\\r\\n' % (n, name.encode()), name)",
    );
    let ran = cyrus.fetch("m").args(["-j", "3", "*"]).run().ok();
    assert_eq!(ran.lines().len(), 15, "{}", ran.shown());
    let dirs =
        ["work", "work.2026", "a&AC4-b", "&ZeVnLIqe-", "two words"].map(|name| format!("m/.{name}/new"));
    assert_eq!(cyrus.digests(&dirs.each_ref().map(String::as_str)), cyrus.digests(&["sent"]));
    let ran = cyrus.fetch("m").args(["-vv", "*"]).run().ok().err_has("STATUS");
    assert!(ran.lines().is_empty() && !ran.err_text().contains("C: a4 UID"), "{}", ran.shown());
    assert!(!ran.err_text().contains("EXAMINE \"work"), "{}", ran.shown());
}

#[test]
#[ignore = "needs Cyrus: run tests/run"]
fn killed_at_many_steps_it_ends_the_same() {
    let cyrus = Cyrus::up();
    cyrus.client(FIFTY);
    cyrus.fetch("undisturbed").env("MAILLOOP_STEPS", cyrus.bench.path("steps")).run().ok();
    let steps = String::from_utf8(cyrus.bench.read("steps")).unwrap().lines().count();
    let mut kills = 0;
    for part in 1..12 {
        let maildir = format!("m{part}");
        let stop = format!("{}-", steps * part / 12);
        let killed = cyrus.fetch(&maildir).env("MAILLOOP_STOP", &stop).run();
        // The large one comes over the line in more or fewer pieces, so the last of these may not be reached.
        assert!(killed.signal == Some(9) || killed.status == Some(0), "at {stop}: {}", killed.shown());
        kills += usize::from(killed.signal == Some(9));
        let rest = cyrus.fetch(&maildir).run().ok();
        cyrus.holds_everything(&maildir);
        assert!(rest.lines().iter().all(|line| !killed.lines().contains(line)), "at {stop}: told twice");
        assert!(cyrus.fetch(&maildir).run().ok().lines().is_empty(), "at {stop}");
    }
    assert!(kills > 5, "{kills} kills");
}

#[test]
#[ignore = "needs Cyrus: run tests/run"]
fn deleted_and_moved_there_once_it_is_here() {
    let cyrus = Cyrus::up();
    cyrus.client(FIFTY);
    cyrus.client(
        "imap.create('Old')\nimap.select('INBOX')\nimap.uid('STORE', '50', '+FLAGS', r'(\\Deleted)')",
    );
    cyrus.fetch("m").args(["--after", "move:Old", "--limit", "5"]).run().ok();
    assert_eq!((cyrus.number("INBOX"), cyrus.number("Old")), ("45".into(), "5".into()));
    let ran = cyrus.fetch("m").args(["--after", "delete", "--limit", "44"]).run().fails(77).err_has("--yes");
    assert_eq!(ran.lines().len(), 44, "{}", ran.shown());
    assert_eq!(cyrus.number("INBOX"), "45");
    cyrus.fetch("m").args(["--after", "delete", "--limit", "44", "--yes", "--match", "UID 1:49"]).run().ok();
    // What somebody else marked is still there.
    assert_eq!(cyrus.client("imap.select('INBOX')\nprint(imap.uid('SEARCH', 'ALL')[1])"), ["[b'50']"]);
    cyrus.fetch("m").run().ok();
    cyrus.holds_everything("m");
}

#[test]
#[ignore = "needs Cyrus: run tests/run"]
fn idle_sees_what_comes_also_after_a_restart() {
    let cyrus = Cyrus::up();
    let mut running = cyrus.fetch("m").args(["--idle=1h", "--state", "state"]).spawn();
    for n in 0..3 {
        cyrus.client(&format!("append(b'Subject: {n}\\r\\n\\r\\nx\\r\\n')"));
        assert!(cyrus.bench.path(&running.line()).is_file());
    }
    cyrus.script("restart").run().ok();
    cyrus.client("append(b'Subject: later\\r\\n\\r\\nx\\r\\n')");
    assert!(cyrus.bench.path(&running.line()).is_file());
    running.signal(Signal::TERM);
    let ran = running.wait();
    assert_eq!(ran.signal, Some(15));
    assert!(ran.err_text().contains("trying again"), "{}", ran.shown());
    cyrus.holds_everything("m");
}
