//! What we say to log in, turn by turn (SASL, RFC 4422).

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use zeroize::Zeroizing;

use super::tap::Shared;
use crate::config::{Sasl, Server};
use crate::net::scram::{Hash, Scram};
use crate::secret::Secret;

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Way {
    Scram(Hash),
    Plain,
    /// The LOGIN command, which is no SASL.
    LoginCommand,
    Login,
    Bearer,
    XOAuth2,
}

impl Way {
    /// What it is called in an account.
    pub fn auth(self) -> Sasl {
        match self {
            Way::Scram(Hash::Sha256) => Sasl::ScramSha256,
            Way::Scram(Hash::Sha1) => Sasl::ScramSha1,
            Way::Plain => Sasl::Plain,
            Way::LoginCommand | Way::Login => Sasl::Login,
            Way::Bearer => Sasl::OAuthBearer,
            Way::XOAuth2 => Sasl::XOAuth2,
        }
    }
}

/// What a mechanism says: RFC 4616, RFC 7628, RFC 7677, and LOGIN, which was never standardised.
pub(super) struct Script {
    pub name: &'static str,
    turns: Turns,
    next: Cell<usize>,
    shared: Rc<RefCell<Shared>>,
    /// What is wrong: with a token, as the server says it in its last challenge; with the server, as SCRAM finds it.
    trouble: RefCell<String>,
}

enum Turns {
    /// Each answer is known beforehand.
    Known(Vec<Zeroizing<String>>),
    Scram(Box<RefCell<Scram>>),
}

impl Script {
    /// What is said that way; `None` where it is no SASL. An error says what is wrong with user or password.
    pub fn of(
        way: Way,
        user: &str,
        password: &Secret,
        server: &Server,
        shared: &Rc<RefCell<Shared>>,
    ) -> Result<Option<Script>, &'static str> {
        let secret = password.reveal();
        if user.contains(['\0', '\r', '\n', '\x01']) || secret.contains(['\0', '\r', '\n', '\x01']) {
            return Err("user or password holds a control character");
        }
        let turns = match way {
            Way::LoginCommand => return Ok(None),
            Way::Scram(hash) => Turns::Scram(Box::new(RefCell::new(Scram::begin(hash, user, password)?))),
            Way::Plain => known([format!("\0{user}\0{secret}")]),
            Way::Login => known([user.to_string(), secret.to_string()]),
            Way::XOAuth2 => known([format!("user={user}\x01auth=Bearer {secret}\x01\x01")]),
            Way::Bearer => {
                // RFC 5801: `,` and `=` are written otherwise in the name.
                let name = user.replace('=', "=3D").replace(',', "=2C");
                let head = format!("n,a={name},\x01host={}\x01port={}\x01", server.host, server.port);
                known([format!("{head}auth=Bearer {secret}\x01\x01")])
            }
        };
        let (next, trouble, shared) = (Cell::new(0), RefCell::default(), shared.clone());
        Ok(Some(Script { name: way.auth().name(), turns, next, shared, trouble }))
    }

    /// What can be said together with the command (SASL-IR, RFC 4959); it counts as said.
    pub fn initial(&self) -> Option<Zeroizing<String>> {
        let first = match &self.turns {
            Turns::Known(answers) => answers.first().filter(|_| answers.len() == 1)?.clone(),
            Turns::Scram(scram) => scram.borrow().first(),
        };
        self.next.set(1);
        self.hide(&first);
        Some(first)
    }

    /// What we say is not to be read in what the server says.
    fn hide(&self, answer: &str) {
        let mut shared = self.shared.borrow_mut();
        shared.hidden.say(answer);
        // Who sees both halves of SCRAM can try passwords.
        if let Turns::Scram(_) = &self.turns {
            shared.hidden.add_text(answer);
        }
    }

    /// True once the server asked for more than was said with the command.
    pub fn was_asked(&self) -> bool {
        self.next.get() > 1
    }

    /// It is all said anew.
    pub fn restart(&self) {
        self.next.set(0);
    }

    /// What is wrong, where something was said of it.
    pub fn trouble(&self) -> String {
        self.trouble.borrow().clone()
    }

    /// Why a success is none: the server has to show that it knows the password, where the mechanism asks for it.
    pub fn distrust(&self) -> Option<String> {
        match &self.turns {
            Turns::Scram(scram) if !scram.borrow().is_trusted() => Some(match self.trouble() {
                none if none.is_empty() => "it did not show that it knows the password itself".into(),
                trouble => trouble,
            }),
            _ => None,
        }
    }

    fn say(&self, turn: usize, challenge: &[u8]) -> Result<Zeroizing<String>, String> {
        match &self.turns {
            Turns::Known(answers) => {
                answers.get(turn).cloned().ok_or_else(|| String::from_utf8_lossy(challenge).into_owned())
            }
            Turns::Scram(scram) if turn == 0 => Ok(scram.borrow().first()),
            Turns::Scram(scram) => scram.borrow_mut().answer(challenge),
        }
    }
}

fn known<const N: usize>(answers: [String; N]) -> Turns {
    Turns::Known(answers.map(Zeroizing::new).into())
}

impl imap::Authenticator for Script {
    type Response = Vec<u8>;
    fn process(&self, challenge: &[u8]) -> Vec<u8> {
        let turn = self.next.replace(self.next.get() + 1);
        match self.say(turn, challenge) {
            Ok(answer) => {
                self.hide(&answer);
                answer.as_bytes().to_vec()
            }
            Err(trouble) => {
                *self.trouble.borrow_mut() = trouble;
                // RFC 7628 section 3.2.3: an empty answer lets the server say NO; OAUTHBEARER spells it \x01.
                if self.name == "OAUTHBEARER" { vec![1] } else { Vec::new() }
            }
        }
    }
}
