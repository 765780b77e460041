//! One header field in ASCII (RFC 2047), or nothing where its syntax has no place for that.

use base64_simd::STANDARD;

use crate::mail::{compose, header};

/// Fields of ids, traces and dates: an encoded word there is no text but another id (RFC 2047 section 5).
const PLAIN: [&str; 10] = [
    "message-id",
    "in-reply-to",
    "references",
    "resent-message-id",
    "received",
    "return-path",
    "date",
    "resent-date",
    "mime-version",
    "authentication-results",
];

/// Fields of addresses.
const ADDRESSES: [&str; 8] =
    ["from", "sender", "reply-to", "to", "cc", "resent-from", "resent-to", "resent-cc"];

/// The field in ASCII with its line end; `None` where that can't be done without changing what it means.
pub(super) fn encoded(field: &[u8]) -> Option<Vec<u8>> {
    let only = header::fields(field).next()?;
    let name = std::str::from_utf8(only.name).ok()?;
    let value = std::str::from_utf8(only.value).ok()?;
    let value: String = value.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let lower = name.to_ascii_lowercase();
    let text = match lower.as_str() {
        lower if PLAIN.contains(&lower) => None,
        lower if ADDRESSES.contains(&lower) => Some(format!("{name}: {}\r\n", addresses(&value)?)),
        _ => compose::encoded_field(name, &value),
    };
    text.filter(|text| text.is_ascii()).map(String::into_bytes)
}

/// Lists and groups in their order (RFC 5322 section 3.4).
fn addresses(value: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut group: Option<(String, Vec<String>)> = None;
    for (text, end) in pieces(value)? {
        if end == ':' {
            // One within another.
            if group.is_some() {
                return None;
            }
            group = Some((phrase(text)?, Vec::new()));
            continue;
        }
        if !text.trim().is_empty() {
            let members = group.as_mut().map_or(&mut out, |(_, members)| members);
            members.push(mailbox(text)?);
        }
        if end == ';'
            && let Some((name, members)) = group.take()
        {
            let blank = if members.is_empty() { "" } else { " " };
            out.push(format!("{name}:{blank}{};", members.join(",\r\n ")));
        }
    }
    (group.is_none() && !out.is_empty()).then(|| out.join(",\r\n "))
}

/// What stands between commas, colons and semicolons, each with what ends it; `None` where a quote never closes.
fn pieces(value: &str) -> Option<Vec<(&str, char)>> {
    let mut out = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    let (mut comments, mut closing) = (0usize, None);
    for (at, c) in value.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted || comments > 0,
            '"' if comments == 0 => quoted = !quoted,
            _ if quoted => {}
            '(' => comments += 1,
            ')' => comments = comments.saturating_sub(1),
            _ if comments > 0 => {}
            _ if closing == Some(c) => closing = None,
            _ if closing.is_some() => {}
            '<' => closing = Some('>'),
            '[' => closing = Some(']'),
            ',' | ':' | ';' => {
                out.push((value.get(start..at)?, c));
                start = at + 1;
            }
            _ => {}
        }
    }
    out.push((value.get(start..)?, ','));
    (!quoted && comments == 0 && closing.is_none()).then_some(out)
}

fn mailbox(text: &str) -> Option<String> {
    let field = compose::encoded_field("To", text)?;
    let one = field.strip_prefix("To:")?.trim();
    (!one.is_empty()).then(|| one.to_string())
}

/// The name of a group.
fn phrase(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_ascii() {
        return Some(text.to_string());
    }
    // Comments, and words that are encoded already, are no text to be encoded.
    if text.contains(['(', '<']) || text.contains("=?") {
        return None;
    }
    let mut words = vec![String::new()];
    for c in text.chars().filter(|c| !matches!(c, '"' | '\\')) {
        // A word has 75 characters at most.
        if words.last().is_some_and(|word| word.len() + c.len_utf8() > 42) {
            words.push(String::new());
        }
        words.last_mut()?.push(c);
    }
    let word = |text: &String| format!("=?utf-8?b?{}?=", STANDARD.encode_to_string(text));
    Some(words.iter().map(word).collect::<Vec<_>>().join("\r\n "))
}
