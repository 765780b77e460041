//! IMAP strings for the wire, and mail text turned into plain words to search in.

use base64_simd::forgiving_decode_to_vec;
use charset::Charset;

/// A string: quoted where that can hold it, else a literal (RFC 3501 section 4.3).
pub fn string(bytes: &[u8]) -> Vec<u8> {
    let fine = |b: &u8| matches!(b, 0x20..=0x7e);
    let mut out = Vec::with_capacity(bytes.len() + 8);
    if bytes.iter().all(fine) && bytes.len() < 1000 {
        out.push(b'"');
        for &b in bytes {
            if matches!(b, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(b);
        }
        out.push(b'"');
    } else {
        out.extend(format!("{{{}}}\r\n", bytes.len()).into_bytes());
        out.extend_from_slice(bytes);
    }
    out
}

/// NIL or a string.
pub fn nstring(bytes: Option<&[u8]>) -> Vec<u8> {
    bytes.map_or_else(|| b"NIL".to_vec(), string)
}

/// A mailbox name: an atom where that can hold it, else quoted.
pub fn astring(bytes: &[u8]) -> String {
    let atom = |b: &u8| b.is_ascii_graphic() && !b"(){%*\"\\]".contains(b);
    let text = if !bytes.is_empty() && bytes.iter().all(atom) { bytes.to_vec() } else { string(bytes) };
    String::from_utf8_lossy(&text).into_owned()
}

/// A header value with its encoded words (RFC 2047) decoded.
pub fn decode_words(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value).into_owned();
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    let mut after_word = false;
    while let Some(at) = rest.find("=?") {
        let (before, word) = rest.split_at(at);
        match encoded_word(word) {
            Some((decoded, len)) => {
                // White space between two encoded words only separates them.
                if !(after_word && before.trim().is_empty()) {
                    out.push_str(before);
                }
                out.push_str(&decoded);
                rest = word.get(len..).unwrap_or("");
                after_word = true;
            }
            None => {
                out.push_str(before);
                out.push_str("=?");
                rest = word.get(2..).unwrap_or("");
                after_word = false;
            }
        }
    }
    out.push_str(rest);
    out
}

/// `=?charset?B|Q?text?=` at the start, and its length.
fn encoded_word(text: &str) -> Option<(String, usize)> {
    let inner = text.strip_prefix("=?")?;
    let (charset, inner) = inner.split_once('?')?;
    let (encoding, inner) = inner.split_once('?')?;
    let (data, _) = inner.split_once("?=")?;
    if data.contains([' ', '?']) || charset.contains(' ') {
        return None;
    }
    let bytes = match encoding {
        "B" | "b" => forgiving_decode_to_vec(data.as_bytes()).ok()?,
        "Q" | "q" => unquote(&data.replace('_', " ").into_bytes()),
        _ => return None,
    };
    let charset = charset.split_once('*').map_or(charset, |(charset, _)| charset);
    let len = 2 + charset.len() + (text.len() - 2 - charset.len() - inner.len()) + data.len() + 2;
    Some((to_text(&bytes, Some(charset.as_bytes())), len.min(text.len())))
}

/// Text of a part: transfer encoding and charset undone.
pub fn decode_body(body: &[u8], encoding: &[u8], charset: Option<&[u8]>) -> String {
    match encoding.trim_ascii().to_ascii_lowercase().as_slice() {
        b"base64" => {
            let kept: Vec<u8> = body.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
            to_text(&forgiving_decode_to_vec(&kept).unwrap_or_default(), charset)
        }
        b"quoted-printable" => to_text(&unquote(body), charset),
        _ => to_text(body, charset),
    }
}

fn to_text(bytes: &[u8], charset: Option<&[u8]>) -> String {
    match charset.and_then(Charset::for_label) {
        Some(charset) => charset.decode(bytes).0.into_owned(),
        None => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Undoes quoted-printable (RFC 2045 section 6.7); what is no code stays as it is.
fn unquote(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&b, after)) = rest.split_first() {
        rest = after;
        let hex = |n: usize| after.get(..n).and_then(|hex| std::str::from_utf8(hex).ok());
        match b {
            b'=' if after.starts_with(b"\r\n") => rest = after.get(2..).unwrap_or(&[]),
            b'=' if after.starts_with(b"\n") => rest = after.get(1..).unwrap_or(&[]),
            b'=' => match hex(2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                Some(code) => {
                    out.push(code);
                    rest = after.get(2..).unwrap_or(&[]);
                }
                None => out.push(b),
            },
            _ => out.push(b),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_words_are_read() {
        let text = b"Re: =?utf-8?Q?Gr=C3=BC=C3=9Fe?= =?ISO-8859-1*de?B?5PY=?= x =?broken";
        assert_eq!(decode_words(text), "Re: Gr\u{fc}\u{df}e\u{e4}\u{f6} x =?broken");
    }

    #[test]
    fn strings_that_cannot_be_quoted_are_literals() {
        assert_eq!(string(b"a\"b"), b"\"a\\\"b\"");
        assert_eq!(string("\u{fc}".as_bytes()), b"{2}\r\n\xc3\xbc");
        assert_eq!(astring(b"a b"), "\"a b\"");
        assert_eq!(astring(b""), "\"\"");
    }
}
