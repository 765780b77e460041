//! What a journal holds and the ledger has not settled: which files of it need to be looked at now.

use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;

use crate::error::{Error, Kind, Result};
use crate::record::File;
use crate::report;
use crate::store::journal;
use crate::store::ledger::{Again, End, Key, Past, State};

use super::actor::{Acted, Actor};
use super::items::Item;
use super::memory::Round;
use super::orders::{Chance, Deed};
use super::tag_of;
use super::tell::About;
use super::transfer::Parcel;

/// So many files that were acted on are kept in mind until it shows what came of them.
const TOGETHER: usize = 256;

/// Whether there is something to do for a file of the journal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Settled {
    /// It has to be looked at.
    No,
    /// Not now.
    ForNow,
    /// Not as long as nobody says something else by hand.
    ForGood,
}

/// What the ledger holds of a file, with the names of the rules.
type Found = Vec<(Option<String>, Past)>;

impl Actor<'_, '_> {
    /// Looks at what the journal of `out` holds, all of it or what may have changed since the last look. The inner error
    /// is about the journal alone.
    pub(super) fn journal(&mut self, out: &Path) -> Result<Result<()>> {
        let options = self.options;
        let memory = &options.memory;
        let hands = self.ledger.as_mut().map(|ledger| ledger.hands()).transpose()?.unwrap_or_default();
        let last = memory.round(out, hands);
        let mark = last.as_ref().map(|round| round.mark);
        let (mark, files) = match journal::files_since(out, mark) {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        let (mut open, whole) = last.map_or((Vec::new(), Instant::now()), |round| (round.open, round.whole));
        let (again, mut is_complete) = (std::mem::take(&mut open), true);
        let mut acted = Vec::new();
        for file in again.into_iter().chain(files) {
            if self.is_over() {
                is_complete = false;
                break;
            }
            let (settled, found) = self.was_settled(&file)?;
            match settled {
                Settled::ForGood => {}
                Settled::ForNow => open.push(file),
                Settled::No if self.is_gone(&file)? || self.was_braked(&file)? => {}
                Settled::No if self.act_on(&file, &found)? => acted.push(file),
                Settled::No => {}
            }
            if acted.len() >= TOGETHER {
                self.let_go(&mut acted, &mut open)?;
            }
        }
        self.let_go(&mut acted, &mut open)?;
        if is_complete {
            memory.keep(out, Round { mark, open, whole, hands });
        }
        Ok(Ok(()))
    }

    /// Of what was acted on only that stays in mind which needs another look: a first look at a long journal would keep
    /// all of it.
    fn let_go(&mut self, acted: &mut Vec<File>, open: &mut Vec<File>) -> Result<()> {
        self.flush()?;
        for file in acted.drain(..).filter(|_| self.options.memory.lasts()) {
            if self.stands(&file)?.0 != Settled::ForGood {
                open.push(file);
            }
        }
        Ok(())
    }

    /// False if nothing is to be done with it, until somebody says something else.
    fn act_on(&mut self, file: &File, found: &Found) -> Result<bool> {
        let now = Timestamp::now();
        let waits = found.iter().any(|(_, past)| !past.bars(Again::No, now));
        match self.act(Item::Record(Box::new(file.clone())))? {
            Acted::Unclear => Ok(true),
            Acted::Nothing if waits => self.give_up(file, &[]).map(|()| false),
            Acted::Nothing => Ok(false),
            Acted::Tried(keys) if waits => self.give_up(file, &keys).map(|()| true),
            Acted::Tried(_) => Ok(true),
        }
    }

    /// What was to be tried again, and whose rule does not take the file any more: its message has gone, or the
    /// configuration says something else. Nobody would ever try it, nor say so.
    fn give_up(&mut self, file: &File, tried: &[Key]) -> Result<()> {
        if !self.claims() || self.is_over() {
            return Ok(());
        }
        let (message, now) = (file.message.as_ref().map(|message| message.sha256.clone()), Timestamp::now());
        let orders = &self.options.orders;
        for Chance { key, rule, .. } in orders.keys(&file.sha256, message) {
            let past = match &mut self.ledger {
                Some(ledger) if !tried.contains(&key) => ledger.before(&key)?,
                _ => None,
            };
            let Some(past) = past.filter(|past| !past.bars(Again::No, now)) else { continue };
            let state = if past.state == State::Later { State::Dead } else { State::Skipped };
            let why = format!("rule {} does not take it any more; `mail-act --explain` says why", key.rule);
            let about = About::file(file, rule.map(|rule| rule.name.as_str()));
            let end = End::because(state, why);
            self.trouble(&Error::new(
                Kind::Refused,
                about.path.display().to_string(),
                end.why.as_deref().unwrap_or_default(),
            ));
            self.settle(past.number, end.clone())?;
            if state == State::Dead {
                self.tell_dead(&about, past.number);
            }
            self.record(&about, &[], state.word(), &end)?;
        }
        Ok(())
    }

    /// Whether there is nothing to do now for a file of the journal, and what the ledger holds of it: what is unknown is
    /// reported. The file is not looked at, it may have been moved away.
    fn was_settled(&mut self, file: &File) -> Result<(Settled, Found)> {
        let (settled, found) = self.stands(file)?;
        for (rule, past) in found.iter().filter(|_| settled != Settled::No) {
            self.was_before(&About::file(file, rule.as_deref()), past)?;
        }
        Ok((settled, found))
    }

    /// The same without a word, and what the ledger holds of it.
    fn stands(&mut self, file: &File) -> Result<(Settled, Found)> {
        let (again, now) = (self.again(), Timestamp::now());
        let orders = &self.options.orders;
        let Some(ledger) = self.ledger.as_mut().filter(|_| !self.options.explain) else {
            return Ok((Settled::No, Vec::new()));
        };
        let message = file.message.as_ref().map(|message| message.sha256.clone());
        // A rule that continues may match without its claim; only a look can tell. One that ends the search cannot,
        // once another has been settled.
        let (mut found, mut is_open, mut is_ended) = (Vec::new(), false, false);
        for Chance { key, rule, .. } in orders.keys(&file.sha256, message) {
            let continues = rule.is_some_and(|rule| rule.continues);
            let again = again.max(if rule.is_some_and(|rule| rule.may_repeat()) {
                Again::Unknown
            } else {
                Again::No
            });
            let Some(past) = ledger.before(&key)? else {
                is_open |= continues;
                continue;
            };
            let bars = past.bars(again, now);
            is_open |= !bars;
            is_ended |= !continues;
            found.push((rule.map(|rule| rule.name.clone()), past));
        }
        let is_all = orders.continue_all();
        if is_open || !(is_ended || is_all && !found.is_empty()) {
            return Ok((Settled::No, found));
        }
        let mut settled = Settled::ForGood;
        for (_, past) in &found {
            let is_final = match past.state {
                State::Done | State::Emitted | State::Failed | State::Skipped => true,
                State::Dead => past.told,
                State::Held => past.next.is_none(),
                State::Claimed | State::Unknown | State::Later | State::Free => false,
            };
            if !is_final {
                settled = Settled::ForNow;
            }
        }
        Ok((settled, found))
    }

    /// True if a file of the journal is no longer there. Where one of the rules moved it, that is as it should be;
    /// else somebody removed it before anything was done with it, which is said and remembered once. Should it come
    /// back, it is acted on after all.
    fn is_gone(&mut self, file: &File) -> Result<bool> {
        let Some(path) = file.path.get() else { return Ok(false) };
        if !matches!(std::fs::symlink_metadata(path), Err(why) if why.kind() == std::io::ErrorKind::NotFound)
        {
            return Ok(false);
        }
        if !self.was_touched(file, path)? {
            self.tell_gone(file)?;
        }
        Ok(true)
    }

    /// True if the ledger knows that something was done, or tried, with the file that has gone; what waits for another
    /// try is settled, since there can be none.
    fn was_touched(&mut self, file: &File, path: &Path) -> Result<bool> {
        let claims = self.claims();
        let Some(ledger) = self.ledger.as_mut() else { return Ok(false) };
        let message = file.message.as_ref().map(|message| message.sha256.clone());
        let (mut touched, mut is_touched) = (Vec::new(), false);
        for Chance { key, rule, deed } in self.options.orders.keys(&file.sha256, message) {
            let Some(past) = ledger.before(&key)? else {
                // The same file of another message may have taken this one along.
                let anybody = Key { message: None, ..key };
                let past = ledger.before(&anybody)?.map(|past| past.state);
                if matches!((deed, past), (Deed::Move(_), Some(State::Done | State::Emitted))) {
                    return Ok(true);
                }
                continue;
            };
            let tag = tag_of(&key);
            let parcel = Parcel { path, sha256: &file.sha256, tag: &tag };
            let moved = match deed {
                Deed::Move(to) if past.state != State::Done => parcel.found(to),
                _ => Ok(None),
            };
            let moved = match moved {
                Ok(moved) => moved,
                Err(error) => {
                    self.trouble(&error);
                    return Ok(true);
                }
            };
            is_touched = true;
            let end = match (past.state, moved) {
                (_, Some(to)) => End::because(State::Done, format!("it lies in {}", to.display())),
                (State::Later, _) => {
                    End::because(State::Skipped, "it was removed before it could be tried again")
                }
                _ => {
                    touched.push((rule.map(|rule| rule.name.clone()), past));
                    continue;
                }
            };
            if claims {
                report::say(format_args!("{}: {}", path.display(), end.why.as_deref().unwrap_or_default()));
                ledger.settle(past.number, end)?;
            }
        }
        for (rule, past) in &touched {
            self.was_before(&About::file(file, rule.as_deref()), past)?;
        }
        Ok(is_touched)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::durable::Dir;
    use crate::job::act::{self, Memory, Mode, Options, Orders};
    use crate::record::{Message, RecordPath, hex};
    use crate::report::{Form, Records};
    use crate::store::journal::{Entry, Journal};
    use sha2::{Digest, Sha256};

    #[test]
    fn what_is_done_is_not_kept_in_mind() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("out");
        let out = Dir::create(&path, 0o700).unwrap();
        let mut entries = Vec::new();
        for n in 0..300 {
            let (name, text) = (format!("{n}.txt"), format!("file {n}"));
            std::fs::write(path.join(&name), &text).unwrap();
            let sha256 = hex(&Sha256::digest(&text));
            let file = File { path: RecordPath(Some(name.into())), sha256, ..File::fresh() };
            let message = Message { sha256: Some(hex(&Sha256::digest(n.to_string()))), ..Message::fresh() };
            entries.push(Entry { files: vec![file], ..Entry::new(n.to_string(), message) });
        }
        Journal::open(&out, Duration::ZERO, false).unwrap().append(&entries, &|_| true).unwrap();
        let options = Options {
            orders: Orders::command(&["lp".into()]).unwrap(),
            mode: Mode::Once,
            again: false,
            dry_run: false,
            explain: false,
            state: temp.path().join("state"),
            starts: Vec::new(),
            limit: Duration::from_secs(10),
            wait: Duration::from_secs(10),
            dead_letters: temp.path().join("dead"),
            memory: Memory::lasting(),
        };
        let mut shown = Vec::new();
        let look = |shown: &mut Vec<u8>| {
            act::pending(&options, std::slice::from_ref(&path), &mut Records::new(shown, Form::Lines))
        };
        look(&mut shown).unwrap();
        assert_eq!(shown.iter().filter(|byte| **byte == b'\n').count(), 300);
        let round = options.memory.round(&path, 0).unwrap();
        assert!(round.open.is_empty(), "{} are kept", round.open.len());
        options.memory.keep(&path, round);
        shown.clear();
        look(&mut shown).unwrap();
        assert!(shown.is_empty());
    }
}
