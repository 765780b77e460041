//! SEARCH: every key of RFC 3501 section 6.4.4, texts compared without case after decoding.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::SystemTime;

use imap_codec::imap_types::core::Charset;
use imap_codec::imap_types::datetime::NaiveDate;
use imap_codec::imap_types::search::SearchKey as Key;
use jiff::civil::Date;

use super::mime::{self, Part};
use super::view::{Named, View, ranges};
use super::words::{decode_body, decode_words};
use super::{Answer, Answered, Session, header};
use crate::sandbox::maildir::{Flags, Message};

/// Of a text part only so much is searched, in bytes.
const TEXT_LIMIT: u64 = 16 << 20;

impl Session<'_> {
    pub(super) fn search(
        &mut self,
        charset: Option<&Charset<'_>>,
        keys: &[Key<'_>],
        by_uid: bool,
    ) -> Answered {
        let Some(view) = &self.view else { return Ok(Answer::bad("select a mailbox first")) };
        let name = charset.map(|charset| charset.as_ref().to_ascii_uppercase());
        if name.is_some_and(|name| !matches!(name.as_str(), "UTF-8" | "US-ASCII")) {
            return Ok(Answer::no("[BADCHARSET (UTF-8 US-ASCII)] only these"));
        }
        self.wire.write_all(b"* SEARCH")?;
        for named in view.all() {
            // A message that went away meanwhile is not found.
            let Some(message) = view.mailbox.message(named.uid) else { continue };
            let mut candidate = Candidate { view, named, message, file: None, head: None, parts: None };
            if all(&mut candidate, keys)? {
                write!(self.wire, " {}", if by_uid { named.uid } else { named.number })?;
            }
        }
        self.wire.write_all(b"\r\n")?;
        Ok(Answer::ok("that is all"))
    }
}

/// A message under test, read only as far as the keys ask.
struct Candidate<'a> {
    view: &'a View,
    named: Named,
    message: Message,
    file: Option<File>,
    head: Option<Vec<u8>>,
    parts: Option<Part>,
}

fn all(candidate: &mut Candidate<'_>, keys: &[Key<'_>]) -> io::Result<bool> {
    for key in keys {
        if !matches(candidate, key)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn matches(it: &mut Candidate<'_>, key: &Key<'_>) -> io::Result<bool> {
    let flags = it.message.flags;
    let recent = it.view.is_recent(it.named.uid);
    let has_word = |word: &str| it.message.keywords.iter().any(|other| other.eq_ignore_ascii_case(word));
    Ok(match key {
        Key::And(keys) => all(it, keys.as_ref())?,
        Key::Or(one, other) => matches(it, one)? || matches(it, other)?,
        Key::Not(key) => !matches(it, key)?,
        Key::All => true,
        Key::SequenceSet(set) => within(it.named.number, &ranges(set, it.view.len() as u32)),
        Key::Uid(set) => {
            let last = it.view.all().last().map_or(0, |named| named.uid);
            within(it.named.uid, &ranges(set, last))
        }
        Key::Answered => flags.has(Flags::ANSWERED),
        Key::Deleted => flags.has(Flags::DELETED),
        Key::Draft => flags.has(Flags::DRAFT),
        Key::Flagged => flags.has(Flags::FLAGGED),
        Key::Seen => flags.has(Flags::SEEN),
        Key::Unanswered => !flags.has(Flags::ANSWERED),
        Key::Undeleted => !flags.has(Flags::DELETED),
        Key::Undraft => !flags.has(Flags::DRAFT),
        Key::Unflagged => !flags.has(Flags::FLAGGED),
        Key::Unseen => !flags.has(Flags::SEEN),
        Key::Recent => recent,
        Key::New => recent && !flags.has(Flags::SEEN),
        Key::Old => !recent,
        Key::Keyword(word) => has_word(word.as_ref()),
        Key::Unkeyword(word) => !has_word(word.as_ref()),
        Key::Larger(size) => it.message.size > u64::from(*size),
        Key::Smaller(size) => it.message.size < u64::from(*size),
        Key::Before(date) => it.arrived() < wanted(date),
        Key::On(date) => it.arrived() == wanted(date),
        Key::Since(date) => it.arrived() >= wanted(date),
        Key::SentBefore(date) => it.sent()?.is_some_and(|sent| Some(sent) < wanted(date)),
        Key::SentOn(date) => it.sent()?.is_some_and(|sent| Some(sent) == wanted(date)),
        Key::SentSince(date) => it.sent()?.is_some_and(|sent| Some(sent) >= wanted(date)),
        Key::Bcc(text) => it.field_has("Bcc", text.as_ref())?,
        Key::Cc(text) => it.field_has("Cc", text.as_ref())?,
        Key::From(text) => it.field_has("From", text.as_ref())?,
        Key::Subject(text) => it.field_has("Subject", text.as_ref())?,
        Key::To(text) => it.field_has("To", text.as_ref())?,
        Key::Header(name, text) => {
            let name = String::from_utf8_lossy(name.as_ref()).into_owned();
            it.field_has(&name, text.as_ref())?
        }
        Key::Body(text) => it.body_has(&folded(text.as_ref()))?,
        Key::Text(text) => {
            let text = folded(text.as_ref());
            folded(decode_words(&header::unfold(it.head()?)).as_bytes()).contains(&text)
                || it.body_has(&text)?
        }
    })
}

impl Candidate<'_> {
    fn arrived(&self) -> Option<Date> {
        let date: SystemTime = self.view.mailbox.date(&self.message);
        let stamp = jiff::Timestamp::try_from(date).ok()?;
        Some(stamp.to_zoned(jiff::tz::TimeZone::UTC).date())
    }

    /// The day in the Date field, whatever its zone (RFC 3501: "disregarding time and timezone").
    fn sent(&mut self) -> io::Result<Option<Date>> {
        let value = header::value(self.head()?, "Date").unwrap_or_default();
        Ok(day_in(&String::from_utf8_lossy(&value)))
    }

    /// An empty text is found in every field of that name.
    fn field_has(&mut self, name: &str, text: &[u8]) -> io::Result<bool> {
        let text = folded(text);
        let named = |field: &header::Field<'_>| field.name.eq_ignore_ascii_case(name.as_bytes());
        let value = |field: header::Field<'_>| folded(decode_words(&header::unfold(field.value)).as_bytes());
        Ok(header::fields(self.head()?).filter(named).any(|field| value(field).contains(&text)))
    }

    fn body_has(&mut self, text: &str) -> io::Result<bool> {
        if self.parts.is_none() {
            let Some(file) = self.file()? else { return Ok(false) };
            file.seek(SeekFrom::Start(0))?;
            self.parts = Some(mime::whole(&mut *file)?);
        }
        let Some(root) = self.parts.take() else { return Ok(false) };
        let mut found = false;
        for part in root.leaves().into_iter().filter(|part| part.is_text()) {
            let Some(file) = self.file()? else { break };
            file.seek(SeekFrom::Start(part.body.start))?;
            let mut body = Vec::new();
            file.take((part.body.end - part.body.start).min(TEXT_LIMIT)).read_to_end(&mut body)?;
            let encoding = header::value(&part.head, "Content-Transfer-Encoding").unwrap_or_default();
            let decoded = decode_body(&body, &encoding, part.content.get("charset"));
            found = folded(decoded.as_bytes()).contains(text);
            if found {
                break;
            }
        }
        self.parts = Some(root);
        Ok(found)
    }

    fn head(&mut self) -> io::Result<&[u8]> {
        if self.head.is_none() {
            let head = match self.file()? {
                Some(file) => {
                    file.seek(SeekFrom::Start(0))?;
                    mime::head(file, 0)?.head
                }
                None => Vec::new(),
            };
            self.head = Some(head);
        }
        Ok(self.head.as_deref().unwrap_or(&[]))
    }

    fn file(&mut self) -> io::Result<Option<&mut File>> {
        if self.file.is_none() {
            self.file = self.view.mailbox.open_message(self.named.uid)?;
        }
        Ok(self.file.as_mut())
    }
}

fn within(n: u32, ranges: &[(u32, u32)]) -> bool {
    ranges.iter().any(|(low, high)| (*low..=*high).contains(&n))
}

/// Without case.
fn folded(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).to_lowercase()
}

fn wanted(date: &NaiveDate) -> Option<Date> {
    date.as_ref().to_string().parse().ok()
}

/// `[day-name ","] 14 Nov 2026 …`: day, month and year wherever the day stands first.
fn day_in(text: &str) -> Option<Date> {
    let after = text.split_once(',').map_or(text, |(_, after)| after);
    let mut words = after.split(|c: char| c.is_whitespace() || c == '-').filter(|word| !word.is_empty());
    let day: i8 = words.next()?.parse().ok()?;
    let name = words.next()?.get(..3)?.to_ascii_lowercase();
    let months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let month = months.iter().position(|month| *month == name)? + 1;
    let year: i16 = words.next()?.parse().ok()?;
    // RFC 5322 section 4.3: years of two or three digits.
    let year = match year {
        0..50 => year + 2000,
        50..1000 => year + 1900,
        _ => year,
    };
    Date::new(year, i8::try_from(month).ok()?, day).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days() {
        let day = Date::new(2026, 11, 4).unwrap();
        for text in ["Wed, 4 Nov 2026 23:59:59 -1200", "04 Nov 26 00:00 GMT", "Wed,  4 November 2026"] {
            assert_eq!(day_in(text), Some(day), "{text}");
        }
        assert_eq!(day_in("yesterday"), None);
        assert_eq!(day_in(""), None);
    }
}
