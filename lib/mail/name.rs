//! File names: what the sender called a part, and the only kind of name that may be created on disk.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use unicode_normalization::UnicodeNormalization;

use super::header;
use super::param::Value;
use crate::report;

/// The longest name in bytes; file systems allow 255, the rest is left for suffixes of others.
pub const LONGEST: usize = 200;
/// The longest extension that is kept when a name is shortened.
const LONGEST_EXTENSION: usize = 16;
/// What a part without any usable name is called.
const NAMELESS: &str = "attachment";

/// What the sender called a part; both may hold anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The name, decoded.
    pub text: String,
    /// The same read as a path, which is what a [`SafeName`] is made of.
    pub path: String,
}

/// The name in a part's head, decoded: `filename*` over `filename` over `name*` over `name`
/// (RFC 2183 section 2.3, RFC 2231).
pub fn sent(head: &[u8]) -> Option<Sent> {
    let mut disposition = None;
    let mut kind = None;
    for field in header::fields(head) {
        if disposition.is_none() && field.is("Content-Disposition") {
            disposition = Some(Value::parse(field.value));
        } else if kind.is_none() && field.is("Content-Type") {
            kind = Some(Value::parse(field.value));
        }
    }
    // QUIRK: some mailers put `name` into the disposition and `filename` into the type.
    let sources = [(&disposition, "filename"), (&kind, "name"), (&disposition, "name"), (&kind, "filename")];
    sources
        .into_iter()
        .filter_map(|(value, param)| value.as_ref()?.get(param))
        .map(|param| Sent { text: param.text.trim().to_string(), path: param.path })
        .find(|name| !name.text.is_empty())
}

/// One path component that is safe to create and to show: NFC, at most [`LONGEST`] bytes, no separators, controls,
/// bidi or invisible characters, no leading dot or dash, nothing that Windows reserves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SafeName(String);

impl SafeName {
    /// Makes a name safe; `extension` (of the content, without a dot) is added where the name has none.
    ///
    /// Whatever comes in, a name comes out; two different names may become the same one.
    pub fn new(sent: Option<&str>, extension: Option<&str>) -> SafeName {
        let name = clean(last_component(sent.unwrap_or_default()));
        let mut name = if name.is_empty() { NAMELESS.to_string() } else { name };
        if extension_of(&name).is_none()
            && let Some(extension) = extension
        {
            name = shorten(&name, LONGEST - extension.len().min(LONGEST_EXTENSION) - 1);
            name.push('.');
            name.push_str(extension);
            // An extension from elsewhere gets no trust either.
            name = clean(&name);
        }
        SafeName(unreserve(shorten(&name, LONGEST)))
    }

    /// The same name for other bytes: `hw1.pdf` becomes `hw1-3fa2b1c9.pdf`. `digits` are as many hex digits of
    /// the bytes' digest as are wanted, so that neither order nor number of files changes it.
    pub fn with_digest(&self, digits: &str) -> SafeName {
        let extension = extension_of(&self.0).map(|extension| format!(".{extension}")).unwrap_or_default();
        let stem = self.0.strip_suffix(&extension).unwrap_or(&self.0);
        let digits: String = digits.chars().filter(char::is_ascii_hexdigit).take(64).collect();
        let room = LONGEST.saturating_sub(extension.len() + digits.len() + 1);
        SafeName(format!("{}-{digits}{extension}", cut(stem, room)))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SafeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<OsStr> for SafeName {
    fn as_ref(&self) -> &OsStr {
        OsStr::new(&self.0)
    }
}

impl AsRef<Path> for SafeName {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

/// What stands after the last separator of either system that has something after it.
fn last_component(name: &str) -> &str {
    let is_name = |part: &&str| part.chars().any(|c| !matches!(c, '.' | ' '));
    name.rsplit(['/', '\\']).find(is_name).unwrap_or_default()
}

fn clean(name: &str) -> String {
    // Canonical forms of allowed characters can be forbidden ones (U+037E is a semicolon), so composing comes first.
    let name: String = name.nfc().filter_map(allowed).collect();
    let mut name: String = name.nfc().collect();
    while name.contains("  ") {
        name = name.replace("  ", " ");
    }
    let start = name.trim_start_matches(|c: char| matches!(c, '.' | '-' | '~') || c.is_whitespace());
    start.trim_end_matches(|c: char| c == '.' || c.is_whitespace()).to_string()
}

/// What stands for a character: itself, `_` where systems reserve it, a blank, or nothing.
fn allowed(c: char) -> Option<char> {
    match c {
        '/' | '\\' | '<' | '>' | ':' | '"' | '|' | '?' | '*' => Some('_'),
        '\t' | '\n' => Some(' '),
        c if c.is_whitespace() => Some(' '),
        c if report::is_unsafe(c) || is_odd(c) => None,
        c => Some(c),
    }
}

/// Invisible fillers, private use, noncharacters, and the replacement for what could not be decoded.
fn is_odd(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{3164}' | '\u{ffa0}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}'
        | '\u{f0000}'..='\u{10ffff}')
}

/// The extension, if the name has one worth the word: a few letters or digits after a dot.
fn extension_of(name: &str) -> Option<&str> {
    let (stem, extension) = name.rsplit_once('.')?;
    let is_one = !stem.is_empty()
        && (1..=LONGEST_EXTENSION).contains(&extension.len())
        && extension.chars().all(char::is_alphanumeric);
    is_one.then_some(extension)
}

/// At most `most` bytes, the extension kept.
fn shorten(name: &str, most: usize) -> String {
    if name.len() <= most {
        return name.to_string();
    }
    match extension_of(name) {
        Some(extension) => {
            let stem = &name.strip_suffix(extension).unwrap_or(name).trim_end_matches('.');
            format!("{}.{extension}", cut(stem, most.saturating_sub(extension.len() + 1)))
        }
        None => cut(name, most).to_string(),
    }
}

/// The longest beginning of at most `most` bytes that ends between characters and in no blank or dot.
fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].trim_end_matches(|c: char| c == '.' || c.is_whitespace())
}

/// Windows takes `con`, `nul.txt` and the like for devices, whatever the case.
fn unreserve(name: String) -> String {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let numbered = |device: &str| {
        stem.strip_prefix(device).is_some_and(|number| {
            matches!(
                number,
                "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "\u{b9}" | "\u{b2}" | "\u{b3}"
            )
        })
    };
    let reserved = matches!(stem.as_str(), "con" | "prn" | "aux" | "nul" | "conin$" | "conout$" | "clock$");
    if !reserved && !numbered("com") && !numbered("lpt") {
        return name;
    }
    shorten(&format!("_{name}"), LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn safe(name: &str) -> String {
        SafeName::new(Some(name), Some("pdf")).0
    }

    #[test]
    fn which_name_counts() {
        let head = "Content-Type: application/pdf; name=type.pdf\nContent-Disposition: attachment";
        let name = |rest: &str| sent(format!("{head}{rest}\n").as_bytes()).map(|sent| sent.text);
        assert_eq!(name("").as_deref(), Some("type.pdf"));
        assert_eq!(name("; filename=plain.pdf").as_deref(), Some("plain.pdf"));
        assert_eq!(name("; filename=plain.pdf; filename*=utf-8''%C3%A9.pdf").as_deref(), Some("\u{e9}.pdf"));
        assert_eq!(name("; filename=\"\"").as_deref(), Some("type.pdf"));
        let word = "; filename=\"=?utf-8?Q?r=C3?= =?utf-8?Q?=A9sum?=\r\n =?utf-8?Q?=C3=A9.pdf?=\"";
        assert_eq!(name(word).as_deref(), Some("r\u{e9}sum\u{e9}.pdf"));
        assert_eq!(sent(b"Subject: x\n"), None);
    }

    #[test]
    fn nasty_names() {
        assert_eq!(safe("../../etc/passwd"), "passwd.pdf");
        assert_eq!(safe("C:\\tmp\\hw 1.pdf"), "hw 1.pdf");
        assert_eq!(safe(".bashrc"), "bashrc.pdf");
        assert_eq!(safe("-rf.pdf"), "rf.pdf");
        assert_eq!(safe("a\n\x1b[31mb\u{202e}fdp.exe"), "a [31mbfdp.exe");
        assert_eq!(safe("con.pdf"), "_con.pdf");
        assert_eq!(safe("LPT1"), "_LPT1.pdf");
        assert_eq!(safe("a<b>:c?.pdf. . "), "a_b__c_.pdf");
        assert_eq!(safe(""), "attachment.pdf");
        assert_eq!(safe("../.."), "attachment.pdf");
        assert_eq!(safe("a/b/"), "b.pdf");
        assert_eq!(safe("e\u{301}.pdf"), "\u{e9}.pdf");
        assert_eq!(safe("invoice no. 5"), "invoice no. 5.pdf");
        assert_eq!(SafeName::new(None, None).as_str(), "attachment");
        let long = safe(&format!("{}.pdf", "\u{e9}".repeat(300)));
        assert_eq!((long.len(), long.ends_with("\u{e9}.pdf")), (200, true));
    }

    #[test]
    fn a_second_file_of_that_name() {
        let name = SafeName::new(Some("hw1.pdf"), None);
        assert_eq!(name.with_digest("3fa2b1c9").as_str(), "hw1-3fa2b1c9.pdf");
        let long = SafeName::new(Some(&"x".repeat(400)), Some("pdf"));
        assert_eq!(long.with_digest(&"f".repeat(64)).as_str().len(), LONGEST);
    }

    proptest! {
        #[test]
        fn every_name_becomes_safe(name in prop_oneof![".*", "\\PC*", "[./\\\\ \u{202e}a-]*"], ext in "[a-z]{0,6}") {
            let made = SafeName::new(Some(&name), Some(&ext).filter(|e| !e.is_empty()).map(|e| e.as_str()));
            for name in [made.clone(), made.with_digest("0123abcd")] {
                let text = name.as_str();
                prop_assert!(!text.is_empty() && text.len() <= LONGEST, "{text:?}");
                prop_assert!(!text.starts_with(['.', '-', ' ']) && !text.ends_with(['.', ' ']), "{text:?}");
                prop_assert!(!text.chars().any(|c| report::is_unsafe(c) || "/\\<>:\"|?*".contains(c)), "{text:?}");
                prop_assert!(text.nfc().eq(text.chars()), "{text:?}");
            }
        }
    }
}
