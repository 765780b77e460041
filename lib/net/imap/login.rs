//! From a bare line to a session; and what the crate's errors mean.

use std::cell::RefCell;
use std::rc::Rc;

use imap::Error as Crate;
use zeroize::Zeroizing;

use super::greeting::{greet, start_tls};
use super::sasl::{Script, Way};
use super::tap::{Shared, Tap};
use crate::config::{Peer, Sasl, SecretSource, Tls};
use crate::error::{Error, Kind, Result};
use crate::net::dial;
use crate::net::hidden::Hidden;
use crate::net::scram::Hash;
use crate::report;
use crate::secret::Secret;

/// Gets the secret from where the peer says that it is; asked again where a token is refused.
pub(super) type Fetch<'a> = &'a dyn Fn(&SecretSource) -> Result<Secret>;

pub(super) fn log_in(peer: &Peer, fetch: Fetch<'_>) -> Result<(imap::Session<Tap>, Rc<RefCell<Shared>>)> {
    let (user, source) = credentials(peer)?;
    peer.check_login()?;
    let mut password = fetch(source)?;
    // The server may know it from another time.
    let mut hidden = Hidden::default();
    hidden.learn(&password);
    let mut wire = dial(peer)?;
    let mut capabilities = greet(&mut wire, &hidden)?;
    if peer.tls == Tls::StartTls {
        start_tls(&mut wire, &hidden)?;
        // Nothing said before the handshake is believed.
        capabilities.clear();
    }
    let (tap, shared) = Tap::new(wire);
    (shared.borrow_mut().capabilities, shared.borrow_mut().hidden) = (capabilities, hidden);
    let mut client = imap::Client::new(tap);
    if shared.borrow().capabilities.is_empty() {
        ask_for_capabilities(&mut client, peer, &shared)?;
    }
    let ways = ways(peer, source, &shared.borrow().capabilities);
    let Some(way) = ways.first().copied() else {
        let words = format!("cannot log in to {} as {user}", peer.server);
        let offered = offered(peer, &shared.borrow().capabilities);
        return Err(Error::new(Kind::Denied, words, shared.borrow().hidden.shown(&offered)));
    };
    let mut attempt = Attempt { peer, user: &user, shared: &shared, way, again: false };
    let session = match attempt.log_in(client, &password) {
        Ok(session) => session,
        Err((error, Some(client))) if error.kind() == Kind::Denied && is_token(source) => {
            // Tokens live for an hour; the command knows how to get a fresh one.
            report::detail(format_args!("{error}; asking for another token"));
            password = fetch(source)?;
            shared.borrow_mut().hidden.learn(&password);
            attempt.again = true;
            attempt.log_in(client, &password).map_err(|(error, _)| error)?
        }
        Err((error, _)) => return Err(error),
    };
    shared.borrow_mut().hush = false;
    Ok((session, shared))
}

/// The tap keeps the words.
fn ask_for_capabilities(
    client: &mut imap::Client<Tap>,
    peer: &Peer,
    shared: &Rc<RefCell<Shared>>,
) -> Result<()> {
    match client.capabilities() {
        Err(
            why @ (Crate::Io(_)
            | Crate::ConnectionLost
            | Crate::Bye(_)
            | Crate::No(_)
            | Crate::Bad(_)
            | Crate::TagMismatch(_)),
        ) => {
            let words = format!("{} at {}: asking for capabilities", peer.name, peer.server);
            Err(explain(words, why, &shared.borrow()))
        }
        // The crate insists on IMAP4rev1 in the answer, and sees an empty list.
        _ => Ok(()),
    }
}

fn is_token(source: &SecretSource) -> bool {
    matches!(source, SecretSource::Token(_))
}

/// How we can log in there, the best first.
fn ways(peer: &Peer, source: &SecretSource, capabilities: &[String]) -> Vec<Way> {
    let has = |name: &str| capabilities.iter().any(|have| have == name);
    let candidates = match is_token(source) {
        true => vec![(Way::Bearer, has("AUTH=OAUTHBEARER")), (Way::XOAuth2, has("AUTH=XOAUTH2"))],
        false => vec![
            // The password stays here.
            (Way::Scram(Hash::Sha256), has("AUTH=SCRAM-SHA-256")),
            (Way::Scram(Hash::Sha1), has("AUTH=SCRAM-SHA-1")),
            // AUTHENTICATE takes any UTF-8, LOGIN does not.
            (Way::Plain, has("AUTH=PLAIN")),
            (Way::LoginCommand, !has("LOGINDISABLED")),
            (Way::Login, has("AUTH=LOGIN")),
        ],
    };
    let wanted = |way: &Way| peer.auth.is_none_or(|auth| auth == way.auth());
    candidates.into_iter().filter(|(way, possible)| *possible && wanted(way)).map(|(way, _)| way).collect()
}

fn offered(peer: &Peer, capabilities: &[String]) -> String {
    let offered: Vec<&str> = capabilities.iter().filter_map(|word| word.strip_prefix("AUTH=")).collect();
    match offered.is_empty() {
        true => "it allows no login on this line; use TLS".to_string(),
        false if peer.auth.is_some() => {
            format!(
                "{} was asked for, and it offers {}",
                peer.auth.map_or("", Sasl::name),
                offered.join(", ")
            )
        }
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
        let initial = super::has(&offered, "SASL-IR");
        self.shared.borrow_mut().hush = true;
        let script = match Script::of(self.way, self.user, password, &self.peer.server, self.shared) {
            Ok(script) => script,
            Err(why) => return Err((Error::new(Kind::Config, self.words(), why), None)),
        };
        report::trace(format_args!("C: (logging in, {})", self.way.auth().name()));
        let shown = |text: String| self.shared.borrow().hidden.shown(&text);
        let done = match &script {
            None => {
                self.forget_capabilities();
                client.login(self.user, password.reveal())
            }
            Some(script) => self.authenticate(client, script, initial),
        };
        match (done, script) {
            (Ok(session), script) => match script.and_then(|script| script.distrust()) {
                None => Ok(session),
                Some(why) => Err((
                    Error::new(Kind::Protocol, self.words(), shown(why))
                        .hint("it may not be the server that it says it is"),
                    None,
                )),
            },
            (Err((why, client)), script) => {
                self.shared.borrow_mut().capabilities = offered;
                let said = shown(script.map(|script| script.trouble()).unwrap_or_default());
                Err((self.explain(why, &said), Some(client)))
            }
        }
    }

    #[expect(clippy::result_large_err, reason = "the crate gives the client back in its error")]
    fn authenticate(&self, client: Client, script: &Script, initial: bool) -> LoggedIn<(Crate, Client)> {
        let Some(first) = script.initial().filter(|_| initial) else {
            script.restart();
            self.forget_capabilities();
            return client.authenticate(script.name, script);
        };
        let answer = Zeroizing::new(base64_simd::STANDARD.encode_to_string(first.as_bytes()));
        let line = Zeroizing::new(format!("{} {}", script.name, &*answer));
        self.forget_capabilities();
        match client.authenticate(&*line, script) {
            // QUIRK: servers exist that announce SASL-IR and then call it a syntax error.
            // One that asked something first understood it.
            Err((Crate::Bad(_), client)) if !script.was_asked() => self.authenticate(client, script, false),
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
            Way::Scram(_) if !said.is_empty() => format!("check user and password; {said}"),
            // QUIRK: servers offer it also for users whose password they know only in a form that it is no use with.
            Way::Scram(_) => "check user and password; if they are right, try --auth plain".to_string(),
            _ => "check user and password".to_string(),
        };
        error.with_kind(Kind::Denied).hint(hint)
    }

    fn words(&self) -> String {
        let again = if self.again { " with a fresh token" } else { "" };
        format!("cannot log in to {} as {}{again}", self.peer.server, self.user)
    }
}

/// What an error says in the end where the server had no room for us.
const CROWDED: &str = "it has too many connections, or too much to do";

/// True if a connection was refused because there are too many, or too much to do: waiting helps, hammering does not.
pub fn is_crowded(error: &Error) -> bool {
    error.kind() == Kind::Temporary && error.to_string().ends_with(CROWDED)
}

/// The error that comes of these words of the server, as it said them: what is shown of them tells less.
pub(super) fn crowded(error: Error, said: &str) -> Error {
    let said = said.to_ascii_uppercase();
    // RFC 5530, and what Gmail, Dovecot and others say.
    let words =
        ["[LIMIT]", "[INUSE]", "[UNAVAILABLE]", "TOO MANY", "SIMULTANEOUS", "MAXIMUM NUMBER OF CONNECTIONS"];
    match error.kind() == Kind::Temporary && words.iter().any(|word| said.contains(word)) {
        true => error.hint(CROWDED),
        false => error,
    }
}

/// What the crate's errors mean. A NO is [`Kind::Refused`], or [`Kind::Temporary`] where its code says so (RFC 5530).
pub(super) fn explain(words: String, why: Crate, shared: &Shared) -> Error {
    let shown = |text: &str| shared.hidden.shown(text);
    let goodbye = |bye: &str| {
        let why = format!("the server said goodbye: {}", shown(bye));
        crowded(Error::new(Kind::Temporary, words.clone(), why), bye)
    };
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
            let later = ["UNAVAILABLE", "INUSE", "IN-USE", "TOO MANY", "SIMULTANEOUS", "LIMIT", "SERVERBUG"];
            let kind = match later.iter().any(|word| said.contains(word)) {
                true => Kind::Temporary,
                false => Kind::Refused,
            };
            crowded(Error::new(kind, words, shown(&shared.status)), &shared.status)
        }
        (Crate::Validate(_), _) => {
            Error::new(Kind::Usage, words, "a name or password has a character that IMAP cannot carry")
        }
        (Crate::Bad(_), _) => Error::new(Kind::Protocol, words, shown(&shared.status)),
        (Crate::Bye(_), Some(bye)) => goodbye(bye),
        (other, _) => {
            let other = shown(&other.to_string());
            Error::new(Kind::Protocol, words, format!("the server's answer makes no sense ({other})"))
        }
    }
}
