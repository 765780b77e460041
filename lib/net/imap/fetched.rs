//! What a server says of one message in a FETCH response.

use super::value::{self, Value};

/// What came with one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Its UID.
    pub uid: u32,
    /// INTERNALDATE, seconds since 1970.
    pub received: Option<i64>,
    /// Maildir flag letters, in ASCII order, without `T` for what is only marked deleted on the server.
    pub flags: String,
    /// RFC822.SIZE, where it was asked for; servers are known to get it wrong.
    pub size: Option<u64>,
}

/// The body as it stands in the response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// It is not mentioned: news of flags that nobody asked for.
    Absent,
    /// NIL: it was expunged meanwhile, or the server does not give it; whoever asked looks which.
    Withheld,
    /// It went to the sink.
    Spooled,
    /// A quoted string, which small messages may be.
    Here(Vec<u8>),
}

/// Reads `12 FETCH (…)`, given without `* `; `None` where it is none or names no UID.
pub(super) fn read(response: &[u8]) -> Option<(Fetched, Body)> {
    let values = value::parse(response)?;
    let (mut fetched, mut body) = (Fetched::default(), Body::Absent);
    let mut items = values.get(2)?.list()?.iter();
    while let (Some(name), Some(value)) = (items.next(), items.next()) {
        match name.text()?.to_ascii_uppercase().as_str() {
            "UID" => fetched.uid = value.number()?,
            "INTERNALDATE" => fetched.received = value.text().as_deref().and_then(seconds),
            "FLAGS" => fetched.flags = letters(value.list().unwrap_or_default()),
            "RFC822.SIZE" => fetched.size = value.number(),
            "BODY[]" => {
                body = match value {
                    Value::Spooled => Body::Spooled,
                    Value::Text(text) => Body::Here(text.clone()),
                    _ => Body::Withheld,
                }
            }
            _ => {}
        }
    }
    (fetched.uid != 0).then_some((fetched, body))
}

fn letters(flags: &[Value]) -> String {
    let mut letters: Vec<char> =
        flags.iter().filter_map(Value::text).filter_map(|flag| letter(&flag)).collect();
    letters.sort_unstable();
    letters.dedup();
    letters.into_iter().collect()
}

fn letter(flag: &str) -> Option<char> {
    match flag.to_ascii_lowercase().as_str() {
        "\\seen" => Some('S'),
        "\\answered" => Some('R'),
        "\\flagged" => Some('F'),
        "\\draft" => Some('D'),
        "$forwarded" => Some('P'),
        _ => None,
    }
}

/// `17-Jul-1996 02:44:25 -0700`, the day perhaps with a space in front (date-time, RFC 9051 section 9).
fn seconds(text: &str) -> Option<i64> {
    let time = jiff::fmt::strtime::parse("%d-%b-%Y %H:%M:%S %z", text.trim()).ok()?;
    time.to_timestamp().ok().map(|time| time.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_in_any_order_and_unknown_ones() {
        let line = b"3 fetch (body[] \0 X-GM-MSGID 99 uid 7 flags (\\SEEN \\Deleted $forwarded) INTERNALDATE \" 7-Jul-1996 02:44:25 -0700\")";
        let (fetched, body) = read(line).unwrap();
        assert_eq!((fetched.uid, fetched.flags.as_str(), body), (7, "PS", Body::Spooled));
        assert_eq!(fetched.received, Some(836_732_665));
        assert_eq!(read(b"3 FETCH (UID 7 BODY[] NIL)").unwrap().1, Body::Withheld);
        assert_eq!(read(b"3 FETCH (UID 7 BODY[] \"a\")").unwrap().1, Body::Here(b"a".to_vec()));
        assert_eq!(read(b"3 FETCH (FLAGS ())"), None);
        assert_eq!(read(b"3 FETCH (UID x)"), None);
        assert_eq!(read(b"3 FETCH (UID 3 INTERNALDATE \"soon\")").unwrap().0.received, None);
    }
}
