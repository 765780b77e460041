//! Which messages of a mailbox are wanted, and which mailboxes of an account.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::error::{Error, Kind, Result};
use crate::mail::mailbox;
use crate::mail::uids::Uids;
use crate::net::imap::{Imap, Listed, Opened};
use crate::store::cursor::{Missing, Seen, Skipped, Verdict};

/// What of a mailbox is wanted. What is not wanted now is not marked as taken: another time it may be.
#[derive(Clone, Debug, Default)]
pub struct Pick {
    /// Larger messages are passed over and recorded; they come once the limit admits them.
    pub max_size: Option<u64>,
    /// Received on or after this day, as the server counts days.
    pub since: Option<jiff::civil::Date>,
    /// SEARCH keys (RFC 9051 section 6.4.4) that the server judges.
    pub matching: Option<String>,
    /// The newest first, in groups.
    pub newest_first: bool,
    /// At most so many of each mailbox at a time.
    pub limit: Option<usize>,
}

/// What a look at a mailbox found.
#[derive(Debug, Default)]
pub(super) struct Picked {
    /// To be downloaded, in this order.
    pub wanted: Vec<u32>,
    /// So are these, after them: they did not come the last time.
    pub doubtful: Vec<u32>,
    /// What follows for those that the server should have and did not list.
    pub verdict: Verdict,
    /// Too large.
    pub large: Vec<Skipped>,
    /// Nothing that is there was left out.
    pub complete: bool,
}

impl Picked {
    /// All that is to be downloaded, in this order.
    pub fn all(&self) -> impl Iterator<Item = u32> + '_ {
        self.wanted.iter().chain(&self.doubtful).copied()
    }
}

impl Pick {
    /// True if everything that there is has been seen, UIDs up to `next` having been given out.
    pub(super) fn is_old_news(&self, cursor: &Seen, next: u32, now: i64) -> bool {
        let mut seen = self.seen(cursor);
        seen.extend(&missing(cursor));
        // Where criteria leave some out nothing can be judged, however due it is.
        next <= seen.first_gap() && (self.criteria().is_some() || !cursor.is_due(now))
    }

    /// The lowest UID that may be wanted, or is to be looked for again.
    fn first(&self, cursor: &Seen, now: i64) -> u32 {
        let mut seen = self.seen(cursor);
        cursor.missing().iter().filter(|group| group.rests(now)).for_each(|group| seen.extend(&group.uids));
        seen.first_gap()
    }

    /// Taken, or passed over.
    fn seen(&self, cursor: &Seen) -> Uids {
        let mut seen = cursor.taken().clone();
        self.passed_over(cursor).for_each(|uid| seen.insert(uid));
        seen
    }

    /// Known to be too large still.
    fn passed_over<'a>(&'a self, cursor: &'a Seen) -> impl Iterator<Item = u32> + 'a {
        let too_large =
            |one: &&Skipped| self.max_size.is_some_and(|most| one.size.is_some_and(|size| size > most));
        cursor.skipped().values().filter(too_large).map(|one| one.uid)
    }

    fn criteria(&self) -> Option<String> {
        let since = self.since.map(|day| day.strftime("SINCE %-d-%b-%Y").to_string());
        let matching = self.matching.as_ref().map(|keys| format!("({keys})"));
        let all: Vec<String> = since.into_iter().chain(matching).collect();
        (!all.is_empty()).then(|| all.join(" "))
    }

    /// Looks at the open mailbox. All UIDs below `next` have been given out, where that is known.
    pub(super) fn look(&self, imap: &mut Imap, cursor: &Seen, next: Option<u32>) -> Result<Picked> {
        let now = jiff::Timestamp::now().as_second();
        let first = self.first(cursor, now);
        let criteria = self.criteria();
        let listed = imap.search(first, criteria.as_deref()).map_err(|error| self.blame(error))?;
        let over: Uids = self.passed_over(cursor).collect();
        let untaken = |uid: &u32| !cursor.taken().contains(*uid) && !over.contains(*uid);
        let mut picked =
            Picked { wanted: listed.iter().copied().filter(untaken).collect(), ..Picked::default() };
        // `n:*` names the last message even where its UID is below n (RFC 9051 section 9): a search that names none in a
        // mailbox that is not empty did not look.
        if let (None, Some(last)) = (&criteria, listed.last()) {
            let end = next.unwrap_or(0).max(last.saturating_add(1));
            picked.verdict = self.verdict(cursor, first..end, &listed, *last, now);
            if next.is_some() {
                // A server that once said more was wrong.
                picked.verdict.back.extend(&missing(cursor).common(&Uids::from_range(end, u32::MAX)));
            }
        }
        if let Some(most) = self.max_size {
            picked.large = larger(imap, first, most, &picked.wanted)?;
            let large: Uids = picked.large.iter().map(|one| one.uid).collect();
            picked.wanted.retain(|uid| !large.contains(*uid));
        }
        if self.newest_first {
            picked.wanted.reverse();
        }
        let came_not = |uid: &u32| cursor.skipped().get(uid).is_some_and(|one| one.size.is_none());
        (picked.doubtful, picked.wanted) = picked.wanted.into_iter().partition(came_not);
        let all = picked.wanted.len() + picked.doubtful.len();
        let most = self.limit.unwrap_or(all);
        picked.wanted.truncate(most);
        picked.doubtful.truncate(most - picked.wanted.len());
        let chosen = picked.wanted.len() + picked.doubtful.len();
        // What was left out just now may come soon.
        let known = cursor.missing().iter().filter(|group| !group.is_due(now));
        let fresh = known.chain(&picked.verdict.missing).any(|group: &Missing| group.times == 1);
        let whole = over.is_empty() && picked.large.is_empty() && chosen == all;
        picked.complete = criteria.is_none() && whole && !fresh;
        Ok(picked)
    }

    /// What follows from a search of this range, `last` being the last message. A UID that was given out is listed, or
    /// gone for good (RFC 9051 section 2.3.1.1); but not every server shows all that it has at any moment, and that UIDs
    /// above the last one were given out is only what it says.
    fn verdict(&self, cursor: &Seen, range: Range<u32>, listed: &[u32], last: u32, now: i64) -> Verdict {
        let listed: Uids = listed.iter().copied().collect();
        let left_out = Uids::from_range(range.start, range.end.saturating_sub(1));
        cursor.judge(&listed, &left_out.without(&listed).without(&self.seen(cursor)), last, now)
    }

    /// A server that does not understand a search with our user's words in it is not to blame.
    fn blame(&self, error: Error) -> Error {
        match error.kind() {
            Kind::Protocol | Kind::Refused if self.matching.is_some() => {
                error.with_kind(Kind::Usage).hint("--match takes SEARCH keys, as in 'FROM \"bob\" UNSEEN'")
            }
            _ => error,
        }
    }
}

/// All that searches left out so far.
fn missing(cursor: &Seen) -> Uids {
    let mut all = Uids::default();
    cursor.missing().iter().for_each(|group| all.extend(&group.uids));
    all
}

fn larger(imap: &mut Imap, first: u32, most: u64, wanted: &[u32]) -> Result<Vec<Skipped>> {
    // RFC 3501 counts sizes in 32 bits; nothing can be larger than that.
    let Ok(most) = u32::try_from(most) else { return Ok(Vec::new()) };
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let wanted: Uids = wanted.iter().copied().collect();
    let found = imap.search(first, Some(&format!("LARGER {most}")))?;
    let found: Uids = found.into_iter().filter(|uid| wanted.contains(*uid)).collect();
    if found.is_empty() {
        return Ok(Vec::new());
    }
    // What the search alone calls large shows its size when it comes.
    let described = imap.describe(&found)?.into_iter().filter(|one| found.contains(one.uid));
    let sizes: BTreeMap<u32, u64> = described.filter_map(|one| Some((one.uid, one.size?))).collect();
    let large = sizes.into_iter().filter(|(_, size)| *size > u64::from(most));
    Ok(large.map(|(uid, size)| too_large(uid, size)).collect())
}

/// What is remembered of a message that `--max-size` passes over.
pub(super) fn too_large(uid: u32, size: u64) -> Skipped {
    Skipped { uid, size: Some(size), reason: "larger than --max-size allows".into() }
}

/// A mailbox to be looked at.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub name: String,
    pub delimiter: Option<String>,
    /// How it stands, if the server has said so already.
    pub status: Option<Opened>,
}

/// True if the mailbox is named with wildcards or excluded.
fn is_pattern(word: &str) -> bool {
    word.starts_with('!') || word.contains(['*', '%'])
}

/// The mailboxes that these words select, those named first in their order, and errors for those that there are not.
///
/// A word is a name, a pattern (`*`, and `%` within a level), or `!` and one of them: not these.
pub(super) fn mailboxes(imap: &mut Imap, words: &[String]) -> Result<(Vec<Target>, Vec<Error>)> {
    let (excluded, included): (Vec<&str>, Vec<&str>) =
        words.iter().map(String::as_str).partition(|word| word.starts_with('!'));
    if words.len() == 1 && mailbox::is_inbox(&words[0]) {
        let inbox = Target { name: "INBOX".into(), delimiter: None, status: None };
        return Ok((vec![inbox], Vec::new()));
    }
    // Only exclusions: of everything.
    let included = if included.is_empty() { vec!["*"] } else { included };
    let asked: Vec<String> = included.iter().map(|word| word.to_string()).collect();
    let listed = imap.list(&asked)?;
    let (mut targets, mut taken) = (Vec::new(), BTreeSet::new());
    let mut missing = Vec::new();
    let unwanted = |one: &Listed| {
        let delimiter = one.delimiter.as_deref();
        excluded.iter().any(|word| fits(&word[1..], &one.name, delimiter))
    };
    for word in included {
        let fitting = listed.iter().filter(|one| fits(word, &one.name, one.delimiter.as_deref()));
        let mut none = true;
        for one in fitting {
            none = false;
            if !unwanted(one) && taken.insert(&one.name) {
                let Listed { name, delimiter, status } = one.clone();
                targets.push(Target { name, delimiter, status });
            }
        }
        if none && !is_pattern(word) {
            missing.push(
                Error::new(
                    Kind::Refused,
                    format!("cannot fetch mailbox {word:?}"),
                    "there is no such mailbox",
                )
                .hint("check the name"),
            );
        }
    }
    Ok((targets, missing))
}

/// LIST's wildcards (RFC 9051 section 6.3.9): `*` is anything, `%` anything without the delimiter.
fn fits(pattern: &str, name: &str, delimiter: Option<&str>) -> bool {
    if mailbox::is_inbox(pattern) && mailbox::is_inbox(name) {
        return true;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let delimiter = delimiter.and_then(|text| text.chars().next());
    // For each place in the name: can the pattern read so far end there?
    let mut ends = vec![false; name.len() + 1];
    ends[0] = true;
    for c in pattern {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            next[at] = match c {
                '*' => ends[at] || at > 0 && next[at - 1],
                '%' => ends[at] || at > 0 && next[at - 1] && Some(name[at - 1]) != delimiter,
                c => at > 0 && ends[at - 1] && name[at - 1] == c,
            };
        }
        ends = next;
    }
    ends[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, name, fit) in [
            ("*", "a/b", true),
            ("%", "a/b", false),
            ("a/%", "a/b", true),
            ("a%", "a/b", false),
            ("inbox", "INBOX", true),
            ("*b", "a/b", true),
            ("a/*/c", "a/b/b/c", true),
            ("a", "ab", false),
        ] {
            assert_eq!(fits(pattern, name, Some("/")), fit, "{pattern} {name}");
        }
        assert!(!fits(&"*a".repeat(200), &"a".repeat(150), None));
    }

    #[test]
    fn keys_for_the_server() {
        let pick = Pick {
            since: Some("2026-03-01".parse().unwrap()),
            matching: Some("FROM \"x\"".into()),
            ..Pick::default()
        };
        assert_eq!(pick.criteria().as_deref(), Some("SINCE 1-Mar-2026 (FROM \"x\")"));
        assert_eq!(Pick::default().criteria(), None);
    }
}
