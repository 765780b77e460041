//! Data of an untagged response, as a tree: atoms, texts, lists (RFC 9051 section 9, much of it in one loose grammar).
//!
//! It knows no attribute by name, so that one that we never heard of can be passed over. Depth and length are limited
//! by what the tap collects.

/// One datum of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// An atom, a number, a flag, `BODY[]`.
    Atom(String),
    /// A quoted string or a literal.
    Text(Vec<u8>),
    /// A parenthesised list.
    List(Vec<Value>),
    /// NIL.
    Nil,
    /// A message that went to the sink; the tap wrote [`SPOOLED`] in its place.
    Spooled,
}

/// Stands for a message literal in what the tap collects. NUL occurs in no legal response; the tap removes others.
pub(super) const SPOOLED: u8 = 0;

/// Lists in lists beyond this make no sense in anything that we ask for.
const DEEPEST: usize = 32;

impl Value {
    /// The atom or text as a string, whatever octets it has.
    pub fn text(&self) -> Option<String> {
        match self {
            Value::Atom(atom) => Some(atom.clone()),
            Value::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn number<N: std::str::FromStr>(&self) -> Option<N> {
        match self {
            Value::Atom(atom) => atom.parse().ok(),
            _ => None,
        }
    }

    /// What is in the list.
    pub fn list(&self) -> Option<&[Value]> {
        match self {
            Value::List(list) => Some(list),
            _ => None,
        }
    }
}

/// All data of a response after its `* `, literals included; `None` where it is none.
pub(super) fn parse(bytes: &[u8]) -> Option<Vec<Value>> {
    let mut rest = bytes;
    let values = list(&mut rest, 0)?;
    rest.is_empty().then_some(values)
}

/// Data up to the end, or up to the `)` that closes this list (which is taken).
fn list(rest: &mut &[u8], depth: usize) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    loop {
        *rest = rest.trim_ascii_start();
        let Some(first) = rest.first() else { return (depth == 0).then_some(values) };
        let after = &rest[1..];
        match first {
            b')' if depth == 0 => return None,
            b')' => {
                *rest = after;
                return Some(values);
            }
            b'(' if depth == DEEPEST => return None,
            b'(' => {
                *rest = after;
                values.push(Value::List(list(rest, depth + 1)?));
            }
            b'"' => values.push(Value::Text(quoted(rest)?)),
            b'{' | b'~' if is_literal(rest) => values.push(Value::Text(literal(rest)?)),
            &SPOOLED => {
                *rest = after;
                values.push(Value::Spooled);
            }
            _ => values.push(atom(rest)),
        }
    }
}

fn quoted(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let (mut text, mut at) = (Vec::new(), 1);
    loop {
        match rest.get(at)? {
            b'"' => break,
            b'\\' => {
                text.push(*rest.get(at + 1)?);
                at += 2;
            }
            byte => {
                text.push(*byte);
                at += 1;
            }
        }
    }
    *rest = &rest[at + 1..];
    Some(text)
}

fn is_literal(rest: &[u8]) -> bool {
    rest.starts_with(b"{") || rest.starts_with(b"~{")
}

fn literal(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let start = rest.iter().position(|b| *b == b'{')? + 1;
    let end = memchr::memmem::find(rest, b"}\r\n")?;
    let size: usize = std::str::from_utf8(rest.get(start..end)?).ok()?.trim_end_matches('+').parse().ok()?;
    let from = end + 3;
    let text = rest.get(from..from.checked_add(size)?)?.to_vec();
    *rest = &rest[from + size..];
    Some(text)
}

/// Up to the next space or parenthesis; brackets may hold both (`BODY[HEADER.FIELDS (DATE)]`).
fn atom(rest: &mut &[u8]) -> Value {
    let mut open = 0usize;
    let end = rest.iter().position(|byte| match byte {
        b'[' => {
            open += 1;
            false
        }
        b']' => {
            open = open.saturating_sub(1);
            false
        }
        b' ' | b'(' | b')' | b'\r' | b'\n' => open == 0,
        &SPOOLED => true,
        _ => false,
    });
    let (word, after) = rest.split_at(end.unwrap_or(rest.len()).max(1).min(rest.len()));
    *rest = after;
    match word.eq_ignore_ascii_case(b"NIL") {
        true => Value::Nil,
        false => Value::Atom(String::from_utf8_lossy(word).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn everything_that_occurs() {
        let values =
            parse(b"12 FETCH (UID 7 FLAGS (\\Seen x) X \"a\\\"b\" Y {3}\r\n(\") BODY[A (B)] NIL BODY[] \0)")
                .unwrap();
        let items = values[2].list().unwrap();
        assert_eq!(values[0].number(), Some(12u32));
        assert_eq!(items[3].list().unwrap()[0].text().unwrap(), "\\Seen");
        assert_eq!(items[5], Value::Text(b"a\"b".to_vec()));
        assert_eq!(items[7], Value::Text(b"(\")".to_vec()));
        assert_eq!(items[8].text().unwrap(), "BODY[A (B)]");
        assert_eq!((&items[9], &items[11]), (&Value::Nil, &Value::Spooled));
    }

    #[test]
    fn nonsense_is_none() {
        for wrong in ["(", ")", "\"a", "{9}\r\nabc", "{99999999999999999999}\r\n", &"(".repeat(1000)] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(bytes in prop::collection::vec(prop::sample::select(b"(){}\"\\[] \r\n1a~+\0".to_vec()), 0..60)) {
            parse(&bytes);
        }
    }
}
