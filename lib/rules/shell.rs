//! Commands as `sh` reads them back: exactly the same argv, whatever bytes are in it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Words that mean something to a shell only where a command's name stands, and only unquoted (POSIX.1-2024,
/// Shell Command Language, section 2.4, and what bash, ksh and zsh add).
const RESERVED: &[&str] = &[
    "if",
    "then",
    "else",
    "elif",
    "fi",
    "do",
    "done",
    "case",
    "esac",
    "while",
    "until",
    "for",
    "in",
    "function",
    "select",
    "time",
    "coproc",
    "namespace",
    "repeat",
    "foreach",
    "end",
    "]]",
    "nocorrect",
    "noglob",
];

/// The command as one text for `sh`; a newline in a word stays, quoted, so the text may span lines.
///
/// What `sh` executes when it reads it is exactly `argv`, as long as no word holds a NUL (which no argv can). Where
/// the program has the name of something built into the shell (`echo`, `test`), that is what `sh` executes.
pub fn quote(argv: &[OsString]) -> Vec<u8> {
    let mut text = Vec::new();
    for (number, word) in argv.iter().enumerate() {
        if number > 0 {
            text.push(b' ');
        }
        // An alias is not looked for, and a keyword not seen, in a word that has quotes.
        let keyword = number == 0 && word.to_str().is_some_and(|word| RESERVED.contains(&word));
        text.extend(if keyword { [b"'", word.as_bytes(), b"'"].concat() } else { quote_word(word) });
    }
    text
}

fn quote_word(word: &OsStr) -> Vec<u8> {
    let quoted = shlex::bytes::Quoter::new().allow_nul(true).quote(word.as_bytes());
    quoted.expect("a NUL is all that is ever refused, and it is allowed here").into_owned()
}

/// The number of the word that a shell would run as a script (`sh -c SCRIPT`), if there is one.
pub fn script_at(argv: &[OsString]) -> Option<usize> {
    let shell = argv.iter().position(|word| {
        let name = Path::new(word).file_name().and_then(OsStr::to_str);
        matches!(
            name,
            Some("sh" | "bash" | "dash" | "ash" | "ksh" | "mksh" | "zsh" | "fish" | "csh" | "tcsh")
        )
    })?;
    let mut at = shell + 1;
    let mut asked = false;
    while let Some(option) =
        argv.get(at).map(|word| word.as_bytes()).filter(|w| w.starts_with(b"-") || w.starts_with(b"+"))
    {
        asked |= option.starts_with(b"-") && !option.starts_with(b"--") && option.contains(&b'c');
        // `-o NAME` sets an option by its name.
        at += if option.ends_with(b"o") || option.ends_with(b"O") { 2 } else { 1 };
    }
    (asked && at < argv.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[&str]) -> Vec<OsString> {
        text.iter().map(Into::into).collect()
    }

    #[test]
    fn what_needs_no_quotes_has_none() {
        let command = words(&["lp", "-d", "office", "./a b.pdf", ""]);
        assert_eq!(quote(&command), b"lp -d office './a b.pdf' ''");
        assert_eq!(quote(&words(&["if", "if"])), b"'if' if");
    }

    #[test]
    fn finds_the_script_of_a_shell() {
        assert_eq!(script_at(&words(&["sh", "-c", "lp {}"])), Some(2));
        assert_eq!(script_at(&words(&["env", "/bin/bash", "-e", "-uc", "lp {}", "x"])), Some(4));
        assert_eq!(script_at(&words(&["bash", "-o", "pipefail", "-c", "lp {}"])), Some(4));
        assert_eq!(script_at(&words(&["sh", "script", "-c", "{}"])), None);
        assert_eq!(script_at(&words(&["lp", "-c", "{}"])), None);
    }
}
