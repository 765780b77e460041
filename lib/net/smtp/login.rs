//! Logging in: AUTH PLAIN and LOGIN (RFC 4954), with a token OAUTHBEARER (RFC 7628) and XOAUTH2.

use zeroize::Zeroizing;

use super::{Reply, Smtp};
use crate::config::SecretSource;
use crate::error::{Error, Kind, Result};
use crate::report;
use crate::secret::Secret;

impl Smtp {
    /// Logs in. [`Kind::Denied`] where the server does not want this user or offers no way that we know.
    pub(super) fn log_in(&mut self, user: &str, secret: &Secret) -> Result<()> {
        let offers = |way: &str| self.abilities.auth.iter().any(|offered| offered == way);
        let is_token = matches!(self.wire.peer().secret, Some(SecretSource::Token(_)));
        let answer = if is_token && offers("OAUTHBEARER") {
            self.bearer(user, secret)?
        } else if is_token && offers("XOAUTH2") {
            self.token("XOAUTH2", &format!("user={user}\x01auth=Bearer {}\x01\x01", secret.reveal()), "")?
        } else if is_token {
            let why = format!("it takes no token, only {}", self.abilities.auth.join(", "));
            return Err(self.denied(user, Kind::Denied, why));
        } else if offers("PLAIN") {
            self.plain(user, secret)?
        } else if offers("LOGIN") {
            self.login(user, secret)?
        } else {
            let why = match self.abilities.auth.is_empty() {
                true => "the server offers no login on this line".to_string(),
                false => format!("it offers only {}", self.abilities.auth.join(", ")),
            };
            return Err(self.denied(user, Kind::Denied, why));
        };
        match answer.code {
            200..300 => Ok(()),
            400..500 => Err(self.denied(user, Kind::Temporary, answer)),
            _ if is_token => {
                Err(self.denied(user, Kind::Denied, answer).hint("check user and token_command"))
            }
            _ => Err(self.denied(user, Kind::Denied, answer).hint("check user and password")),
        }
    }

    /// RFC 4616.
    fn plain(&mut self, user: &str, secret: &Secret) -> Result<Reply> {
        if user.contains('\0') || secret.reveal().contains('\0') {
            return Err(self.denied(user, Kind::Config, "user or password holds a NUL"));
        }
        report::trace("C: AUTH PLAIN (secret)");
        let message = Zeroizing::new(format!("\0{user}\0{}", secret.reveal()));
        let command = Zeroizing::new(format!("AUTH PLAIN {}", &*base64(&message)));
        self.ask_silently(&command, "AUTH PLAIN")
    }

    /// Never standardised; Exchange and old servers offer nothing else.
    fn login(&mut self, user: &str, secret: &Secret) -> Result<Reply> {
        let mut answer = self.ask("AUTH LOGIN")?;
        for text in [user, secret.reveal()] {
            if answer.code != 334 {
                return Ok(answer);
            }
            report::trace("C: (secret)");
            answer = self.ask_silently(&base64(text), "AUTH LOGIN")?;
        }
        Ok(answer)
    }

    /// RFC 7628 section 3.1.
    fn bearer(&mut self, user: &str, secret: &Secret) -> Result<Reply> {
        let (host, port) = (self.wire.peer().server.host.clone(), self.wire.peer().server.port);
        // RFC 5801 section 4: these two have a form of their own in there.
        let name = user.replace('=', "=3D").replace(',', "=2C");
        let text =
            format!("n,a={name},\x01host={host}\x01port={port}\x01auth=Bearer {}\x01\x01", secret.reveal());
        self.token("OAUTHBEARER", &text, "\x01")
    }

    /// Hands over a token; what the server dislikes about it comes as a challenge that wants `bow` as its answer.
    fn token(&mut self, way: &str, message: &str, bow: &str) -> Result<Reply> {
        report::trace(format_args!("C: AUTH {way} (secret)"));
        let message = Zeroizing::new(message.to_string());
        let command = Zeroizing::new(format!("AUTH {way} {}", &*base64(&message)));
        let answer = self.ask_silently(&command, &format!("AUTH {way}"))?;
        if answer.code != 334 {
            return Ok(answer);
        }
        let why = answer.lines.first().and_then(|line| base64_simd::STANDARD.decode_to_vec(line.trim()).ok());
        report::detail(String::from_utf8_lossy(&why.unwrap_or_default()));
        self.ask_silently(&base64(bow), &format!("AUTH {way}"))
    }

    fn denied(&self, user: &str, kind: Kind, why: impl std::fmt::Display) -> Error {
        Error::new(kind, format!("cannot log in at {} as {user:?}", self.wire.peer().server), why)
    }
}

fn base64(text: &str) -> Zeroizing<String> {
    Zeroizing::new(base64_simd::STANDARD.encode_to_string(text.as_bytes()))
}
