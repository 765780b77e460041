//! An IMAP server of a few lines for what neither a polite server nor a script can do: it is told at any moment what
//! its mailboxes hold, what it leaves out, how many connections it grants, and what it does at a command instead.
//!
//! What it heard is kept in order as `NUMBER COMMAND`, with the connection's number.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mailloop::mail::uids::Uids;

use crate::bench::{Bench, Cmd};

#[derive(Default)]
pub(super) struct Held {
    /// What each message is, by UID.
    pub messages: BTreeMap<u32, String>,
    /// The last UID that was given out.
    pub last: u32,
    /// There, and no SEARCH finds them.
    pub left_out: BTreeSet<u32>,
    /// There, and a FETCH gives no body.
    pub withheld: BTreeSet<u32>,
    /// What SEARCH LARGER finds, if not what is larger.
    pub larger: Option<BTreeSet<u32>>,
}

impl Held {
    /// One more message; its UID.
    pub fn add(&mut self, text: &str) -> u32 {
        self.last += 1;
        self.messages.insert(self.last, text.to_string());
        self.last
    }
}

/// What is done at a command instead of the usual.
pub(super) enum Act {
    /// Hang up.
    Close,
    /// Hang up when so many messages of this FETCH have gone out.
    CloseAfter(usize),
    /// Answer this, after the tag.
    Answer(&'static str),
    /// Go on once the test says so.
    Await(Receiver<()>),
}

type Hook = Box<dyn FnMut(&mut BTreeMap<String, Held>, &str) -> Option<Act> + Send>;

pub(super) struct State {
    pub boxes: BTreeMap<String, Held>,
    pub heard: Vec<String>,
    /// After CAPABILITY; words can be taken away.
    pub can: String,
    /// More connections than this are turned away.
    pub most: usize,
    /// The UIDVALIDITY of all mailboxes.
    pub validity: u32,
    /// What it says as UIDNEXT instead of the truth.
    pub next: Option<u32>,
    /// At the begin of each IDLE it announces messages that there are not, each time more.
    pub boasts: Option<usize>,
    /// Everybody who comes is turned away, and who is there hung up on.
    pub down: bool,
    pub connected: usize,
    /// How many were turned away.
    pub refused: usize,
    hook: Hook,
}

pub(super) struct Fake {
    pub url: String,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Fake {
    /// A server with these mailboxes, empty.
    pub fn new(mailboxes: &[&str]) -> Fake {
        let boxes = mailboxes.iter().map(|name| (name.to_string(), Held::default())).collect();
        let state = State {
            boxes,
            heard: Vec::new(),
            can: "IMAP4rev1 SASL-IR AUTH=PLAIN IDLE LIST-STATUS".into(),
            most: usize::MAX,
            validity: 7,
            next: None,
            boasts: None,
            down: false,
            connected: 0,
            refused: 0,
            hook: Box::new(|_, _| None),
        };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let url = format!("imap://{}", listener.local_addr().expect("it is bound"));
        let serving = shared.clone();
        std::thread::spawn(move || {
            for (number, socket) in listener.incoming().flatten().enumerate() {
                let shared = serving.clone();
                // That the client hangs up is its right.
                std::thread::spawn(move || Connection::serve(socket, number + 1, &shared));
            }
        });
        Fake { url, shared }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is there; who waits with IDLE hears of it.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let done = change(&mut self.state());
        self.shared.1.notify_all();
        done
    }

    /// One more message in a mailbox; its UID.
    pub fn add(&self, mailbox: &str, text: &str) -> u32 {
        self.change(|state| state.boxes.entry(mailbox.to_string()).or_default().add(text))
    }

    /// What is done at commands: they come as `NUMBER COMMAND`, before they are answered.
    pub fn at(&self, hook: impl FnMut(&mut BTreeMap<String, Held>, &str) -> Option<Act> + Send + 'static) {
        self.change(|state| state.hook = Box::new(hook));
    }

    /// Waits until this holds.
    #[track_caller]
    pub fn until(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let waited = self.shared.1.wait_timeout_while(self.state(), Duration::from_secs(30), |s| !holds(s));
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "never: {what}; heard {:#?}", state.heard);
    }

    /// How many of the commands so far hold this word.
    pub fn count(&self, word: &str) -> usize {
        self.state().heard.iter().filter(|line| line.contains(word)).count()
    }

    /// mail-fetch on it, into `m`.
    pub fn fetch(&self, bench: &Bench) -> Cmd {
        bench.write("pw", "secret\n");
        let cmd = bench.cmd("mail-fetch").args(["--imap", &self.url, "--user", "u", "--password-file", "pw"]);
        cmd.args(["-C", "m", "--state", "state"]).timeout(25)
    }
}

struct Connection<'a> {
    out: TcpStream,
    number: usize,
    shared: &'a (Mutex<State>, Condvar),
    /// The open mailbox, and how many messages the client knows to be there.
    open: Option<(String, usize)>,
}

impl Connection<'_> {
    fn serve(socket: TcpStream, number: usize, shared: &(Mutex<State>, Condvar)) -> io::Result<()> {
        let mut one = Connection { out: socket.try_clone()?, number, shared, open: None };
        let refusal = one.with(|state| {
            let crowded = state.connected >= state.most;
            let refusal = match (state.down, crowded) {
                (true, _) => Some("* BYE going down"),
                (_, true) => Some("* BYE [UNAVAILABLE] too many connections"),
                _ => None,
            };
            state.connected += usize::from(refusal.is_none());
            state.refused += usize::from(refusal.is_some());
            refusal
        });
        if let Some(refusal) = refusal {
            return one.say(refusal);
        }
        let done = one.talk(socket);
        one.with(|state| state.connected -= 1);
        done
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let done = change(&mut self.shared.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.1.notify_all();
        done
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        self.out.write_all(format!("{line}\r\n").as_bytes())
    }

    fn talk(&mut self, socket: TcpStream) -> io::Result<()> {
        let can = self.with(|state| state.can.clone());
        self.say(&format!("* OK [CAPABILITY {can}] hi"))?;
        socket.set_read_timeout(Some(Duration::from_millis(10)))?;
        let mut reader = BufReader::new(socket);
        let (mut line, mut idle) = (String::new(), None::<String>);
        loop {
            match reader.read_line(&mut line) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                    if self.with(|state| state.down) {
                        return Ok(());
                    }
                    if idle.is_some() {
                        self.tell_news()?;
                    }
                    continue;
                }
                Err(why) => return Err(why),
            }
            let said = std::mem::take(&mut line).trim_end().to_string();
            let Some((tag, command)) = said.split_once(' ') else {
                // DONE.
                let tag = idle.take().unwrap_or_default();
                self.say(&format!("{tag} OK done"))?;
                continue;
            };
            let heard = format!("{} {command}", self.number);
            let act = self.with(|state| {
                state.heard.push(heard.clone());
                (state.hook)(&mut state.boxes, &heard)
            });
            let mut most = usize::MAX;
            match act {
                Some(Act::Close) => return Ok(()),
                Some(Act::Answer(answer)) => {
                    self.say(&format!("{tag} {answer}"))?;
                    continue;
                }
                Some(Act::Await(go)) => _ = go.recv(),
                Some(Act::CloseAfter(messages)) => most = messages,
                None => {}
            }
            if command == "IDLE" {
                self.say("+ idling")?;
                if let Some(more) = self.with(|state| state.boasts.as_mut().map(|n| (*n += 1, *n).1)) {
                    let exists = self.held(|held| held.messages.len());
                    self.say(&format!("* {} EXISTS", exists + more))?;
                }
                idle = Some(tag.to_string());
                self.tell_news()?;
                continue;
            }
            if !self.answer(command, most)? {
                return Ok(());
            }
            match command.starts_with("AUTHENTICATE") {
                true => self.say(&format!("{tag} OK [CAPABILITY {can}] in"))?,
                false => self.say(&format!("{tag} OK done"))?,
            }
        }
    }

    fn tell_news(&mut self) -> io::Result<()> {
        let Some((name, known)) = self.open.clone() else { return Ok(()) };
        let exists = self.with(|state| state.boxes.get(&name).map_or(0, |held| held.messages.len()));
        if exists != known {
            self.open = Some((name, exists));
            self.say(&format!("* {exists} EXISTS"))?;
        }
        Ok(())
    }

    /// What stands before the tagged answer; false where the line is to end.
    fn answer(&mut self, command: &str, most: usize) -> io::Result<bool> {
        let words: Vec<&str> = command.split(' ').collect();
        let said = match words.as_slice() {
            ["LIST", ..] => self.with(|state| list(&state.boxes, state.validity, state.next)),
            ["EXAMINE" | "SELECT", name, ..] => {
                let name = name.trim_matches('"').to_string();
                let (exists, next) = self.with(|state| {
                    let held = state.boxes.get(&name).map_or((0, 0), |one| (one.messages.len(), one.last));
                    (held.0, state.next.unwrap_or(held.1 + 1))
                });
                self.open = Some((name, exists));
                vec![
                    format!("* {exists} EXISTS"),
                    format!("* OK [UIDVALIDITY {}] x", self.with(|state| state.validity)),
                    format!("* OK [UIDNEXT {next}] x"),
                ]
            }
            ["UID", "SEARCH", rest @ ..] => vec![self.held(|held| search(held, rest))],
            ["UID", "FETCH", set, ..] => {
                let uids: Uids = set.parse().map_err(io::Error::other)?;
                let whole = command.contains("BODY.PEEK[]");
                let all = self.held(|held| fetch(held, &uids, whole));
                for one in all.iter().take(most) {
                    self.out.write_all(one.as_bytes())?;
                }
                return Ok(most == usize::MAX);
            }
            ["NOOP"] => {
                self.tell_news()?;
                Vec::new()
            }
            _ => Vec::new(),
        };
        for line in said {
            self.say(&line)?;
        }
        Ok(true)
    }

    fn held<T>(&self, look: impl FnOnce(&Held) -> T) -> T {
        let name = self.open.as_ref().map(|(name, _)| name.clone()).unwrap_or_default();
        self.with(|state| look(state.boxes.entry(name).or_default()))
    }
}

fn list(boxes: &BTreeMap<String, Held>, validity: u32, lie: Option<u32>) -> Vec<String> {
    let one = |(name, held): (&String, &Held)| {
        let (messages, next) = (held.messages.len(), lie.unwrap_or(held.last + 1));
        [
            format!("* LIST () \"/\" \"{name}\""),
            format!("* STATUS \"{name}\" (MESSAGES {messages} UIDNEXT {next} UIDVALIDITY {validity})"),
        ]
    };
    boxes.iter().flat_map(one).collect()
}

/// `UID n:*`, perhaps with `UID set` or `LARGER n` behind it.
fn search(held: &Held, words: &[&str]) -> String {
    let first: u32 = words[1].split(':').next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let shown: Vec<u32> = held.messages.keys().copied().filter(|uid| !held.left_out.contains(uid)).collect();
    let fits = |uid: &u32| match words.get(2..) {
        Some(["UID", set]) => set.parse::<Uids>().is_ok_and(|set| set.contains(*uid)),
        Some(["LARGER", most]) => match &held.larger {
            Some(larger) => larger.contains(uid),
            None => most.parse().is_ok_and(|most: usize| held.messages[uid].len() > most),
        },
        _ => true,
    };
    // `n:*` names the last message in any case.
    let found =
        shown.iter().filter(|uid| **uid >= first || Some(*uid) == shown.last()).filter(|uid| fits(uid));
    let found: Vec<String> = found.map(u32::to_string).collect();
    format!("* SEARCH {}", found.join(" "))
}

fn fetch(held: &Held, uids: &Uids, whole: bool) -> Vec<String> {
    let asked = held.messages.iter().filter(|(uid, _)| uids.contains(**uid) && !held.withheld.contains(uid));
    let one = |(uid, text): (&u32, &String)| match whole {
        true => format!("* {uid} FETCH (UID {uid} FLAGS () BODY[] {{{}}}\r\n{text})\r\n", text.len()),
        false => format!("* {uid} FETCH (UID {uid} RFC822.SIZE {})\r\n", text.len()),
    };
    asked.map(one).collect()
}
