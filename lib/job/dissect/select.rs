//! Which parts are wanted.

use crate::mail::part::{Part, Tree};
use crate::mail::sniff::{self, Kind};

/// What to take out of a message.
#[derive(Clone, Debug, Default)]
pub enum Select {
    /// What is a PDF by its bytes.
    #[default]
    Pdf,
    /// Every attachment: a leaf with a name, or said to be one, or that is no text.
    All,
    /// Parts whose type, by its bytes or as the sender said, matches one of these globs (`*`, `?`).
    Types(Vec<String>),
}

/// What a part turned out to be.
#[derive(Debug)]
pub struct Looks {
    /// By its bytes.
    pub kind: Option<Kind>,
    /// The type to go by.
    pub media_type: String,
}

impl Looks {
    /// Judges a part by the beginning of its decoded bytes.
    pub fn of(tree: &Tree, part: &Part, head: &[u8]) -> Looks {
        let shown = !tree.is_attachment(part);
        let kind = match sniff::sniff(head) {
            // A text may speak of PDFs without being one.
            Some(sniff::PDF) if shown && !sniff::begins_as_pdf(head) => None,
            kind => kind,
        };
        Looks { kind, media_type: sniff::judge(kind, &part.said) }
    }

    /// True for a PDF.
    pub fn is_pdf(&self) -> bool {
        self.kind == Some(sniff::PDF)
    }
}

impl Select {
    /// True if the part is to be saved.
    pub fn takes(&self, tree: &Tree, part: &Part, looks: &Looks) -> bool {
        match self {
            Select::Pdf => !part.is_message && looks.is_pdf(),
            Select::All => !part.is_message && (tree.is_attachment(part) || looks.is_pdf()),
            Select::Types(globs) => {
                globs.iter().any(|glob| matches(glob, &looks.media_type) || matches(glob, &part.said))
            }
        }
    }
}

/// True if the whole text matches; `*` stands for anything, `?` for one character; case does not matter.
fn matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.to_ascii_lowercase().into_bytes(), text.to_ascii_lowercase().into_bytes());
    let (mut g, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g, t));
                g += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => {
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
    glob[g..].iter().all(|c| *c == b'*')
}

/// True if the sender calls it a PDF, by type or by name.
pub fn claims_pdf(tree: &Tree, part: &Part) -> bool {
    let by_name = || tree.name(part).is_some_and(|name| name.text.to_ascii_lowercase().ends_with(".pdf"));
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
        assert!(!matches("image/*", "text/html") && !matches("a", "ab") && !matches("?", ""));
    }
}
