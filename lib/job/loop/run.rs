//! `mail-loop run`: all loops in one process, for as long as nobody ends it.
//!
//! This thread starts the others and keeps watch: signals, health, alarms, the service manager. A thread for each account
//! fetches (`fetching`); each loop has one that takes messages apart and one that acts (`work`), or one for its directory
//! (`drops`), and one for its probes. None of them waits for another. HUP ends them one by one and starts them anew with
//! what the configuration says now; a command that runs then goes on to its end, and nobody waits for it.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::alarm::Alarms;
use super::drops::Drops;
use super::fetching::Account;
use super::health::{self, Health, Waiting};
use super::life::{Life, Stage};
use super::notify::Notify;
use super::plan::{Plan, Source};
use super::probe;
use super::queue::Queue;
use super::ready::Ready;
use super::unit::{Role, Unit};
use super::withheld;
use super::work::Mill;
use crate::cli::Place;
use crate::durable::{Dir, Lock};
use crate::error::{Error, Kind, Result, Status};
use crate::job::settings::Settings;
use crate::process;
use crate::report::{self, Form};
use crate::stop::{self, Signal, Signals};
use crate::store::heartbeat;
use crate::watch::Watch;

/// Health is looked at least this often.
const TICK: Duration = Duration::from_secs(15);
/// A command that runs when we are asked to end has so long to finish.
const COMMANDS: Duration = Duration::from_millis(3500);
/// After this long we end, whatever still runs: what it left is taken up by the next run.
const END: Duration = Duration::from_millis(4700);
// Service managers and their users are promised five seconds.
const _: () = assert!(COMMANDS.as_millis() < END.as_millis() && END.as_millis() < 5000);

/// Runs the loops until we are asked to end, or until nothing is left that could work.
///
/// Commands (or `action` records with [`Form::Json`]) go to stdout. The status is that of the accounts that gave up.
pub fn run(place: &Place, names: &[String], form: Form) -> Result<Status> {
    let failed = |why| Error::new(Kind::Internal, "cannot listen for signals", why);
    let mut signals = Signals::handle().map_err(failed)?;
    process::set_patience(COMMANDS);
    let settings = Settings::load(place)?;
    let plans = Plan::all(&settings, names)?;
    let state = settings.state()?;
    let bell = signals.bell().map_err(failed)?;
    let mut house = House {
        place,
        names,
        form,
        state,
        bell,
        held: BTreeMap::new(),
        loops: Vec::new(),
        units: Vec::new(),
        leaving: Vec::new(),
        status: Status::DONE,
        alarms: Alarms::default(),
        notify: Notify::from_environment(),
        ledger: None,
    };
    house.hold(&plans)?;
    house.begin(Ready::all(plans)?)?;
    house.notify.ready();
    house.keep(&mut signals);
    house.end(&mut signals)
}

struct House<'a> {
    place: &'a Place,
    names: &'a [String],
    form: Form,
    state: Dir,
    bell: UnixStream,
    /// The locks by which others know that a loop runs.
    held: BTreeMap<String, Lock>,
    loops: Vec<(Plan, Arc<Life>)>,
    units: Vec<Unit>,
    /// Units that were asked to end.
    leaving: Vec<Unit>,
    status: Status,
    alarms: Alarms,
    notify: Notify,
    /// What waited in the ledger when it was last looked at.
    ledger: Option<(Vec<SystemTime>, BTreeMap<String, Waiting>)>,
}

impl House<'_> {
    /// Nobody else runs these meanwhile. All or none are held.
    fn hold(&mut self, plans: &[Plan]) -> Result<()> {
        let mut new = BTreeMap::new();
        for plan in plans.iter().filter(|plan| !self.held.contains_key(&plan.name)) {
            new.insert(plan.name.clone(), heartbeat::hold(&self.state, &plan.name, Duration::ZERO)?);
        }
        self.held.extend(new);
        self.held.retain(|name, _| plans.iter().any(|plan| plan.name == *name));
        Ok(())
    }

    fn bell(&self) -> Result<UnixStream> {
        self.bell.try_clone().map_err(|why| Error::new(Kind::Io, "cannot start a thread", why))
    }

    /// Starts the threads of these loops.
    fn begin(&mut self, all: Vec<Ready>) -> Result<()> {
        let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
        // Threads of before may still speak: a loop has one heartbeat as long as this process runs it.
        let mut lives: BTreeMap<String, Arc<Life>> =
            self.loops.drain(..).map(|(plan, life)| (plan.name, life)).collect();
        for Ready { plan, watch } in all {
            let life = match lives.remove(&plan.name) {
                Some(life) => {
                    life.renew(&plan);
                    life
                }
                None => Arc::new(Life::new(&self.state, &plan, "run", Some(self.bell()?))),
            };
            self.loops.push((plan.clone(), life.clone()));
            let (Source::Account(fetch), Some(watch)) = (&plan.source, watch) else {
                if let Some(drops) = Drops::new(&plan, life)? {
                    let form = self.form;
                    self.start(&plan.name, Role::Work, move || drops.keep(form))?;
                }
                continue;
            };
            let account = accounts.entry(fetch.account.clone()).or_insert_with(|| Account {
                options: (**fetch).clone(),
                every: plan.every,
                loops: Vec::new(),
            });
            account.every = account.every.min(plan.every);
            account.loops.push((life.clone(), watch.bell()?));
            self.start_mill(plan, life, watch)?;
        }
        for account in accounts.into_values() {
            let account = Arc::new(account);
            for mailbox in account.options.mailboxes.iter().skip(1).filter(|name| is_plain(name)) {
                let (account, mailbox) = (account.clone(), mailbox.clone());
                self.start(&account.options.account.clone(), Role::Helper, move || {
                    account.keep_one(&mailbox)
                })?;
            }
            self.start(&account.options.account.clone(), Role::Fetch, move || account.keep())?;
        }
        Ok(())
    }

    fn start_mill(&mut self, plan: Plan, life: Arc<Life>, watch: Watch) -> Result<()> {
        let prober = probe::of(&plan, self.place, &self.state);
        let queue = Queue::new().map_err(|why| Error::new(Kind::Io, "cannot start a thread", why))?;
        let name = plan.name.clone();
        let mill = Arc::new(Mill {
            plan,
            life: life.clone(),
            watch,
            queue,
            prober: prober.clone(),
            form: self.form,
        });
        let other = mill.clone();
        self.start(&name, Role::Work, move || mill.dissect())?;
        self.start(&name, Role::Work, move || other.act())?;
        match prober {
            Some(prober) => self.start(&name, Role::Work, move || prober.keep(&life)),
            None => Ok(()),
        }
    }

    fn start(
        &mut self,
        name: &str,
        role: Role,
        work: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let unit = Unit::start(name, role, self.bell()?, work)?;
        self.units.push(unit);
        Ok(())
    }

    /// Keeps watch until we are asked to end.
    fn keep(&mut self, signals: &mut Signals) {
        let mut next = Duration::ZERO;
        let mut seen = Instant::now();
        loop {
            match signals.wait(next) {
                Some(Signal::End | Signal::EndNow) => return,
                Some(Signal::Reload) => self.reload(),
                Some(Signal::Sync) => self.units.iter().for_each(Unit::call),
                None => {}
            }
            self.reap();
            if stop::all_requested()
                || !self.units.iter().any(|unit| unit.role == Role::Fetch || self.is_watching())
            {
                return;
            }
            next = self.look().min(TICK);
            if self.units.iter().all(Unit::is_alive) {
                self.notify.alive();
                if seen.elapsed() > Duration::from_secs(60) {
                    seen = Instant::now();
                    self.watched();
                }
            }
            if let Some(watchdog) = self.notify.watchdog {
                next = next.min(watchdog / 3);
            }
        }
    }

    fn is_watching(&self) -> bool {
        self.loops.iter().any(|(plan, _)| plan.fetch().is_none())
    }

    /// A directory answers as long as its thread does, also while a long command runs.
    fn watched(&self) {
        for (_, life) in self.loops.iter().filter(|(plan, _)| plan.fetch().is_none()) {
            if life.beat().0.trouble.is_none() {
                life.answered();
            }
        }
    }

    /// Lets go of threads that have ended. An account that gave up is counted.
    fn reap(&mut self) {
        for units in [&mut self.units, &mut self.leaving] {
            let over = units.extract_if(.., |unit| unit.is_over() && unit.role != Role::Work);
            for unit in over.collect::<Vec<_>>() {
                if let Err(error) = unit.join() {
                    self.status.add(error.kind());
                }
            }
        }
        self.leaving.retain(|unit| !unit.is_over());
    }

    /// Reads the configuration again. What is wrong with it is said, and everything goes on as it was.
    fn reload(&mut self) {
        self.notify.reloading();
        let read = Settings::load(self.place).and_then(|settings| {
            let plans = Plan::all(&settings, self.names)?;
            let all = Ready::all(plans.clone())?;
            self.hold(&plans)?;
            Ok(all)
        });
        match read {
            Ok(all) => {
                report::say("the configuration was read again");
                self.status = Status::DONE;
                let before = std::mem::take(&mut self.units);
                before.iter().for_each(Unit::stop);
                self.leaving.extend(before);
                if let Err(error) = self.begin(all) {
                    report::trouble(&error);
                    self.status.add(error.kind());
                    self.told(Some(&error));
                }
            }
            Err(error) => {
                report::trouble(format_args!(
                    "{error}; going on with the configuration that was read before"
                ));
                self.told(Some(&error));
            }
        }
        self.notify.ready();
    }

    fn told(&self, error: Option<&Error>) {
        for (_, life) in &self.loops {
            life.trouble(
                Stage::Reload,
                error.map(|error| format!("the configuration was not taken: {error}")),
            );
        }
    }

    /// Looks at the health of all; how soon to look again.
    fn look(&mut self) -> Duration {
        let mut next = TICK;
        let mut words = Vec::new();
        let waiting = self.waiting();
        for (plan, life) in &self.loops {
            let (beat, stirred) = life.beat();
            // What an earlier process last saw says nothing of this one.
            if !stirred {
                continue;
            }
            let known = match beat.withheld.is_empty() {
                true => Default::default(),
                false => withheld::acknowledged(&self.state, &plan.name),
            };
            let fresh = beat.withheld.iter().filter(|one| !known.contains(one)).count();
            let actions = health::of_rules(&waiting, plan.rules.iter());
            let (health, why) = health::judge(&beat, true, &actions, fresh, jiff::Timestamp::now());
            words.push(match &why {
                None => format!("{}: {}", plan.name, health.word()),
                Some(why) => format!("{}: {}, {why}", plan.name, health.word()),
            });
            let soon = self.alarms.look(&plan.name, &plan.alarm, life, health, why);
            next = next.min(soon.unwrap_or(TICK));
            if health == Health::Down {
                next = next.min(Duration::from_secs(5));
            }
        }
        self.notify.status(&words.join("; "));
        next
    }

    /// What waits in the ledger; looked at only for those who ask, and when somebody wrote to it.
    fn waiting(&mut self) -> BTreeMap<String, Waiting> {
        let asked = self.loops.iter().any(|(plan, _)| !plan.alarm.argv.is_empty());
        if !asked {
            return BTreeMap::new();
        }
        let stamp = super::clock::ledger_stamp(self.state.path());
        if let Some((read, waiting)) = &self.ledger
            && *read == stamp
        {
            return waiting.clone();
        }
        let waiting = health::waiting(self.state.path()).unwrap_or_default();
        self.ledger = Some((stamp, waiting.clone()));
        waiting
    }

    /// Everybody finishes what is in hand; a second signal, or too long a time, ends that.
    fn end(mut self, signals: &mut Signals) -> Result<Status> {
        self.notify.stopping();
        stop::request();
        let end = Instant::now() + END;
        let all = || self.units.iter().chain(&self.leaving);
        while all().any(|unit| !unit.is_over()) {
            let left = end.saturating_duration_since(Instant::now());
            if signals.wait(left) == Some(Signal::EndNow) || left.is_zero() {
                process::kill_all();
                stop::die_if_requested();
                break;
            }
        }
        self.reap();
        Ok(self.status)
    }
}

/// True for the name of one mailbox; patterns are looked after by the first connection.
fn is_plain(name: &str) -> bool {
    !name.starts_with('!') && !name.contains(['*', '%'])
}
