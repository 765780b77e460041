//! From a bare line to a session: greeting, STARTTLS, login; and what the crate's errors mean.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::rc::Rc;

use imap::Error as Crate;

use super::tap::{Shared, Tap};
use crate::config::{Peer, Tls};
use crate::error::{Error, Kind, Result};
use crate::net::{Wire, dial};
use crate::secret::{self, Secret};

/// Greetings and answers to STARTTLS are one short line.
const LONGEST_GREETING: usize = 8192;

pub(super) fn log_in(peer: &Peer) -> Result<(imap::Session<Tap>, Rc<RefCell<Shared>>)> {
    let (user, password) = credentials(peer)?;
    let mut wire = dial(peer)?;
    greet(&mut wire)?;
    if peer.tls == Tls::StartTls {
        start_tls(&mut wire)?;
    }
    let (tap, shared) = Tap::new(wire);
    let client = imap::Client::new(tap);
    let session = authenticate(client, &shared, peer, &user, &password)?;
    shared.borrow_mut().hush = false;
    Ok((session, shared))
}

fn credentials(peer: &Peer) -> Result<(String, Secret)> {
    let missing = |what: &str, how: &str| {
        Error::new(Kind::Config, format!("cannot log in to {}", peer.server), format!("no {what} is given"))
            .hint(how)
    };
    let user = peer.user.clone().ok_or_else(|| missing("user", "use --user, or user = … in the account"))?;
    let source = peer.secret.as_ref().ok_or_else(|| {
        missing("password", "use --password-file or --password-command, or the same in the account")
    })?;
    Ok((user, secret::fetch(source)?))
}

/// Reads the greeting byte by byte: nothing of what follows may be read ahead in plain text.
fn greet(wire: &mut Wire) -> Result<()> {
    let line = bare_line(wire, "waiting for the greeting")?;
    let server = wire.peer().server.clone();
    let wrong = |kind, why: &str| Err(Error::new(kind, format!("cannot use {server}"), why));
    let upper = line.to_ascii_uppercase();
    if upper.starts_with("* OK") {
        Ok(())
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
                crate::report::trace(format_args!("S: {}", String::from_utf8_lossy(&line).trim_end()));
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

struct Plain(Vec<u8>);

impl imap::Authenticator for Plain {
    type Response = Vec<u8>;
    fn process(&self, _challenge: &[u8]) -> Vec<u8> {
        self.0.clone()
    }
}

/// AUTHENTICATE PLAIN where the server has it (it takes any UTF-8), LOGIN otherwise.
fn authenticate(
    mut client: imap::Client<Tap>,
    shared: &Rc<RefCell<Shared>>,
    peer: &Peer,
    user: &str,
    password: &Secret,
) -> Result<imap::Session<Tap>> {
    let words = || format!("cannot log in to {} as {user}", peer.server);
    // The crate insists on IMAP4rev1 in the answer; the tap keeps the words and the crate sees an empty list.
    let _ = client.capabilities();
    let has = |name: &str| shared.borrow().capabilities.iter().any(|have| have == name);
    if has("LOGINDISABLED") && !has("AUTH=PLAIN") {
        return Err(Error::new(Kind::Denied, words(), "it allows no login on this line").hint("use TLS"));
    }
    let plain = has("AUTH=PLAIN");
    {
        let mut shared = shared.borrow_mut();
        shared.hush = true;
        // What was said before the login may change with it.
        shared.capabilities.clear();
    }
    let done = if plain {
        let answer = format!("\0{user}\0{}", password.reveal()).into_bytes();
        client.authenticate("PLAIN", &Plain(answer))
    } else {
        client.login(user, password.reveal())
    };
    done.map_err(|(why, _)| {
        let error = explain(words(), why, shared.borrow().bye.as_deref());
        match error.kind() {
            Kind::Refused => error.with_kind(Kind::Denied).hint("check user and password"),
            _ => error,
        }
    })
}

/// What the crate's errors mean. A NO is [`Kind::Refused`], or [`Kind::Temporary`] where its code says so (RFC 5530).
pub(super) fn explain(words: String, why: Crate, bye: Option<&str>) -> Error {
    match why {
        Crate::Io(why) if why.kind() == std::io::ErrorKind::InvalidData => {
            Error::new(Kind::Protocol, words, why)
        }
        Crate::Io(why) => match bye {
            Some(bye) => Error::new(Kind::Temporary, words, format!("the server said goodbye: {bye}")),
            None => Error::network(words, why),
        },
        Crate::ConnectionLost => {
            let why = bye.map_or("the other side closed the connection".into(), |bye| {
                format!("the server said goodbye: {bye}")
            });
            Error::new(Kind::Temporary, words, why)
        }
        Crate::No(no) => {
            let code = format!("{:?} {}", no.code, no.information).to_ascii_uppercase();
            let later = ["UNAVAILABLE", "INUSE", "IN-USE", "TOO MANY", "LIMIT"]
                .iter()
                .any(|word| code.contains(word));
            let kind = if later { Kind::Temporary } else { Kind::Refused };
            Error::new(kind, words, no.information)
        }
        Crate::Validate(_) => {
            Error::new(Kind::Usage, words, "a name or password has a character that IMAP cannot carry")
        }
        Crate::Bad(bad) => Error::new(Kind::Protocol, words, bad.information),
        other => Error::new(Kind::Protocol, words, format!("the server's answer makes no sense ({other})")),
    }
}
