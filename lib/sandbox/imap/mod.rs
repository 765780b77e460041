//! The IMAP4rev1 conversation (RFC 3501), with UIDPLUS, MOVE, IDLE, LITERAL+, SASL-IR, LIST-STATUS, NAMESPACE,
//! UNSELECT, ID and ENABLE.
//!
//! This file has the session and what concerns it as a whole; `command` reads, `view` keeps message numbers,
//! `mailboxes`, `fetch`, `search`, `change` and `idle` do the commands, `mime` and `words` know messages.

mod change;
mod command;
mod fetch;
mod header;
mod idle;
mod mailboxes;
mod mime;
mod search;
mod structure;
mod view;
mod words;

use std::io::{self, Write};
use std::sync::Arc;

use base64_simd::STANDARD as BASE64;
use imap_codec::imap_types::auth::AuthMechanism;
use imap_codec::imap_types::command::{Command, CommandBody};
use imap_codec::imap_types::mailbox::Mailbox as MailboxName;

use super::account::{Account, Refusal};
use super::listen::House;
use super::wire::{Line, Waker, Wire};
use command::Wanted;
use view::View;

const CAPABILITIES: &str = "IMAP4rev1 LITERAL+ SASL-IR IDLE UIDPLUS MOVE UNSELECT NAMESPACE CHILDREN LIST-STATUS \
                            ID ENABLE AUTH=PLAIN AUTH=LOGIN";
/// A client that only talks nonsense, or guesses passwords, is sent away.
const MOST_ERRORS: u32 = 50;

/// Talks until the client leaves.
pub fn serve(house: &House, wire: &mut Wire) -> io::Result<()> {
    let waker = Arc::new(Waker::new()?);
    let mut session = Session { house, wire, waker, account: None, view: None, errors: 0 };
    let capabilities = session.capabilities();
    write!(session.wire, "* OK [CAPABILITY {capabilities}] mail-sandbox ready\r\n")?;
    session.converse()
}

struct Session<'a> {
    house: &'a House,
    wire: &'a mut Wire,
    waker: Arc<Waker>,
    account: Option<Arc<Account>>,
    view: Option<View>,
    errors: u32,
}

/// The tagged answer, with its code and words.
#[derive(Debug)]
enum Answer {
    Ok(String),
    No(String),
    Bad(String),
    /// OK, then the connection ends.
    Bye,
}

type Answered = io::Result<Answer>;

impl Answer {
    fn ok(words: &str) -> Answer {
        Answer::Ok(words.to_string())
    }
    fn no(words: &str) -> Answer {
        Answer::No(words.to_string())
    }
    fn bad(words: &str) -> Answer {
        Answer::Bad(words.to_string())
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Answer::No(match refusal {
            Refusal::Missing => "[NONEXISTENT] no such mailbox".to_string(),
            Refusal::Exists => "[ALREADYEXISTS] it is there already".to_string(),
            Refusal::Cannot(why) => format!("[CANNOT] {why}"),
            Refusal::Disk(why) => disk_trouble(&why),
        })
    }
}

/// The words of a NO for a disk that failed.
fn disk_trouble(why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "[OVERQUOTA] the disk is full".to_string()
        }
        _ => format!("[SERVERBUG] the disk failed: {}", why.kind()),
    }
}

impl Session<'_> {
    fn converse(&mut self) -> io::Result<()> {
        loop {
            let (tag, answer) = match command::read(self.wire)? {
                Wanted::End => return Ok(()),
                Wanted::Bad { tag, why } => (tag, Answer::bad(why)),
                Wanted::StartTls { tag } => {
                    if self.start_tls(&tag)? {
                        continue;
                    }
                    (tag, Answer::bad("TLS is on already, or you are logged in"))
                }
                Wanted::List(list) => {
                    let tag = list.command.tag.as_ref().to_string();
                    let answer = self.within(true, |session| session.list_with_options(&list))?;
                    (tag, answer)
                }
                Wanted::Append(append) => {
                    let tag = append.command.tag.as_ref().to_string();
                    let answer = self.within(true, |session| session.append(*append))?;
                    (tag, answer)
                }
                Wanted::Command(command) => {
                    let tag = command.tag.as_ref().to_string();
                    (tag, self.command(*command)?)
                }
            };
            self.errors += u32::from(matches!(answer, Answer::Bad(_)));
            match answer {
                Answer::Ok(words) => write!(self.wire, "{tag} OK {words}\r\n")?,
                Answer::No(words) => write!(self.wire, "{tag} NO {words}\r\n")?,
                Answer::Bad(words) => write!(self.wire, "{tag} BAD {words}\r\n")?,
                Answer::Bye => return write!(self.wire, "* BYE see you\r\n{tag} OK logged out\r\n"),
            }
            if self.errors >= MOST_ERRORS {
                return write!(self.wire, "* BYE too many errors\r\n");
            }
            if self.view.as_ref().is_some_and(|view| view.mailbox.is_retired()) {
                return write!(self.wire, "* BYE the selected mailbox is gone\r\n");
            }
        }
    }

    /// Does a command between two looks at what changed in the selected mailbox.
    fn within(&mut self, may_expunge: bool, act: impl FnOnce(&mut Self) -> Answered) -> Answered {
        if let Some(view) = &mut self.view
            && !view.mailbox.is_retired()
        {
            view.mailbox.refresh()?;
            view.update(false, self.wire)?;
        }
        let answer = act(self)?;
        if let Some(view) = &mut self.view
            && !view.mailbox.is_retired()
        {
            view.update(may_expunge, self.wire)?;
        }
        Ok(answer)
    }

    fn command(&mut self, command: Command<'static>) -> Answered {
        use CommandBody as C;
        match (&command.body, self.account.is_some(), self.view.is_some()) {
            (C::Capability | C::Noop | C::Logout | C::Id { .. }, _, _) => {}
            (C::Login { .. } | C::Authenticate { .. }, true, _) => {
                return Ok(Answer::bad("you are logged in"));
            }
            (C::Login { .. } | C::Authenticate { .. }, false, _) => {}
            (_, false, _) => return Ok(Answer::bad("log in first")),
            (
                C::Check
                | C::Close
                | C::Unselect
                | C::Expunge
                | C::ExpungeUid { .. }
                | C::Search { .. }
                | C::Fetch { .. }
                | C::Store { .. }
                | C::Copy { .. }
                | C::Move { .. },
                _,
                false,
            ) => return Ok(Answer::bad("select a mailbox first")),
            _ => {}
        }
        // RFC 3501 section 7.4.1: no EXPUNGE while these three work with message numbers.
        let may_expunge = !matches!(
            command.body,
            C::Fetch { uid: false, .. } | C::Store { uid: false, .. } | C::Search { uid: false, .. }
        );
        self.within(may_expunge, |session| session.dispatch(command.body))
    }

    fn dispatch(&mut self, body: CommandBody<'static>) -> Answered {
        use CommandBody as C;
        match body {
            C::Capability => {
                let capabilities = self.capabilities();
                write!(self.wire, "* CAPABILITY {capabilities}\r\n")?;
                Ok(Answer::ok("that is all"))
            }
            C::Noop | C::Check => Ok(Answer::ok("done")),
            C::Logout => Ok(Answer::Bye),
            C::Id { .. } => {
                write!(self.wire, "* ID (\"name\" \"mail-sandbox\")\r\n")?;
                Ok(Answer::ok("nice to meet you"))
            }
            C::Enable { .. } => {
                write!(self.wire, "* ENABLED\r\n")?;
                Ok(Answer::ok("nothing to enable"))
            }
            C::Namespace => {
                write!(self.wire, "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n")?;
                Ok(Answer::ok("that is all"))
            }
            C::Login { username, password } => {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
                let name = text(username.as_ref());
                Ok(self.login(name, text(password.declassify().as_ref())))
            }
            C::Authenticate { mechanism, initial_response } => {
                let initial = initial_response.map(|secret| secret.declassify().to_vec());
                self.authenticate(&mechanism, initial)
            }
            C::Select { mailbox, .. } => self.select(&mailbox, false),
            C::Examine { mailbox, .. } => self.select(&mailbox, true),
            C::Unselect => {
                self.view = None;
                Ok(Answer::ok("unselected"))
            }
            C::Create { .. }
            | C::Delete { .. }
            | C::Rename { .. }
            | C::Subscribe { .. }
            | C::Unsubscribe { .. }
            | C::List { .. }
            | C::Lsub { .. }
            | C::Status { .. } => self.about_mailboxes(body),
            C::Close
            | C::Expunge
            | C::ExpungeUid { .. }
            | C::Store { .. }
            | C::Copy { .. }
            | C::Move { .. } => self.change(body),
            C::Search { charset, criteria, uid } => self.search(charset.as_ref(), criteria.as_ref(), uid),
            C::Fetch { sequence_set, macro_or_item_names, uid, .. } => {
                self.fetch(&sequence_set, macro_or_item_names, uid)
            }
            C::Idle => self.idle(),
            _ => Ok(Answer::bad("not done here")),
        }
    }

    fn capabilities(&self) -> String {
        let starttls = if self.wire.is_tls() || self.account.is_some() { "" } else { " STARTTLS" };
        format!("{CAPABILITIES}{starttls}")
    }

    fn start_tls(&mut self, tag: &str) -> io::Result<bool> {
        if self.wire.is_tls() || self.account.is_some() {
            return Ok(false);
        }
        write!(self.wire, "{tag} OK go ahead\r\n")?;
        self.wire.flush()?;
        self.wire.start_tls(&self.house.tls)?;
        Ok(true)
    }

    fn authenticate(&mut self, mechanism: &AuthMechanism<'_>, initial: Option<Vec<u8>>) -> Answered {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let (name, password) = match mechanism {
            AuthMechanism::Plain => {
                let Some(answer) = self.challenge("", initial)? else { return Ok(cancelled()) };
                let mut parts = answer.split(|b| *b == 0).skip(1);
                (parts.next().and_then(text), parts.next().and_then(text))
            }
            AuthMechanism::Login => {
                let Some(name) = self.challenge("VXNlcm5hbWU6", initial)? else { return Ok(cancelled()) };
                let Some(password) = self.challenge("UGFzc3dvcmQ6", None)? else { return Ok(cancelled()) };
                (text(&name), text(&password))
            }
            _ => return Ok(Answer::no("[CANNOT] only PLAIN and LOGIN")),
        };
        Ok(self.login(name, password))
    }

    /// What the client says to a challenge, unless it said so before being asked; `None` if it gave up.
    fn challenge(&mut self, words: &str, given: Option<Vec<u8>>) -> io::Result<Option<Vec<u8>>> {
        if given.is_some() {
            return Ok(given);
        }
        write!(self.wire, "+ {words}\r\n")?;
        match self.wire.line(16 * 1024)? {
            Line::Whole(line) => Ok(BASE64.decode_to_vec(line.trim_ascii()).ok()),
            Line::TooLong => Ok(None),
            Line::End => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn login(&mut self, name: Option<String>, password: Option<String>) -> Answer {
        self.account = name.zip(password).and_then(|(name, word)| self.house.accounts.login(&name, &word));
        match &self.account {
            Some(_) => Answer::Ok(format!("[CAPABILITY {}] logged in", self.capabilities())),
            None => {
                self.errors += 5;
                Answer::no("[AUTHENTICATIONFAILED] wrong name or password")
            }
        }
    }

    fn select(&mut self, name: &MailboxName<'_>, read_only: bool) -> Answered {
        // RFC 3501 section 6.3.1: a SELECT that fails leaves nothing selected.
        self.view = None;
        let mailbox = match self.account()?.mailbox(&name_of(name)) {
            Ok(mailbox) => mailbox,
            Err(refusal) => return Ok(refusal.into()),
        };
        mailbox.watch(&self.waker);
        let view = View::select(mailbox, read_only)?;
        let counts = view.mailbox.counts();
        let system = "\\Answered \\Flagged \\Deleted \\Seen \\Draft";
        let keywords: String = view.mailbox.keywords().iter().map(|word| format!(" {word}")).collect();
        let unseen = view.all().find(|named| {
            view.mailbox.message(named.uid).is_some_and(|m| !m.flags.has(super::maildir::Flags::SEEN))
        });
        let recent = if read_only { counts.recent } else { view.recent_count() };
        let out = &mut self.wire;
        write!(out, "* FLAGS ({system}{keywords})\r\n")?;
        match read_only {
            true => write!(out, "* OK [PERMANENTFLAGS ()] look only\r\n")?,
            false => write!(out, "* OK [PERMANENTFLAGS ({system}{keywords} \\*)] these last\r\n")?,
        }
        write!(out, "* {} EXISTS\r\n* {recent} RECENT\r\n", view.len())?;
        if let Some(first) = unseen {
            write!(out, "* OK [UNSEEN {}] the first unseen\r\n", first.number)?;
        }
        write!(out, "* OK [UIDVALIDITY {}] UIDs hold\r\n", counts.uidvalidity)?;
        write!(out, "* OK [UIDNEXT {}] the next one\r\n", counts.uidnext)?;
        self.view = Some(view);
        Ok(Answer::ok(if read_only { "[READ-ONLY] examined" } else { "[READ-WRITE] selected" }))
    }

    /// Who is logged in; commands that need it are refused before.
    fn account(&self) -> io::Result<Arc<Account>> {
        self.account.clone().ok_or_else(|| io::Error::other("not logged in"))
    }
}

fn cancelled() -> Answer {
    Answer::bad("given up")
}

/// The name as it stands on the wire (modified UTF-7).
fn name_of(name: &MailboxName<'_>) -> String {
    match name {
        MailboxName::Inbox => "INBOX".to_string(),
        MailboxName::Other(other) => String::from_utf8_lossy(other.as_ref()).into_owned(),
    }
}
