//! mail-fetch against a server that lies: a small IMAP server of the tests' own that follows commands as they come and
//! tells one untruth.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::bench::{Bench, Cmd};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lie {
    /// Nothing.
    None,
    /// UID 2 comes as NIL, and is gone from then on: somebody expunged it meanwhile.
    Expunged,
    /// UID 2 comes as NIL although it is still listed.
    Withheld,
    /// UIDs 2 and 3 are listed, and FETCH says OK without them.
    Omitted,
    /// UID 1 comes, then a tagged NO.
    No,
    /// The line is cut in the middle of UID 2, each time.
    Cut,
    /// After each message its flags once more, as when another client changes them.
    FlagsAgain,
    /// A keyword in UTF-8.
    KeywordInUtf8,
    /// Texts that look as if a literal followed.
    Braces,
    /// Bodies as quoted strings.
    Quoted,
    /// Untagged warnings in the answer to SELECT or EXAMINE.
    Warnings,
    /// Capabilities in lower case.
    LowerCase,
    /// Data that nobody knows.
    Unknown,
    /// A message of ten gigabytes is announced.
    TooLarge,
    /// UID 99, which nobody asked for, comes too.
    Stranger,
}

pub struct Liar {
    pub port: u16,
    lie: Arc<Mutex<Lie>>,
}

impl Liar {
    pub fn start(lie: Lie) -> Liar {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let lie = Arc::new(Mutex::new(lie));
        let shared = lie.clone();
        std::thread::spawn(move || {
            let gone = Arc::new(Mutex::new(Vec::new()));
            for line in listener.incoming().flatten() {
                let lie = *shared.lock().unwrap();
                let gone = gone.clone();
                // That the client hangs up is its right.
                std::thread::spawn(move || Session { out: line.try_clone().unwrap(), lie, gone }.serve(line));
            }
        });
        Liar { port, lie }
    }

    pub fn tell_the_truth(&self) {
        *self.lie.lock().unwrap() = Lie::None;
    }
}

struct Session {
    out: TcpStream,
    lie: Lie,
    gone: Arc<Mutex<Vec<u32>>>,
}

/// The message with this UID: short lines, with nothing in it that needs quoting.
fn message(uid: u32) -> String {
    format!("Subject: number {uid}\r\n\r\n{}", "a line of text\r\n".repeat(uid as usize * 20))
}

impl Session {
    fn serve(mut self, line: TcpStream) -> Option<()> {
        let capabilities = match self.lie {
            Lie::LowerCase => "imap4rev1 auth=plain idle",
            _ => "IMAP4rev1 AUTH=PLAIN IDLE",
        };
        let mut lines = BufReader::new(line).lines();
        self.say(&format!("* OK [CAPABILITY {capabilities}] ready"))?;
        while let Some(Ok(line)) = lines.next() {
            let mut words = line.splitn(3, ' ');
            let (tag, verb, rest) =
                (words.next()?, words.next()?.to_ascii_uppercase(), words.next().unwrap_or(""));
            match verb.as_str() {
                "CAPABILITY" => self.say(&format!("* CAPABILITY {capabilities}"))?,
                "AUTHENTICATE" if !rest.contains(' ') => {
                    self.say("+ ")?;
                    lines.next();
                }
                "LIST" => self.say("* LIST () \"/\" INBOX")?,
                "SELECT" | "EXAMINE" => self.select()?,
                "UID" if !self.uid(tag, rest)? => {
                    continue;
                }
                "LOGOUT" => self.say("* BYE")?,
                _ => {}
            }
            self.say(&format!("{tag} OK {}", if self.lie == Lie::Braces { "so {17}" } else { "done" }))?;
        }
        Some(())
    }

    fn select(&mut self) -> Option<()> {
        match self.lie {
            Lie::Warnings => {
                self.say("* NO Mailbox is at 95% of quota")?;
                self.say("* BAD nobody knows why")?;
                self.say("* OK 登录成功")?;
            }
            Lie::Braces => {
                self.say("* NO quota {5}")?;
                self.say("* OK [ALERT] {99}")?;
            }
            Lie::Unknown => {
                self.say("* XUNKNOWN (some \"thing\") 7")?;
                self.say("* XLITERAL {4}\r\nabcd more")?;
            }
            _ => {}
        }
        self.say("* FLAGS (\\Seen)")?;
        self.say("* 3 EXISTS")?;
        self.say("* OK [UIDVALIDITY 7] valid")?;
        self.say("* OK [UIDNEXT 4] next")
    }

    fn listed(&self) -> Vec<u32> {
        let gone = self.gone.lock().unwrap();
        (1..=3).filter(|uid| !gone.contains(uid)).collect()
    }

    /// False if the tagged answer was given here.
    fn uid(&mut self, tag: &str, rest: &str) -> Option<bool> {
        let mut words = rest.split(' ');
        if words.next()?.eq_ignore_ascii_case("SEARCH") {
            let set = rest.to_ascii_uppercase();
            let asked = set.split("UID ").nth(1).map(|set| uids(set.split(' ').next().unwrap_or("")));
            let hits =
                self.listed().into_iter().filter(|uid| asked.as_ref().is_none_or(|all| all.contains(uid)));
            let hits: Vec<String> = hits.map(|uid| uid.to_string()).collect();
            self.say(format!("* SEARCH {}", hits.join(" ")).trim_end())?;
            return Some(true);
        }
        let asked = uids(words.next()?);
        for uid in self.listed().into_iter().filter(|uid| asked.contains(uid)) {
            match (self.lie, uid) {
                (Lie::Expunged | Lie::Withheld, 2) => {
                    self.say(
                        "* 2 FETCH (UID 2 FLAGS () INTERNALDATE \"21-Nov-2026 10:00:00 +0000\" BODY[] NIL)",
                    )?;
                    if self.lie == Lie::Expunged {
                        self.gone.lock().unwrap().push(2);
                    }
                }
                (Lie::Omitted, 2 | 3) => {}
                (Lie::No, 2) => {
                    self.say(&format!("{tag} NO UID 2 could not be fetched"))?;
                    return Some(false);
                }
                (Lie::TooLarge, 2) => {
                    self.say("* 2 FETCH (UID 2 BODY[] {99999999999999999999}")?;
                    return None;
                }
                (Lie::Cut, 2) => {
                    let whole = self.fetch(2);
                    self.out.write_all(&whole[..whole.len() / 2]).ok()?;
                    self.out.shutdown(std::net::Shutdown::Both).ok()?;
                    return None;
                }
                _ => {
                    let bytes = self.fetch(uid);
                    self.out.write_all(&bytes).ok()?;
                    if self.lie == Lie::FlagsAgain {
                        self.say(&format!("* {uid} FETCH (FLAGS (\\Seen) UID {uid})"))?;
                    }
                }
            }
        }
        if self.lie == Lie::Stranger {
            let bytes = self.fetch(99);
            self.out.write_all(&bytes).ok()?;
        }
        Some(true)
    }

    fn fetch(&self, uid: u32) -> Vec<u8> {
        let text = message(uid);
        let flags = if self.lie == Lie::KeywordInUtf8 { "\\Seen café" } else { "" };
        let body = match self.lie {
            Lie::Quoted => "\"Subject: short\"".to_owned(),
            _ => format!("{{{}}}\r\n{text}", text.len()),
        };
        let date = "21-Nov-2026 10:00:00 +0000";
        format!("* {uid} FETCH (UID {uid} FLAGS ({flags}) INTERNALDATE \"{date}\" BODY[] {body})\r\n")
            .into_bytes()
    }

    fn say(&mut self, line: &str) -> Option<()> {
        self.out.write_all(format!("{line}\r\n").as_bytes()).ok()
    }
}

/// The UIDs of a set; `*` is 3.
fn uids(set: &str) -> Vec<u32> {
    let number = |text: &str| if text == "*" { 3 } else { text.parse().unwrap_or(0) };
    let ranges = set.split(',').map(|range| range.split_once(':').unwrap_or((range, range)));
    ranges.flat_map(|(a, b)| number(a).min(number(b))..=number(a).max(number(b))).collect()
}

struct Reader {
    bench: Bench,
    liar: Liar,
}

impl Reader {
    fn of(lie: Lie) -> Reader {
        let bench = Bench::new();
        bench.write("password", "secret\n");
        Reader { bench, liar: Liar::start(lie) }
    }

    fn fetch(&self) -> Cmd {
        let url = format!("imap://127.0.0.1:{}", self.liar.port);
        let words = ["--user", "u", "--password-file", "password", "--timeout", "5s", "-C", "mail"];
        self.bench.cmd("mail-fetch").args(["--imap", &url]).args(words)
    }

    /// The UIDs that lie in the Maildir, each whole.
    fn held(&self) -> Vec<u32> {
        let mut held = Vec::new();
        for file in self.bench.files("mail") {
            let name = file.display().to_string();
            assert!(!name.starts_with("tmp/"), "{name} was left behind");
            if name.starts_with("new/") || name.starts_with("cur/") {
                let uid = name.split("U").nth(1).unwrap().split('.').next().unwrap().parse().unwrap();
                assert_eq!(self.bench.read(&format!("mail/{name}")), message(uid).as_bytes(), "{name}");
                held.push(uid);
            }
        }
        held.sort_unstable();
        held
    }
}

#[test]
fn harmless_lies_cost_nothing() {
    let lies = [
        Lie::None,
        Lie::FlagsAgain,
        Lie::KeywordInUtf8,
        Lie::Braces,
        Lie::Warnings,
        Lie::LowerCase,
        Lie::Unknown,
        Lie::Stranger,
    ];
    for lie in lies {
        let reader = Reader::of(lie);
        let ran = reader.fetch().run().ok();
        assert_eq!(ran.lines().len(), 3, "{lie:?}: {}", ran.shown());
        assert_eq!(reader.held(), [1, 2, 3], "{lie:?}");
        assert!(reader.fetch().run().ok().lines().is_empty(), "{lie:?}");
    }
}

#[test]
fn what_was_expunged_meanwhile_is_no_trouble() {
    let reader = Reader::of(Lie::Expunged);
    assert_eq!(reader.fetch().run().ok().lines().len(), 2);
    assert_eq!(reader.held(), [1, 3]);
    assert!(reader.fetch().run().ok().lines().is_empty());
}

#[test]
fn what_is_not_given_is_said_and_asked_for_again() {
    for (lie, first) in [(Lie::Withheld, vec![1, 3]), (Lie::Omitted, vec![1])] {
        let reader = Reader::of(lie);
        reader.fetch().run().fails(76).err_has("UID 2");
        assert_eq!(reader.held(), first, "{lie:?}");
        reader.fetch().run().fails(76);
        reader.liar.tell_the_truth();
        reader.fetch().run().ok();
        assert_eq!(reader.held(), [1, 2, 3], "{lie:?}");
    }
}

#[test]
fn one_message_that_cannot_be_had_does_not_keep_the_others_away() {
    for lie in [Lie::No, Lie::Cut, Lie::TooLarge] {
        let reader = Reader::of(lie);
        for _ in 0..3 {
            let ran = reader.fetch().run();
            assert!(matches!(ran.status, Some(69 | 75 | 76)), "{lie:?}: {}", ran.shown());
        }
        assert_eq!(reader.held(), [1, 3], "{lie:?}");
        reader.liar.tell_the_truth();
        reader.fetch().run().ok();
        assert_eq!(reader.held(), [1, 2, 3], "{lie:?}");
    }
}

#[test]
fn a_quoted_body_is_a_body_or_is_said() {
    let reader = Reader::of(Lie::Quoted);
    let ran = reader.fetch().run();
    let files = reader.bench.files("mail").into_iter().filter(|file| file.starts_with("new")).count();
    assert!(ran.status == Some(0) && files == 3 || ran.status == Some(76) && files == 0, "{}", ran.shown());
    reader.liar.tell_the_truth();
    reader.fetch().run().ok();
    assert_eq!(reader.bench.files("mail").into_iter().filter(|file| file.starts_with("new")).count(), 3);
}
