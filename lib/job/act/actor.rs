//! A run: what it has opened and gathered, and the way of one file through it.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use jiff::Timestamp;

use crate::error::{Error, Result, Status};
use crate::mail::auth::Proof;
use crate::report::{self, Records};
use crate::stop;
use crate::store::ledger::{Again, End, Key, Ledger, State};

use super::auth::Prover;
use super::facts::{Journals, Known, Subject};
use super::items::Item;
use super::once::Waiting;
use super::orders::{Choice, Deed};
use super::tell::About;
use super::{Mode, Options, start};

/// One run.
pub(super) struct Actor<'a, 'r> {
    pub(super) options: &'a Options,
    /// Whether the items come from a journal, so that what is done already is no news.
    pub(super) pending: bool,
    pub(super) ledger: Option<Ledger>,
    pub(super) journals: Journals,
    pub(super) records: &'a mut Records<'r>,
    /// What was printed of a journal in this run: the same thing may stand there twice.
    pub(super) shown: HashSet<Key>,
    /// How many files of each rule were held in this run.
    pub(super) held: BTreeMap<String, u32>,
    /// Rules that have had as many in this hour as they may, and until when.
    pub(super) full: BTreeMap<String, Timestamp>,
    /// Who sent a message; `None` where no rule asks.
    pub(super) prover: Option<Prover>,
    /// How many files wait until their sender can be told.
    pub(super) waiting: u32,
    pub(super) status: Status,
    /// Commands that are gathered to be claimed together.
    pub(super) group: Vec<Waiting<'a>>,
}

/// What came of a file.
pub(super) enum Acted {
    /// Nothing is to be done with it.
    Nothing,
    /// Nobody can tell now.
    Unclear,
    /// This was to be done, and was, if it may be now.
    Tried(Vec<Key>),
}

impl<'a, 'r> Actor<'a, 'r> {
    pub(super) fn open(options: &'a Options, pending: bool, records: &'a mut Records<'r>) -> Result<Self> {
        let claims = options.mode != Mode::Print && !options.dry_run && !options.explain;
        let reads = options.mode != Mode::Print || pending || (options.explain && options.orders.are_rules());
        let ledger = match (claims, reads) {
            (true, _) => Some(Ledger::open(&options.state, options.wait)?),
            (false, true) => Ledger::open_existing(&options.state, options.wait)?,
            (false, false) => None,
        };
        Ok(Actor {
            options,
            pending,
            ledger,
            journals: Journals::default(),
            records,
            shown: HashSet::new(),
            held: BTreeMap::new(),
            full: BTreeMap::new(),
            prover: options
                .orders
                .auth()
                .map(|auth| Prover::new(auth, reads.then_some(options.state.as_path()), claims)),
            waiting: 0,
            status: Status::DONE,
            group: Vec::new(),
        })
    }

    /// True once we are asked to end or nobody reads what we print.
    pub(super) fn is_over(&self) -> bool {
        stop::requested() || self.records.gone()
    }

    pub(super) fn close(mut self) -> Result<Status> {
        self.flush()?;
        self.tell_held();
        self.records.flush()?;
        Ok(self.status)
    }

    pub(super) fn again(&self) -> Again {
        match (self.options.again, self.pending) {
            (false, _) => Again::No,
            (true, true) => Again::Undone,
            (true, false) => Again::All,
        }
    }

    pub(super) fn trouble(&mut self, error: &Error) {
        report::trouble(error);
        self.status.add(error.kind());
    }

    /// The way of one file.
    pub(super) fn act(&mut self, item: Item) -> Result<Acted> {
        let known = match self.look(item) {
            Ok(Some(known)) => Rc::new(known),
            Ok(None) => return Ok(Acted::Nothing),
            Err(error) => {
                self.trouble(&error);
                return Ok(Acted::Unclear);
            }
        };
        let choice = self.choose(&known, true);
        if self.options.explain {
            return self.explain(&known, &choice).map(|()| Acted::Unclear);
        }
        if let Some((rule, why)) = &choice.unproven {
            self.tell_unproven(&About::file(&known.record, Some(&rule.name)), why)?;
        }
        if choice.orders.is_empty() && choice.open.is_none() {
            self.pass(&known, &choice);
            if let Some(why) = &choice.brake {
                self.tell_braked(&known, why)?;
            }
            return Ok(Acted::Nothing);
        }
        let mut before = Vec::new();
        for order in choice.orders {
            if let (Deed::Move(_), Some(name)) = (order.deed, self.unfinished(&before)?) {
                report::detail(format_args!(
                    "{}: not moved before rule {name} is done",
                    known.path.display()
                ));
                before.push(order.key(&known));
                continue;
            }
            before.push(order.key(&known));
            match self.options.mode {
                Mode::Run if !self.options.dry_run => self.run_once(&known, &order)?,
                Mode::Once if !self.options.dry_run => self.print_once(&known, order)?,
                _ => self.print(&known, &order)?,
            }
        }
        if let Some((rule, why)) = &choice.open {
            self.wait_for_proof(&About::file(&known.record, Some(&rule.name)), why.as_deref())?;
            return Ok(Acted::Unclear);
        }
        Ok(Acted::Tried(before))
    }

    /// The rule of the first of these that is not over: what failed, or is held, may be tried again, and needs the file
    /// where it is.
    fn unfinished(&mut self, keys: &[Key]) -> Result<Option<String>> {
        if !keys.is_empty() {
            self.flush()?;
        }
        let Some(ledger) = &mut self.ledger else { return Ok(None) };
        // Where nothing is done, what was never tried is no failure.
        let is_looked_at_only = self.options.mode == Mode::Print || self.options.dry_run;
        for key in keys {
            let state = ledger.before(key)?.map(|past| past.state);
            let is_over = match state {
                Some(state) => matches!(state, State::Done | State::Emitted | State::Skipped),
                None => is_looked_at_only,
            };
            if !is_over {
                return Ok(Some(key.rule.clone()));
            }
        }
        Ok(None)
    }

    /// What is to be done. What a machine sent causes nothing, not even what the command line asks for; but where a
    /// command is only shown, nobody looks at mail.
    ///
    /// Who sent the message is only found out where a rule asks for it that fits otherwise, and where the file was
    /// looked at whole.
    pub(super) fn choose(&self, known: &Known, is_whole: bool) -> Choice<'a> {
        let mut choice = self.options.orders.choose(known, None);
        if let (Some((rule, None)), Some(prover)) = (choice.open.clone(), &self.prover) {
            let (proof, is_new) = match is_whole {
                true => Some(prover.prove(known)).unzip(),
                false => (prover.unproven(known), None),
            };
            let news = match &proof {
                Some(Proof::Unproven(why)) if is_new == Some(true) => Some((rule, why.clone())),
                _ => None,
            };
            choice = Choice { unproven: news, ..self.options.orders.choose(known, proof) };
        }
        let binds = self.options.mode != Mode::Print || self.pending || self.options.explain;
        if let Some(why) = known.letter.brake.as_ref().filter(|_| binds) {
            choice.orders.clear();
            choice.brake = Some(format!("its message {why}"));
        }
        choice
    }

    /// What is to be known of a file, or `None` if it is too old to act on.
    pub(super) fn look(&mut self, item: Item) -> Result<Option<Known>> {
        let orders = &self.options.orders;
        let thorough = self.records.is_json()
            || self.pending
            || self.options.mode != Mode::Print
            || orders.are_rules()
            || orders.ask_for_more_than_the_path();
        let subject = Subject::find(item, thorough.then_some(&mut self.journals))?;
        let message = subject.record.message.as_ref();
        if let Some(why) = message.and_then(|message| start::too_old(message, &self.options.starts)) {
            report::detail(format_args!("{}: {why}", subject.path.display()));
            let about = About::file(&subject.record, None);
            if self.options.explain {
                self.sentences(&about, &[], &[format!("no action: {why}")])?;
            } else if !self.pending {
                self.record(&about, &[], "skipped", &End::because(State::Free, why))?;
            }
            return Ok(None);
        }
        if !thorough {
            return subject.glance().map(Some);
        }
        if orders.are_rules() && !self.options.explain {
            let glimpse = subject.peek()?;
            let choice = self.choose(&glimpse, false);
            // What is braked is remembered by its digest.
            let is_told = choice.brake.is_some() && glimpse.is_read && self.claims();
            if choice.orders.is_empty() && choice.open.is_none() && !is_told {
                self.pass(&glimpse, &choice);
                return Ok(None);
            }
        }
        subject.look().map(Some)
    }
}
