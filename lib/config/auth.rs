//! `[auth]`: whose word is taken for who sent a message.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::Rule;
use super::place::Blame;
use crate::mail::auth::HAS_DKIM;

/// What proves a sender.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Signatures are verified here.
    pub dkim: bool,
    /// Whose Authentication-Results are believed: the authserv-ids of the own servers.
    pub trusted: Vec<String>,
    /// Hosts of the own mail system as Received fields name them, besides those in the domain of the authserv-id; `*`
    /// stands for anything.
    pub relays: Vec<String>,
    /// Where keys are looked up; the system's resolvers where it is left out.
    #[serde(deserialize_with = "resolver")]
    pub resolver: Option<SocketAddr>,
    /// How long a resolver may take.
    #[serde(deserialize_with = "super::time")]
    pub timeout: Option<Duration>,
}

impl Default for Auth {
    fn default() -> Self {
        Auth { dkim: HAS_DKIM, trusted: Vec::new(), relays: Vec::new(), resolver: None, timeout: None }
    }
}

/// An address, with or without its port.
fn resolver<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let plain = || text.parse::<IpAddr>().map(|address| (address, 53).into());
    let wrong = |_| serde::de::Error::custom("resolver is no address such as 127.0.0.1 or 127.0.0.1:5353");
    text.parse().or_else(|_| plain()).map(Some).map_err(wrong)
}

/// What the values alone cannot show.
pub(super) fn check(auth: &Auth, rules: &[Rule]) -> Result<(), (Blame, String)> {
    if auth.dkim && !HAS_DKIM {
        return Err((Blame::Auth, "auth: dkim = true, but this mailloop was built without it".into()));
    }
    if auth.timeout.is_some_and(|timeout| timeout.is_zero()) {
        return Err((Blame::Auth, "auth: timeout must be longer than nothing".into()));
    }
    let Some(number) = rules.iter().position(|rule| rule.authenticated) else { return Ok(()) };
    if !auth.dkim && auth.trusted.is_empty() {
        let name = &rules[number].name;
        let why = match HAS_DKIM {
            true => "[auth] has dkim = false and no trusted servers",
            false => "this mailloop was built without DKIM, and [auth] has no trusted servers",
        };
        return Err((
            Blame::Rule(number),
            format!("rule {name:?}: authenticated = true, but nothing can prove a sender: {why}"),
        ));
    }
    Ok(())
}
