//! The unique name of a message that we delivered, there and back.

use std::fmt;
use std::str::FromStr;

/// `SECONDS.V<UIDVALIDITY>U<UID>.<SOURCE>,S=<SIZE>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// INTERNALDATE in seconds since 1970.
    pub seconds: i64,
    /// The mailbox's UIDVALIDITY at the time.
    pub uidvalidity: u32,
    /// The message's UID.
    pub uid: u32,
    /// See [`super::source`].
    pub source: String,
    /// In bytes.
    pub size: u64,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Name { seconds, uidvalidity, uid, source, size } = self;
        write!(f, "{seconds}.V{uidvalidity}U{uid}.{source},S={size}")
    }
}

impl FromStr for Name {
    type Err = ();

    /// Takes a file name, with or without `:2,` and flags; names of other programs are an error.
    fn from_str(text: &str) -> Result<Self, ()> {
        let text = super::unique(text);
        let (front, size) = text.split_once(",S=").ok_or(())?;
        let mut words = front.split('.');
        let (seconds, ids, source) = match (words.next(), words.next(), words.next(), words.next()) {
            (Some(seconds), Some(ids), Some(source), None) => (seconds, ids, source),
            _ => return Err(()),
        };
        let (uidvalidity, uid) = ids.strip_prefix('V').and_then(|ids| ids.split_once('U')).ok_or(())?;
        let name = Name {
            seconds: seconds.parse().map_err(drop)?,
            uidvalidity: uidvalidity.parse().map_err(drop)?,
            uid: uid.parse().map_err(drop)?,
            source: source.to_string(),
            size: size.parse().map_err(drop)?,
        };
        if name.to_string() == text { Ok(name) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let name = Name {
            seconds: 1_700_000_000,
            uidvalidity: 5,
            uid: 7,
            source: "0123456789abcdef".into(),
            size: 42,
        };
        assert_eq!(name.to_string(), "1700000000.V5U7.0123456789abcdef,S=42");
        assert_eq!(format!("{name}:2,FS").parse(), Ok(name));
        for other in ["1700000000.M1P2.host,S=3", "1.V05U7.x,S=1", "x", "1.V1U1.x.y,S=1", ""] {
            assert!(other.parse::<Name>().is_err(), "{other}");
        }
    }
}
