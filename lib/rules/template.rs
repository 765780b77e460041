//! A command with placeholders, and the command that comes out of it for one file.
//!
//! `{path}` (the same as `{}`, added at the end where no placeholder stands), `{name}`, `{from}`, `{subject}`,
//! `{date}`, `{sha256}`, `{rule}`. Each is replaced inside one word of the command, which never becomes two; a
//! value is never looked at for placeholders again. A word that begins with `-` only because of a value fails,
//! unless the word `--` stands before it: no value can become an option. The program itself, and what a shell
//! would run as a script, may have no placeholder.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::shell;

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Where the file lies.
    Path,
    /// Its safe name.
    Name,
    /// The sender's address.
    From,
    /// The message's subject.
    Subject,
    /// The message's date.
    Date,
    /// The digest of the file's bytes.
    Sha256,
    /// The rule's name.
    Rule,
}

/// Each placeholder as it is written.
pub const FIELDS: &[(&str, Field)] = &[
    ("{}", Field::Path),
    ("{path}", Field::Path),
    ("{name}", Field::Name),
    ("{from}", Field::From),
    ("{subject}", Field::Subject),
    ("{date}", Field::Date),
    ("{sha256}", Field::Sha256),
    ("{rule}", Field::Rule),
];

/// The longest text value that reaches a command, in characters: a header line's limit (RFC 5322 section 2.1.1),
/// so that a stranger's subject cannot make a command too long to start.
const LONGEST: usize = 998;

#[derive(Clone, Debug)]
enum Piece {
    Text(Vec<u8>),
    Field(Field),
}

/// A command with placeholders, checked.
#[derive(Clone, Debug)]
pub struct Template {
    words: Vec<Vec<Piece>>,
    digest: String,
}

/// What the placeholders stand for, for one file; empty where it is not known.
#[derive(Clone, Debug, Default)]
pub struct Values<'a> {
    /// As it is: its bytes reach the command unchanged.
    pub path: &'a [u8],
    /// See [`text`].
    pub name: String,
    /// See [`text`].
    pub from: String,
    /// See [`text`].
    pub subject: String,
    /// See [`text`].
    pub date: String,
    /// Hex.
    pub sha256: String,
    /// As it stands in the configuration.
    pub rule: String,
}

impl Template {
    /// A rule's command; a `{word}` that is none of the placeholders is an error, since it is most likely a typo.
    pub fn strict(run: &[String]) -> Result<Template, String> {
        for word in run {
            if let Some(stranger) = unknown(word) {
                let known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
                return Err(format!("{stranger} is no placeholder; there are {}", known.join(" ")));
            }
        }
        Template::lenient(&run.iter().map(OsString::from).collect::<Vec<_>>())
    }

    /// A command from the command line; only the placeholders are replaced, any other `{word}` is left as it is.
    pub fn lenient(argv: &[OsString]) -> Result<Template, String> {
        let mut words: Vec<Vec<Piece>> = argv.iter().map(|word| pieces(word.as_bytes())).collect();
        let holds = |word: &[Piece]| word.iter().any(|piece| matches!(piece, Piece::Field(_)));
        match words.first() {
            None => return Err("there is no command".into()),
            Some(program) if holds(program) => {
                return Err("the program to run may not come from a message".into());
            }
            Some(_) if argv[0].is_empty() => return Err("the program to run has no name".into()),
            _ => {}
        }
        let mut whole = argv.to_vec();
        if !words.iter().any(|word| holds(word)) {
            words.push(vec![Piece::Field(Field::Path)]);
            whole.push("{}".into());
        }
        if let Some(at) = (0..whole.len()).find(|at| holds(&words[*at]) && shell::is_code(&whole, *at)) {
            return Err(format!(
                "{} would read {:?} as code, with what a message says in it; put it into a script of your own that takes \
                 the file as its argument, or for a shell: sh -c 'lp \"$1\"' sh {{}}",
                whole[0].to_string_lossy(),
                whole[at].to_string_lossy()
            ));
        }
        let mut digest = Sha256::new();
        for word in argv {
            digest.update(word.as_bytes());
            digest.update(b"\0");
        }
        Ok(Template { words, digest: crate::record::hex(&digest.finalize()[..8]) })
    }

    /// Tells this command from others: 16 hex digits of the words as they were typed.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// True if a placeholder for `field` stands in it.
    pub fn has(&self, field: Field) -> bool {
        self.words.iter().flatten().any(|piece| matches!(piece, Piece::Field(found) if *found == field))
    }

    /// The command for one file, or why there must be none.
    pub fn fill(&self, values: &Values<'_>) -> Result<Vec<OsString>, String> {
        let mut argv: Vec<OsString> = Vec::with_capacity(self.words.len());
        let mut options_ended = false;
        for word in &self.words {
            let mut filled = Vec::new();
            for piece in word {
                filled.extend_from_slice(match piece {
                    Piece::Text(text) => text,
                    Piece::Field(field) => values.get(*field),
                });
            }
            let ours = matches!(word.first(), Some(Piece::Text(_)) | None);
            if filled.starts_with(b"-") && !ours && !options_ended {
                return Err(format!(
                    "{} would be taken for an option; put the word -- before the placeholder if the command knows it",
                    String::from_utf8_lossy(&filled)
                ));
            }
            options_ended |= ours && filled == b"--";
            argv.push(OsString::from_vec(filled));
        }
        Ok(argv)
    }
}

impl Values<'_> {
    fn get(&self, field: Field) -> &[u8] {
        match field {
            Field::Path => self.path,
            Field::Name => self.name.as_bytes(),
            Field::From => self.from.as_bytes(),
            Field::Subject => self.subject.as_bytes(),
            Field::Date => self.date.as_bytes(),
            Field::Sha256 => self.sha256.as_bytes(),
            Field::Rule => self.rule.as_bytes(),
        }
    }
}

/// What a message says, fit for a command: without control, bidi and invisible characters (a line end becomes a
/// space), at most 998 characters.
pub fn text(value: &str) -> String {
    let spaced = value.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    spaced.filter(|c| !crate::report::is_unsafe(*c)).take(LONGEST).collect()
}

/// The last part of a path, as [`text`].
pub fn name_of(path: &Path) -> String {
    text(&path.file_name().unwrap_or(OsStr::new("")).to_string_lossy())
}

fn pieces(word: &[u8]) -> Vec<Piece> {
    let (mut pieces, mut text, mut rest) = (Vec::new(), Vec::new(), word);
    while let Some(byte) = rest.first() {
        match FIELDS.iter().find(|(name, _)| rest.starts_with(name.as_bytes())) {
            Some((name, field)) => {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Field(*field));
                rest = &rest[name.len()..];
            }
            None => {
                text.push(*byte);
                rest = &rest[1..];
            }
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

/// The first `{word}` of small letters and digits that is no placeholder.
fn unknown(word: &str) -> Option<String> {
    word.split('{').skip(1).find_map(|rest| {
        let (inner, _) = rest.split_once('}')?;
        let is_word = !inner.is_empty()
            && inner.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-');
        let braced = format!("{{{inner}}}");
        (is_word && !FIELDS.iter().any(|(name, _)| *name == braced)).then_some(braced)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lenient(words: &[&str]) -> Result<Template, String> {
        Template::lenient(&words.iter().map(Into::into).collect::<Vec<_>>())
    }

    fn fill(words: &[&str], values: &Values<'_>) -> Vec<String> {
        let argv = lenient(words).unwrap().fill(values).unwrap();
        argv.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    fn values() -> Values<'static> {
        Values {
            path: b"./a b.pdf",
            name: "a b.pdf".into(),
            subject: "{path} $(x)".into(),
            from: "-oops@x".into(),
            ..Values::default()
        }
    }

    #[test]
    fn a_value_is_one_word_or_part_of_one() {
        assert_eq!(fill(&["lp"], &values()), ["lp", "./a b.pdf"]);
        assert_eq!(
            fill(&["lp", "-t{name}", "--title={subject}.{}", "{word}", "{path"], &values()),
            ["lp", "-ta b.pdf", "--title={path} $(x)../a b.pdf", "{word}", "{path"]
        );
        assert_eq!(fill(&["x", "{sha256}"], &values()), ["x", ""]);
    }

    #[test]
    fn a_value_is_no_option() {
        assert!(lenient(&["lp", "{from}", "--"]).unwrap().fill(&values()).is_err());
        assert!(lenient(&["lp", "{sha256}{from}"]).unwrap().fill(&values()).is_err());
        assert_eq!(fill(&["lp", "--", "{from}"], &values())[2], "-oops@x");
        assert_eq!(fill(&["lp", "-t", "x{from}"], &values())[2], "x-oops@x");
        // A value that spells `--` does not end the options for what follows.
        let tricky = Values { name: "--".into(), ..values() };
        assert!(lenient(&["lp", "{name}", "{from}"]).unwrap().fill(&tricky).is_err());
    }

    #[test]
    fn a_message_never_names_the_program_nor_writes_a_script() {
        assert!(lenient(&["{}"]).is_err() && lenient(&[]).is_err() && lenient(&[""]).is_err());
        assert!(lenient(&["sh", "-c", "lp {}"]).is_err());
        assert!(lenient(&["sh", "-c", "lp \"$1\"", "sh", "{}"]).is_ok());
    }

    #[test]
    fn a_typo_in_a_rule_is_told() {
        let strict = |word: &str| Template::strict(&["lp".into(), word.into()]);
        assert!(strict("{nmae}").unwrap_err().contains("{nmae} is no placeholder"));
        assert!(strict("a{b{Name}${HOME}{ x }{path}").is_ok());
    }

    #[test]
    fn text_cannot_drive_a_terminal() {
        assert_eq!(text("a\r\n\tb\u{202e}\u{1b}[31m\0c"), "a   b[31mc");
        assert_eq!(text(&"ü".repeat(5000)).chars().count(), 998);
    }
}
