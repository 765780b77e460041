//! Doing what is to be done with a file, once: claim, act, settle; and what a failure means for the next try.

use std::ffi::OsString;

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::report;
use crate::retry;
use crate::store::ledger::{End, State};

use super::actor::Actor;
use super::command::{self, Ran};
use super::facts::Known;
use super::orders::{Deed, Order};
use super::tag_of;
use super::tell::About;
use super::transfer::Parcel;

impl Actor<'_, '_> {
    /// Claims, acts, settles.
    pub(super) fn run_once(&mut self, known: &Known, order: &Order<'_>) -> Result<()> {
        let Some(argv) = self.may(known, order)? else { return Ok(()) };
        let Some(number) = self.claim(known, order, &argv, None)? else { return Ok(()) };
        let mut ran = self.perform(known, order, &argv, number);
        self.judge_tries(order, number, &mut ran.end)?;
        self.settle(number, ran.end.clone())?;
        if ran.end.state == State::Dead {
            self.tell_dead(&About::of(known, order), number);
        }
        if let Some(kind) = ran.kind {
            let why = ran.end.why.clone().unwrap_or_default();
            self.trouble(&Error::new(kind, known.path.display().to_string(), why));
        } else if let Some(said) = &ran.said {
            report::detail(format_args!("{}: {said}", known.path.display()));
        }
        // A command that could not start has failed; that it may be claimed again is the ledger's affair.
        let state = if ran.end.state == State::Free { State::Failed } else { ran.end.state };
        self.record(&About::of(known, order), &argv, state.word(), &ran.end)
    }

    /// Does it, now that it is claimed.
    fn perform(&self, known: &Known, order: &Order<'_>, argv: &[OsString], number: u64) -> Ran {
        let tag = tag_of(&order.key(known));
        let parcel = Parcel { path: &known.path, sha256: &known.record.sha256, tag: &tag };
        match order.deed {
            Deed::Move(to) => command::transferred(parcel.mv(to)),
            Deed::Copy(to) => command::transferred(parcel.cp(to)),
            Deed::Command(_) => {
                let limit = order.timeout().unwrap_or(self.options.limit);
                let mut ran = command::run(argv, command::environment(known, order.name()), limit);
                if order.prints() {
                    ran.failed_for_now();
                }
                if let (Some(ledger), false) = (&self.ledger, ran.printed.is_empty())
                    && let Err(error) = ledger.keep_output(number, &ran.printed)
                {
                    report::trouble(&error);
                }
                ran
            }
        }
    }

    /// What failed for now is tried again after a pause that grows; after too many tries somebody has to look.
    fn judge_tries(&mut self, order: &Order<'_>, number: u64, end: &mut End) -> Result<()> {
        // A program that is not there may come; but who looks every minute need not try every minute.
        end.temporary |= end.state == State::Free && self.pending;
        let Some(ledger) = self.ledger.as_mut().filter(|_| end.temporary) else { return Ok(()) };
        let (tries, now) = (ledger.tries_before(number)?.saturating_add(1), Timestamp::now());
        let why = end.why.take().unwrap_or_default();
        if tries >= order.tries() {
            end.state = State::Dead;
            end.why =
                Some(format!("{why}; given up after {tries} tries, `mail-loop retry {number}` tries again"));
            return Ok(());
        }
        let pause = retry::action_pause(tries);
        let next = now.checked_add(pause).unwrap_or(now);
        (end.state, end.next) = (State::Later, Some(next));
        end.why = Some(format!("{why}; try {tries} of {}, the next from {next:.0} on", order.tries()));
        Ok(())
    }
}
