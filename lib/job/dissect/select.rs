//! Which parts are wanted.

use crate::error::{self, Error};
use crate::mail::name::Sent;
use crate::mail::part::{Part, Tree};
use crate::mail::sniff::{self, Kind};

/// What to take out of a message: a part that any of these wants. Nothing asked for means PDFs.
#[derive(Clone, Debug, Default)]
pub struct Select {
    /// Every attachment: a leaf with a name, or said to be one, or that is no text.
    pub all: bool,
    /// Parts whose type, by its bytes or as the sender said, matches one of these globs (`*`, `?`).
    pub types: Vec<String>,
    /// Parts whose name, as sent, ends in a dot and one of these.
    pub extensions: Vec<String>,
    /// Parts whose name, as sent, matches one of these globs.
    pub names: Vec<String>,
    /// What is shown within the message and is no text: pictures of a newsletter.
    pub inline: bool,
    /// The texts of the message itself.
    pub text: bool,
    /// The parts with these numbers; where there are any, only they.
    pub parts: Vec<String>,
    /// Where PDFs are wanted: also what is merely called one.
    pub trust_label: bool,
}

/// What a part turned out to be.
#[derive(Debug)]
pub struct Looks {
    /// By its bytes.
    pub kind: Option<Kind>,
    /// The type to go by.
    pub media_type: String,
    /// As the sender called it.
    pub sent: Option<Sent>,
    is_attachment: bool,
}

impl Looks {
    /// Judges a part by the beginning of its decoded bytes.
    pub fn of(tree: &Tree, part: &Part, head: &[u8]) -> Looks {
        let sent = tree.name(part);
        let is_attachment = part.is_attachment(sent.is_some());
        let kind = match sniff::sniff(head) {
            // What lies in it is taken for itself.
            Some(sniff::PDF) if part.is_container => None,
            // A text may speak of PDFs without being one.
            Some(sniff::PDF) if !is_attachment && !sniff::begins_as_pdf(head) => None,
            kind => kind,
        };
        Looks { kind, media_type: sniff::judge(kind, &part.said), sent, is_attachment }
    }

    /// True for a PDF.
    pub fn is_pdf(&self) -> bool {
        self.kind == Some(sniff::PDF)
    }

    /// True if the sender calls it a PDF, by type or by name, and it is none.
    pub fn is_false_pdf(&self, part: &Part) -> bool {
        !self.is_pdf() && claims_pdf(part, self)
    }
}

impl Select {
    /// Every attachment.
    pub fn all() -> Select {
        Select { all: true, ..Select::default() }
    }

    /// True if the part is to be saved.
    pub fn takes(&self, part: &Part, looks: &Looks) -> bool {
        if !self.parts.is_empty() {
            return self.parts.contains(&part.number);
        }
        let name = looks.sent.as_ref().map(|sent| sent.text.as_str());
        self.takes_by_type(part, looks)
            || name.is_some_and(|name| self.names.iter().any(|glob| matches(glob, name)))
            || name.is_some_and(|name| self.extensions.iter().any(|wanted| ends_in(name, wanted)))
    }

    fn takes_by_type(&self, part: &Part, looks: &Looks) -> bool {
        let is_typed = |glob: &String| matches(glob, &looks.media_type) || matches(glob, &part.said);
        if self.types.iter().any(is_typed) {
            return true;
        }
        if part.is_message {
            return false;
        }
        let is_text = part.said.starts_with("text/");
        (self.all && (looks.is_attachment || looks.is_pdf()))
            || (self.wants_pdfs() && (looks.is_pdf() || (self.trust_label && claims_pdf(part, looks))))
            || (self.inline && !is_text && part.disposition.as_deref() != Some("attachment"))
            || (self.text && is_text && !looks.is_attachment)
    }

    /// The numbers that are asked for and that this message has.
    pub(super) fn numbers(&self, tree: &Tree) -> Vec<String> {
        let has = |number: &&String| tree.parts.iter().any(|part| part.number == **number);
        self.parts.iter().filter(has).cloned().collect()
    }

    /// True where nothing else was asked for.
    fn wants_pdfs(&self) -> bool {
        let others = [&self.types, &self.extensions, &self.names];
        !self.all && !self.inline && !self.text && others.iter().all(|list| list.is_empty())
    }
}

/// Which of the parts that were asked for by number some message had.
pub(super) struct Numbers {
    missing: Vec<String>,
    /// True once a message was read.
    read: bool,
    /// True if there was a message that was not read, which may have them.
    unread: bool,
}

impl Numbers {
    /// Of what is asked for.
    pub fn new(select: &Select) -> Numbers {
        Numbers { missing: select.parts.clone(), read: false, unread: false }
    }

    /// A message with these parts.
    pub fn read(&mut self, numbers: &[String]) {
        self.missing.retain(|number| !numbers.contains(number));
        self.read = true;
    }

    /// A message that is not read.
    pub fn pass(&mut self) {
        self.unread = true;
    }

    /// That no message has them; an empty input lacks nothing.
    pub fn error(&self) -> Option<Error> {
        let doing = || format!("cannot take part {}", self.missing.join(", "));
        (self.read && !self.unread && !self.missing.is_empty())
            .then(|| Error::new(error::Kind::NoInput, doing(), "no message has it").hint("see --list"))
    }
}

fn ends_in(name: &str, extension: &str) -> bool {
    let wanted = extension.trim_start_matches('.');
    name.rsplit_once('.').is_some_and(|(_, has)| has.trim().eq_ignore_ascii_case(wanted))
}

/// True if the whole text matches; `*` stands for anything, `?` for one character; case does not matter.
fn matches(glob: &str, text: &str) -> bool {
    let lower = |text: &str| text.to_lowercase().chars().collect::<Vec<_>>();
    let (glob, text) = (lower(glob), lower(text));
    let (mut g, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match glob.get(g) {
            Some('*') => {
                star = Some((g, t));
                g += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                g += 1;
                t += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                (g, t) = (at + 1, from + 1);
            }
        }
    }
    glob[g..].iter().all(|c| *c == '*')
}

/// True if the sender calls it a PDF, by type or by name.
fn claims_pdf(part: &Part, looks: &Looks) -> bool {
    let by_name = || looks.sent.as_ref().is_some_and(|sent| ends_in(&sent.text, "pdf"));
    !part.is_message && (matches!(part.said.as_str(), "application/pdf" | "application/x-pdf") || by_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        assert!(matches("image/*", "image/png"));
        assert!(matches("*/PDF", "application/pdf"));
        assert!(matches("a?c*e", "abcde") && matches("*", "") && matches("**b", "ab"));
        assert!(matches("\u{c9}t?.*", "\u{e9}t\u{e9}.pdf"));
        assert!(!matches("image/*", "text/html") && !matches("a", "ab") && !matches("?", ""));
        assert!(ends_in("a.PDF", "pdf") && ends_in("a.tar.gz", ".gz") && !ends_in("pdf", "pdf"));
    }
}
