//! What an account says of sending: how fast, through whom else, and how long a message may wait.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::Account;
use super::place::Blame;

/// At most so many in any stretch of so long: `200/h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u32,
    /// In how long.
    pub per: Duration,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let wrong = || format!("{text:?} is no rate; write 200/h, 10/m, 1/s or 2000/d");
        let (count, per) = text.split_once('/').ok_or_else(wrong)?;
        let count = count.trim().parse().ok().filter(|count| *count > 0).ok_or_else(wrong)?;
        let per = match per.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86400,
            _ => return Err(wrong()),
        };
        Ok(Rate { count, per: Duration::from_secs(per) })
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What the queue does for an account; each value with its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// How much may be sent.
    pub rate: Option<Rate>,
    /// How many connections at once.
    pub connections: usize,
    /// From this age on the sender is told once that a message still waits.
    pub warn: Duration,
    /// From this age on a message is given up.
    pub expire: Duration,
}

impl Default for Outbound {
    fn default() -> Outbound {
        let warn = Duration::from_secs(4 * 3600);
        Outbound { rate: None, connections: 1, warn, expire: crate::retry::GIVE_UP_AFTER }
    }
}

impl Account {
    /// What the queue does for it.
    pub fn outbound(&self) -> Outbound {
        let usual = Outbound::default();
        Outbound {
            rate: self.rate,
            connections: self.connections.unwrap_or(usual.connections),
            warn: self.warn.unwrap_or(usual.warn),
            expire: self.expire.unwrap_or(usual.expire),
        }
    }
}

/// What a single value can't show; the key to blame and why.
pub(super) fn check(accounts: &BTreeMap<String, Account>) -> Result<(), (Blame, String)> {
    for (name, account) in accounts {
        let wrong = |why: String| Err((Blame::Account(name.clone()), format!("account {name}: {why}")));
        for other in &account.fallback {
            match accounts.get(other) {
                _ if other == name => return wrong("it can't be its own fallback".into()),
                None => return wrong(format!("there is no account {other:?} to fall back to")),
                Some(other_account) if other_account.smtp.is_none() => {
                    return wrong(format!("the fallback {other:?} has no smtp"));
                }
                Some(_) => {}
            }
        }
        if account.connections == Some(0) {
            return wrong("connections must be at least 1".into());
        }
    }
    let usual: Vec<&str> =
        accounts.iter().filter(|(_, each)| each.default).map(|(name, _)| name.as_str()).collect();
    match usual[..] {
        [_, second, ..] => Err((
            Blame::Account(second.to_string()),
            format!("account {second}: two accounts are the default"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!("200/h".parse(), Ok(Rate { count: 200, per: Duration::from_secs(3600) }));
        for text in ["", "200", "0/h", "-1/h", "x/h", "1/w", "1/"] {
            assert!(text.parse::<Rate>().is_err(), "{text:?}");
        }
    }
}
