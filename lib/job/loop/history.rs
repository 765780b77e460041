//! `mail-loop history`: what was claimed, and what became of it, oldest first; and what somebody says of it by hand.

use jiff::Timestamp;

use crate::error::{Error, Kind, Result, Status};
use crate::job::settings::Settings;
use crate::report::{self, Records, printable};
use crate::rules::matches;
use crate::store::ledger::{End, Entry, Ledger, State, Wanted};

/// Which claims are meant; all where nothing is asked.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// These, by their numbers.
    pub numbers: Vec<u64>,
    /// Those in one of these states.
    pub states: Vec<State>,
    /// Those of rules whose names fit; `*` stands for anything.
    pub rule: Option<String>,
    /// Those of files whose paths fit; `*` stands for anything.
    pub path: Option<String>,
    /// Those not older than this moment.
    pub since: Option<Timestamp>,
    /// Of what is left only the last so many.
    pub last: Option<usize>,
}

/// What somebody says of a claim.
#[derive(Clone, Debug)]
pub enum Word {
    /// Do it once more, at the next run.
    Retry,
    /// It is not to be done, and no more is to be said of it.
    Forget,
    /// It ended like this.
    Settle(State, Option<String>),
}

/// A state by its word, for command lines.
pub fn state(word: &str) -> Result<State, String> {
    State::ALL.into_iter().find(|state| state.word() == word).ok_or_else(|| {
        let words: Vec<&str> = State::ALL.iter().map(|state| state.word()).collect();
        format!("{word:?} is no state; there are {}", words.join(", "))
    })
}

/// Shows what the filter lets through of the ledger.
pub fn show(settings: &Settings, filter: &Filter, records: &mut Records<'_>) -> Result<()> {
    let Some(mut ledger) = open(settings)? else { return Ok(()) };
    filter.each(&mut ledger, &mut |entry| match records.is_json() {
        true => records.json(&record(&entry)),
        false => records.text(line(&entry)),
    })?;
    records.flush()
}

/// Shows what the command of a claim printed, as it is. 66 where it printed nothing, or that is no longer known.
pub fn output(settings: &Settings, number: u64, records: &mut Records<'_>) -> Result<()> {
    let ledger = open(settings)?;
    let printed = ledger.map(|ledger| ledger.output(number)).transpose()?.flatten();
    let printed = printed.ok_or_else(|| {
        let what = format!("nothing is known of what the command of claim {number} printed");
        Error::plain(Kind::NoInput, what).hint("what printed nothing has no output; the last 1000 are kept")
    })?;
    let text = String::from_utf8_lossy(&printed);
    for line in text.lines() {
        records.text(printable(line).as_bytes())?;
    }
    records.flush()
}

/// Says something of each claim that the filter lets through; one bad one is one line, the rest goes on. Durable on
/// return. 64 where it lets none through.
pub fn tell(settings: &Settings, filter: &Filter, word: &Word) -> Result<Status> {
    let mut status = Status::DONE;
    let mut ledger = open(settings)?;
    let mut numbers = filter.numbers.clone();
    if let (true, Some(ledger)) = (numbers.is_empty(), &mut ledger) {
        let mut meant = Vec::new();
        filter.each(ledger, &mut |entry| {
            meant.push(entry.number);
            Ok(())
        })?;
        // What was tried again since stands in a newer claim; nobody means the old one who does not name it.
        for number in meant {
            if !ledger.is_overtaken(number)? {
                numbers.push(number);
            }
        }
    }
    let none = || {
        Error::plain(Kind::Usage, "no claim is meant by that")
            .hint("`mail-loop history` shows all, with their numbers")
    };
    let mut ledger = ledger.filter(|_| !numbers.is_empty()).ok_or_else(none)?;
    for number in numbers {
        match ledger.by_hand(number, word.end()) {
            Ok(()) => report::say(format_args!("claim {number}: {}", word.said())),
            Err(error) => {
                report::trouble(&error);
                status.add(error.kind());
            }
        }
    }
    Ok(status)
}

impl Filter {
    /// True if every claim is meant.
    pub fn is_empty(&self) -> bool {
        let Filter { numbers, states, rule, path, since, last } = self;
        let patterns = rule.is_none() && path.is_none();
        numbers.is_empty() && states.is_empty() && patterns && since.is_none() && last.is_none()
    }

    /// The claims that are meant, oldest first; only of the last so many are more than one kept in mind.
    fn each(&self, ledger: &mut Ledger, each: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        let Some(last) = self.last else {
            return ledger.each(&self.wanted(false), &mut |entry| {
                if self.fits(&entry) {
                    each(entry)?;
                }
                Ok(true)
            });
        };
        let mut meant = Vec::new();
        ledger.each(&self.wanted(true), &mut |entry| {
            if meant.len() < last && self.fits(&entry) {
                meant.push(entry);
            }
            Ok(meant.len() < last)
        })?;
        meant.into_iter().rev().try_for_each(each)
    }

    fn wanted(&self, newest_first: bool) -> Wanted {
        Wanted { numbers: self.numbers.clone(), states: self.states.clone(), since: self.since, newest_first }
    }

    /// What the ledger cannot tell without the claim itself.
    fn fits(&self, entry: &Entry) -> bool {
        let path = entry.path.as_deref().map(|path| path.to_string_lossy()).unwrap_or_default();
        self.rule.as_ref().is_none_or(|rule| matches(rule, &entry.key.rule))
            && self.path.as_ref().is_none_or(|pattern| matches(pattern, &path))
    }
}

impl Word {
    fn end(&self) -> End {
        match self {
            Word::Retry => {
                End { next: Some(Timestamp::now()), ..End::because(State::Later, "asked for by hand") }
            }
            Word::Forget => End::because(State::Skipped, "forgotten by hand"),
            Word::Settle(state, why) => {
                End::because(*state, why.clone().unwrap_or_else(|| "settled by hand".into()))
            }
        }
    }

    fn said(&self) -> String {
        match self {
            Word::Retry => "due; the next run that meets the file does it".into(),
            Word::Forget => "forgotten; it is not done any more".into(),
            Word::Settle(state, _) => format!("settled as {}", state.word()),
        }
    }
}

fn open(settings: &Settings) -> Result<Option<Ledger>> {
    if settings.state.is_dir() {
        settings.state()?;
    }
    Ledger::open_existing(&settings.state, crate::cli::TIMEOUT)
}

/// The entry as a JSON object; what is not known is null.
fn record(entry: &Entry) -> serde_json::Value {
    serde_json::json!({
        "v": 1, "kind": "claim", "number": entry.number, "rule": entry.key.rule, "state": entry.state.word(),
        "claimed": entry.claimed.to_string(), "settled": entry.settled.map(|at| at.to_string()),
        "next": entry.next.map(|at| at.to_string()),
        "argv": entry.argv, "exit": entry.exit, "signal": entry.signal, "why": entry.why,
        "path": entry.path.as_ref().map(|path| path.to_string_lossy()),
        "sha256": entry.key.file, "message_sha256": entry.key.message,
    })
}

fn line(entry: &Entry) -> String {
    let why = entry.why.as_ref().map_or(String::new(), |why| format!("; {why}"));
    let words: Vec<&str> = entry.argv.iter().map(String::as_str).collect();
    let command = match entry.argv.is_empty() {
        true => entry.path.as_deref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
        false => shlex::try_join(words).unwrap_or_else(|_| entry.argv.join(" ")),
    };
    let (number, at, state, rule) = (entry.number, entry.claimed, entry.state.word(), &entry.key.rule);
    printable(&format!("{number:>5} {at:.0} {state:8} {rule}: {command}{why}")).into_owned()
}
