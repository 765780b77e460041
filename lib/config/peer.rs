//! Where a server is, how the line to it is protected, and how we log in there.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::{Account, Fingerprint};
use crate::cli::{self, Login};
use crate::error::{Error, Kind, Result};

/// What is spoken there and whether TLS is there from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// SMTP submission, port 587 (RFC 6409).
    Smtp,
    /// SMTP submission over TLS from the start, port 465 (RFC 8314).
    Smtps,
    /// LMTP (RFC 2033), over TCP or a unix socket.
    Lmtp,
    /// No server: a Maildir on this machine.
    Local,
    /// IMAP, port 143.
    Imap,
    /// IMAP over TLS from the start, port 993 (RFC 8314).
    Imaps,
}

impl Scheme {
    /// True where IMAP is spoken.
    pub fn is_imap(self) -> bool {
        matches!(self, Scheme::Imap | Scheme::Imaps)
    }
}

/// How the line is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// TLS before the first byte.
    Implicit,
    /// STARTTLS, required and never downgraded.
    StartTls,
    /// Plain text.
    None,
}

/// A way to log in (SASL).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sasl {
    /// The password is proved, not sent (RFC 7677).
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// The same with an older hash (RFC 5802).
    #[serde(rename = "scram-sha-1")]
    ScramSha1,
    /// RFC 4616.
    Plain,
    /// Never standardised; in IMAP the command of that name too.
    Login,
    /// With a token (RFC 7628).
    OAuthBearer,
    /// With a token, as Google began it.
    XOAuth2,
}

impl Sasl {
    /// Its name in the protocols.
    pub fn name(self) -> &'static str {
        match self {
            Sasl::ScramSha256 => "SCRAM-SHA-256",
            Sasl::ScramSha1 => "SCRAM-SHA-1",
            Sasl::Plain => "PLAIN",
            Sasl::Login => "LOGIN",
            Sasl::OAuthBearer => "OAUTHBEARER",
            Sasl::XOAuth2 => "XOAUTH2",
        }
    }

    /// True where a token is shown instead of a password.
    pub fn is_token(self) -> bool {
        matches!(self, Sasl::OAuthBearer | Sasl::XOAuth2)
    }

    const ALL: [Sasl; 6] =
        [Sasl::ScramSha256, Sasl::ScramSha1, Sasl::Plain, Sasl::Login, Sasl::OAuthBearer, Sasl::XOAuth2];
}

/// A server as its URL says: `smtps://host[:465]`, `smtp://host[:587]`, `imaps://host[:993]`, `imap://host[:143]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// What is spoken.
    pub scheme: Scheme,
    /// Name or address, without brackets; or the absolute path of a unix socket or Maildir.
    pub host: String,
    /// TCP port; 0 with a path.
    pub port: u16,
}

impl Server {
    /// How the line is protected: as asked, else as the scheme says. The plain schemes mean STARTTLS, except to a
    /// loopback address, where they mean plain text.
    pub fn tls(&self, asked: Option<Tls>) -> Tls {
        match (asked, self.scheme) {
            (Some(tls), _) => tls,
            (None, Scheme::Smtps | Scheme::Imaps) => Tls::Implicit,
            (None, _) if self.is_loopback() => Tls::None,
            (None, _) => Tls::StartTls,
        }
    }

    /// The unix socket or the Maildir, where it is one.
    pub fn path(&self) -> Option<&Path> {
        self.host.starts_with(['/', '~']).then(|| Path::new(&self.host))
    }

    pub(super) fn expand(&mut self, home: &Path) {
        if let Some(rest) = self.host.strip_prefix("~/") {
            self.host = home.join(rest).to_string_lossy().into_owned();
        }
    }

    /// True for 127.0.0.0/8, ::1 and `localhost` (RFC 6761 section 6.3), and for what does not leave the machine.
    pub fn is_loopback(&self) -> bool {
        self.path().is_some()
            || self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // First, so that no other message repeats a password.
        if text.contains('@') {
            return Err("a URL must not hold a user or password; use --user and --password-file".into());
        }
        let wrong =
            |why: &str| format!("{text:?} is no server: {why}; write imaps://host or smtps://host:465");
        if let Some(path) = text.strip_prefix("local:") {
            return match path.starts_with('/') || path.starts_with("~/") {
                true => Ok(Server { scheme: Scheme::Local, host: path.to_string(), port: 0 }),
                false => Err(format!("{text:?} names no absolute path; write local:/home/me/Mail")),
            };
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        if rest.starts_with('/') {
            // A unix socket.
            let scheme = match scheme {
                "smtp" => Scheme::Smtp,
                "lmtp" => Scheme::Lmtp,
                _ => return Err(wrong("only smtp and lmtp are spoken on a unix socket")),
            };
            return Ok(Server { scheme, host: rest.to_string(), port: 0 });
        }
        let (scheme, default) = match scheme {
            "smtp" => (Scheme::Smtp, 587),
            "smtps" => (Scheme::Smtps, 465),
            "lmtp" => (Scheme::Lmtp, 24),
            "imap" => (Scheme::Imap, 143),
            "imaps" => (Scheme::Imaps, 993),
            _ => return Err(wrong("its scheme is none of smtp, smtps, lmtp, imap, imaps")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split_port(rest).ok_or_else(|| wrong("host and port are wrong"))?;
        let port = match port {
            None => default,
            Some(digits) => {
                digits.parse().ok().filter(|port| *port != 0).ok_or_else(|| wrong("its port is wrong"))?
            }
        };
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
        if host.is_empty() || !(host.chars().all(is_name) || host.parse::<IpAddr>().is_ok()) {
            return Err(wrong("its host is wrong"));
        }
        Ok(Server { scheme, host: host.to_string(), port })
    }
}

fn split_port(rest: &str) -> Option<(&str, Option<&str>)> {
    if let Some(inner) = rest.strip_prefix('[') {
        let (host, after) = inner.split_once(']')?;
        return match after {
            "" => Some((host, None)),
            _ => Some((host, Some(after.strip_prefix(':')?))),
        };
    }
    Some(match rest.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    })
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Smtp => "smtp",
            Scheme::Smtps => "smtps",
            Scheme::Lmtp => "lmtp",
            Scheme::Local => return write!(f, "local:{}", self.host),
            Scheme::Imap => "imap",
            Scheme::Imaps => "imaps",
        };
        if self.path().is_some() {
            return write!(f, "{scheme}://{}", self.host);
        }
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

impl<'de> Deserialize<'de> for Server {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a secret comes from; the secret itself is fetched when it is needed.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// It stands in the configuration.
    Literal(super::Literal),
    /// The first line of a file that nobody else may read.
    File(PathBuf),
    /// The first line that a command prints; argv, no shell.
    Command(Vec<String>),
    /// The first line that a command prints is an OAuth 2.0 access token, not a password.
    Token(Vec<String>),
    /// A file of this name in `$CREDENTIALS_DIRECTORY` (systemd).
    Credential(String),
}

/// All that is needed to connect somewhere and log in.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The account's name, for messages and file names; the server's host where there is no account.
    pub name: String,
    /// Where it is.
    pub server: Server,
    /// How the line is protected.
    pub tls: Tls,
    /// PEM file with the only certificates to trust.
    pub tls_ca: Option<PathBuf>,
    /// The only certificate to trust.
    pub tls_fingerprint: Option<Fingerprint>,
    /// Who logs in; `None` does not log in at all.
    pub user: Option<String>,
    /// Where the password comes from.
    pub secret: Option<SecretSource>,
    /// The only way to log in; `None` takes the best that both sides know.
    pub auth: Option<Sasl>,
    /// IMAP is compressed where the server knows how (RFC 4978).
    pub compress: bool,
    /// Limit for each single wait.
    pub timeout: Duration,
}

impl Peer {
    /// An account's server, with what the command line says in its stead.
    pub fn of_account(name: &str, account: &Account, server: Option<&Server>, login: &Login) -> Result<Peer> {
        let server = server.ok_or_else(|| {
            Error::plain(Kind::Config, format!("account {name:?} has no server for this"))
                .hint("add smtp = \"smtps://…\" or imap = \"imaps://…\" to it")
        })?;
        let secret = match (&account.password, &account.password_file, &account.password_command) {
            (Some(literal), _, _) => SecretSource::Literal(literal.clone()),
            (_, Some(file), _) => SecretSource::File(file.clone()),
            (_, _, Some(command)) => SecretSource::Command(command.clone()),
            _ if account.token_command.is_some() => {
                SecretSource::Token(account.token_command.clone().unwrap_or_default())
            }
            _ => SecretSource::Credential(name.to_string()),
        };
        let peer = Peer {
            name: name.to_string(),
            tls: server.tls(account.tls),
            server: server.clone(),
            tls_ca: account.tls_ca.clone(),
            tls_fingerprint: account.tls_fingerprint,
            user: account.user.clone().or_else(|| account.address.clone()),
            secret: Some(secret),
            auth: account.auth,
            compress: account.compress,
            timeout: account.timeout.unwrap_or(cli::TIMEOUT),
        };
        peer.with(login)
    }

    /// A server that no account names.
    pub fn of_url(server: &Server, login: &Login) -> Result<Peer> {
        let peer = Peer {
            name: server.host.clone(),
            tls: server.tls(None),
            server: server.clone(),
            tls_ca: None,
            tls_fingerprint: None,
            user: None,
            secret: None,
            auth: None,
            compress: false,
            timeout: cli::TIMEOUT,
        };
        peer.with(login)
    }

    /// [`Kind::Config`] where logging in would send the password over a line that is neither protected nor ends on this
    /// machine, whatever was asked for.
    pub fn check_login(&self) -> Result<()> {
        if self.user.is_none() || self.tls != Tls::None || self.server.is_loopback() {
            return Ok(());
        }
        let what = format!("cannot log in at {} without TLS", self.server);
        let scheme = if self.server.scheme.is_imap() { "imaps" } else { "smtps" };
        Err(Error::new(Kind::Config, what, "the password would go over the network in the clear").hint(
            format!(
                "use {scheme}://, or --tls starttls; or a tunnel that begins on this machine, as with ssh -L"
            ),
        ))
    }

    fn with(mut self, login: &Login) -> Result<Peer> {
        let usage = |why: String| Error::plain(Kind::Usage, why);
        if let Some(user) = &login.user {
            self.user = Some(user.clone());
        }
        if let Some(file) = &login.password_file {
            self.secret = Some(SecretSource::File(file.clone()));
        }
        if let Some(line) = &login.password_command {
            let words = shlex::split(line).filter(|words| !words.is_empty());
            let words =
                words.ok_or_else(|| usage(format!("cannot split --password-command {line:?} into words")))?;
            self.secret = Some(SecretSource::Command(words));
        }
        if let Some(line) = &login.token_command {
            let words = shlex::split(line).filter(|words| !words.is_empty());
            let words =
                words.ok_or_else(|| usage(format!("cannot split --token-command {line:?} into words")))?;
            self.secret = Some(SecretSource::Token(words));
        }
        if let Some(name) = &login.auth {
            self.auth = Sasl::ALL.into_iter().find(|auth| auth.name().eq_ignore_ascii_case(name));
        }
        self.tls = match login.tls.as_deref() {
            Some("implicit") => Tls::Implicit,
            Some("starttls") => Tls::StartTls,
            Some("none") => Tls::None,
            _ => self.tls,
        };
        if let Some(file) = &login.tls_ca {
            self.tls_ca = Some(file.clone());
        }
        if let Some(hex) = &login.tls_fingerprint {
            self.tls_fingerprint = Some(hex.parse().map_err(usage)?);
        }
        self.timeout = login.timeout.unwrap_or(self.timeout);
        Ok(self)
    }
}
