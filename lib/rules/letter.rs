//! What rules judge of a message, from the bytes of its header; and mail on which nothing is ever done.

use crate::mail::header::{self, Field};
use crate::mail::part;
use crate::mail::summary::outer_from;

use super::Fact;

/// What the header of an outermost message says; what nobody can know is an error in words.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The only address in From.
    pub from: Fact<String>,
    /// The addresses in To and Cc.
    pub to: Fact<Vec<String>>,
    /// The subject, decoded; empty where there is none.
    pub subject: Fact<String>,
    /// The identifier of the mailing list, empty where that gives itself none; `None` where it came through none.
    pub list: Fact<Option<String>>,
    /// Why nothing must be done on it, in words that follow "its message": it is our own, a machine's answer, or a
    /// bounce.
    pub brake: Option<String>,
}

impl Letter {
    /// A letter of which nothing is known, and why.
    pub fn unknown(why: &str) -> Letter {
        let why = || why.to_string();
        Letter { from: Err(why()), to: Err(why()), subject: Err(why()), list: Ok(None), brake: None }
    }

    /// Reads a header that is whole; the body may be missing.
    pub fn of(message: &[u8]) -> Letter {
        let head = part::head(message);
        let all = |name: &'static str| header::fields(head).filter(move |field| field.is(name));
        let to = all("To").chain(all("Cc")).flat_map(|field| field.addresses()).collect();
        let mut subjects = all("Subject");
        let subject = match (subjects.next(), subjects.next()) {
            (_, Some(_)) => Err("its message has more than one Subject field".into()),
            (subject, None) => Ok(subject.map(|field| field.text()).unwrap_or_default()),
        };
        let mut lists = all("List-Id");
        let list = match (lists.next(), lists.next()) {
            (_, Some(_)) => Err("its message has more than one List-Id field".into()),
            (Some(list), None) => Ok(Some(identifier(&list.text()))),
            (None, None) => Ok(header::fields(head).any(|field| tells_of_a_list(&field)).then(String::new)),
        };
        Letter { from: sender(message), to: Ok(to), subject, list, brake: brake(head) }
    }
}

fn sender(message: &[u8]) -> Fact<String> {
    let from = outer_from(message);
    from.only().map(Into::into).ok_or_else(|| {
        format!(
            "its message has {} From fields with {} addresses; exactly one of each can be judged",
            from.fields,
            from.addresses.len()
        )
    })
}

/// `Name of it <list.example.org>` is `list.example.org` (RFC 2919 section 3).
fn identifier(value: &str) -> String {
    let inner = value.rsplit_once('<').map_or(value, |(_, rest)| rest);
    inner.split('>').next().unwrap_or_default().trim().to_string()
}

/// What lists write that have no List-Id, or had none when that was new (RFC 2369; Precedence was never a standard).
fn tells_of_a_list(field: &Field<'_>) -> bool {
    field.is("List-Post") || field.is("Mailing-List") || field.is("Precedence") && first_word(field) == "list"
}

fn brake(head: &[u8]) -> Option<String> {
    header::fields(head).find_map(|field| {
        let name = String::from_utf8_lossy(field.name).to_ascii_lowercase();
        match name.as_str() {
            // RFC 3834 section 5: whatever is not `no` was made by a machine.
            "auto-submitted" if first_word(&field) != "no" => {
                Some(format!("was sent by a machine (Auto-Submitted: {})", first_word(&field)))
            }
            // RFC 5321 section 4.5.5: notices have a null return path.
            "return-path" if without_comments(&field.text()).replace(char::is_whitespace, "") == "<>" => {
                Some("is a bounce (its return path is empty)".into())
            }
            "content-type" if first_word(&field) == "multipart/report" => {
                Some("is a report of a mail server (multipart/report)".into())
            }
            _ if name.starts_with("mailloop-") => Some(format!("is one of ours, come back ({name})")),
            _ => None,
        }
    })
}

/// What stands before parameters and comments, in small letters.
fn first_word(field: &Field<'_>) -> String {
    let text = without_comments(&field.text());
    let end = text.find(|c: char| c == ';' || c.is_whitespace()).unwrap_or(text.len());
    text.get(..end).unwrap_or_default().to_ascii_lowercase()
}

/// `(x) no` and `multipart/(x)report` are `no` and `multipart/report` (RFC 5322 section 3.2.2).
fn without_comments(text: &str) -> String {
    let (mut out, mut depth) = (String::new(), 0usize);
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out.trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_known_by_their_header() {
        for head in [
            "Auto-Submitted: auto-replied",
            "auto-submitted: Auto-Generated; x=y",
            "Auto-Submitted: (no) auto-notified",
            "Auto-Submitted:",
            "Return-Path: <>",
            "Return-Path:  <>  ",
            "Return-path: <\t>",
            "Return-Path: (none)\n <> (bounce)",
            "Content-Type: multipart/report; report-type=delivery-status",
            "Content-Type: Multipart/Report",
            "Content-Type: multipart/report(x)",
            "Mailloop-Probe: 1",
            "X: y\nmailloop-x: y",
        ] {
            assert!(Letter::of(format!("From: a@b\n{head}\n\n").as_bytes()).brake.is_some(), "{head}");
        }
        for head in [
            "Auto-Submitted: no",
            "Auto-Submitted: NO (I wrote it)",
            "Return-Path: <a@b>",
            "Content-Type: multipart/mixed; boundary=report",
            "X-Mailloop: y",
            "Subject: x\n\nAuto-Submitted: auto-replied",
        ] {
            assert_eq!(Letter::of(format!("From: a@b\n{head}\n\n").as_bytes()).brake, None, "{head}");
        }
    }

    #[test]
    fn what_is_doubtful_is_not_known() {
        let letter = Letter::of(
            b"To: x@y, z@y\nCc: c@y\nSubject: =?utf-8?q?h=C3=A4?=\nList-Id: The <b> list <l.y>\n\n",
        );
        assert_eq!(letter.to.unwrap(), ["x@y", "z@y", "c@y"]);
        assert_eq!((letter.subject.unwrap(), letter.list.unwrap()), ("hä".into(), Some("l.y".into())));
        assert!(letter.from.is_err());
        for (head, list) in [
            ("List-Post: <mailto:l@y>", Some("")),
            ("precedence: List", Some("")),
            ("Mailing-List: list l@y", Some("")),
            ("Precedence: list\nList-Id: <l.y>", Some("l.y")),
            ("Precedence: bulk", None),
            ("List-Unsubscribe: <mailto:x@y>", None),
        ] {
            let letter = Letter::of(format!("From: a@b\n{head}\n\n").as_bytes());
            assert_eq!(letter.list.unwrap().as_deref(), list, "{head}");
        }
        let twice = Letter::of(b"Subject: a\nsubject: b\nList-Id: <a>\nList-Id: <b>\n\n");
        assert!(twice.subject.is_err() && twice.list.is_err());
    }
}
