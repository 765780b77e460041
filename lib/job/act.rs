//! Acting on files: the command that a rule or the command line asks for is printed, or run, once for each.
//!
//! The way of a file: what it is and where it came from (`facts`, `place`), what is to be done with it (`orders`),
//! whether it was done before (`store::ledger`), then print the command, or do it (`command`, `transfer`), and say so. Nothing is run
//! before its claim is durable, and no lock is held while it runs. Asked to end, the job finishes the file in hand.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result, Status};
use crate::mail::auth::Proof;
use crate::record::hex;
use crate::report::{self, Records};
use crate::stop;
use crate::store::journal;
use crate::store::ledger::{Again, Claim, Claimed, End, Key, Ledger, Past, State};

mod auth;
mod bytes;
mod command;
mod facts;
mod items;
mod message;
mod orders;
mod pending;
mod perform;
mod place;
mod start;
mod tell;
mod transfer;
pub use auth::show as show_auth;
pub use items::{Item, from_paths, from_reader, stdin};
pub use orders::Orders;
pub(crate) use pending::GONE;
pub use start::Start;

use auth::Prover;
use facts::{Journals, Known, Subject};
use orders::{Choice, Order};
use tell::{About, lossy};

/// How long a command may take where neither its rule nor the caller says so.
pub const LIMIT: Duration = Duration::from_secs(300);

/// What happens with a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It is shown; nothing is remembered.
    #[default]
    Print,
    /// It is shown once, ever: it counts as emitted before it is shown.
    Once,
    /// It is run once, ever.
    Run,
}

/// What to do, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which commands.
    pub orders: Orders,
    /// What happens with them.
    pub mode: Mode,
    /// Act also on what was acted on before, and on what is unknown; what a journal holds (see [`pending`]) only
    /// where it failed or is unknown.
    pub again: bool,
    /// Show what the mode would do now; claim and run nothing.
    pub dry_run: bool,
    /// Only say, for each file, which rule matches and why the others do not.
    pub explain: bool,
    /// The state directory, where the ledger lies; not touched in [`Mode::Print`] unless files are taken from a
    /// journal or explained.
    pub state: PathBuf,
    /// Since when there is action on mail, by account.
    pub starts: Vec<Start>,
    /// How long a command may take where its rule does not say.
    pub limit: Duration,
    /// How long to wait for the ledger's lock.
    pub wait: Duration,
}

/// Acts on each item. One bad item is one line on stderr and counts in the status; an error is about all of them:
/// the ledger cannot be used, or stdout cannot be written.
///
/// On return every claim of this run is settled, whatever ended the run but a crash.
pub fn run(
    options: &Options,
    items: impl IntoIterator<Item = Result<Item>>,
    records: &mut Records<'_>,
) -> Result<Status> {
    let mut actor = Actor::open(options, false, records)?;
    for item in items {
        if actor.is_over() {
            break;
        }
        match item {
            Ok(item) => actor.act(item)?,
            Err(error) => actor.trouble(&error),
        }
    }
    actor.close()
}

/// Acts on each file that the journals in these directories hold and the ledger has not settled.
///
/// A file that one of the rules has settled is not pending for the others. What is unknown is reported each time.
pub fn pending(options: &Options, outs: &[PathBuf], records: &mut Records<'_>) -> Result<Status> {
    let mut actor = Actor::open(options, true, records)?;
    for out in outs {
        let files = match journal::files(out) {
            Ok(files) => files,
            Err(error) => {
                actor.trouble(&error);
                continue;
            }
        };
        for file in files {
            if actor.is_over() {
                break;
            }
            if !actor.was_settled(&file)? && !actor.is_gone(&file)? {
                actor.act(Item::Record(Box::new(file)))?;
            }
        }
    }
    actor.close()
}

/// Says each rule in a sentence; that they could be read at all is the check.
pub fn check(orders: &Orders, records: &mut Records<'_>) -> Result<Status> {
    for (name, sentence) in orders.sentences() {
        records.text(report::printable(&format!("rule {name} {sentence}")).as_bytes())?;
    }
    records.flush()?;
    Ok(Status::DONE)
}

struct Actor<'a, 'r> {
    options: &'a Options,
    /// Whether the items come from a journal, so that what is done already is no news.
    pending: bool,
    ledger: Option<Ledger>,
    journals: Journals,
    records: &'a mut Records<'r>,
    /// What was printed of a journal in this run: the same thing may stand there twice.
    shown: HashSet<Key>,
    /// How many files of each rule were held in this run.
    held: BTreeMap<String, u32>,
    /// Who sent a message; `None` where no rule asks.
    prover: Option<Prover>,
    /// How many files wait until their sender can be told.
    waiting: u32,
    status: Status,
}

impl<'a, 'r> Actor<'a, 'r> {
    fn open(options: &'a Options, pending: bool, records: &'a mut Records<'r>) -> Result<Self> {
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
            prover: options
                .orders
                .auth()
                .map(|auth| Prover::new(auth, reads.then_some(options.state.as_path()), claims)),
            waiting: 0,
            status: Status::DONE,
        })
    }

    /// True once we are asked to end or nobody reads what we print.
    fn is_over(&self) -> bool {
        stop::requested() || self.records.gone()
    }

    fn close(self) -> Result<Status> {
        self.tell_held();
        self.records.flush()?;
        Ok(self.status)
    }

    fn again(&self) -> Again {
        match (self.options.again, self.pending) {
            (false, _) => Again::No,
            (true, true) => Again::Undone,
            (true, false) => Again::All,
        }
    }

    fn trouble(&mut self, error: &Error) {
        report::trouble(error);
        self.status.add(error.kind());
    }

    /// The way of one file.
    fn act(&mut self, item: Item) -> Result<()> {
        let known = match self.look(item) {
            Ok(Some(known)) => known,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.trouble(&error);
                return Ok(());
            }
        };
        let choice = self.choose(&known, true);
        if self.options.explain {
            return self.explain(&known, &choice);
        }
        if let Some((rule, why)) = &choice.unproven {
            self.tell_unproven(&About::file(&known.record, Some(&rule.name)), why)?;
        }
        if choice.orders.is_empty() && choice.open.is_none() {
            self.pass(&known, &choice);
            if let Some(why) = choice.brake.filter(|_| !self.pending && !self.options.orders.are_rules()) {
                report::say(format_args!("{}: no action: {why}", known.path.display()));
            }
            return Ok(());
        }
        for order in &choice.orders {
            match self.options.mode {
                Mode::Run if !self.options.dry_run => self.run_once(&known, order)?,
                Mode::Once if !self.options.dry_run => self.print_once(&known, order)?,
                _ => self.print(&known, order)?,
            }
        }
        if let Some((rule, why)) = &choice.open {
            self.wait_for_proof(&About::file(&known.record, Some(&rule.name)), why.as_deref())?;
        }
        Ok(())
    }

    /// What is to be done. What a machine sent causes nothing, not even what the command line asks for; but where a
    /// command is only shown, nobody looks at mail.
    ///
    /// Who sent the message is only found out where a rule asks for it that fits otherwise, and where the file was
    /// looked at whole.
    fn choose(&self, known: &Known, is_whole: bool) -> Choice<'a> {
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
    fn look(&mut self, item: Item) -> Result<Option<Known>> {
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
            if choice.orders.is_empty() && choice.open.is_none() {
                self.pass(&glimpse, &choice);
                return Ok(None);
            }
        }
        subject.look().map(Some)
    }

    /// Shows the command and remembers nothing.
    fn print(&mut self, known: &Known, order: &Order<'_>) -> Result<()> {
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

    /// Claims and settles as emitted, then shows the command: what is lost on its way to the reader stays lost.
    fn print_once(&mut self, known: &Known, order: &Order<'_>) -> Result<()> {
        let Some(argv) = self.may(known, order)? else { return Ok(()) };
        match self.claim(known, order, &argv, Some(End::of(State::Emitted)))? {
            Some(_) => self.show(&About::of(known, order), &argv),
            None => Ok(()),
        }
    }

    /// The command, if this may be done as far as the file itself goes; it has been said why not.
    fn may(&mut self, known: &Known, order: &Order<'_>) -> Result<Option<Vec<OsString>>> {
        let past = match self.ledger.as_mut().filter(|_| order.max_size().is_some()) {
            Some(ledger) => ledger.before(&order.key(known))?,
            None => None,
        };
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

    /// The rule's limit, where the file is beyond it and nobody asked for it nonetheless.
    fn too_large(&self, known: &Known, order: &Order<'_>, past: Option<Past>) -> Option<u64> {
        let asked = past.is_some_and(|past| past.asked && past.state == State::Later);
        order.max_size().filter(|most| known.record.size > *most && !asked && !self.options.again)
    }

    /// `None` where there is nothing to do now; it has been said why.
    fn claim(
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
        match ledger.claim(claim)? {
            Claimed::Ours(number) => return Ok(Some(number)),
            Claimed::Held(most) => self.hold(&About::of(known, order), most)?,
            Claimed::Before(past) => self.was_before(&About::of(known, order), &past)?,
        }
        Ok(None)
    }

    fn again_of(&self, order: &Order<'_>) -> Again {
        let least = if order.may_repeat() { Again::Unknown } else { Again::No };
        self.again().max(least)
    }

    fn settle(&mut self, number: u64, end: End) -> Result<()> {
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

/// Tells what is done once from everything else, in a file's name.
fn tag_of(key: &Key) -> String {
    let mut digest = Sha256::new();
    for part in [key.rule.as_str(), key.file.as_str(), key.message.as_deref().unwrap_or_default()] {
        digest.update(part);
        digest.update([0]);
    }
    hex(&digest.finalize()[..8])
}

/// True if a path is one of a regular file.
fn is_file(path: &Path) -> Result<()> {
    let meta = std::fs::metadata(path).map_err(|why| Error::reading(path, why))?;
    match meta.is_file() {
        true => Ok(()),
        false => Err(Error::new(
            Kind::NoInput,
            format!("cannot act on {}", path.display()),
            "it is no regular file",
        )),
    }
}
