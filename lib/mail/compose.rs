//! Composing: a text and any number of attachments become one message, in pieces, so that attachments never have
//! to be in memory.
//!
//! Pure. The header and the MIME frame come from lettre with a token in the place of each attachment; the frame is
//! then cut at the tokens. What comes out is 7-bit (but for addresses that are not), has CRLF line ends, no line
//! over 998 bytes, and names the sender's domain in its Message-ID, never this machine.

use std::io::{self, Read};

use lettre::message::header::{
    ContentTransferEncoding, ContentType, Header, HeaderName, HeaderValue, Headers, MIME_VERSION_1_0,
};
use lettre::message::{Body, Mailbox as LettreMailbox, Message, MultiPart, SinglePart};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::address::{Address, Mailbox};
use super::outgoing::Stamp;
use crate::error::{Error, Kind, Result};
use crate::report::is_unsafe;

/// The longest line a message may have (RFC 5322 section 2.1.1).
const LONGEST_LINE: usize = 998;

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
    for mailbox in &draft.to {
        builder = builder.to(for_lettre(mailbox)?);
    }
    for mailbox in &draft.cc {
        builder = builder.cc(for_lettre(mailbox)?);
    }
    if let Some(subject) = &draft.subject {
        check_value("Subject", subject)?;
        builder = builder.subject(subject.clone());
    }
    let mut message = match draft.attachments.is_empty() {
        // As a body and not as a part, or lettre would add an empty line at the end.
        true => {
            let builder = builder.header(MIME_VERSION_1_0).header(ContentType::TEXT_PLAIN);
            builder.body(text_body(draft.body.as_deref().unwrap_or_default()))
        }
        false => builder.multipart(parts(draft, stamp)),
    }
    .map_err(failed)?;
    // Only now: lettre would replace a Date that it cannot read, and it reads only its own form in UTC.
    message.headers_mut().insert_raw(raw("Date", &date));
    Ok(message)
}

fn parts(draft: &Draft, stamp: &Stamp) -> MultiPart {
    let mut mixed = MultiPart::mixed().boundary(format!("=_{}", stamp.unique)).build();
    if let Some(text) = &draft.body {
        let part = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(text_body(text));
        mixed = mixed.singlepart(part);
    }
    for (number, attachment) in draft.attachments.iter().enumerate() {
        mixed = mixed.singlepart(attachment_part(attachment, &token(stamp, number)));
    }
    mixed
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

/// Content-Type with the plain ASCII name for readers that know no RFC 2231.
///
/// It stands here and not as a second `filename`, since common readers (Python, mailparse) prefer a plain
/// `filename` over `filename*` and would show the stopgap.
#[derive(Clone)]
struct PartType(Attachment);

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
struct PartDisposition(String);

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

/// Reads bytes as base64 lines of 76 characters, without a line end after the last (RFC 2045 section 6.8).
pub struct Base64Lines<R> {
    inner: R,
    out: Vec<u8>,
    taken: usize,
    ended: bool,
    begun: bool,
}

/// A line holds so many bytes of the file.
const PER_LINE: usize = 57;

/// So many lines are encoded at a time.
const LINES: usize = 512;

impl<R: Read> Base64Lines<R> {
    /// Encodes what `inner` gives.
    pub fn new(inner: R) -> Self {
        Base64Lines { inner, out: Vec::new(), taken: 0, ended: false, begun: false }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut bytes = [0; PER_LINE * LINES];
        let mut have = 0;
        while have < bytes.len() {
            match self.inner.read(&mut bytes[have..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(n) => have += n,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
        self.out.clear();
        self.taken = 0;
        for line in bytes[..have].chunks(PER_LINE) {
            if std::mem::replace(&mut self.begun, true) {
                self.out.extend_from_slice(b"\r\n");
            }
            base64_simd::STANDARD.encode_append(line, &mut self.out);
        }
        Ok(())
    }
}

impl<R: Read> Read for Base64Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.out.len() && !self.ended {
            self.fill()?;
        }
        let rest = &self.out[self.taken..];
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        self.taken += n;
        Ok(n)
    }
}

/// How long `len` bytes are as [`Base64Lines`].
pub fn base64_len(len: u64) -> u64 {
    let lines = len.div_ceil(PER_LINE as u64);
    len.div_ceil(3) * 4 + lines.saturating_sub(1) * 2
}

#[cfg(test)]
mod tests;
