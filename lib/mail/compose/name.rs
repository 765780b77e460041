//! What a part says of an attachment: its type and its name, in the ways that readers understand.

use lettre::message::header::{Header, HeaderName, HeaderValue};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::{Attachment, raw};
use crate::report::is_unsafe;

/// Content-Type with the plain ASCII name for readers that know no RFC 2231.
///
/// It stands here and not as a second `filename`, since common readers (Python, mailparse) prefer a plain
/// `filename` over `filename*` and would show the stopgap.
#[derive(Clone)]
pub(super) struct PartType(pub(super) Attachment);

impl Header for PartType {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Content-Type")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Err("only written".into())
    }

    fn display(&self) -> HeaderValue {
        let name = quoted(&ascii_name(&self.0.name));
        raw("Content-Type", &format!("{};\r\n name={name}", media_type(&self.0.media_type)))
    }
}

/// Content-Disposition with the name as it is.
#[derive(Clone)]
pub(super) struct PartDisposition(pub(super) String);

impl Header for PartDisposition {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Content-Disposition")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Err("only written".into())
    }

    fn display(&self) -> HeaderValue {
        let name = clean_name(&self.0);
        let parameter = match name.is_ascii() {
            true => format!(";\r\n filename={}", quoted(&name)),
            false => rfc2231(&name),
        };
        raw("Content-Disposition", &format!("attachment{parameter}"))
    }
}

/// What base64 may not wrap (RFC 2046 section 5) or what is no type goes as bytes.
fn media_type(text: &str) -> String {
    let is_token = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    match text.split_once('/') {
        Some(("message" | "multipart", _)) => "application/octet-stream".into(),
        Some((kind, sub)) if is_token(kind) && is_token(sub) && text.len() < 128 => text.to_ascii_lowercase(),
        _ => "application/octet-stream".into(),
    }
}

/// Without what could drive a terminal or name a directory.
fn clean_name(name: &str) -> String {
    let name: String = name.chars().map(|c| if is_unsafe(c) || c == '/' { '_' } else { c }).collect();
    if name.is_empty() { "attachment".into() } else { name }
}

fn ascii_name(name: &str) -> String {
    let plain = clean_name(name);
    let plain = plain.nfkd().filter(|c| !is_combining_mark(*c));
    plain.map(|c| if matches!(c, ' '..='~') { c } else { '_' }).collect()
}

fn quoted(ascii: &str) -> String {
    format!("\"{}\"", ascii.replace('\\', "\\\\").replace('"', "\\\""))
}

/// `filename*=utf-8''…`, in numbered pieces where it is long (RFC 2231 sections 3 and 4).
fn rfc2231(name: &str) -> String {
    use std::fmt::Write;
    let mut pieces = vec![String::from("utf-8''")];
    for byte in name.bytes() {
        if pieces.last().is_some_and(|piece| piece.len() >= 60) {
            pieces.push(String::new());
        }
        let Some(piece) = pieces.last_mut() else { continue };
        match byte {
            b if b.is_ascii_alphanumeric() || b"!#$&+-.^_`{|}~".contains(&b) => piece.push(char::from(b)),
            b => {
                let _ = write!(piece, "%{b:02X}");
            }
        }
    }
    if let [only] = &pieces[..] {
        return format!(";\r\n filename*={only}");
    }
    pieces.iter().enumerate().map(|(n, piece)| format!(";\r\n filename*{n}*={piece}")).collect()
}
