//! The notice that a sender gets of a message that waits or was given up: a report as RFC 3464 lays down, with a text
//! for people in front and the message's header behind.
//!
//! Pure. What servers and headers said goes in without what could begin another field or part.

use std::fmt::Write;

use jiff::{Timestamp, Zoned, tz::TimeZone};

use super::address::Address;
use super::class::NOT_SENT;
use super::outgoing::header_end;
use crate::report::is_unsafe;

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// These recipients do not get it.
    Failure,
    /// These recipients have not got it yet; it is tried until then.
    Delay {
        /// When it is given up.
        until: Timestamp,
    },
}

/// What a notice says.
#[derive(Clone, Debug)]
pub struct Notice<'a> {
    /// Failure or delay.
    pub about: About,
    /// Who wrote the message, and now reads this.
    pub to: Option<Address>,
    /// Of the message, with its angle brackets.
    pub message_id: &'a str,
    /// Its name in the queue.
    pub queue_id: &'a str,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// Who is concerned.
    pub recipients: Vec<Recipient>,
    /// The beginning of the message; its header is shown.
    pub header: &'a [u8],
    /// Now.
    pub now: Zoned,
}

/// A recipient that a notice is about.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// The envelope address.
    pub to: Address,
    /// The last word on it.
    pub reply: String,
    /// How often it was tried.
    pub tries: u32,
}

impl Notice<'_> {
    /// The whole message, with CRLF line ends.
    pub fn write(&self) -> Vec<u8> {
        let boundary = format!("=_notice-{}", self.queue_id);
        let mut text = self.fields(&boundary);
        let _ = write!(text, "--{boundary}\nContent-Type: text/plain; charset=utf-8\n");
        let _ = write!(text, "Content-Transfer-Encoding: 8bit\n\n{}\n", self.words());
        let _ = write!(text, "--{boundary}\nContent-Type: message/delivery-status\n\n{}", self.status());
        let _ = write!(text, "--{boundary}\nContent-Type: text/rfc822-headers\n\n");
        let mut bytes = text.replace('\n', "\r\n").into_bytes();
        let end = header_end(self.header).map_or(self.header.len(), |(end, _)| end);
        for line in self.header[..end].split(|b| *b == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            // No header line begins like that but one that was made to end this part.
            if !line.starts_with(b"--") && !line.is_empty() {
                bytes.extend(line.iter().filter(|b| **b != b'\r'));
                bytes.extend_from_slice(b"\r\n");
            }
        }
        bytes.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        bytes
    }

    fn fields(&self, boundary: &str) -> String {
        let date = jiff::fmt::rfc2822::to_string(&self.now).unwrap_or_default();
        let subject = match self.about {
            About::Failure => "Your message was not delivered",
            About::Delay { .. } => "Your message is delayed",
        };
        let to = self.to.as_ref().map_or(String::new(), |to| format!("To: <{to}>\n"));
        let word = if self.about == About::Failure { "failed" } else { "waits" };
        let id = format!("{}.{word}.{}", self.queue_id, self.now.timestamp().as_microsecond());
        let thread = match self.message_id.starts_with('<') && !self.message_id.chars().any(is_unsafe) {
            true => format!("In-Reply-To: {0}\nReferences: {0}\n", self.message_id),
            false => String::new(),
        };
        format!(
            "Return-Path: <>\nFrom: mailloop <mailloop@mailloop.invalid>\n{to}Subject: {subject}\nDate: {date}\n\
             Message-ID: <{id}@mailloop.invalid>\n{thread}Auto-Submitted: auto-replied\nMIME-Version: 1.0\n\
             Content-Type: multipart/report; report-type=delivery-status;\n boundary=\"{boundary}\"\n\n"
        )
    }

    fn words(&self) -> String {
        let mut text = match self.about {
            About::Failure => "Your message did not reach:\n\n".to_string(),
            About::Delay { .. } => "Your message has not reached yet:\n\n".to_string(),
        };
        for each in &self.recipients {
            let _ = write!(text, "  {}\n    {}\n", each.to, plain(&each.reply));
        }
        let id = self.queue_id;
        let _ = match self.about {
            About::Failure => write!(
                text,
                "\nIt is kept in the queue as {id}:\n\n  mail-queue show {id}       what is known of it\n  \
                 mail-queue release {id}    try again\n  mail-queue drop {id}       forget it\n"
            ),
            About::Delay { until } => write!(
                text,
                "\nNothing is to be done: it is tried again until {}.\nIts name in the queue is {id}.\n",
                local(until)
            ),
        };
        text
    }

    /// RFC 3464 sections 2.2 and 2.3.
    fn status(&self) -> String {
        let mut text =
            format!("Reporting-MTA: dns; mailloop.invalid\nArrival-Date: {}\n", local(self.accepted));
        for each in &self.recipients {
            let (action, code) = match self.about {
                About::Failure => ("failed", status_code(&each.reply, '5')),
                About::Delay { .. } => ("delayed", status_code(&each.reply, '4')),
            };
            let kind = if each.to.is_ascii() { "rfc822" } else { "utf-8" };
            let _ =
                write!(text, "\nFinal-Recipient: {kind}; {}\nAction: {action}\nStatus: {code}\n", each.to);
            let kind = if is_smtp(&each.reply) { "smtp" } else { "x-mailloop" };
            let _ = writeln!(text, "Diagnostic-Code: {kind}; {}", plain(&each.reply));
            if let About::Delay { until } = self.about {
                let _ = writeln!(text, "Will-Retry-Until: {}", local(until));
            }
        }
        text + "\n"
    }
}

fn local(time: Timestamp) -> String {
    jiff::fmt::rfc2822::to_string(&time.to_zoned(TimeZone::UTC)).unwrap_or_default()
}

fn is_smtp(reply: &str) -> bool {
    reply.len() >= 3 && reply.bytes().take(3).all(|b| b.is_ascii_digit())
}

/// The enhanced code that the server gave (RFC 3463), or we in its place, or the one that says nothing more than `class`.
fn status_code(reply: &str, class: char) -> String {
    let own = reply.strip_prefix(NOT_SENT);
    let word = own.map_or_else(|| reply.split(' ').nth(1), |own| own.split(' ').next()).unwrap_or_default();
    let parts: Vec<&str> = word.split('.').collect();
    let is_code = parts.len() == 3
        && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    match (own.is_some() || is_smtp(reply)) && is_code && word.starts_with(class) {
        true => word.to_string(),
        false => format!("{class}.0.0"),
    }
}

/// On one line, and not over the line length of RFC 5322 section 2.1.1.
fn plain(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) { ' ' } else { c }).take(240).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(about: About, reply: &str) -> String {
        let recipients =
            vec![Recipient { to: Address::parse("b@x.example").unwrap(), reply: reply.into(), tries: 1 }];
        let notice = Notice {
            about,
            to: Some(Address::parse("a@x.example").unwrap()),
            message_id: "<1@x.example>",
            queue_id: "q1",
            accepted: "2026-11-21T10:00:00Z".parse().unwrap(),
            recipients,
            header: b"Subject: hi\r\n there\nX: \xff\n--=_notice-q1--\n\nsecret body",
            now: "2026-11-22T10:00:00Z[UTC]".parse().unwrap(),
        };
        String::from_utf8_lossy(&notice.write()).into_owned()
    }

    #[test]
    fn a_report_that_programs_and_people_read() {
        let text = notice(About::Failure, "550 5.1.1 no such\r\nuser");
        for wanted in [
            "Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"=_notice-q1\"",
            "To: <a@x.example>\r\n",
            "In-Reply-To: <1@x.example>\r\n",
            "Final-Recipient: rfc822; b@x.example\r\nAction: failed\r\nStatus: 5.1.1\r\n",
            "Diagnostic-Code: smtp; 550 5.1.1 no such  user\r\n",
            "Subject: hi\r\n there\r\n",
            "mail-queue release q1",
        ] {
            assert!(text.contains(wanted), "{wanted:?} in {text}");
        }
        assert!(!text.contains("secret body"), "{text}");
        assert_eq!(text.matches("--=_notice-q1--").count(), 1, "{text}");
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
        let text = notice(About::Failure, "not sent: 5.3.4 9 bytes, but the server takes at most 1");
        assert!(text.contains("Status: 5.3.4\r\nDiagnostic-Code: x-mailloop; not sent: 5.3.4 9 "), "{text}");
        let text = notice(About::Delay { until: "2026-11-26T10:00:00Z".parse().unwrap() }, "no route");
        assert!(
            text.contains("Action: delayed\r\nStatus: 4.0.0\r\nDiagnostic-Code: x-mailloop; no route\r\n"),
            "{text}"
        );
        assert!(text.contains("Will-Retry-Until: Thu, 26 Nov 2026 10:00:00 +0000"), "{text}");
    }
}
