//! The configuration file: what may stand there, and what each word means.
//!
//! Pure: text in, values out. Unknown keys and impossible values are errors with line and column. Where the file is
//! found and who may read it is decided elsewhere (`job::settings`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::error::{Error, Kind, Result};
use place::Blame;

mod auth;
mod looped;
mod outbound;
mod peer;
mod place;
mod rule;
pub use auth::Auth;
pub use looped::{Act, Loop, Probe};
pub use outbound::{Outbound, Rate};
pub use peer::{Peer, Sasl, Scheme, SecretSource, Server, Tls};
pub use rule::{Action, Conditions, Duplex, OncePer, Patterns, Print, Rule};

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The Maildir in which a notice lies of each action that was given up; stands before the first `[…]`.
    pub dead_letters: Option<PathBuf>,
    /// `[account.NAME]`
    pub account: BTreeMap<String, Account>,
    /// `[[rule]]`, in their order: the first that matches decides, unless it continues.
    pub rule: Vec<Rule>,
    /// `[loop.NAME]`
    #[serde(rename = "loop")]
    pub loops: BTreeMap<String, Loop>,
    /// `[auth]`
    pub auth: Auth,
}

/// A login somewhere: where mail is fetched from and submitted to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The sender's address.
    pub address: Option<String>,
    /// Where mail is submitted.
    pub smtp: Option<Server>,
    /// Where mail is fetched.
    pub imap: Option<Server>,
    /// The login name; the address where it is left out, no login to send where it is empty.
    pub user: Option<String>,
    /// The password itself; the file must then be readable by nobody else.
    pub password: Option<Literal>,
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// A command whose first line of output is the password; argv, no shell.
    pub password_command: Option<Vec<String>>,
    /// A command whose first line of output is an OAuth 2.0 access token; argv, no shell.
    pub token_command: Option<Vec<String>>,
    /// The only way to log in that is tried; the best that the server offers where it is left out.
    pub auth: Option<Sasl>,
    /// `implicit`, `starttls` or `none`; from the URL where it is left out.
    pub tls: Option<Tls>,
    /// PEM file with the only certificates to trust.
    pub tls_ca: Option<PathBuf>,
    /// SHA-256 of the only certificate to trust.
    pub tls_fingerprint: Option<Fingerprint>,
    /// The line to the IMAP server is compressed where the server knows how.
    #[serde(default)]
    pub compress: bool,
    /// Where fetched mail is put.
    pub maildir: Option<PathBuf>,
    /// What is fetched.
    #[serde(default = "inbox")]
    pub mailboxes: Vec<String>,
    /// Mail received before this is fetched but never acted on; RFC 3339, with or without quotes.
    #[serde(default, deserialize_with = "moment")]
    pub start: Option<jiff::Timestamp>,
    /// Limit for each single wait.
    #[serde(default, deserialize_with = "some_time")]
    pub timeout: Option<Duration>,
    /// Sent through this account: mail from these addresses too; `*` stands for anything.
    #[serde(default)]
    pub from: Vec<String>,
    /// Sent through this account: whatever no other account claims.
    #[serde(default)]
    pub default: bool,
    /// Accounts that send in its stead while its server can't be reached, in this order.
    #[serde(default)]
    pub fallback: Vec<String>,
    /// How much may be sent: `"200/h"`.
    pub rate: Option<Rate>,
    /// How many connections the queue opens to its server at once; 1 where it is left out.
    pub connections: Option<usize>,
    /// A message that waits longer than this is told to its sender once; 4 hours where it is left out.
    #[serde(default, deserialize_with = "time")]
    pub warn: Option<Duration>,
    /// A message that waits longer than this is given up; 5 days where it is left out.
    #[serde(default, deserialize_with = "time")]
    pub expire: Option<Duration>,
}

fn inbox() -> Vec<String> {
    vec!["INBOX".into()]
}

/// A password that stands in the file; never shown.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Literal(pub String);

impl std::fmt::Debug for Literal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(a password)")
    }
}

/// SHA-256 of a certificate (DER).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl std::str::FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = crate::record::unhex(text.trim()).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes
            .map(Fingerprint)
            .ok_or_else(|| format!("{text:?} is no SHA-256 fingerprint: 64 hex digits are wanted"))
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    crate::cli::duration(&text).map(Some).map_err(serde::de::Error::custom)
}

/// A time that is longer than nothing.
fn some_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    crate::cli::some_time(&text).map(Some).map_err(serde::de::Error::custom)
}

fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<jiff::Timestamp>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Toml(toml::value::Datetime),
        Text(String),
    }
    let text = match Either::deserialize(deserializer)? {
        Either::Toml(datetime) => datetime.to_string(),
        Either::Text(text) => text,
    };
    let wrong = |_| serde::de::Error::custom(format!("{text:?} is no RFC 3339 time with an offset"));
    text.parse().map(Some).map_err(wrong)
}

impl Config {
    /// Reads the text of a configuration file; `file` is its name for messages, `home` what `~/` stands for.
    ///
    /// [`Kind::Config`] with line and column where something is wrong.
    pub fn parse(text: &str, file: &Path, home: Option<&Path>) -> Result<Config> {
        let doing = || format!("cannot use {}", file.display());
        let mut config: Config = toml::from_str(text)
            .map_err(|why| Error::new(Kind::Config, doing(), place::of_error(text, &why)))?;
        config.check().map_err(|(blame, why)| {
            Error::new(Kind::Config, doing(), format!("{}{why}", place::of(text, &blame)))
        })?;
        if let Some(home) = home {
            config.expand(home);
        }
        Ok(config)
    }

    /// The account of this name; 78 with the names that there are.
    pub fn account(&self, name: &str) -> Result<&Account> {
        self.account.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.account.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
            Error::plain(Kind::Config, format!("no account {name:?} in the configuration"))
                .hint(format!("known accounts: {known}; `mail-loop init` writes one"))
        })
    }

    /// What a single value cannot show; what is to blame, and why.
    fn check(&self) -> Result<(), (Blame, String)> {
        for (name, account) in &self.account {
            let key = Blame::Account(name.clone());
            let of = |server: &Option<Server>| server.as_ref().map(|server| server.scheme.is_imap());
            if of(&account.imap) == Some(false) || of(&account.smtp) == Some(true) {
                return Err((key, format!("account {name}: imap wants an imap URL, smtp an smtp one")));
            }
            if [
                account.password.is_some(),
                account.password_file.is_some(),
                account.password_command.is_some(),
                account.token_command.is_some(),
            ]
            .iter()
            .filter(|there| **there)
            .count()
                > 1
            {
                return Err((
                    key,
                    format!(
                        "account {name}: more than one of password, password_file, password_command, token_command"
                    ),
                ));
            }
            if account.password_command.as_ref().is_some_and(Vec::is_empty) {
                return Err((key, format!("account {name}: password_command has no words")));
            }
            if account.token_command.as_ref().is_some_and(Vec::is_empty) {
                return Err((key, format!("account {name}: token_command has no words")));
            }
        }
        outbound::check(&self.account)?;
        rule::check(&self.rule)?;
        auth::check(&self.auth, &self.rule)?;
        for (name, each) in &self.loops {
            each.check(self).map_err(|why| (Blame::Loop(name.clone()), format!("loop {name}: {why}")))?;
        }
        Ok(())
    }

    fn expand(&mut self, home: &Path) {
        let tilde = |path: &mut PathBuf| {
            if let Ok(rest) = path.strip_prefix("~") {
                *path = home.join(rest);
            }
        };
        for account in self.account.values_mut() {
            account.maildir.iter_mut().for_each(tilde);
            account.password_file.iter_mut().for_each(tilde);
            account.tls_ca.iter_mut().for_each(tilde);
            account.smtp.iter_mut().for_each(|server| server.expand(home));
        }
        self.dead_letters.iter_mut().for_each(tilde);
        self.loops.values_mut().flat_map(|each| [&mut each.files, &mut each.watch]).flatten().for_each(tilde);
        self.rule.iter_mut().for_each(|rule| rule.expand(tilde));
    }
}

#[cfg(test)]
mod tests;
