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

/// Programs that run a word as code, and the options after which it stands. A shell's may be bundled (`-ec`).
const INTERPRETERS: &[(&[&str], &[&str])] = &[
    (&["su", "runuser", "script", "flock"], &["-c", "--command", "--session-command"]),
    (&["env"], &["-S", "--split-string"]),
    (&["python", "python2", "python3", "pypy3"], &["-c"]),
    (&["perl"], &["-e", "-E", "-n", "-p"]),
    (
        &["ruby", "node", "lua", "Rscript", "osascript", "emacs"],
        &["-e", "--eval", "-p", "--print", "--execute"],
    ),
    (&["php"], &["-r", "-B", "-R", "-E"]),
    (&["vim", "vi", "nvim", "ed"], &["-c", "--cmd"]),
];
const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "fish", "csh", "tcsh"];
/// Programs that join the words after them and hand them to a shell, here or elsewhere, or read one as a program.
const JOINERS: &[&str] =
    &["ssh", "rsh", "eval", "watch", "tmux", "screen", "awk", "gawk", "mawk", "sed", "at", "batch"];

/// True if a program that stands in the command would read the word at `at` as code: a script of `sh -c`, what `ssh`
/// hands to the other side's shell. What a message says must not stand there. Wrappers (`env`, `nice`, `timeout`) are
/// looked through, since every word before `at` is taken for a program.
pub fn is_code(argv: &[OsString], at: usize) -> bool {
    (0..at).any(|program| {
        let name = Path::new(&argv[program]).file_name().and_then(OsStr::to_str).unwrap_or_default();
        let between = &argv[program + 1..at];
        if SHELLS.contains(&name) {
            return script_of_shell(&argv[program + 1..]) == Some(at - program - 1);
        }
        let interprets = |(names, options): &(&[&str], &[&str])| {
            names.contains(&name) && is_after_option(between, argv[at].as_bytes(), options)
        };
        (JOINERS.contains(&name) && is_program(argv, program)) || INTERPRETERS.iter().any(interprets)
    })
}

/// A word such as `watch` or `at` is a program only in the first place, or after nothing but wrappers and options.
fn is_program(argv: &[OsString], at: usize) -> bool {
    const WRAPPERS: &[&str] =
        &["env", "nice", "ionice", "nohup", "setsid", "timeout", "sudo", "doas", "stdbuf", "chronic"];
    argv[..at].iter().all(|word| {
        let name = Path::new(word).file_name().and_then(OsStr::to_str).unwrap_or_default();
        WRAPPERS.contains(&name)
            || name.starts_with('-')
            || name.contains('=')
            || name.starts_with(|first: char| first.is_ascii_digit())
    })
}

/// True if the word follows one of these options, or is such an option with its value (`--eval=…`, `-cCODE`).
fn is_after_option(between: &[OsString], word: &[u8], options: &[&str]) -> bool {
    let last = between.last().map(|word| word.as_bytes()).unwrap_or_default();
    options.iter().any(|option| {
        let option = option.as_bytes();
        last == option || (word.starts_with(option) && word.len() > option.len())
    })
}

/// Which of the words after a shell's name is its script (`-c SCRIPT`), if one is.
fn script_of_shell(words: &[OsString]) -> Option<usize> {
    let (mut at, mut asked) = (0, false);
    while let Some(option) =
        words.get(at).map(|word| word.as_bytes()).filter(|w| w.starts_with(b"-") || w.starts_with(b"+"))
    {
        asked |= option.starts_with(b"-") && !option.starts_with(b"--") && option.contains(&b'c');
        // `-o NAME` sets an option by its name.
        at += if option.ends_with(b"o") || option.ends_with(b"O") { 2 } else { 1 };
    }
    (asked && at < words.len()).then_some(at)
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
    fn finds_what_is_read_as_code() {
        let code = |text: &[&str]| {
            let argv = words(text);
            (0..argv.len()).filter(|at| is_code(&argv, *at)).collect::<Vec<_>>()
        };
        assert_eq!(code(&["sh", "-c", "lp {}"]), [2]);
        assert_eq!(code(&["sh", "-c", "lp \"$1\"", "sh", "{}"]), [2]);
        assert_eq!(code(&["env", "/bin/bash", "-e", "-uc", "lp {}", "x"]), [4]);
        assert_eq!(code(&["bash", "-o", "pipefail", "-c", "lp {}"]), [4]);
        assert!(code(&["sh", "file", "-c", "{}"]).is_empty());
        assert!(code(&["lp", "-c", "{}"]).is_empty());
        assert_eq!(code(&["su", "root", "-c", "cat {}"]), [3]);
        assert_eq!(code(&["nice", "python3", "-c", "x", "{}"]), [3]);
        assert_eq!(code(&["perl", "-eprint", "{}"]), [1]);
        assert_eq!(code(&["env", "-S", "lp {}"]), [2]);
        assert_eq!(code(&["ssh", "host", "lp", "{}"]), [1, 2, 3]);
        assert_eq!(code(&["timeout", "5", "eval", "lp {}"]), [3]);
        assert!(code(&["cp", "{}", "at", "watch"]).is_empty());
    }
}
