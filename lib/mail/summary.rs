//! What a message says of itself: sender, recipients, subject, date; from its bytes, never from a record.

use serde::Serialize;

use super::header::{self, Field};
use super::part;

/// The facts of a message that records carry; what is unknown is `None` or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// `<left@right>`, as written.
    pub message_id: Option<String>,
    /// The addresses of `From`, bare.
    pub from: Vec<String>,
    /// The addresses of `To`, bare.
    pub to: Vec<String>,
    /// The subject, decoded.
    pub subject: Option<String>,
    /// RFC 3339 with the sender's offset.
    pub date: Option<String>,
}

impl Summary {
    /// Reads the head of a message; the body may be missing.
    pub fn of(message: &[u8]) -> Summary {
        let mut summary = Summary::default();
        for field in header::fields(part::head(message)) {
            summary.take(&field);
        }
        summary
    }

    /// The first field of a kind counts, but for recipients.
    fn take(&mut self, field: &Field) {
        if field.is("Message-ID") && self.message_id.is_none() {
            self.message_id = Some(field.text()).filter(|id| !id.is_empty());
        } else if field.is("From") && self.from.is_empty() {
            self.from = field.addresses();
        } else if field.is("To") {
            self.to.extend(field.addresses());
        } else if field.is("Subject") && self.subject.is_none() {
            self.subject = Some(field.text());
        } else if field.is("Date") && self.date.is_none() {
            self.date = header::date(field.value);
        }
    }
}

/// The `From` fields of the outer head, for rules that trust a sender.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FromHeader {
    /// How many `From` fields there are; RFC 5322 section 3.6 allows one.
    pub fields: usize,
    /// The addresses in all of them.
    pub addresses: Vec<String>,
    /// True if one of them uses group syntax (`team: a@b;`), whose name readers show in the address's stead.
    pub groups: bool,
}

impl FromHeader {
    /// The sender, if there is exactly one field with exactly one address outside any group; readers disagree about
    /// anything else, and so it can prove nothing.
    pub fn only(&self) -> Option<&str> {
        match (self.fields, self.addresses.as_slice()) {
            (1, [address]) if !self.groups => Some(address),
            _ => None,
        }
    }
}

/// Reads the `From` fields of a message's own head (not of messages inside it).
pub fn outer_from(message: &[u8]) -> FromHeader {
    let mut from = FromHeader::default();
    for field in header::fields(part::head(message)).filter(|field| field.is("From")) {
        from.fields += 1;
        from.addresses.extend(field.addresses());
        from.groups |= field.has_groups();
    }
    from
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b"From: =?utf-8?Q?J=C3=B6?= <j@by.example>\r\nTo: a@b, c@d\r\nCc: e@f\r\n\
        Subject: =?utf-8?Q?h=C3=A4?=\r\n =?utf-8?Q?usl?=\r\nMessage-ID: <1@x>\r\n\
        Date: Sat, 21 Nov 2026 10:00:00 -0500\r\n\r\nFrom: not@me\r\n";

    #[test]
    fn the_head_as_facts() {
        let summary = Summary::of(MESSAGE);
        assert_eq!(summary.from, ["j@by.example"]);
        assert_eq!(summary.to, ["a@b", "c@d"]);
        assert_eq!(summary.subject.as_deref(), Some("h\u{e4}usl"));
        assert_eq!(summary.message_id.as_deref(), Some("<1@x>"));
        assert_eq!(summary.date.as_deref(), Some("2026-11-21T10:00:00-05:00"));
        assert_eq!(Summary::of(b""), Summary::default());
    }

    #[test]
    fn two_senders_prove_nothing() {
        assert_eq!(outer_from(MESSAGE).only(), Some("j@by.example"));
        assert_eq!(outer_from(b"From: a@b\nfrom: c@d\n\n").only(), None);
        assert_eq!(outer_from(b"From: a@b, c@d\n\n").only(), None);
        assert_eq!(outer_from(b"From: group: a@x;\n\n").only(), None);
        assert_eq!(outer_from(b"From: boss@y: a@x;\n\n").only(), None);
        assert_eq!(outer_from(b"From: \"a: b\" <a@b>\n\n").only(), Some("a@b"));
        assert_eq!(outer_from(b"From : a@b\n\n").only(), Some("a@b"));
        assert_eq!(outer_from(b"From mbox\nFrom: a@b\n\n").only(), Some("a@b"));
    }
}
