//! Where a message may go: the server of its way, and those that stand in for it.

use crate::config::{Outbound, Peer, Scheme};
use crate::error::{Error, Kind, Result};
use crate::job::settings::Settings;
use crate::mail::address::Address;
use crate::rules;
use crate::store::spool::Way;

/// A server that mail can go through.
#[derive(Clone, Debug)]
pub struct Hop {
    /// What the queue remembers it by.
    pub key: String,
    /// The account or the URL, for people.
    pub name: String,
    /// Where it is.
    pub peer: Peer,
    /// How fast it may be fed, and the like.
    pub outbound: Outbound,
}

/// Where this way leads, then the account's fallbacks in their order; 64 or 78 where one leads nowhere.
pub fn hops(settings: &Settings, way: &Way) -> Result<Vec<Hop>> {
    let mut hops = vec![hop(settings, way)?];
    let account = way.account.as_ref().filter(|_| way.smtp.is_none());
    let fallback =
        account.and_then(|name| settings.config.account.get(name)).map(|account| &account.fallback);
    for name in fallback.into_iter().flatten() {
        hops.push(hop(settings, &Way { account: Some(name.clone()), ..Way::default() })?);
    }
    Ok(hops)
}

fn hop(settings: &Settings, way: &Way) -> Result<Hop> {
    Ok(Hop {
        key: way.key(),
        name: way.name(),
        peer: peer(settings, way)?,
        outbound: outbound(settings, way),
    })
}

/// What the configuration says of a way; the usual where it says nothing.
pub fn outbound(settings: &Settings, way: &Way) -> Outbound {
    let account = way.account.as_ref().filter(|_| way.smtp.is_none());
    account
        .and_then(|name| settings.config.account.get(name))
        .map(|account| account.outbound())
        .unwrap_or_default()
}

fn peer(settings: &Settings, way: &Way) -> Result<Peer> {
    let mut peer = match (&way.smtp, &way.account) {
        (Some(server), _) => Peer::of_url(server, &way.login)?,
        (None, Some(name)) => settings.peer(name, |account| account.smtp.as_ref(), &way.login)?,
        (None, None) => {
            return Err(Error::plain(Kind::Usage, "it is not said where the mail goes")
                .hint("use -a ACCOUNT or --smtp URL"));
        }
    };
    // `user = ""`: a server that asks for no login.
    peer.user = peer.user.filter(|user| !user.is_empty());
    match peer.server.scheme {
        Scheme::Smtp | Scheme::Smtps => {}
        // RFC 2033 section 5: LMTP stays on this machine or its network, where a login is rarely known.
        Scheme::Lmtp if way.login.user.is_none() => peer.user = None,
        Scheme::Lmtp => {}
        Scheme::Local => peer.user = None,
        _ => {
            return Err(Error::plain(Kind::Usage, format!("{} is no SMTP server", peer.server))
                .hint("write smtps://host or smtp://host"));
        }
    }
    Ok(peer)
}

/// The account that the configuration means where none is named: the one with this address, else the one whose `from`
/// fits (the longest pattern wins), else the default, else the only one.
pub fn usual_account(settings: &Settings, from: Option<&Address>) -> Option<String> {
    let accounts = || settings.config.account.iter().filter(|(_, account)| account.smtp.is_some());
    let has_address = |text: &Option<String>| {
        let own = text.as_deref().and_then(|text| Address::parse(text).ok());
        own.zip(from).is_some_and(|(own, from)| own.is_same(from))
    };
    let longest = |patterns: &[String]| {
        let from = from?.as_str();
        patterns.iter().filter(|pattern| rules::matches(pattern, from)).map(String::len).max()
    };
    let exact = accounts().find(|(_, account)| has_address(&account.address));
    let like = || {
        let fitting = accounts().filter_map(|each| Some((longest(&each.1.from)?, each)));
        fitting.max_by_key(|(len, _)| *len).map(|(_, each)| each)
    };
    let usual = || accounts().find(|(_, account)| account.default);
    let only = || accounts().next().filter(|_| accounts().count() == 1);
    exact.or_else(like).or_else(usual).or_else(only).map(|(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_follows_the_sender() {
        let text = "[account.home]\naddress = \"me@home.example\"\nsmtp = \"smtp://localhost\"\ndefault = true\n\
                    [account.school]\naddress = \"me@school.example\"\nfrom = [\"*@school.example\", \"*@*.school.example\"]\n\
                    smtp = \"smtp://localhost\"\n[account.list]\nfrom = [\"list-*@school.example\"]\nsmtp = \"smtp://localhost\"\n";
        let config = crate::config::Config::parse(text, std::path::Path::new("c"), None).unwrap();
        let settings = Settings { config, ..Settings::default() };
        let account = |from: &str| usual_account(&settings, Some(&Address::parse(from).unwrap())).unwrap();
        for (from, wanted) in [
            ("me@school.example", "school"),
            ("YOU@SCHOOL.example", "school"),
            ("a@lab.school.example", "school"),
            ("list-a@school.example", "list"),
            ("me@home.example", "home"),
            ("a@elsewhere.example", "home"),
        ] {
            assert_eq!(account(from), wanted, "{from}");
        }
        assert_eq!(usual_account(&settings, None).as_deref(), Some("home"));
    }
}
