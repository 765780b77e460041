//! ENVELOPE, BODY and BODYSTRUCTURE as text (RFC 3501 section 7.4.2).

use super::header::{self, Address, Parameters};
use super::mime::{Inside, Part};
use super::words::{nstring, string};

/// The ENVELOPE of a message with this header.
pub fn envelope(head: &[u8]) -> Vec<u8> {
    let text = |name: &str| nstring(header::value(head, name).as_deref());
    let list =
        |name: &str| header::value(head, name).map(|value| header::addresses(&value)).unwrap_or_default();
    let from = list("From");
    let or_from =
        |name: &str| Some(list(name)).filter(|list| !list.is_empty()).unwrap_or_else(|| from.clone());
    let parts = [
        text("Date"),
        text("Subject"),
        address_list(&from),
        address_list(&or_from("Sender")),
        address_list(&or_from("Reply-To")),
        address_list(&list("To")),
        address_list(&list("Cc")),
        address_list(&list("Bcc")),
        text("In-Reply-To"),
        text("Message-ID"),
    ];
    enclosed(&parts)
}

fn address_list(list: &[Address]) -> Vec<u8> {
    if list.is_empty() {
        return b"NIL".to_vec();
    }
    let nil = || b"NIL".to_vec();
    let mut out = b"(".to_vec();
    for address in list {
        out.extend(match address {
            Address::One { name, local, domain } => {
                enclosed(&[nstring(name.as_deref()), nil(), string(local), string(domain)])
            }
            Address::GroupStart(name) => enclosed(&[nil(), nil(), string(name), nil()]),
            Address::GroupEnd => enclosed(&[nil(), nil(), nil(), nil()]),
        });
    }
    out.push(b')');
    out
}

/// BODYSTRUCTURE, or BODY without the extension data.
pub fn structure(part: &Part, extended: bool) -> Vec<u8> {
    let (kind, subtype) = kind_of(&part.content);
    if let Inside::Parts(parts) = &part.inside {
        let mut out = b"(".to_vec();
        for part in parts {
            out.extend(structure(part, extended));
        }
        out.push(b' ');
        out.extend(string(&subtype));
        if extended {
            for item in [parameters(&part.content), disposition(part), language(part), location(part)] {
                out.push(b' ');
                out.extend(item);
            }
        }
        out.push(b')');
        return out;
    }
    let field = |name: &str| header::value(&part.head, name);
    let encoding = field("Content-Transfer-Encoding")
        .map(|value| Parameters::parse(&value).value)
        .filter(|value| !value.is_empty())
        .unwrap_or_else(|| b"7bit".to_vec());
    let mut items = vec![
        string(&kind),
        string(&subtype),
        parameters(&part.content),
        nstring(field("Content-ID").as_deref()),
        nstring(field("Content-Description").as_deref()),
        string(&encoding),
        (part.body.end - part.body.start).to_string().into_bytes(),
    ];
    if let Inside::Message(inner) = &part.inside {
        items.push(envelope(&inner.head));
        items.push(structure(inner, extended));
    }
    if kind == b"text" || matches!(part.inside, Inside::Message(_)) {
        items.push(part.lines.to_string().into_bytes());
    }
    if extended {
        items.push(nstring(field("Content-MD5").as_deref()));
        items.extend([disposition(part), language(part), location(part)]);
    }
    enclosed(&items)
}

/// Type and subtype in lower case. A message or multipart that was not taken apart (too deep, encoded, without a
/// boundary) is shown as bytes: clients count on what those types must carry.
fn kind_of(content: &Parameters) -> (Vec<u8>, Vec<u8>) {
    let mut halves = content.value.splitn(2, |b| *b == b'/');
    let half = |half: Option<&[u8]>| half.filter(|half| !half.is_empty()).map(<[u8]>::to_vec);
    match (half(halves.next()), half(halves.next())) {
        (Some(kind), Some(subtype)) => (kind, subtype),
        _ => (b"text".to_vec(), b"plain".to_vec()),
    }
}

fn parameters(content: &Parameters) -> Vec<u8> {
    if content.list.is_empty() {
        return b"NIL".to_vec();
    }
    let pairs: Vec<Vec<u8>> =
        content.list.iter().flat_map(|(name, value)| [string(name), string(value)]).collect();
    enclosed(&pairs)
}

fn disposition(part: &Part) -> Vec<u8> {
    match header::value(&part.head, "Content-Disposition").map(|value| Parameters::parse(&value)) {
        Some(found) if !found.value.is_empty() => enclosed(&[string(&found.value), parameters(&found)]),
        _ => b"NIL".to_vec(),
    }
}

fn language(part: &Part) -> Vec<u8> {
    nstring(header::value(&part.head, "Content-Language").as_deref())
}

fn location(part: &Part) -> Vec<u8> {
    nstring(header::value(&part.head, "Content-Location").as_deref())
}

fn enclosed(items: &[Vec<u8>]) -> Vec<u8> {
    let mut out = b"(".to_vec();
    out.extend(items.join(&b' '));
    out.push(b')');
    out
}

#[cfg(test)]
mod tests {
    use super::super::mime;
    use super::*;

    #[test]
    fn an_envelope_falls_back_on_from() {
        let head = b"From: Ann <ann@a.example>\r\nSubject: \"hi\"\r\n\r\n";
        let ann = r#"(("Ann" NIL "ann" "a.example"))"#;
        let wanted = format!(r#"(NIL "\"hi\"" {ann} {ann} {ann} NIL NIL NIL NIL NIL)"#);
        assert_eq!(String::from_utf8(envelope(head)).unwrap(), wanted);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_have_a_structure_within_the_file(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec![
                    "--b", "--", "b2", "\r\n", "\n", "\r", ":", "Content-Type: ", "multipart/mixed; boundary=b", "message/rfc822",
                    "multipart/digest; boundary=\"b2\"", "From: ", "<a@b>", "\"", "(", "\\", ";", "x", "\u{fc}", "\u{0}",
                ]),
                0..60,
            )
        ) {
            let mail = pieces.concat();
            let root = mime::whole(mail.as_bytes()).unwrap();
            let mut all = root.leaves();
            all.push(&root);
            for part in all {
                assert!(part.header.start <= part.header.end && part.header.end <= part.body.start);
                assert!(part.body.start <= part.body.end && part.body.end <= mail.len() as u64);
            }
            assert!(structure(&root, true).ends_with(b")"));
            assert!(envelope(&root.head).starts_with(b"("));
        }
    }

    #[test]
    fn a_multipart_shows_its_parts() {
        let mail = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhi\r\n--b\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: BASE64\r\nContent-Disposition: attachment; filename=a.pdf\r\n\r\nAAAA\r\n--b--\r\n";
        let root = mime::whole(&mail[..]).unwrap();
        let wanted = r#"(("text" "plain" NIL NIL NIL "7bit" 2 1 NIL NIL NIL NIL)("application" "pdf" ("name" "a.pdf") NIL NIL "base64" 4 NIL ("attachment" ("filename" "a.pdf")) NIL NIL) "mixed" ("boundary" "b") NIL NIL NIL)"#;
        assert_eq!(String::from_utf8(structure(&root, true)).unwrap(), wanted);
    }
}
