//! The sender: the only address of the only From field, written so plainly that every reader shows the same.

use super::fields::Head;
use crate::mail::address::Address;
use crate::mail::words;
use crate::report::is_unsafe;

/// The address, or why there is none to rely on.
pub(super) fn only(head: &Head<'_>) -> Result<Address, String> {
    let mut all = head.all("From");
    match (all.next(), all.next()) {
        (None, _) => Err("it has no From field".into()),
        (Some(_), Some(_)) => Err("it has more than one From field".into()),
        (Some(field), None) => parse(field.value()).map_err(|why| format!("its From field {why}")),
    }
}

/// `mailbox = [display-name] "<" addr-spec ">" / addr-spec` (RFC 5322 section 3.4) without comments, obsolete forms,
/// routes, groups and lists.
fn parse(value: &[u8]) -> Result<Address, String> {
    let value = words::unfold(value);
    let text = std::str::from_utf8(&value).map_err(|_| "holds bytes that are no UTF-8")?.trim_matches(BLANKS);
    if text.chars().any(|c| is_unsafe(c) && c != '\t') {
        return Err("holds control or invisible characters".into());
    }
    let (mut name, mut is_quoted, mut rest) = (String::new(), false, text);
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '"' => {
                is_quoted = true;
                rest = quoted(rest, &mut name)?;
            }
            '<' => {
                let inner = rest.strip_suffix('>').ok_or("has more than one address, or text behind it")?;
                let address = addr_spec(inner)?;
                shows_no_other(&name, &address)?;
                return Ok(address);
            }
            '(' | ')' => return Err("holds a comment".into()),
            ':' | ';' => return Err("is a group".into()),
            ',' => return Err("has more than one address".into()),
            '>' | '[' | ']' | '\\' => return Err(format!("holds a {c} where none belongs")),
            _ => name.push(c),
        }
    }
    match is_quoted {
        true => Err("has no plain address".into()),
        false => addr_spec(text),
    }
}

const BLANKS: &[char] = &[' ', '\t'];

/// Up to the closing quote; what stands behind it.
fn quoted<'a>(text: &'a str, name: &mut String) -> Result<&'a str, String> {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok(&text[at + 1..]),
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            c => name.push(c),
        }
    }
    Err("has quotes that do not close".into())
}

/// `dot-atom "@" dot-atom` in ASCII: anything else can look like something that it is not.
fn addr_spec(text: &str) -> Result<Address, String> {
    let (local, domain) = text.split_once('@').ok_or("has no plain address")?;
    if !text.is_ascii() {
        return Err("has an address that is no ASCII: it may look like another".into());
    }
    let is_atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    if local.len() > 64 || !local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atom)) {
        return Err("has an address whose local part is not plain".into());
    }
    let is_label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let edges = label.starts_with('-') || label.ends_with('-');
        !label.is_empty() && label.len() <= 63 && !edges && label.bytes().all(fits)
    };
    if domain.len() > 253 || !domain.contains('.') || !domain.split('.').all(is_label) {
        return Err("has an address whose domain is not plain".into());
    }
    Address::parse(text).map_err(|_| "has no plain address".to_string())
}

/// A name that shows an address must show this one: many readers show the name alone.
fn shows_no_other(name: &str, address: &Address) -> Result<(), String> {
    let shown = words::decode(name.as_bytes());
    if shown.chars().any(|c| is_unsafe(c) && c != '\t') {
        return Err("has a name with control or invisible characters".into());
    }
    // Small and fullwidth forms look the same.
    let is_at = |c: char| matches!(c, '@' | '\u{fe6b}' | '\u{ff20}');
    let bare = shown.trim_matches(|c: char| c.is_whitespace() || "'\"<>".contains(c));
    match shown.contains(is_at) && !bare.eq_ignore_ascii_case(address.as_str()) {
        true => Err("has a name that shows another address".into()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only_of(value: &str) -> Result<String, String> {
        parse(value.as_bytes()).map(|address| address.to_string())
    }

    #[test]
    fn plain_senders() {
        for value in [
            " prof@by.example",
            "Prof <prof@by.example>",
            "\"Prof, Dr.: (P)\" <prof@by.example>",
            " =?utf-8?q?J=C3=B6?= <prof@by.example>\r\n",
            "P.\r\n\t\"O\" <prof@by.example>",
            "\"prof@by.example\" <prof@by.example>",
            "'Prof@BY.example' <prof@by.example>",
            "J\u{f6} <prof@by.example>",
            "<prof@by.example>",
        ] {
            assert_eq!(only_of(value).as_deref(), Ok("prof@by.example"), "{value}");
        }
    }

    #[test]
    fn tricks_are_no_sender() {
        for value in [
            "",
            "Prof",
            "prof@by.example, x@evil.example",
            "prof@by.example <x@evil.example>",
            "\"prof@by.example\" <x@evil.example>",
            "\"prof\\@by.example\" <x@evil.example>",
            "=?utf-8?q?prof=40by.example?= <x@evil.example>",
            "\"=?utf-8?q?prof=40by.example?=\" <x@evil.example>",
            "prof\u{ff20}by.example <x@evil.example>",
            "=?utf-8?b?cHJvZu+8oGJ5LmV4YW1wbGU=?= <x@evil.example>",
            "prof@by.example (x@evil.example)",
            "(prof@by.example) <x@evil.example>",
            "<x@evil.example> prof@by.example",
            "<x@evil.example> <prof@by.example>",
            "<@evil.example:prof@by.example>",
            "by.example: x@evil.example;",
            "undisclosed:;",
            "prof@by.example;",
            "\"prof\"@by.example",
            "<\"prof\"@by.example>",
            "prof@by.ex\u{430}mple",
            "pr\u{43e}f@by.example",
            "prof@by.example@evil.example",
            "prof @by.example",
            "< prof@by.example >",
            "<prof@by. example>",
            "prof@[127.0.0.1]",
            "prof@localhost",
            "prof@by..example",
            "prof@by.example.",
            "prof@-by.example",
            ".prof@by.example",
            "pr..of@by.example",
            "Pr\u{202e}of <prof@by.example>",
            "=?utf-8?b?4oCuZg==?= <prof@by.example>",
            "Prof <prof@by.example",
            "\"Prof <prof@by.example>",
            "Prof\\ <prof@by.example>",
        ] {
            assert!(only_of(value).is_err(), "{value} is {:?}", only_of(value));
        }
    }
}
