//! Dead letters: who looks into a mailbox finds a notice of each action that was given up, once. It is delivered into a
//! Maildir on this machine and never sent, so there is never mail about mail.

use std::fmt::Write;
use std::time::Duration;

use jiff::{Timestamp, Zoned, tz::TimeZone};

use crate::durable::{Dir, Lock};
use crate::error::Result;
use crate::job::submit::local;
use crate::record::File;
use crate::report::{self, is_unsafe};
use crate::store::ledger::{Entry, Wanted};

use super::actor::Actor;
use super::tell::About;

/// Who else tells of the same is done soon.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many lines of what the command printed are shown, from its end.
const LINES: usize = 40;

impl Actor<'_, '_> {
    /// Delivers the notice; durable on return. Where that fails, that is one line, and the next run tries again.
    pub(super) fn tell_dead(&mut self, about: &About<'_>, number: u64) {
        if let Err(error) = self.try_to_tell(about, number) {
            self.trouble(
                &error.context(format!("cannot leave a notice of claim {number}, which was given up")),
            );
        }
    }

    fn try_to_tell(&mut self, about: &About<'_>, number: u64) -> Result<()> {
        let Some(ledger) = &mut self.ledger else { return Ok(()) };
        let _lock = Lock::take(&Dir::open(&self.options.state)?, "dead-letters.lock", PATIENCE)?;
        if ledger.was_told(number)? {
            return Ok(());
        }
        let (mut found, wanted) = (None, Wanted { numbers: vec![number], ..Wanted::default() });
        ledger.each(&wanted, &mut |entry| {
            found = Some(entry);
            Ok(false)
        })?;
        let Some(entry) = found else { return Ok(()) };
        let (tries, printed) = (ledger.tries_before(number)?.saturating_add(1), ledger.output(number)?);
        let text = notice(&entry, about.file, tries, &printed.unwrap_or_default(), &Zoned::now());
        // The same claim always has the same name, so that a crash before it is noted down doubles nothing.
        let unique = format!("dead {number} {} {}", entry.key.rule, entry.key.file);
        let path = local::deliver(&self.options.dead_letters, &unique, &mut text.as_bytes())?;
        report::say(format_args!(
            "{}: given up; the notice lies in {}",
            about.path.display(),
            path.display()
        ));
        ledger.told(number)
    }
}

/// The whole message, with CRLF line ends.
fn notice(entry: &Entry, file: &File, tries: u32, printed: &[u8], now: &Zoned) -> String {
    let number = entry.number;
    let path = entry.path.as_ref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    let message = file.message.as_ref();
    let thread = message
        .and_then(|message| message.message_id.as_deref())
        .filter(|id| id.starts_with('<') && id.is_ascii() && id.len() < 500 && !id.chars().any(is_unsafe))
        .map_or(String::new(), |id| format!("In-Reply-To: {id}\nReferences: {id}\n"));
    let mut text = format!(
        "Return-Path: <>\nFrom: mailloop <mailloop@mailloop.invalid>\nSubject: {}\nDate: {}\n\
         Message-ID: <dead.{number}.{}@mailloop.invalid>\n{thread}Auto-Submitted: auto-generated\n\
         Mailloop-Dead-Letter: {number}\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
         Content-Transfer-Encoding: 8bit\n\nWhat was to be done with this file failed for now {tries} times and was given up.\n\n",
        subject(&format!("Given up: {name}")),
        jiff::fmt::rfc2822::to_string(now).unwrap_or_default(),
        now.timestamp().as_microsecond(),
    );
    let mut row = |what: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {what:8} {}", plain(value));
        }
    };
    row("file", &path);
    row("sha256", &entry.key.file);
    row("rule", &entry.key.rule);
    row(
        "command",
        &shlex::try_join(entry.argv.iter().map(String::as_str)).unwrap_or_else(|_| entry.argv.join(" ")),
    );
    row("tries", &tries.to_string());
    row("last try", &when(entry.claimed));
    row("why", entry.why.as_deref().unwrap_or_default());
    if let Some(message) = message {
        row("from", &message.from.join(", "));
        row("subject", message.subject.as_deref().unwrap_or_default());
        row("date", message.date.as_deref().unwrap_or_default());
        row("id", message.message_id.as_deref().unwrap_or_default());
        row(
            "message",
            &message.path.get().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
        );
    }
    let printed = String::from_utf8_lossy(printed);
    let lines: Vec<&str> = printed.lines().collect();
    if !lines.is_empty() {
        text.push_str("\nThe last that the command printed:\n\n");
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            let _ = writeln!(text, "  | {}", plain(line));
        }
    }
    let _ = write!(
        text,
        "\nWhen what was wrong is mended:\n\n  mail-loop retry {number}             do it once more\n  \
         mail-loop forget {number}            it is not to be done\n  \
         mail-loop history --output {number}  all that the command printed\n"
    );
    text.replace('\n', "\r\n")
}

fn when(at: Timestamp) -> String {
    jiff::fmt::rfc2822::to_string(&at.to_zoned(TimeZone::UTC)).unwrap_or_default()
}

/// As encoded words where it is no plain ASCII (RFC 2047 section 2: at most 75 characters each).
fn subject(text: &str) -> String {
    let text: String = plain(text).chars().take(100).collect();
    if text.is_ascii() {
        return text;
    }
    let letters: Vec<char> = text.chars().collect();
    let words = letters.chunks(11).map(|letters| {
        let piece: String = letters.iter().collect();
        format!("=?utf-8?B?{}?=", base64_simd::STANDARD.encode_to_string(piece))
    });
    words.collect::<Vec<_>>().join("\n ")
}

/// On one line, and not over the line length of RFC 5322 section 2.1.1.
fn plain(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) { ' ' } else { c }).take(240).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Message;
    use crate::store::ledger::{Key, State};

    #[test]
    fn a_notice_says_what_where_and_why_and_breaks_no_line() {
        let key = Key { rule: "print".into(), file: "00ff".into(), message: None };
        let entry = Entry {
            number: 17,
            key,
            claimed: "2026-11-21T10:00:00Z".parse().unwrap(),
            path: Some("/in/r\u{e9}sum\u{e9}\nX: y.pdf".into()),
            argv: vec!["lp".into(), "a b".into()],
            state: State::Dead,
            settled: None,
            exit: Some(75),
            signal: None,
            why: Some("no\r\nBcc: x".into()),
            next: None,
        };
        let message = Message {
            message_id: Some("<1@x>".into()),
            from: vec!["a@b".into()],
            subject: Some("hi".into()),
            ..Message::fresh()
        };
        let file = File { message: Some(message), ..File::fresh() };
        let now = "2026-11-22T10:00:00Z[UTC]".parse().unwrap();
        let text = notice(&entry, &file, 3, b"one\ntwo \x1b[31m\n", &now);
        for wanted in [
            "In-Reply-To: <1@x>\r\n",
            "Auto-Submitted: auto-generated\r\nMailloop-Dead-Letter: 17\r\n",
            "  command  lp 'a b'\r\n",
            "  why      no  Bcc: x\r\n",
            "  from     a@b\r\n",
            "  | two  [31m\r\n",
            "mail-loop retry 17 ",
        ] {
            assert!(text.contains(wanted), "{wanted:?} not in\n{text}");
        }
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.is_ascii() && head.lines().all(|line| line.len() <= 78), "{head}");
        let folded = head.lines().filter(|line| line.starts_with(' ')).count();
        assert!(folded > 0 && !head.contains("\nX:") && !text.replace("\r\n", "").contains(['\r', '\n']));
        let letter = crate::rules::letter::Letter::of(text.as_bytes());
        assert!(letter.brake.is_some() && letter.subject.unwrap().starts_with("Given up: r\u{e9}sum\u{e9}"));
    }
}
