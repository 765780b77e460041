//! Which mailboxes there are, and how they stand, in one exchange where the server can do that.

use super::value::{self, Value};
use super::{Imap, Listed, Opened};
use crate::error::Result;
use crate::mail::mailbox;

const STATUS: &str = "RETURN (STATUS (MESSAGES UIDNEXT UIDVALIDITY))";

impl Imap {
    /// The mailboxes that fit any of these names or patterns (`*`, and `%` within a level), each once, in the server's
    /// order. Those that cannot be opened are left out.
    pub fn list(&mut self, patterns: &[String]) -> Result<Vec<Listed>> {
        let words: Vec<String> =
            patterns.iter().map(|pattern| self.on_wire(pattern)).collect::<Result<_>>()?;
        let options = if self.has("LIST-STATUS") { format!(" {STATUS}") } else { String::new() };
        let commands = match words.as_slice() {
            [_, _, ..] if self.has("LIST-EXTENDED") => {
                vec![format!("LIST \"\" ({}){options}", words.join(" "))]
            }
            _ => words.iter().map(|word| format!("LIST \"\" {word}{options}")).collect(),
        };
        let mut listed: Vec<Listed> = Vec::new();
        for command in commands {
            for response in self.collect("listing mailboxes", &command)? {
                take(&response, self.utf8, &mut listed);
            }
        }
        Ok(listed)
    }
}

/// Takes in one LIST or STATUS response; others, and what makes no sense, are passed over.
fn take(response: &[u8], utf8: bool, listed: &mut Vec<Listed>) {
    let Some(values) = value::parse(response) else { return };
    let word = values.first().and_then(Value::text).unwrap_or_default().to_ascii_uppercase();
    match (word.as_str(), values.as_slice()) {
        ("LIST", [_, Value::List(attributes), delimiter, name, ..]) => {
            let closed = attributes.iter().filter_map(Value::text).any(|attribute| {
                ["\\NOSELECT", "\\NONEXISTENT"].contains(&attribute.to_ascii_uppercase().as_str())
            });
            let Some(name) = name_of(name, utf8).filter(|_| !closed) else { return };
            if !listed.iter().any(|have| have.name == name) {
                listed.push(Listed { name, delimiter: delimiter.text(), status: None });
            }
        }
        ("STATUS", [_, name, Value::List(items), ..]) => {
            let Some(name) = name_of(name, utf8) else { return };
            if let Some(one) = listed.iter_mut().find(|one| one.name == name) {
                one.status = Some(status(items));
            }
        }
        _ => {}
    }
}

fn name_of(value: &Value, utf8: bool) -> Option<String> {
    let name = value.text()?;
    let name = if utf8 { name } else { mailbox::from_wire(&name) };
    Some(if mailbox::is_inbox(&name) { "INBOX".into() } else { name })
}

fn status(items: &[Value]) -> Opened {
    let mut opened = Opened { uidvalidity: None, uidnext: None, exists: 0 };
    for pair in items.chunks_exact(2) {
        let (name, number) = (pair[0].text().unwrap_or_default().to_ascii_uppercase(), pair[1].number());
        match name.as_str() {
            "MESSAGES" => opened.exists = number.unwrap_or(0),
            "UIDNEXT" => opened.uidnext = number,
            "UIDVALIDITY" => opened.uidvalidity = number,
            _ => {}
        }
    }
    opened
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_how_they_stand() {
        let mut listed = Vec::new();
        for line in [
            &br#"LIST (\HasNoChildren) "/" inbox"#[..],
            br#"STATUS INBOX (MESSAGES 17 UIDNEXT 18 SIZE 5 UIDVALIDITY 3)"#,
            b"LIST () NIL {3}\r\na\"b (\"CHILDINFO\" (\"SUBSCRIBED\"))",
            br#"LIST (\Noselect) "/" "parent""#,
            br#"LIST () "." "&ZeVnLIqe-""#,
            b"LIST () garbage (",
        ] {
            take(line, false, &mut listed);
        }
        let names: Vec<&str> = listed.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["INBOX", "a\"b", "日本語"]);
        let inbox = Opened { uidvalidity: Some(3), uidnext: Some(18), exists: 17 };
        assert_eq!((listed[0].status.as_ref(), listed[0].delimiter.as_deref()), (Some(&inbox), Some("/")));
        assert_eq!(listed[1].delimiter, None);
    }
}
