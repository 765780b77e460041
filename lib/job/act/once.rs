//! Showing commands: as often as they are asked for, or once; and what claims have to do with it.

use std::ffi::OsString;
use std::rc::Rc;

use jiff::Timestamp;

use crate::error::{Error, Kind, Result};
use crate::report;
use crate::store::ledger::{Again, Claim, Claimed, End, Key, Past, State};

use super::actor::Actor;
use super::facts::Known;
use super::orders::Order;
use super::tell::{self, About, lossy};

/// How many commands are claimed together at most.
const TOGETHER: usize = 256;

/// A command that waits to be claimed together with others.
pub(super) struct Waiting<'a> {
    known: Rc<Known>,
    order: Order<'a>,
    argv: Vec<OsString>,
    key: Key,
    again: Again,
}

impl Waiting<'_> {
    fn claim(&self) -> Claim<'_> {
        Claim {
            key: &self.key,
            path: &self.known.path,
            argv: lossy(&self.argv),
            again: self.again,
            max_per_hour: self.order.max_per_hour(),
            settle: Some(End::of(State::Emitted)),
        }
    }
}

impl<'a> Actor<'a, '_> {
    /// Shows the command and remembers nothing.
    pub(super) fn print(&mut self, known: &Known, order: &Order<'_>) -> Result<()> {
        let (key, again) = (order.key(known), self.again_of(order));
        let past = self.ledger.as_mut().map(|ledger| ledger.before(&key)).transpose()?.flatten();
        if let Some(past) = past
            && past.bars(again, Timestamp::now())
        {
            return self.was_before(&About::of(known, order), &past);
        }
        if let Some(most) = self.too_large(known, order, past) {
            return self.too_much(&About::of(known, order), known.record.size, most);
        }
        let argv = match order.argv(known) {
            Ok(argv) => argv,
            Err(error) => return self.refuse(&About::of(known, order), &error),
        };
        if self.pending && !self.shown.insert(key.clone()) {
            return Ok(());
        }
        // Nothing is remembered, so there is no hour to count in: what is only looked at is shown whole.
        self.show(&About::of(known, order), &argv)
    }

    /// Claims and settles as emitted, then shows the command: what is lost on its way to the reader stays lost. Where
    /// more may come, many are claimed together.
    pub(super) fn print_once(&mut self, known: &Rc<Known>, order: Order<'a>) -> Result<()> {
        let Some(argv) = self.may(known, &order)? else { return Ok(()) };
        let (key, again) = (order.key(known), self.again_of(&order));
        self.group.push(Waiting { known: known.clone(), order, argv, key, again });
        match self.group.len() < TOGETHER {
            true => Ok(()),
            false => self.flush(),
        }
    }

    /// Claims what was gathered and shows it.
    pub(super) fn flush(&mut self) -> Result<()> {
        while !self.group.is_empty() {
            let Some(ledger) = &mut self.ledger else { return Ok(()) };
            let answers = ledger.claim_all(self.group.iter().map(Waiting::claim).collect())?;
            let group: Vec<Waiting<'_>> = self.group.drain(..answers.len()).collect();
            let mut lost = Vec::new();
            for (one, answer) in group.iter().zip(answers) {
                match self.answered(&About::of(&one.known, &one.order), answer)? {
                    Some(number) if self.records.gone() => lost.push(number),
                    Some(_) => self.show(&About::of(&one.known, &one.order), &one.argv)?,
                    None => {}
                }
            }
            if let Some(ledger) = self.ledger.as_mut().filter(|_| !lost.is_empty()) {
                ledger.settle_all(
                    &lost,
                    &End::because(State::Free, "its reader had gone before it was shown"),
                )?;
            }
        }
        Ok(())
    }

    /// The command, if this may be done as far as the file itself goes; it has been said why not.
    pub(super) fn may(&mut self, known: &Known, order: &Order<'_>) -> Result<Option<Vec<OsString>>> {
        let past = match self.ledger.as_mut().filter(|_| order.max_size().is_some()) {
            Some(ledger) => ledger.before(&order.key(known))?,
            None => None,
        };
        if self.is_held_still(known, order)? {
            return Ok(None);
        }
        if let Some(most) = self.too_large(known, order, past) {
            let end = End::because(State::Held, tell::too_large(known.record.size, most));
            if let Some(number) = self.claim(known, order, &[], Some(end))? {
                report::detail(format_args!("{}: claim {number}", known.path.display()));
                self.too_much(&About::of(known, order), known.record.size, most)?;
            }
            return Ok(None);
        }
        match order.argv(known) {
            Ok(argv) => Ok(Some(argv)),
            Err(error) => {
                self.refuse_once(known, order, &error)?;
                Ok(None)
            }
        }
    }

    /// True where it was held before, and its rule was found to be full in this run: of thousands that wait each would be
    /// held anew, and that written down, for each that there is room for.
    fn is_held_still(&mut self, known: &Known, order: &Order<'_>) -> Result<bool> {
        let until = order.name().and_then(|name| self.full.get(name)).copied();
        let (Some(until), Some(ledger)) = (until.filter(|until| *until > Timestamp::now()), &mut self.ledger)
        else {
            return Ok(false);
        };
        if ledger
            .before(&order.key(known))?
            .is_none_or(|past| past.state != State::Held || past.next.is_none())
        {
            return Ok(false);
        }
        self.status.add(Kind::Temporary);
        report::detail(format_args!(
            "{}: held: {} has no room before {until:.0}",
            known.path.display(),
            About::of(known, order).rule()
        ));
        Ok(true)
    }

    /// The rule's limit, where the file is beyond it and nobody asked for it nonetheless; what was begun once was asked
    /// for.
    fn too_large(&self, known: &Known, order: &Order<'_>, past: Option<Past>) -> Option<u64> {
        let asked = past.is_some_and(|past| matches!(past.state, State::Later | State::Unknown));
        order.max_size().filter(|most| known.record.size > *most && !asked && !self.options.again)
    }

    /// `None` where there is nothing to do now; it has been said why.
    pub(super) fn claim(
        &mut self,
        known: &Known,
        order: &Order<'_>,
        argv: &[OsString],
        settle: Option<End>,
    ) -> Result<Option<u64>> {
        let (key, again) = (order.key(known), self.again_of(order));
        let Some(ledger) = &mut self.ledger else { return Ok(None) };
        let claim = Claim {
            key: &key,
            path: &known.path,
            argv: lossy(argv),
            again,
            max_per_hour: order.max_per_hour(),
            settle,
        };
        let answer = ledger.claim(claim)?;
        self.answered(&About::of(known, order), answer)
    }

    /// The number of a claim that is ours; it has been said why it is not.
    fn answered(&mut self, about: &About<'_>, answer: Claimed) -> Result<Option<u64>> {
        match answer {
            Claimed::Ours(number) => return Ok(Some(number)),
            Claimed::Held { number, most, until, news } => {
                self.full.insert(about.rule_name().to_string(), until);
                let news = self.options.memory.is_news(number, State::Held) && news;
                self.hold(about, most, until, news)?;
            }
            Claimed::Before(past) => self.was_before(about, &past)?,
        }
        Ok(None)
    }

    fn again_of(&self, order: &Order<'_>) -> Again {
        let least = if order.may_repeat() { Again::Unknown } else { Again::No };
        self.again().max(least)
    }

    pub(super) fn settle(&mut self, number: u64, end: End) -> Result<()> {
        match &mut self.ledger {
            Some(ledger) => ledger.settle(number, end),
            None => Ok(()),
        }
    }

    /// As [`Actor::refuse`], and remembered: reported once, not at every run.
    fn refuse_once(&mut self, known: &Known, order: &Order<'_>, error: &Error) -> Result<()> {
        match self.claim(known, order, &[], Some(End::because(State::Failed, error.to_string())))? {
            Some(_) => self.refuse(&About::of(known, order), error),
            None => Ok(()),
        }
    }
}
