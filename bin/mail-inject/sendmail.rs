//! The command line of sendmail and mailq, as cron, git and scripts use it.
//!
//! Only sendmail's own options are understood: a name that arrives as an argument can never switch on one of ours.

use std::ffi::OsString;
use std::io;

use mailloop::cli::{self, Place};
use mailloop::error::{Error, Kind, Result, Status};
use mailloop::job::inject::{self, Sendmail};
use mailloop::job::queue;
use mailloop::report::{Form, Records};

/// What is to be done.
#[derive(Debug, PartialEq)]
enum Act {
    Send,
    List,
    Run,
}

/// True if we were called by one of these names.
pub fn is_meant(program: &str) -> bool {
    matches!(program, "sendmail" | "mailq" | "newaliases")
}

/// Does what sendmail would.
pub fn run(program: &str, arguments: impl Iterator<Item = OsString>) -> Result<Status> {
    let (act, asked) = match program {
        "mailq" => (Act::List, Sendmail::default()),
        // There are no aliases to be rebuilt.
        "newaliases" => return Ok(Status::DONE),
        _ => parse(arguments)?,
    };
    let options = queue::Options { place: Place::default(), limit: cli::TIMEOUT, ..Default::default() };
    match act {
        Act::Send => inject::sendmail(&asked, &mut io::stdin().lock()),
        Act::List => queue::list(&options, false, &mut Records::stdout(Form::Lines)),
        Act::Run => queue::run(&options, &mut Records::stdout(Form::Lines)),
    }
}

fn parse(arguments: impl Iterator<Item = OsString>) -> Result<(Act, Sendmail)> {
    let mut asked = Sendmail { dot_ends: true, ..Sendmail::default() };
    let mut act = Act::Send;
    let mut words = arguments
        .map(|word| word.into_string().map_err(|word| usage(&word.to_string_lossy(), "it is no UTF-8")));
    while let Some(word) = words.next() {
        let word = word?;
        let Some(option) = word.strip_prefix('-').filter(|option| !option.is_empty()) else {
            asked.to.push(word);
            continue;
        };
        if option == "-" {
            asked.to.extend(words.by_ref().collect::<Result<Vec<_>>>()?);
            break;
        }
        // One letter; what it takes stands behind it or is the next word.
        let letter = option.chars().next().unwrap_or_default();
        let behind = option.get(letter.len_utf8()..).unwrap_or_default();
        let mut value = || match behind {
            "" => words.next().unwrap_or_else(|| Err(usage(&word, "its value is missing"))),
            _ => Ok(behind.to_string()),
        };
        let wrong = |why: String| usage(&word, &why);
        match letter {
            'f' | 'r' => asked.from = Some(value()?),
            'F' => asked.name = Some(value()?),
            'N' => asked.dsn.notify = Some(value()?.parse().map_err(wrong)?),
            'R' => asked.dsn.ret = Some(value()?.parse().map_err(wrong)?),
            // About bodies, hosts, headers, identities and logs of a server that we are not.
            'B' | 'C' | 'h' | 'L' | 'O' | 'p' | 'V' | 'X' => {
                value()?;
            }
            'o' => match value()?.as_str() {
                "i" => asked.dot_ends = false,
                "dq" | "dd" => asked.only_queue = true,
                // How errors are told (-oem), when it is sent (-odb, -odi), and what else it once had.
                _ => {}
            },
            'b' => match value()?.as_str() {
                "m" => {}
                "p" => act = Act::List,
                other => return Err(usage(&word, &format!("mode {other} is not offered"))),
            },
            'q' if behind.is_empty() => act = Act::Run,
            'q' => return Err(usage(&word, "it runs the queue once; `mail-queue run --watch` goes on")),
            't' | 'i' | 'v' | 'n' | 'm' | 'e' | 'G' | 'U' | 's' => {
                letters(option, &mut asked).map_err(|why| usage(&word, why))?;
            }
            _ => return Err(usage(&word, "it is no option of sendmail that is known here")),
        }
    }
    Ok((act, asked))
}

/// Options without a value may share a dash: `-ti`.
fn letters(option: &str, asked: &mut Sendmail) -> Result<(), &'static str> {
    // How errors are told: `-em`.
    if option.starts_with('e') {
        return Ok(());
    }
    for letter in option.chars() {
        match letter {
            't' => asked.read_recipients = true,
            'i' => asked.dot_ends = false,
            'v' | 'n' | 'm' | 'G' | 'U' | 's' => {}
            _ => return Err("it is no option of sendmail that is known here"),
        }
    }
    Ok(())
}

fn usage(word: &str, why: &str) -> Error {
    Error::new(Kind::Usage, format!("sendmail: cannot use {word:?}"), why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<(Act, Sendmail)> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn as_others_call_it() {
        let (_, cron) = parsed("-FCronDaemon -i -B8BITMIME -oem root").unwrap();
        assert_eq!(
            (cron.name.as_deref(), cron.dot_ends, &cron.to[..]),
            (Some("CronDaemon"), false, &["root".to_string()][..])
        );
        let (_, cronie) = parsed("-FCronDaemon -i -odi -oem -oi -t -f root").unwrap();
        assert_eq!(
            (cronie.read_recipients, cronie.from.as_deref(), cronie.only_queue),
            (true, Some("root"), false)
        );
        let (_, git) = parsed("-i -f a@x b@x -- -c@x").unwrap();
        assert_eq!(git.to, ["b@x", "-c@x"]);
        let (_, php) = parsed("-ti").unwrap();
        assert!(php.read_recipients && !php.dot_ends);
        assert_eq!(parsed("-bp").unwrap().0, Act::List);
        assert_eq!(parsed("-q").unwrap().0, Act::Run);
    }

    #[test]
    fn nothing_of_ours() {
        for line in ["--smtp smtp://x", "-a account", "-q30m", "-bd", "-f", "-tx", "--to b@x", "--queue"] {
            assert_eq!(parsed(line).map(|_| ()).map_err(|error| error.status()), Err(64), "{line}");
        }
    }
}
