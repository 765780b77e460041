//! Logging in (RFC 4954): SCRAM (RFC 7677), PLAIN and LOGIN, with a token OAUTHBEARER (RFC 7628) and XOAUTH2.

use zeroize::Zeroizing;

use super::{Reply, Smtp};
use crate::config::{Sasl, SecretSource};
use crate::error::{Error, Kind, Result};
use crate::net::scram::{Hash, Scram};
use crate::report;
use crate::secret::Secret;

impl Smtp {
    /// Logs in. [`Kind::Denied`] where the server does not want this user or offers no way that we know.
    pub(super) fn log_in(&mut self, user: &str, secret: &Secret) -> Result<()> {
        let is_token = matches!(self.wire.peer().secret, Some(SecretSource::Token(_)));
        let answer = match self.way(is_token) {
            Some(Sasl::OAuthBearer) => self.bearer(user, secret)?,
            Some(Sasl::XOAuth2) => {
                self.token("XOAUTH2", &format!("user={user}\x01auth=Bearer {}\x01\x01", secret.reveal()), "")?
            }
            Some(Sasl::ScramSha256) => self.scram(Hash::Sha256, user, secret)?,
            Some(Sasl::ScramSha1) => self.scram(Hash::Sha1, user, secret)?,
            Some(Sasl::Plain) => self.plain(user, secret)?,
            Some(Sasl::Login) => self.login(user, secret)?,
            None => return Err(self.denied(user, Kind::Denied, self.no_way(is_token))),
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

    /// The best way that both sides know, or the one that was asked for.
    fn way(&self, is_token: bool) -> Option<Sasl> {
        let all =
            [Sasl::OAuthBearer, Sasl::XOAuth2, Sasl::ScramSha256, Sasl::ScramSha1, Sasl::Plain, Sasl::Login];
        let asked = self.wire.peer().auth;
        let offers = |auth: &Sasl| self.abilities.auth.iter().any(|offered| offered == auth.name());
        all.into_iter()
            .filter(|auth| auth.is_token() == is_token && asked.is_none_or(|asked| asked == *auth))
            .find(offers)
    }

    fn no_way(&self, is_token: bool) -> String {
        let offered = self.abilities.auth.join(", ");
        match self.wire.peer().auth {
            _ if offered.is_empty() => "the server offers no login on this line".to_string(),
            Some(asked) => format!("{} was asked for, and it offers {offered}", asked.name()),
            None if is_token => format!("it takes no token, only {offered}"),
            None => format!("it offers only {offered}"),
        }
    }

    /// RFC 7677. What it offers as a success is none unless it showed that it knows the password.
    fn scram(&mut self, hash: Hash, user: &str, secret: &Secret) -> Result<Reply> {
        let way = format!("AUTH {}", hash.name());
        let mut scram =
            Scram::begin(hash, user, secret).map_err(|why| self.denied(user, Kind::Internal, why))?;
        report::trace(format_args!("C: {way} (secret)"));
        let command = Zeroizing::new(format!("{way} {}", &*base64(&scram.first())));
        let mut answer = self.hand_over(&command, &way)?;
        while answer.code == 334 {
            let challenge = answer.lines.first().map_or("", |line| line.trim());
            let challenge = base64_simd::STANDARD.decode_to_vec(challenge).unwrap_or_default();
            let last = match scram.answer(&challenge) {
                Ok(last) => last,
                Err(why) => {
                    // RFC 4954 section 4: this ends the exchange.
                    self.ask_silently("*", &way)?;
                    return Err(self.distrusted(user, &why));
                }
            };
            report::trace("C: (secret)");
            self.replies.hidden.add_text(&last);
            answer = self.hand_over(&base64(&last), &way)?;
        }
        match answer.code / 100 == 2 && !scram.is_trusted() {
            true => Err(self.distrusted(user, "it did not show that it knows the password itself")),
            false => Ok(answer),
        }
    }

    fn distrusted(&self, user: &str, why: &str) -> Error {
        let hint = "it may not be the server that it says it is; if it is, try --auth plain";
        self.denied(user, Kind::Protocol, why).hint(hint)
    }

    /// RFC 4616.
    fn plain(&mut self, user: &str, secret: &Secret) -> Result<Reply> {
        if user.contains('\0') || secret.reveal().contains('\0') {
            return Err(self.denied(user, Kind::Config, "user or password holds a NUL"));
        }
        report::trace("C: AUTH PLAIN (secret)");
        let message = Zeroizing::new(format!("\0{user}\0{}", secret.reveal()));
        let command = Zeroizing::new(format!("AUTH PLAIN {}", &*base64(&message)));
        self.hand_over(&command, "AUTH PLAIN")
    }

    /// Never standardised; Exchange and old servers offer nothing else.
    fn login(&mut self, user: &str, secret: &Secret) -> Result<Reply> {
        let mut answer = self.ask("AUTH LOGIN")?;
        for text in [user, secret.reveal()] {
            if answer.code != 334 {
                return Ok(answer);
            }
            report::trace("C: (secret)");
            answer = self.hand_over(&base64(text), "AUTH LOGIN")?;
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
        let answer = self.hand_over(&command, &format!("AUTH {way}"))?;
        if answer.code != 334 {
            return Ok(answer);
        }
        let why = answer.lines.first().and_then(|line| base64_simd::STANDARD.decode_to_vec(line.trim()).ok());
        report::detail(self.shown(&String::from_utf8_lossy(&why.unwrap_or_default())));
        self.ask_silently(&base64(bow), &format!("AUTH {way}"))
    }

    /// Sends what nobody is to read, wherever it comes back from.
    fn hand_over(&mut self, command: &str, what: &str) -> Result<Reply> {
        let said = command.rsplit(' ').next().unwrap_or_default();
        self.replies.hidden.add_text(said);
        self.ask_silently(command, what)
    }

    fn denied(&self, user: &str, kind: Kind, why: impl std::fmt::Display) -> Error {
        Error::new(
            kind,
            format!("cannot log in at {} as {user:?}", self.wire.peer().server),
            self.shown(&why),
        )
    }
}

fn base64(text: &str) -> Zeroizing<String> {
    Zeroizing::new(base64_simd::STANDARD.encode_to_string(text.as_bytes()))
}
