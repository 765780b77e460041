//! A rule as it is written, and how the values in it are read.

use std::path::PathBuf;
use std::time::Duration;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Action, Conditions, Duplex, OncePer, Patterns, Print, Rule};

/// A rule as it is written: conditions and the rest side by side. `flatten` would lose the places of errors.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Written {
    name: String,
    #[serde(rename = "type")]
    media_type: Patterns,
    file: Patterns,
    #[serde(deserialize_with = "size")]
    larger_than: Option<u64>,
    #[serde(deserialize_with = "size")]
    smaller_than: Option<u64>,
    account: Patterns,
    mailbox: Patterns,
    from: Patterns,
    to: Patterns,
    subject: Patterns,
    list_id: Patterns,
    #[serde(deserialize_with = "crate::config::time")]
    older_than: Option<Duration>,
    #[serde(deserialize_with = "crate::config::time")]
    newer_than: Option<Duration>,
    not: Option<Conditions>,
    authenticated: bool,
    run: Option<Vec<String>>,
    #[serde(rename = "move")]
    moved: Option<PathBuf>,
    copy: Option<PathBuf>,
    print: Option<String>,
    duplex: Option<Duplex>,
    media: Option<String>,
    copies: Option<u32>,
    title: Option<String>,
    #[serde(rename = "continue")]
    continues: bool,
    max_per_hour: Option<u32>,
    #[serde(deserialize_with = "size")]
    max_size: Option<u64>,
    once_per: OncePer,
    #[serde(deserialize_with = "crate::config::some_time")]
    timeout: Option<Duration>,
    tries: Option<u32>,
    repeatable: bool,
}

impl From<Written> for Rule {
    fn from(written: Written) -> Rule {
        let Written { duplex, media, copies, title, .. } = written;
        let stray = written.print.is_none()
            && (duplex.is_some() || media.is_some() || copies.is_some() || title.is_some());
        let print = written.print.map(|printer| Print { printer, duplex, media, copies, title });
        let actions = [
            written.run.map(Action::Run),
            written.moved.map(Action::Move),
            written.copy.map(Action::Copy),
            print.map(Action::Print),
        ];
        Rule {
            name: written.name,
            when: Conditions {
                media_type: written.media_type,
                file: written.file,
                larger_than: written.larger_than,
                smaller_than: written.smaller_than,
                account: written.account,
                mailbox: written.mailbox,
                from: written.from,
                to: written.to,
                subject: written.subject,
                list_id: written.list_id,
                older_than: written.older_than,
                newer_than: written.newer_than,
            },
            not: written.not,
            authenticated: written.authenticated,
            actions: actions.into_iter().flatten().collect(),
            continues: written.continues,
            max_per_hour: written.max_per_hour,
            max_size: written.max_size,
            once_per: written.once_per,
            timeout: written.timeout,
            tries: written.tries,
            repeatable: written.repeatable,
            stray,
        }
    }
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Patterns;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Patterns, E> {
                Ok(Patterns(vec![text.into()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Patterns, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                match texts.is_empty() {
                    true => Err(A::Error::custom("an empty list fits nothing")),
                    false => Ok(Patterns(texts)),
                }
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// Bytes as a number, or a text such as `10M`.
pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Bytes(u64),
        Text(String),
    }
    match Either::deserialize(deserializer)? {
        Either::Bytes(bytes) => Ok(Some(bytes)),
        Either::Text(text) => crate::cli::size(&text).map(Some).map_err(D::Error::custom),
    }
}
