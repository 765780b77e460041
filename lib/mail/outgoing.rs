//! The header of a finished message made fit to be sent: Bcc, Resent-Bcc and Return-Path taken out, Date and Message-ID
//! added where missing or empty, and the envelope read from it. Everything else stays as it was, byte for byte but for
//! line ends.
//!
//! Pure: when it is and what makes a Message-ID unique comes in as a [`Stamp`].

use crate::error::{Error, Kind, Result};
use crate::mail::address::{self, Address, Mailbox};

/// The longest header we take: more is no mail but something else.
pub const LONGEST_HEADER: usize = 1 << 20;

/// What two messages never share.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// When it was written, in the writer's time zone.
    pub date: jiff::Zoned,
    /// Letters and digits that no other message has.
    pub unique: String,
}

impl Stamp {
    /// As it stands in Date (RFC 5322 section 3.3).
    pub fn date_field(&self) -> String {
        jiff::fmt::rfc2822::to_string(&self.date).unwrap_or_else(|_| {
            // Only years outside of 0..=9999 cannot be written.
            "Thu, 1 Jan 1970 00:00:00 +0000".to_string()
        })
    }

    /// A Message-ID (RFC 5322 section 3.6.4) that names the sender's domain, never this machine.
    pub fn message_id(&self, from: &Address) -> String {
        let domain = from.domain();
        let domain = if domain.is_ascii() && !domain.starts_with('[') { domain } else { "mailloop.invalid" };
        let time = self.date.with_time_zone(jiff::tz::TimeZone::UTC).strftime("%Y%m%d%H%M%S").to_string();
        format!("<{time}.{}@{domain}>", self.unique)
    }
}

/// A header ready to be sent and what it says of the envelope.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The header with CRLF line ends and the empty line after it.
    pub header: Vec<u8>,
    /// The first address in From, else in Sender.
    pub from: Option<Address>,
    /// The addresses in Resent-To, Resent-Cc and Resent-Bcc, or without any of these in To, Cc and Bcc; each once.
    pub to: Vec<Address>,
    /// With its angle brackets.
    pub message_id: String,
}

/// Where the header of `bytes` ends: header length, and where the body begins. `None` if it goes on.
///
/// A line that is no field and no continuation ends the header too and belongs to the body, as for sendmail.
pub fn header_end(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut at = 0;
    loop {
        let end = at + memchr::memchr(b'\n', bytes.get(at..)?)?;
        let line = bytes[at..end].strip_suffix(b"\r").unwrap_or(&bytes[at..end]);
        if line.is_empty() {
            return Some((at, end + 1));
        }
        let is_continuation = at > 0 && matches!(line[0], b' ' | b'\t');
        if !is_continuation && field_name(line).is_none() && !is_mbox_line(at, line) {
            return Some((at, at));
        }
        at = end + 1;
    }
}

/// The author as the header says it: the first address in From, else in Sender; `None` where there is none that is whole.
pub fn author(header: &[u8]) -> Option<Address> {
    let fields = fields(header);
    let first = |name: &str| {
        let field = fields.iter().find(|field| field.name == name)?;
        field.addresses(None).ok()?.into_iter().next().map(|mailbox| mailbox.address)
    };
    first("from").or_else(|| first("sender"))
}

/// Makes the header of a finished message fit. 65 where it has no fields or an address in it is wrong.
///
/// `sender` fills From where it is missing and gives the Message-ID its domain. With `home`, as sendmail does it: a
/// message without a header gets one, and a name without a domain means that address, also in what is sent.
pub fn prepare(
    header: &[u8],
    stamp: &Stamp,
    sender: Option<&Mailbox>,
    home: Option<&Address>,
) -> Result<Outgoing> {
    let fields = fields(header);
    if fields.is_empty() && home.is_none() {
        return Err(Error::plain(Kind::Data, "the message does not begin with a header")
            .hint("it must begin with lines such as `To: me@by.example`"));
    }
    let mut out = Outgoing { header: Vec::new(), from: None, to: Vec::new(), message_id: String::new() };
    let (mut has_date, mut author, mut from_sender) = (false, None, None);
    for field in recipients(&fields) {
        out.add_recipients(field, home)?;
    }
    out.to = address::each_once(out.to);
    for field in &fields {
        match field.name.as_str() {
            "from" => author = author.or(field.first(home)?),
            "sender" => from_sender = from_sender.or(field.first(home)?),
            "date" => has_date |= !field.is_empty(),
            "message-id" if out.message_id.is_empty() => out.message_id = field.text().trim().to_string(),
            _ => {}
        }
        match field.name.as_str() {
            "bcc" | "resent-bcc" => {}
            // Who delivers last writes it (RFC 5321 section 4.4).
            "return-path" => {}
            // As good as missing, and the one that is added must be the only one.
            "date" | "message-id" if field.is_empty() => {}
            "from" | "sender" | "reply-to" | "to" | "cc" | "resent-from" | "resent-sender" | "resent-to"
            | "resent-cc" => field.write_at(home, &mut out.header),
            _ => field.write(&mut out.header),
        }
    }
    let author_missing = author.is_none();
    out.from = author.or(from_sender);
    let from = || out.from.clone().map(|address| Mailbox { name: None, address });
    let sender = sender.cloned().or_else(from).ok_or_else(|| {
        Error::plain(Kind::Data, "the message has no From").hint("add one, or use --from or an account")
    })?;
    if author_missing {
        out.add("From", &sender.to_string());
    }
    if !has_date {
        out.add("Date", &stamp.date_field());
    }
    if out.message_id.is_empty() {
        out.message_id = stamp.message_id(out.from.as_ref().unwrap_or(&sender.address));
        let id = out.message_id.clone();
        out.add("Message-ID", &id);
    }
    out.header.extend_from_slice(b"\r\n");
    Ok(out)
}

/// The fields that name who gets it. Where it is resent, that is the last resending, which stands first; nobody else
/// gets it again (RFC 5322 section 3.6.6).
fn recipients<'f, 'a>(fields: &'f [Field<'a>]) -> Vec<&'f Field<'a>> {
    let (mut resent, mut seen) = (Vec::new(), Vec::new());
    for field in fields {
        match field.name.as_str() {
            "resent-to" | "resent-cc" | "resent-bcc" => resent.push(field),
            // Each of these stands in one resending once, and what relays write stands between two of them.
            name @ ("resent-from" | "resent-sender" | "resent-date" | "resent-message-id" | "received"
            | "return-path") => {
                let is_next = !name.starts_with("resent-") || seen.contains(&name);
                if is_next && !resent.is_empty() {
                    break;
                }
                if is_next {
                    seen.clear();
                }
                seen.push(name);
            }
            _ => {}
        }
    }
    match resent.is_empty() {
        false => resent,
        true => fields.iter().filter(|field| matches!(field.name.as_str(), "to" | "cc" | "bcc")).collect(),
    }
}

impl Outgoing {
    fn add(&mut self, name: &str, value: &str) {
        self.header.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }

    fn add_recipients(&mut self, field: &Field<'_>, home: Option<&Address>) -> Result<()> {
        self.to.extend(field.addresses(home)?.into_iter().map(|mailbox| mailbox.address));
        Ok(())
    }
}

struct Field<'a> {
    /// In lower case.
    name: String,
    /// Its lines without their ends.
    lines: Vec<&'a [u8]>,
}

impl Field<'_> {
    /// Unfolded, what is no UTF-8 replaced.
    fn text(&self) -> String {
        let whole = self.lines.concat();
        let value = memchr::memchr(b':', &whole).map_or(&whole[..], |colon| &whole[colon + 1..]);
        String::from_utf8_lossy(value).into_owned()
    }

    fn is_empty(&self) -> bool {
        self.text().trim().is_empty()
    }

    fn addresses(&self, home: Option<&Address>) -> Result<Vec<Mailbox>> {
        let text = self.text();
        let list =
            home.map_or_else(|| address::parse_list(&text), |home| address::parse_list_at(&text, home));
        list.map_err(|error| {
            error.context(format_args!("the field {} of the message", self.name)).with_kind(Kind::Data)
        })
    }

    fn first(&self, home: Option<&Address>) -> Result<Option<Address>> {
        Ok(self.addresses(home)?.into_iter().next().map(|mailbox| mailbox.address))
    }

    /// As it is, unless a name in it needed its domain.
    fn write_at(&self, home: Option<&Address>, out: &mut Vec<u8>) {
        match (self.addresses(None), home.map(|home| self.addresses(Some(home)))) {
            (Err(_), Some(Ok(list))) => {
                let name =
                    self.lines.first().and_then(|line| line.split(|b| *b == b':').next()).unwrap_or_default();
                let list: Vec<String> = list.iter().map(ToString::to_string).collect();
                out.extend_from_slice(name.trim_ascii_end());
                out.extend_from_slice(format!(": {}\r\n", list.join(",\r\n ")).as_bytes());
            }
            _ => self.write(out),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        for line in &self.lines {
            // A CR inside of a line would end it for some readers.
            out.extend(line.iter().map(|b| if *b == b'\r' { b' ' } else { *b }));
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn fields(header: &[u8]) -> Vec<Field<'_>> {
    let mut fields: Vec<Field<'_>> = Vec::new();
    for (at, line) in header.split(|b| *b == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || is_mbox_line(at, line) {
            continue;
        }
        match (field_name(line), fields.last_mut()) {
            (Some(name), _) if !matches!(line[0], b' ' | b'\t') => {
                fields.push(Field { name, lines: vec![line] });
            }
            (_, Some(last)) => last.lines.push(line),
            _ => {}
        }
    }
    fields
}

/// The name before the colon in lower case; `None` if the line is no field (RFC 5322 section 2.2).
fn field_name(line: &[u8]) -> Option<String> {
    let colon = memchr::memchr(b':', line)?;
    // QUIRK: blanks before the colon are obsolete (RFC 5322 section 4.5) but readers take them.
    let name = line[..colon].trim_ascii_end();
    let fits = !name.is_empty() && name.iter().all(|b| (33..=126).contains(b));
    fits.then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}

// QUIRK: `git format-patch` and mbox files put a `From ` line in front; it is no part of the message.
fn is_mbox_line(at: usize, line: &[u8]) -> bool {
    at == 0 && (line.starts_with(b"From ") || line.starts_with(b">From "))
}

#[cfg(test)]
pub(crate) fn test_stamp() -> Stamp {
    let date = "2026-11-21T10:20:30+01:00[Europe/Berlin]".parse().unwrap();
    Stamp { date, unique: "c0ffee".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Result<Outgoing> {
        let bytes = text.as_bytes();
        let (end, _) = header_end(bytes).unwrap_or((bytes.len(), bytes.len()));
        prepare(&bytes[..end], &test_stamp(), None, None)
    }

    #[test]
    fn bcc_goes_and_what_is_missing_comes() {
        let out =
            whole("From: A <a@x.example>\nTo: b@x,\n\tc@x\nBCC : d@x,\n e@x\nCc: B@X, b@X\n\nhi").unwrap();
        let text = String::from_utf8(out.header).unwrap();
        assert_eq!(
            text,
            "From: A <a@x.example>\r\nTo: b@x,\r\n\tc@x\r\nCc: B@X, b@X\r\nDate: Sat, 21 Nov 2026 10:20:30 +0100\r\n\
             Message-ID: <20261121092030.c0ffee@x.example>\r\n\r\n"
        );
        let to: Vec<&str> = out.to.iter().map(Address::as_str).collect();
        assert_eq!(to, ["b@x", "c@x", "d@x", "e@x", "B@X"]);
        assert_eq!(out.from.unwrap().as_str(), "a@x.example");
    }

    #[test]
    fn resent_goes_to_those_it_is_resent_to() {
        let to = |text: &str| {
            let out = whole(text).unwrap();
            let header = String::from_utf8(out.header).unwrap();
            assert!(!header.to_ascii_lowercase().contains("bcc") && header.contains("To: old@x"), "{header}");
            out.to.iter().map(Address::as_str).collect::<Vec<_>>().join(" ")
        };
        let block = "Resent-From: a@x\nResent-Date: x\nResent-To: b@x\nResent-To: c@x\nresent-cc: d@x\n";
        let old = "From: a@x\nTo: old@x\nCc: old2@x\nBcc: old3@x\n\n";
        assert_eq!(to(&format!("{block}Resent-Bcc: e@x,\n f@x\n{old}")), "b@x c@x d@x e@x f@x");
        assert_eq!(to(&format!("Resent-Bcc: e@x\n{old}")), "e@x");
        // What was resent before does not go there again.
        let before = "Resent-From: z@x\nResent-To: y@x\nResent-Bcc: w@x\n";
        assert_eq!(to(&format!("{block}{before}{old}")), "b@x c@x d@x");
        assert_eq!(to(&format!("Resent-To: b@x\nReceived: x\n{before}{old}")), "b@x");
        let late = "Resent-From: a@x\nResent-From: a@x\nResent-To: b@x\nResent-Date: x\nResent-Reply-To: x\nResent-Cc: c@x\n";
        assert_eq!(to(&format!("Resent-Date: x\n{late}{old}")), "b@x c@x");
        assert_eq!(to(&format!("Received: x\n{block}{old}")), "b@x c@x d@x");
        assert_eq!(to(old), "old@x old2@x old3@x");
    }

    /// Comparing each with all before it would take minutes.
    #[test]
    fn many_recipients_are_each_there_once() {
        let list: Vec<String> = (0..60_000).map(|n| format!("n{n}@x")).collect();
        let out = whole(&format!("From: a@x\nTo: {0}\nCc: {0}\n\n", list.join(",\n "))).unwrap();
        assert!(out.to.iter().map(Address::as_str).eq(list));
    }

    #[test]
    fn as_cron_gives_it() {
        let home = Address::parse("me@by.example").unwrap();
        let header = b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@host> x\n";
        let out = prepare(header, &test_stamp(), None, Some(&home)).unwrap();
        let text = String::from_utf8(out.header).unwrap();
        let start = "From: Cron Daemon <me@by.example>\r\nTo: root <me@by.example>\r\nSubject: Cron <root@host> x\r\nDate: ";
        assert!(text.starts_with(start), "{text}");
        let sender = Mailbox { name: Some("A B".into()), address: home.clone() };
        let out = prepare(b"", &test_stamp(), Some(&sender), Some(&home)).unwrap();
        assert!(out.header.starts_with(b"From: A B <me@by.example>\r\nDate: "));
        assert_eq!(
            author(b"To: b@x\nFrom: A <a@x>\n\n").map(|from| from.to_string()).as_deref(),
            Some("a@x")
        );
        assert_eq!(author(b"From: root\n"), None);
    }

    #[test]
    fn what_is_there_stays() {
        let text = "From b@y Thu\r\nMessage-Id: <1@y>\r\nDate: x\r\nFrom: a@x\r\nSubject: \u{fc}\rz\r\n\r\n";
        let out = whole(text).unwrap();
        assert_eq!(out.message_id, "<1@y>");
        let wanted = "Message-Id: <1@y>\r\nDate: x\r\nFrom: a@x\r\nSubject: \u{fc} z\r\n\r\n";
        assert_eq!(String::from_utf8(out.header).unwrap(), wanted);
    }

    #[test]
    fn what_is_empty_is_missing() {
        let text =
            "Return-Path: <z@x>\nMessage-ID:\nFrom: a@x.example\nDate: \n \nTo: b@x\nMESSAGE-ID : \n\n";
        let out = whole(text).unwrap();
        assert_eq!(
            String::from_utf8(out.header).unwrap(),
            "From: a@x.example\r\nTo: b@x\r\nDate: Sat, 21 Nov 2026 10:20:30 +0100\r\n\
             Message-ID: <20261121092030.c0ffee@x.example>\r\n\r\n"
        );
        let out = whole("Message-ID: \nDate: x\nMessage-ID: <1@y>\nFrom: a@x\nDate:\n\n").unwrap();
        assert_eq!(
            String::from_utf8(out.header).unwrap(),
            "Date: x\r\nMessage-ID: <1@y>\r\nFrom: a@x\r\n\r\n"
        );
    }

    #[test]
    fn where_the_header_ends() {
        assert_eq!(header_end(b"A: b\r\n c\r\n\r\nbody"), Some((10, 12)));
        assert_eq!(header_end(b"A: b\nbody here\n\n"), Some((5, 5)));
        assert_eq!(header_end(b"A: b\n c"), None);
        assert_eq!(header_end(b"\n"), Some((0, 1)));
    }

    #[test]
    fn damaged_ones_are_refused() {
        for text in [
            "",
            "\n\nhello",
            "hello world\n\n",
            "To: b@x\n\n",
            "From: a@x\nTo: b@x, nobody\n\n",
            "From: a@x\nTo: <b@y> <c@y>\n\n",
        ] {
            assert_eq!(whole(text).map(|_| ()).map_err(|error| error.status()), Err(65), "{text:?}");
        }
    }
}
