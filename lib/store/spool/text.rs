//! The readable files of the queue: `key: value` lines, the version first.

use std::fmt::Write;
use std::path::Path;

use jiff::Timestamp;

use crate::cli::{self, Login};
use crate::config::Server;
use crate::error::{Error, Kind, Result};
use crate::mail::address::Address;
use crate::mail::dsn::Dsn;

/// The first line of each file.
pub(super) const VERSION: &str = "mailloop-queue: 1";

/// How a message leaves: an account, or a server; with what the command line said of the login, but no secret.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// An account of the configuration.
    pub account: Option<String>,
    /// A server in its stead.
    pub smtp: Option<Server>,
    /// What the command line said.
    pub login: Login,
}

impl Way {
    /// What two messages must share to go over one connection.
    pub fn key(&self) -> String {
        self.pairs().iter().fold(String::new(), |mut text, (key, value)| {
            let _ = writeln!(text, "{key}: {value}");
            text
        })
    }

    /// The account, or the server's URL.
    pub fn name(&self) -> String {
        let server = || self.smtp.as_ref().map(ToString::to_string);
        server().or_else(|| self.account.clone()).unwrap_or_default()
    }

    fn pairs(&self) -> Vec<(&'static str, String)> {
        let path = |path: &Path| path.display().to_string();
        let login = &self.login;
        let all = [
            ("account", self.account.clone()),
            ("smtp", self.smtp.as_ref().map(ToString::to_string)),
            ("user", login.user.clone()),
            ("password-file", login.password_file.as_deref().map(path)),
            ("password-command", login.password_command.clone()),
            ("token-command", login.token_command.clone()),
            ("tls", login.tls.clone()),
            ("tls-ca", login.tls_ca.as_deref().map(path)),
            ("tls-fingerprint", login.tls_fingerprint.clone()),
            ("timeout", login.timeout.map(|time| format!("{}ms", time.as_millis()))),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let text = Some(value.to_string());
        match key {
            "account" => self.account = text,
            "smtp" => self.smtp = Some(value.parse()?),
            "user" => self.login.user = text,
            "password-file" => self.login.password_file = Some(value.into()),
            "password-command" => self.login.password_command = text,
            "token-command" => self.login.token_command = text,
            "tls" => self.login.tls = text,
            "tls-ca" => self.login.tls_ca = Some(value.into()),
            "tls-fingerprint" => self.login.tls_fingerprint = text,
            "timeout" => self.login.timeout = Some(cli::duration(value)?),
            // A later version may know more.
            _ => {}
        }
        Ok(())
    }
}

/// What is the same for all recipients of a message.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Where bounces go.
    pub from: Option<Address>,
    /// With its angle brackets.
    pub message_id: String,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// Of the message, in bytes.
    pub size: u64,
    /// Bytes above 127 are in it.
    pub eight_bit: bool,
    /// What the server shall report.
    pub dsn: Dsn,
    /// How it leaves.
    pub way: Way,
}

impl Envelope {
    pub(super) fn write(&self) -> Result<String> {
        let mut text = format!(
            "{VERSION}\nfrom: {}\nmessage-id: {}\naccepted: {}\nsize: {}\neight-bit: {}\n",
            self.from.as_ref().map_or("", Address::as_str),
            one_line(&self.message_id),
            self.accepted,
            self.size,
            self.eight_bit,
        );
        for (key, value) in self.way.pairs() {
            if value.chars().any(char::is_control) || value.contains('\u{fffd}') {
                return Err(Error::plain(Kind::Usage, format!("cannot keep {key} {value:?} in the queue"))
                    .hint("use a path in UTF-8 without control characters"));
            }
            let _ = writeln!(text, "{key}: {value}");
        }
        if let Some(notify) = self.dsn.notify {
            let _ = writeln!(text, "notify: {notify}");
        }
        if let Some(ret) = self.dsn.ret {
            let _ = writeln!(text, "ret: {ret}");
        }
        Ok(text)
    }

    pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Envelope> {
        let wrong = |why: &str| damaged(path, why);
        let mut envelope = Envelope {
            from: None,
            message_id: String::new(),
            accepted: Timestamp::UNIX_EPOCH,
            size: 0,
            eight_bit: false,
            dsn: Dsn::default(),
            way: Way::default(),
        };
        for (key, value) in pairs(path, bytes)? {
            match key.as_str() {
                "from" if value.is_empty() => envelope.from = None,
                "from" => envelope.from = Some(Address::parse(&value).map_err(|_| wrong("from"))?),
                "message-id" => envelope.message_id = value,
                "accepted" => envelope.accepted = value.parse().map_err(|_| wrong("accepted"))?,
                "size" => envelope.size = value.parse().map_err(|_| wrong("size"))?,
                "notify" => envelope.dsn.notify = Some(value.parse().map_err(|_| wrong("notify"))?),
                "ret" => envelope.dsn.ret = Some(value.parse().map_err(|_| wrong("ret"))?),
                "eight-bit" => envelope.eight_bit = value == "true",
                _ => envelope.way.set(&key, &value).map_err(|why| wrong(&why))?,
            }
        }
        Ok(envelope)
    }
}

/// Reads `key: value` lines; another version is refused.
pub(super) fn pairs(path: &Path, bytes: &[u8]) -> Result<Vec<(String, String)>> {
    let text = std::str::from_utf8(bytes).map_err(|_| damaged(path, "it is no UTF-8"))?;
    let mut lines = text.lines();
    if lines.next() != Some(VERSION) {
        return Err(damaged(path, "it is of another version"));
    }
    lines
        .map(|line| {
            let (key, value) = line.split_once(':').ok_or_else(|| damaged(path, "a line has no colon"))?;
            Ok((key.to_string(), value.trim().to_string()))
        })
        .collect()
}

pub(super) fn damaged(path: &Path, why: &str) -> Error {
    Error::new(Kind::Io, format!("cannot use {} of the queue", path.display()), why)
}

/// What a server said may hold anything.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(2000).collect()
}
