//! From a bare line to a session: greeting, STARTTLS, login; and what the crate's errors mean.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::rc::Rc;

use imap::Error as Crate;
use zeroize::Zeroizing;

use super::tap::{Shared, Tap};
use crate::config::{Peer, SecretSource, Tls};
use crate::error::{Error, Kind, Result};
use crate::net::{Wire, dial};
use crate::report;
use crate::secret::Secret;

/// Greetings and answers to STARTTLS are one short line.
const LONGEST_GREETING: usize = 8192;

/// Gets the secret from where the peer says that it is; asked again where a token is refused.
pub(super) type Fetch<'a> = &'a dyn Fn(&SecretSource) -> Result<Secret>;

pub(super) fn log_in(peer: &Peer, fetch: Fetch<'_>) -> Result<(imap::Session<Tap>, Rc<RefCell<Shared>>)> {
    let (user, source) = credentials(peer)?;
    peer.check_login()?;
    let mut password = fetch(source)?;
    let mut wire = dial(peer)?;
    let mut capabilities = greet(&mut wire)?;
    if peer.tls == Tls::StartTls {
        start_tls(&mut wire)?;
        // Nothing said before the handshake is believed.
        capabilities.clear();
    }
    let (tap, shared) = Tap::new(wire);
    shared.borrow_mut().capabilities = capabilities;
    let mut client = imap::Client::new(tap);
    if shared.borrow().capabilities.is_empty() {
        // The crate insists on IMAP4rev1 in the answer; the tap keeps the words and the crate sees an empty list.
        let _ = client.capabilities();
    }
    let ways = ways(source, &shared.borrow().capabilities);
    let Some(way) = ways.first().copied() else {
        let words = format!("cannot log in to {} as {user}", peer.server);
        let offered = offered(&shared.borrow().capabilities);
        return Err(Error::new(Kind::Denied, words, offered));
    };
    let mut attempt = Attempt { peer, user: &user, shared: &shared, way, again: false };
    let session = match attempt.log_in(client, &password) {
        Ok(session) => session,
        Err((error, Some(client))) if error.kind() == Kind::Denied && is_token(source) => {
            // Tokens live for an hour; the command knows how to get a fresh one.
            report::detail(format_args!("{error}; asking for another token"));
            password = fetch(source)?;
            attempt.again = true;
            attempt.log_in(client, &password).map_err(|(error, _)| error)?
        }
        Err((error, _)) => return Err(error),
    };
    shared.borrow_mut().hush = false;
    Ok((session, shared))
}

fn is_token(source: &SecretSource) -> bool {
    matches!(source, SecretSource::Token(_))
}

/// How we can log in there, the best first.
fn ways(source: &SecretSource, capabilities: &[String]) -> Vec<Way> {
    let has = |name: &str| capabilities.iter().any(|have| have == name);
    let candidates = match is_token(source) {
        true => vec![(Way::Bearer, has("AUTH=OAUTHBEARER")), (Way::XOAuth2, has("AUTH=XOAUTH2"))],
        false => vec![
            // AUTHENTICATE takes any UTF-8, LOGIN does not.
            (Way::Plain, has("AUTH=PLAIN")),
            (Way::LoginCommand, !has("LOGINDISABLED")),
            (Way::Login, has("AUTH=LOGIN")),
        ],
    };
    candidates.into_iter().filter(|(_, possible)| *possible).map(|(way, _)| way).collect()
}

fn offered(capabilities: &[String]) -> String {
    let offered: Vec<&str> = capabilities.iter().filter_map(|word| word.strip_prefix("AUTH=")).collect();
    match offered.is_empty() {
        true => "it allows no login on this line; use TLS".to_string(),
        false => format!("of the ways to log in that it offers we have none: {}", offered.join(", ")),
    }
}

fn credentials(peer: &Peer) -> Result<(String, &SecretSource)> {
    let missing = |what: &str, how: &str| {
        Error::new(Kind::Config, format!("cannot log in to {}", peer.server), format!("no {what} is given"))
            .hint(how)
    };
    let user = peer.user.clone().ok_or_else(|| missing("user", "use --user, or user = … in the account"))?;
    let source = peer.secret.as_ref().ok_or_else(|| {
        missing("password", "use --password-file or --password-command, or the same in the account")
    })?;
    Ok((user, source))
}

/// Reads the greeting byte by byte: nothing of what follows may be read ahead in plain text. Gives the capabilities in
/// it, if there are some.
fn greet(wire: &mut Wire) -> Result<Vec<String>> {
    let line = bare_line(wire, "waiting for the greeting")?;
    let server = wire.peer().server.clone();
    let wrong = |kind, why: &str| Err(Error::new(kind, format!("cannot use {server}"), why));
    let upper = line.to_ascii_uppercase();
    if upper.starts_with("* OK") {
        Ok(super::tap::bracketed(&upper).map(|(_, _, words)| words).unwrap_or_default())
    } else if upper.starts_with("* PREAUTH") {
        // Logged in as whom? And before TLS it would make us skip TLS (CVE-2021-39272).
        wrong(Kind::Protocol, "it says that we are logged in already (PREAUTH)")
    } else if upper.starts_with("* BYE") {
        wrong(Kind::Temporary, &format!("it turned us away: {}", line.trim()))
    } else {
        wrong(Kind::Protocol, &format!("this is no IMAP server: it greets with {:?}", shortened(&line)))
    }
}

fn start_tls(wire: &mut Wire) -> Result<()> {
    let server = wire.peer().server.clone();
    wire.write_all(b"s1 STARTTLS\r\n")
        .map_err(|why| Error::network(format!("cannot ask {server} for STARTTLS"), why))?;
    loop {
        let line = bare_line(wire, "waiting for the answer to STARTTLS")?;
        if line.starts_with("* ") {
            continue; // Nothing said before the handshake is believed.
        }
        if !line.to_ascii_uppercase().starts_with("S1 OK") {
            let why = format!("it refuses STARTTLS: {}", shortened(&line));
            return Err(Error::new(Kind::Protocol, format!("cannot protect the line to {server}"), why)
                .hint("nothing was sent over the open line; use imaps:// if the server has it"));
        }
        return wire.start_tls();
    }
}

fn bare_line(wire: &mut Wire, doing: &str) -> Result<String> {
    let words = format!("{} at {}: {doing}", wire.peer().name, wire.peer().server);
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        match wire.read(&mut byte) {
            Ok(0) => return Err(Error::new(Kind::Temporary, words, "the other side closed the connection")),
            Ok(_) if byte[0] == b'\n' => {
                report::trace(format_args!("S: {}", String::from_utf8_lossy(&line).trim_end()));
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            Ok(_) if line.len() >= LONGEST_GREETING => {
                return Err(Error::new(Kind::Protocol, words, "its line never ends"));
            }
            Ok(_) => line.push(byte[0]),
            Err(why) => return Err(Error::network(words, why)),
        }
    }
}

fn shortened(line: &str) -> String {
    line.trim().chars().take(100).collect()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Plain,
    LoginCommand,
    Login,
    Bearer,
    XOAuth2,
}

/// One attempt to log in.
struct Attempt<'a> {
    peer: &'a Peer,
    user: &'a str,
    shared: &'a Rc<RefCell<Shared>>,
    way: Way,
    again: bool,
}

type Client = imap::Client<Tap>;
type LoggedIn<E> = std::result::Result<imap::Session<Tap>, E>;

impl Attempt<'_> {
    /// An error comes with the client where the line is still good.
    #[expect(clippy::result_large_err, reason = "the crate gives the client back in its error")]
    fn log_in(&self, client: Client, password: &Secret) -> LoggedIn<(Error, Option<Client>)> {
        let offered = self.shared.borrow().capabilities.clone();
        let initial = offered.iter().any(|have| have == "SASL-IR");
        self.shared.borrow_mut().hush = true;
        let script = match self.script(password) {
            Ok(script) => script,
            Err(error) => return Err((error, None)),
        };
        report::trace(format_args!("C: (logging in, {:?})", self.way));
        let done = match &script {
            None => {
                self.forget_capabilities();
                client.login(self.user, password.reveal())
            }
            Some(script) => self.authenticate(client, script, initial && script.answers.len() == 1),
        };
        done.map_err(|(why, client)| {
            self.shared.borrow_mut().capabilities = offered;
            let said = script.map(|script| script.refusal.into_inner()).unwrap_or_default();
            (self.explain(why, &said), Some(client))
        })
    }

    fn script(&self, password: &Secret) -> Result<Option<Script>> {
        let (user, secret) = (self.user, password.reveal());
        if user.contains(['\0', '\r', '\n', '\x01']) || secret.contains(['\0', '\r', '\n', '\x01']) {
            let why = "user or password holds a control character";
            return Err(Error::new(Kind::Config, self.words(), why));
        }
        let one = |name, text: String| Script::new(name, vec![text]);
        Ok(Some(match self.way {
            Way::LoginCommand => return Ok(None),
            Way::Plain => one("PLAIN", format!("\0{user}\0{secret}")),
            Way::Login => Script::new("LOGIN", vec![user.to_string(), secret.to_string()]),
            Way::XOAuth2 => one("XOAUTH2", format!("user={user}\x01auth=Bearer {secret}\x01\x01")),
            Way::Bearer => {
                let server = &self.peer.server;
                // RFC 5801: `,` and `=` are written otherwise in the name.
                let name = user.replace('=', "=3D").replace(',', "=2C");
                let head = format!("n,a={name},\x01host={}\x01port={}\x01", server.host, server.port);
                one("OAUTHBEARER", format!("{head}auth=Bearer {secret}\x01\x01"))
            }
        }))
    }

    #[expect(clippy::result_large_err, reason = "the crate gives the client back in its error")]
    fn authenticate(&self, client: Client, script: &Script, initial: bool) -> LoggedIn<(Crate, Client)> {
        if !initial {
            self.forget_capabilities();
            return client.authenticate(script.name, script);
        }
        let answer = Zeroizing::new(base64_simd::STANDARD.encode_to_string(script.answers[0].as_bytes()));
        let line = Zeroizing::new(format!("{} {}", script.name, &*answer));
        script.next.set(1);
        self.forget_capabilities();
        match client.authenticate(&*line, script) {
            // QUIRK: servers exist that announce SASL-IR and then call it a syntax error.
            Err((Crate::Bad(_), client)) => {
                script.next.set(0);
                self.authenticate(client, script, false)
            }
            done => done,
        }
    }

    /// What was said before the login may change with it.
    fn forget_capabilities(&self) {
        self.shared.borrow_mut().capabilities.clear();
    }

    fn explain(&self, why: Crate, said: &str) -> Error {
        let error = explain(self.words(), why, &self.shared.borrow());
        if error.kind() != Kind::Refused {
            return error;
        }
        let hint = match self.way {
            Way::Bearer | Way::XOAuth2 if said.is_empty() => "check user and token".to_string(),
            Way::Bearer | Way::XOAuth2 => format!("check user and token; the server says {said}"),
            _ => "check user and password".to_string(),
        };
        error.with_kind(Kind::Denied).hint(hint)
    }

    fn words(&self) -> String {
        let again = if self.again { " with a fresh token" } else { "" };
        format!("cannot log in to {} as {}{again}", self.peer.server, self.user)
    }
}

/// What a mechanism says, turn by turn (RFC 4616, RFC 7628, and LOGIN, which was never standardised).
struct Script {
    name: &'static str,
    answers: Vec<Zeroizing<String>>,
    next: Cell<usize>,
    /// Why a token was refused, as the server says it in its last challenge.
    refusal: RefCell<String>,
}

impl Script {
    fn new(name: &'static str, answers: Vec<String>) -> Script {
        let answers = answers.into_iter().map(Zeroizing::new).collect();
        Script { name, answers, next: Cell::new(0), refusal: RefCell::default() }
    }
}

impl imap::Authenticator for Script {
    type Response = Vec<u8>;
    fn process(&self, challenge: &[u8]) -> Vec<u8> {
        let turn = self.next.replace(self.next.get() + 1);
        if let Some(answer) = self.answers.get(turn) {
            return answer.as_bytes().to_vec();
        }
        *self.refusal.borrow_mut() = shortened(&String::from_utf8_lossy(challenge));
        // RFC 7628 section 3.2.3: an empty answer lets the server say NO; OAUTHBEARER spells it \x01.
        if self.name == "OAUTHBEARER" { vec![1] } else { Vec::new() }
    }
}

/// What the crate's errors mean. A NO is [`Kind::Refused`], or [`Kind::Temporary`] where its code says so (RFC 5530).
pub(super) fn explain(words: String, why: Crate, shared: &Shared) -> Error {
    let goodbye =
        |bye: &str| Error::new(Kind::Temporary, words.clone(), format!("the server said goodbye: {bye}"));
    match (why, shared.bye.as_deref()) {
        (Crate::Io(why), _) if why.kind() == std::io::ErrorKind::InvalidData => {
            Error::new(Kind::Protocol, words, why)
        }
        (Crate::Io(_) | Crate::ConnectionLost, Some(bye)) => goodbye(bye),
        (Crate::Io(why), None) => Error::network(words, why),
        (Crate::ConnectionLost, None) => {
            Error::new(Kind::Temporary, words, "the other side closed the connection")
        }
        (Crate::No(_), _) => {
            let said = shared.status.to_ascii_uppercase();
            let later = ["UNAVAILABLE", "INUSE", "IN-USE", "TOO MANY", "LIMIT", "SERVERBUG"];
            let kind = match later.iter().any(|word| said.contains(word)) {
                true => Kind::Temporary,
                false => Kind::Refused,
            };
            Error::new(kind, words, &shared.status)
        }
        (Crate::Validate(_), _) => {
            Error::new(Kind::Usage, words, "a name or password has a character that IMAP cannot carry")
        }
        (Crate::Bad(_), _) => Error::new(Kind::Protocol, words, &shared.status),
        (Crate::Bye(_), Some(bye)) => goodbye(bye),
        (other, _) => {
            Error::new(Kind::Protocol, words, format!("the server's answer makes no sense ({other})"))
        }
    }
}
