//! What is done on the server with messages that are durable here. The server's messages are nobody's to lose: only
//! by UID, only what was fetched with this asked for, and never many at once without being told to.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::Fetcher;
use super::group::Group;
use crate::error::{Error, Kind, Result, Status};
use crate::mail::mailbox;
use crate::mail::uids::Uids;
use crate::store::cursor::Owed;
use crate::store::maildir::{Maildir, Name};

/// What is done on the server with a message once it is durable here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum After {
    /// Nothing: it stays as it is.
    #[default]
    Keep,
    /// It is marked as seen.
    Seen,
    /// It gets this flag or keyword.
    Flag(String),
    /// It moves to this mailbox.
    Move(String),
    /// It is deleted.
    Delete,
    /// It is deleted so many days after it was fetched.
    DeleteAfter(u32),
}

impl FromStr for After {
    type Err = String;

    fn from_str(text: &str) -> Result<After, String> {
        let (word, rest) = text.split_once(':').map_or((text, None), |(word, rest)| (word, Some(rest)));
        Ok(match (word, rest) {
            ("keep", None) => After::Keep,
            ("seen", None) => After::Seen,
            ("delete", None) => After::Delete,
            ("flag", Some(name)) if is_flag(name) => After::Flag(name.to_string()),
            ("move", Some(name)) if !name.is_empty() && !name.contains(char::is_control) => {
                After::Move(name.to_string())
            }
            ("delete-after", Some(days)) => {
                After::DeleteAfter(days.parse().map_err(|_| format!("{days:?} is no number of days"))?)
            }
            _ => {
                return Err(format!(
                    "{text:?} is none of keep, seen, flag:NAME, move:MAILBOX, delete, delete-after:DAYS"
                ));
            }
        })
    }
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            After::Keep => f.write_str("keep"),
            After::Seen => f.write_str("seen"),
            After::Flag(name) => write!(f, "flag:{name}"),
            After::Move(target) => write!(f, "move:{target}"),
            After::Delete => f.write_str("delete"),
            After::DeleteAfter(days) => write!(f, "delete-after:{days}"),
        }
    }
}

/// RFC 9051: a keyword is an atom; of the system flags those that may be set.
fn is_flag(name: &str) -> bool {
    let word = name.strip_prefix('\\').unwrap_or(name);
    let system = ["SEEN", "FLAGGED", "ANSWERED", "DRAFT"].contains(&word.to_ascii_uppercase().as_str());
    let atom = |c: char| c.is_ascii_graphic() && !"(){%*\"\\]".contains(c);
    !word.is_empty() && word.chars().all(atom) && (system || !name.starts_with('\\'))
}

/// More than this at once asks for `--yes`: so many, …
const BRAKE_MESSAGES: usize = 500;
/// … or this share of the mailbox, in percent, where it holds at least so many.
const BRAKE_SHARE: usize = 50;
const BRAKE_FEW: usize = 20;
/// Large sets go in pieces: commands have a length.
const TOGETHER: usize = 500;

impl After {
    fn takes_away(&self) -> bool {
        matches!(self, After::Move(_) | After::Delete | After::DeleteAfter(_))
    }

    /// True if this is where messages move to.
    pub(super) fn moves_to(&self, name: &str) -> bool {
        match self {
            After::Move(target) => target == name || mailbox::is_inbox(target) && mailbox::is_inbox(name),
            _ => false,
        }
    }

    /// Those that were fetched for this and whose time has come.
    pub(super) fn due(&self, owed: &BTreeMap<u32, Owed>, now: i64) -> Uids {
        let due = |one: &Owed| self.age(one).is_some_and(|age| now - one.since >= age);
        owed.iter().filter(|(_, one)| due(one)).map(|(uid, _)| *uid).collect()
    }

    /// How many seconds after it was fetched this is done with a message; none where something else was asked for.
    fn age(&self, owed: &Owed) -> Option<i64> {
        let seconds = |days: u32| i64::from(days) * 24 * 3600;
        let word = owed.after.as_deref();
        match (self, word.and_then(|word| word.parse().ok())) {
            // Another number of days never makes it earlier than was said when it was fetched.
            (After::DeleteAfter(days), Some(After::DeleteAfter(then))) => Some(seconds(*days.max(&then))),
            (_, Some(then)) => (*self == then).then_some(0),
            // Older versions wrote no word: nothing is taken away at once that may have been fetched for less.
            (After::DeleteAfter(days), None) if word.is_none() => Some(seconds(*days)),
            (_, None) => (word.is_none() && !self.takes_away()).then_some(0),
        }
    }
}

/// Does what is owed in this mailbox, as far as its time has come.
pub(super) fn settle(fetcher: &mut Fetcher<'_>, name: &str, group: &mut Group) -> Result<Status> {
    let after = &fetcher.options.after;
    let due = after.due(group.cursor.owed(), jiff::Timestamp::now().as_second());
    if *after == After::Keep || due.is_empty() {
        return Ok(Status::DONE);
    }
    // Deleting here never deletes there, whatever was owed.
    let here = lying_here(&group.maildir, &group.source, group.cursor.uidvalidity())?;
    let (stay, go): (Vec<u32>, Vec<u32>) =
        due.iter().partition(|uid| after.takes_away() && !here.contains(*uid));
    if !stay.is_empty() {
        group.cursor.pay(&stay.into_iter().collect())?;
    }
    if go.is_empty() {
        return Ok(Status::DONE);
    }
    let opened = fetcher.open_to_change(name)?;
    if opened.uidvalidity != group.cursor.uidvalidity() {
        return Err(fetcher.wrong(name, Kind::Temporary, "its UIDVALIDITY has just changed; run it again"));
    }
    if after.takes_away() && !fetcher.options.yes {
        brake(fetcher, name, go.len(), opened.exists.unwrap_or_default() as usize)?;
    }
    for piece in go.chunks(TOGETHER) {
        let uids: Uids = piece.iter().copied().collect();
        apply(fetcher, name, &uids)?;
        group.cursor.pay(&uids)?;
    }
    Ok(Status::DONE)
}

fn brake(fetcher: &Fetcher<'_>, name: &str, messages: usize, exists: usize) -> Result<()> {
    let share = messages * 100 > exists * BRAKE_SHARE && messages > BRAKE_FEW;
    if messages <= BRAKE_MESSAGES && !share {
        return Ok(());
    }
    let doing = format!("{}: {messages} of {exists} messages not taken away", fetcher.options.of(name));
    Err(Error::new(Kind::Denied, doing, "that is many at once").hint("if it is what you want, add --yes"))
}

/// Messages of this source that lie in the Maildir now, under any flags.
fn lying_here(maildir: &Maildir, source: &str, uidvalidity: Option<u32>) -> Result<Uids> {
    let messages = maildir.messages()?;
    let names = messages.filter_map(|path| path.file_name()?.to_str()?.parse::<Name>().ok());
    let ours = names.filter(|name| name.source == source && Some(name.uidvalidity) == uidvalidity);
    Ok(ours.map(|name| name.uid).collect())
}

fn apply(fetcher: &mut Fetcher<'_>, name: &str, uids: &Uids) -> Result<()> {
    let imap = &mut fetcher.imap;
    match &fetcher.options.after {
        After::Keep => Ok(()),
        After::Seen => imap.store(uids, "+FLAGS.SILENT (\\Seen)"),
        After::Flag(flag) => imap.store(uids, &format!("+FLAGS.SILENT ({flag})")),
        After::Move(target) if imap.has("MOVE") => imap.move_to(uids, target),
        After::Move(_) | After::Delete | After::DeleteAfter(_) if !imap.has("UIDPLUS") => {
            // A plain EXPUNGE takes whatever anybody marked.
            let why = "the server cannot delete single messages (it has no UIDPLUS)";
            Err(fetcher.wrong(name, Kind::Refused, why).hint("use --after seen or flag:NAME there"))
        }
        After::Move(target) => {
            imap.copy_to(uids, target)?;
            imap.store(uids, "+FLAGS.SILENT (\\Deleted)")?;
            imap.expunge(uids)
        }
        After::Delete | After::DeleteAfter(_) => {
            imap.store(uids, "+FLAGS.SILENT (\\Deleted)")?;
            imap.expunge(uids)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_it() {
        assert_eq!("delete-after:30".parse(), Ok(After::DeleteAfter(30)));
        assert_eq!("flag:$Fetched".parse(), Ok(After::Flag("$Fetched".into())));
        assert_eq!("move:Old/2026".parse(), Ok(After::Move("Old/2026".into())));
        for wrong in [
            "flag:\\Deleted",
            "flag:a b",
            "flag:",
            "move:",
            "delete:x",
            "burn",
            "move:a\r\nb",
            "delete-after:-1",
        ] {
            assert!(wrong.parse::<After>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn days_pass_first() {
        let later = |since, word: &str| Owed { since, after: Some(word.into()) };
        let owed = BTreeMap::from([
            (1, later(0, "delete-after:1")),
            (2, later(90_000, "delete-after:1")),
            (3, later(0, "delete-after:9")),
        ]);
        assert_eq!(After::DeleteAfter(1).due(&owed, 86_400).to_string(), "1");
        assert_eq!(After::DeleteAfter(0).due(&owed, 90_000).to_string(), "1");
        assert_eq!(After::DeleteAfter(30).due(&owed, 9 * 86_400).to_string(), "");
        assert_eq!(After::DeleteAfter(1).due(&owed, 9 * 86_400).to_string(), "1:3");
    }

    #[test]
    fn only_what_was_fetched_for_it() {
        let afters = ["seen", "flag:a", "flag:b", "move:x", "move:y", "delete", "delete-after:0"]
            .map(|word| word.parse::<After>().unwrap());
        for fetched in &afters {
            assert_eq!(fetched.to_string().parse().as_ref(), Ok(fetched));
            let owed = BTreeMap::from([(7, Owed { since: 0, after: Some(fetched.to_string()) })]);
            for now in &afters {
                assert_eq!(now.due(&owed, 1).contains(7), now == fetched, "{fetched} then {now}");
            }
        }
        let old = BTreeMap::from([(7, Owed { since: 0, after: None })]);
        let due = afters.iter().filter(|after| after.due(&old, 1).contains(7)).map(After::to_string);
        assert_eq!(due.collect::<Vec<_>>(), ["seen", "flag:a", "flag:b", "delete-after:0"]);
    }
}
