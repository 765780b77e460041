//! Logging in: AUTH PLAIN and LOGIN (RFC 4954).

use zeroize::Zeroizing;

use super::{Reply, Smtp};
use crate::error::{Error, Kind, Result};
use crate::report;
use crate::secret::Secret;

impl Smtp {
    /// Logs in. [`Kind::Denied`] where the server does not want this user or offers no way that we know.
    pub(super) fn log_in(&mut self, user: &str, secret: &Secret) -> Result<()> {
        let offers = |way: &str| self.abilities.auth.iter().any(|offered| offered == way);
        let answer = if offers("PLAIN") {
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

    fn denied(&self, user: &str, kind: Kind, why: impl std::fmt::Display) -> Error {
        Error::new(kind, format!("cannot log in at {} as {user:?}", self.wire.peer().server), why)
    }
}

fn base64(text: &str) -> Zeroizing<String> {
    Zeroizing::new(base64_simd::STANDARD.encode_to_string(text.as_bytes()))
}
