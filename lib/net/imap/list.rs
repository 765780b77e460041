//! Which mailboxes there are, and how they stand, in one exchange where the server can do that.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::value::{self, Value};
use super::{Imap, LONGEST_SET, Listed, Opened};
use crate::error::{Error, Kind, Result};
use crate::mail::mailbox;

const STATUS: &str = "RETURN (STATUS (MESSAGES UIDNEXT UIDVALIDITY))";

impl Imap {
    /// The mailboxes that fit any of these names or patterns (`*`, and `%` within a level), each once, in the server's
    /// order. Those that cannot be opened are left out.
    pub fn list(&mut self, patterns: &[String]) -> Result<Vec<Listed>> {
        let words: Vec<String> =
            patterns.iter().map(|pattern| self.on_wire(pattern)).collect::<Result<_>>()?;
        let options = if self.has("LIST-STATUS") { format!(" {STATUS}") } else { String::new() };
        let commands: Vec<String> = match words.as_slice() {
            [_, _, ..] if self.has("LIST-EXTENDED") => {
                together(&words).iter().map(|words| format!("LIST \"\" ({words}){options}")).collect()
            }
            _ => words.iter().map(|word| format!("LIST \"\" {word}{options}")).collect(),
        };
        let mut listed = Names::default();
        for command in commands {
            for response in self.collect("listing mailboxes", &command)? {
                listed.take(&response, self.utf8);
                if listed.all.len() > MOST {
                    let words = self.words("listing mailboxes");
                    let why = format!("the server says that there are more than {MOST}");
                    return Err(Error::new(Kind::Protocol, words, why));
                }
            }
        }
        Ok(listed.all)
    }
}

/// The words, as many in a line as servers take.
fn together(words: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut().filter(|line| line.len() + word.len() < LONGEST_SET) {
            Some(line) => *line = format!("{line} {word}"),
            None => lines.push(word.clone()),
        }
    }
    lines
}

/// No account has more mailboxes; a server that says so has us make as many directories.
const MOST: usize = 100_000;
/// Longer names fit nowhere.
const LONGEST_NAME: usize = 4096;

/// What is listed, and where each name stands in it.
#[derive(Default)]
struct Names {
    all: Vec<Listed>,
    places: HashMap<String, usize>,
}

impl Names {
    /// Takes in one LIST or STATUS response; others, and what makes no sense, are passed over.
    fn take(&mut self, response: &[u8], utf8: bool) {
        let Some(values) = value::parse(response) else { return };
        let word = values.first().and_then(Value::text).unwrap_or_default().to_ascii_uppercase();
        match (word.as_str(), values.as_slice()) {
            ("LIST", [_, Value::List(attributes), delimiter, name, ..]) => {
                let closed = attributes.iter().filter_map(Value::text).any(|attribute| {
                    ["\\NOSELECT", "\\NONEXISTENT"].contains(&attribute.to_ascii_uppercase().as_str())
                });
                let Some(name) = name_of(name, utf8).filter(|_| !closed) else { return };
                if let Entry::Vacant(place) = self.places.entry(name.clone()) {
                    place.insert(self.all.len());
                    self.all.push(Listed { name, delimiter: delimiter.text(), status: None });
                }
            }
            ("STATUS", [_, name, Value::List(items), ..]) => {
                let Some(name) = name_of(name, utf8) else { return };
                if let Some(place) = self.places.get(&name) {
                    self.all[*place].status = Some(status(items));
                }
            }
            _ => {}
        }
    }
}

fn name_of(value: &Value, utf8: bool) -> Option<String> {
    let name = value.text().filter(|name| name.len() <= LONGEST_NAME)?;
    let name = if utf8 { name } else { mailbox::from_wire(&name) };
    Some(if mailbox::is_inbox(&name) { "INBOX".into() } else { name })
}

fn status(items: &[Value]) -> Opened {
    let mut opened = Opened { uidvalidity: None, uidnext: None, exists: None };
    for pair in items.chunks_exact(2) {
        let (name, number) = (pair[0].text().unwrap_or_default().to_ascii_uppercase(), pair[1].number());
        match name.as_str() {
            "MESSAGES" => opened.exists = number,
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
        let mut names = Names::default();
        for line in [
            &br#"LIST (\HasNoChildren) "/" inbox"#[..],
            br#"STATUS INBOX (MESSAGES 17 UIDNEXT 18 SIZE 5 UIDVALIDITY 3)"#,
            b"LIST () NIL {3}\r\na\"b (\"CHILDINFO\" (\"SUBSCRIBED\"))",
            br#"LIST (\Noselect) "/" "parent""#,
            br#"LIST () "." "&ZeVnLIqe-""#,
            b"LIST () garbage (",
        ] {
            names.take(line, false);
        }
        let listed = names.all;
        let names: Vec<&str> = listed.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["INBOX", "a\"b", "日本語"]);
        let inbox = Opened { uidvalidity: Some(3), uidnext: Some(18), exists: Some(17) };
        assert_eq!((listed[0].status.as_ref(), listed[0].delimiter.as_deref()), (Some(&inbox), Some("/")));
        assert_eq!(listed[1].delimiter, None);
    }
}
