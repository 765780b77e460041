//! Composing: a text and any number of attachments become one message, in pieces, so that attachments never have
//! to be in memory.
//!
//! Pure. The header and the MIME frame come from lettre with a token in the place of each attachment; the frame is
//! then cut at the tokens. What comes out is 7-bit (but for addresses that are not), has CRLF line ends, no line
//! over 998 bytes, and names the sender's domain in its Message-ID, never this machine.

use lettre::message::header::{
    ContentTransferEncoding, ContentType, HeaderName, HeaderValue, Headers, MIME_VERSION_1_0,
};
use lettre::message::{Body, Mailbox as LettreMailbox, Mailboxes, Message, MultiPart, SinglePart, header};

use super::address::{self, Address, Mailbox};
use super::lines::LONGEST_LINE;
use super::outgoing::Stamp;
use crate::error::{Error, Kind, Result};

mod base64;
mod name;
pub use base64::{Base64Lines, base64_len};
use name::{PartDisposition, PartType};

/// What is to be said to whom.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The author.
    pub from: Mailbox,
    /// Shown in To.
    pub to: Vec<Mailbox>,
    /// Shown in Cc.
    pub cc: Vec<Mailbox>,
    /// Decoded; encoded here.
    pub subject: Option<String>,
    /// The text; `None` leaves the part out where there are attachments.
    pub body: Option<String>,
    /// The same text as HTML; alone, or as what readers may show in its stead.
    pub html: Option<String>,
    /// Further fields, name and decoded value.
    pub headers: Vec<(String, String)>,
    /// What is attached, in order.
    pub attachments: Vec<Attachment>,
}

/// What the message says of an attachment.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The file's name as the reader shall see it.
    pub name: String,
    /// `application/pdf`
    pub media_type: String,
}

/// A stretch of a composed message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The attachment with this number, as [`Base64Lines`] gives it.
    Attachment(usize),
}

/// A composed message.
#[derive(Clone, Debug)]
pub struct Composed {
    /// One after the other they are the message.
    pub pieces: Vec<Piece>,
    /// With its angle brackets.
    pub message_id: String,
}

/// Composes. 64 where a value holds what no header may hold (CR, LF, NUL) or a field is not ours to be given.
pub fn compose(draft: &Draft, stamp: &Stamp) -> Result<Composed> {
    let given = |name: &str| draft.headers.iter().find(|(each, _)| each.eq_ignore_ascii_case(name));
    let message_id = match given("Message-ID") {
        Some((_, id)) => id.trim().to_string(),
        None => stamp.message_id(&draft.from.address),
    };
    let mut frame = extra_fields(draft)?.into_bytes();
    frame.extend(framed(draft, stamp, &message_id)?.formatted());
    check_lines(&frame)?;
    let mut pieces = Vec::new();
    let mut rest = &frame[..];
    for number in 0..draft.attachments.len() {
        let token = token(stamp, number);
        let at = memchr::memmem::find(rest, token.as_bytes())
            .ok_or_else(|| Error::plain(Kind::Internal, "the frame of the message lost an attachment"))?;
        pieces.push(Piece::Bytes(rest[..at].to_vec()));
        pieces.push(Piece::Attachment(number));
        rest = &rest[at + token.len()..];
    }
    let mut last = rest.to_vec();
    if !last.ends_with(b"\r\n") {
        last.extend_from_slice(b"\r\n");
    }
    pieces.push(Piece::Bytes(last));
    Ok(Composed { pieces, message_id })
}

fn framed(draft: &Draft, stamp: &Stamp, message_id: &str) -> Result<Message> {
    let failed = |why: lettre::error::Error| Error::new(Kind::Internal, "cannot compose the message", why);
    let own_date = draft.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("Date"));
    let date = own_date.map_or_else(|| stamp.date_field(), |(_, date)| date.clone());
    let mut builder = Message::builder()
        .envelope(envelope_for_lettre(&draft.from.address))
        .from(for_lettre(&draft.from)?)
        .date(stamp.date.timestamp().into())
        .raw_header(raw("Message-ID", message_id));
    for (name, list) in [("To", &draft.to), ("Cc", &draft.cc)] {
        if !list.is_empty() {
            builder = builder.raw_header(raw(name, &folded(list)?));
        }
    }
    if let Some(subject) = &draft.subject {
        check_value("Subject", subject)?;
        builder = builder.subject(subject.clone());
    }
    let mut message = match (draft.attachments.is_empty(), &draft.html, &draft.body) {
        (false, _, _) => builder.multipart(parts(draft, stamp)),
        (true, Some(html), Some(text)) => builder.multipart(alternative(text, html, stamp)),
        // As a body and not as a part, or lettre would add an empty line at the end.
        (true, html, text) => {
            let kind = if html.is_some() { ContentType::TEXT_HTML } else { ContentType::TEXT_PLAIN };
            let builder = builder.header(MIME_VERSION_1_0).header(kind);
            builder.body(text_body(html.as_deref().or(text.as_deref()).unwrap_or_default()))
        }
    }
    .map_err(failed)?;
    // Only now: lettre would replace a Date that it cannot read, and it reads only its own form in UTC.
    message.headers_mut().insert_raw(raw("Date", &date));
    Ok(message)
}

fn parts(draft: &Draft, stamp: &Stamp) -> MultiPart {
    let mut mixed = MultiPart::mixed().boundary(format!("=_{}", stamp.unique)).build();
    mixed = match (&draft.body, &draft.html) {
        (Some(text), Some(html)) => mixed.multipart(alternative(text, html, stamp)),
        (Some(text), None) => mixed.singlepart(text_part(ContentType::TEXT_PLAIN, text)),
        (None, Some(html)) => mixed.singlepart(text_part(ContentType::TEXT_HTML, html)),
        (None, None) => mixed,
    };
    for (number, attachment) in draft.attachments.iter().enumerate() {
        mixed = mixed.singlepart(attachment_part(attachment, &token(stamp, number)));
    }
    mixed
}

/// The plainest first (RFC 2046 section 5.1.4).
fn alternative(text: &str, html: &str, stamp: &Stamp) -> MultiPart {
    // No beginning of the other boundary.
    let both = MultiPart::alternative().boundary(format!("=a_{}", stamp.unique)).build();
    let both = both.singlepart(text_part(ContentType::TEXT_PLAIN, text));
    both.singlepart(text_part(ContentType::TEXT_HTML, html))
}

fn text_part(kind: ContentType, text: &str) -> SinglePart {
    SinglePart::builder().header(kind).body(text_body(text))
}

/// Nothing that a person or an encoding writes: it holds the stamp.
fn token(stamp: &Stamp, number: usize) -> String {
    format!("@@{}:{number}@@", stamp.unique)
}

/// lettre insists on an envelope; ours is kept elsewhere.
fn envelope_for_lettre(from: &Address) -> lettre::address::Envelope {
    let address = lettre::Address::new_dangerous(from.local(), from.domain());
    lettre::address::Envelope::new(Some(address.clone()), vec![address]).expect("it has a recipient")
}

fn for_lettre(mailbox: &Mailbox) -> Result<LettreMailbox> {
    if let Some(name) = &mailbox.name {
        check_value("the name of an address", name)?;
    }
    // Address::parse was stricter than lettre, but for what is local custom somewhere.
    let address = lettre::Address::new_dangerous(mailbox.address.local(), mailbox.address.domain());
    Ok(LettreMailbox::new(mailbox.name.clone(), address))
}

/// A list of addresses, one a line: lettre does not fold lists.
fn folded(list: &[Mailbox]) -> Result<String> {
    let encoded = |mailbox: &Mailbox| {
        let mut one = Headers::new();
        one.set(header::To::from(Mailboxes::from(for_lettre(mailbox)?)));
        let text = one.to_string();
        Ok(text.strip_prefix("To: ").unwrap_or(&text).trim_end().to_string())
    };
    Ok(list.iter().map(encoded).collect::<Result<Vec<_>>>()?.join(",\r\n "))
}

fn raw(name: &'static str, value: &str) -> HeaderValue {
    let name = HeaderName::new_from_ascii_str(name);
    HeaderValue::dangerous_new_pre_encoded(name, value.to_string(), value.to_string())
}

/// Fields of `--header`; lettre keeps one field of a name, so these stand in front of its own.
fn extra_fields(draft: &Draft) -> Result<String> {
    let mut text = String::new();
    for (name, value) in &draft.headers {
        check_value(name, value)?;
        let wrong = |why: &str| Error::new(Kind::Usage, format!("cannot add the header field {name:?}"), why);
        let lower = name.to_ascii_lowercase();
        if lower.is_empty()
            || lower.len() > 76
            || !lower.bytes().all(|b| (33..=126).contains(&b) && b != b':')
        {
            return Err(wrong("that is no name for a field"));
        }
        match lower.as_str() {
            "from" | "to" | "cc" | "bcc" | "subject" => {
                return Err(wrong("there is an option for it").hint(format!("use --{lower}")));
            }
            "mime-version" | "content-type" | "content-transfer-encoding" | "content-disposition" => {
                return Err(wrong("it follows from what is sent"));
            }
            "message-id" if !is_message_id(value.trim()) => {
                return Err(wrong("it must look like <a@b.example>"));
            }
            "date" | "message-id" if !value.is_ascii() => return Err(wrong("it must be ASCII")),
            "date" | "message-id" => continue,
            _ => {}
        }
        let name =
            HeaderName::new_from_ascii(name.clone()).map_err(|_| wrong("that is no name for a field"))?;
        let mut one = Headers::new();
        one.insert_raw(HeaderValue::new(name, value.trim().to_string()));
        text.push_str(&one.to_string());
    }
    Ok(text)
}

fn is_message_id(text: &str) -> bool {
    text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).is_some_and(|inner| {
        inner.contains('@') && inner.bytes().all(|b| (33..=126).contains(&b) && b != b'<' && b != b'>')
    })
}

/// A field of a finished message as ASCII, folded, with its line end; `None` for one that can't be: an address that is
/// not ASCII itself, a field with parameters.
pub fn encoded_field(name: &str, value: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let text = match lower.as_str() {
        "from" | "sender" | "reply-to" | "to" | "cc" | "resent-from" | "resent-to" | "resent-cc" => {
            let list = address::parse_list(value).ok()?;
            format!("{name}: {}\r\n", folded(&list).ok()?)
        }
        // Structured in a way of their own, or covered by a signature.
        _ if lower.starts_with("content-") || lower.starts_with("dkim-") || lower.starts_with("arc-") => {
            return None;
        }
        _ => {
            let field = HeaderName::new_from_ascii(name.to_string()).ok()?;
            let mut one = Headers::new();
            one.insert_raw(HeaderValue::new(field, value.trim().to_string()));
            one.to_string()
        }
    };
    text.is_ascii().then_some(text)
}

/// Refuses what could begin another header field.
fn check_value(name: &str, value: &str) -> Result<()> {
    match value.chars().find(|c| c.is_control() && *c != '\t') {
        None => Ok(()),
        Some(c) => Err(Error::new(
            Kind::Usage,
            format!("cannot use the value given for {name:?}"),
            format!("it holds the control character {c:?}"),
        )),
    }
}

/// Every line of the frame fits; only a header value without blanks can fail this, or a very long address.
fn check_lines(frame: &[u8]) -> Result<()> {
    match frame.split(|b| *b == b'\n').find(|line| line.len() > LONGEST_LINE + 1) {
        None => Ok(()),
        Some(line) => {
            let start = String::from_utf8_lossy(&line[..40.min(line.len())]).into_owned();
            let what =
                format!("the line that begins with {start:?} would be longer than {LONGEST_LINE} bytes");
            Err(Error::plain(Kind::Usage, what).hint("put blanks into it, so that it can be folded"))
        }
    }
}

fn text_body(text: &str) -> Body {
    let text = text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n");
    let is_plain = |b: u8| matches!(b, b'\t' | b'\r' | b'\n' | 32..=126);
    let others = text.bytes().filter(|b| !is_plain(*b)).count();
    let is_short = text.split("\r\n").all(|line| line.len() <= LONGEST_LINE);
    let encoding = match others {
        0 if is_short => ContentTransferEncoding::SevenBit,
        _ if others * 4 <= text.len() => ContentTransferEncoding::QuotedPrintable,
        _ => ContentTransferEncoding::Base64,
    };
    match encoding {
        ContentTransferEncoding::SevenBit => Body::dangerous_pre_encoded(text.into_bytes(), encoding),
        _ => Body::new_with_encoding(text.into_bytes(), encoding).unwrap_or_else(Body::new),
    }
}

fn attachment_part(attachment: &Attachment, token: &str) -> SinglePart {
    SinglePart::builder()
        .header(PartType(attachment.clone()))
        .header(PartDisposition(attachment.name.clone()))
        .body(Body::dangerous_pre_encoded(token.as_bytes().to_vec(), ContentTransferEncoding::Base64))
}

#[cfg(test)]
mod tests;
