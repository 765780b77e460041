//! Which command a file gets: from the command line, the same for all, or from the first rule that matches.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::config::{Action, Auth, Conditions, Config, OncePer, Rule};
use crate::error::{Error, Kind, Result};
use crate::mail::auth::Proof;
use crate::rules::template::{Field, Template, Values};
use crate::rules::{self, Fact, Facts, sentence};
use crate::store::ledger::Key;

use super::facts::Known;
use super::place::Places;
use super::start;

/// How often a command is tried while it fails for now, where its rule does not say: some fifteen hours.
const TRIES: u32 = 20;

/// The commands that there may be, checked.
#[derive(Clone, Debug)]
pub struct Orders(Source);

#[derive(Clone, Debug)]
enum Source {
    Command(Deed),
    Rules(Rules),
}

/// Each rule with what it does, in the order of the configuration.
#[derive(Clone, Debug)]
struct Rules {
    rules: Vec<Rule>,
    deeds: Vec<Deed>,
    /// Where messages may lie; `None` where no rule asks for it.
    places: Option<Places>,
    auth: Auth,
}

/// What is done with a file.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// A command is run.
    Command(Template),
    /// The file is moved to a directory.
    Move(PathBuf),
    /// The file is copied to a directory.
    Copy(PathBuf),
}

/// What was decided for one file.
#[derive(Default)]
pub(super) struct Choice<'a> {
    /// What is to be done, in this order.
    pub orders: Vec<Order<'a>>,
    /// Every rule that was asked: why it does not match, or which of the orders is its own.
    pub asked: Vec<(&'a Rule, Result<usize, String>)>,
    /// Why no rule was asked.
    pub brake: Option<String>,
    /// The rule at which asking stopped because nobody knows yet who sent the message, and why that is not known;
    /// no reason where nobody looked.
    pub open: Option<(&'a Rule, Option<String>)>,
    /// The rule that asked for a proof for which there is none, and why, where that is news.
    pub unproven: Option<(&'a Rule, String)>,
}

/// What is done with one file.
pub(super) struct Order<'a> {
    pub rule: Option<&'a Rule>,
    pub deed: &'a Deed,
    /// Why it is this one.
    pub why: String,
}

impl Orders {
    /// One command for each file, as typed on a command line; 64 where it makes no sense.
    pub fn command(argv: &[OsString]) -> Result<Orders> {
        let template = Template::lenient(argv)
            .map_err(|why| Error::new(Kind::Usage, "cannot use the command after --", why))?;
        Ok(Orders(Source::Command(Deed::Command(template))))
    }

    /// The rules of the configuration, or of it only those that are named. 78 where a rule's command makes no
    /// sense, 64 where a name is none of a rule's or there is no rule at all.
    pub fn rules(config: &Config, only: &[String]) -> Result<Orders> {
        let names: Vec<&str> = config.rule.iter().map(|rule| rule.name.as_str()).collect();
        if let Some(stranger) = only.iter().find(|name| !names.contains(&name.as_str())) {
            return Err(Error::plain(Kind::Usage, format!("there is no rule {stranger:?}"))
                .hint(format!("rules in the configuration: {}", names.join(", "))));
        }
        let chosen = config.rule.iter().filter(|rule| only.is_empty() || only.contains(&rule.name));
        let rules: Vec<Rule> = chosen.cloned().collect();
        if rules.is_empty() {
            return Err(Error::plain(Kind::Usage, "there is nothing to do: no command and no [[rule]]")
                .hint("put a command after --, as in `mail-act FILE -- lp -d office {}`, or write a rule"));
        }
        let deeds = rules.iter().map(Deed::of).collect::<Result<_>>()?;
        let asks = |rule: &Rule| {
            rule.when.ask_for_place() || rule.not.as_ref().is_some_and(Conditions::ask_for_place)
        };
        let places = rules.iter().any(asks).then(|| Places::of(config));
        let auth = config.auth.clone();
        Ok(Orders(Source::Rules(Rules { rules, deeds, places, auth })))
    }

    /// Each rule and what it says, as a sentence; none for a command from the command line.
    pub fn sentences(&self) -> Vec<(String, String)> {
        match &self.0 {
            Source::Command(_) => Vec::new(),
            Source::Rules(all) => {
                all.rules.iter().map(|rule| (rule.name.clone(), sentence::of(rule))).collect()
            }
        }
    }

    /// The names of the rules from this number on.
    pub(super) fn names_from(&self, number: usize) -> Vec<&str> {
        match &self.0 {
            Source::Command(_) => Vec::new(),
            Source::Rules(all) => all.rules.iter().skip(number).map(|rule| rule.name.as_str()).collect(),
        }
    }

    pub(super) fn are_rules(&self) -> bool {
        matches!(self.0, Source::Rules(..))
    }

    pub(super) fn ask_for_more_than_the_path(&self) -> bool {
        match &self.0 {
            Source::Rules(..) => true,
            Source::Command(Deed::Command(template)) => {
                [Field::From, Field::Subject, Field::Date, Field::Sha256]
                    .iter()
                    .any(|field| template.has(*field))
            }
            Source::Command(_) => false,
        }
    }

    /// Every key that one of the orders would claim for a file of a message, and whether the rules after it are asked
    /// too; `message` is `None` where there is none, and `Some(None)` where its digest is not known: then only orders
    /// that do not ask for it are given.
    pub(super) fn keys(&self, file: &str, message: Option<Option<String>>) -> Vec<Chance<'_>> {
        let key = |rule: String, once_per: OncePer| {
            let message = match (once_per, &message) {
                (OncePer::File, _) | (_, None) => None,
                (OncePer::Message, Some(Some(digest))) => Some(digest.clone()),
                (OncePer::Message, Some(None)) => return None,
            };
            Some(Key { rule, file: file.into(), message })
        };
        match &self.0 {
            Source::Command(deed) => {
                let key = key(name_of_command(deed), OncePer::Message);
                key.map(|key| Chance { key, rule: None, deed }).into_iter().collect()
            }
            Source::Rules(all) => {
                let each = all.rules.iter().zip(&all.deeds);
                each.filter_map(|(rule, deed)| {
                    Some(Chance { key: key(rule.name.clone(), rule.once_per)?, rule: Some(rule), deed })
                })
                .collect()
            }
        }
    }

    /// True if every rule says `continue`.
    pub(super) fn continue_all(&self) -> bool {
        matches!(&self.0, Source::Rules(all) if all.rules.iter().all(|rule| rule.continues))
    }

    /// What proves a sender, where one of the rules asks for it.
    pub(super) fn auth(&self) -> Option<&Auth> {
        match &self.0 {
            Source::Rules(all) if all.rules.iter().any(|rule| rule.authenticated) => Some(&all.auth),
            _ => None,
        }
    }

    pub(super) fn choose(&self, known: &Known, proof: Option<Proof>) -> Choice<'_> {
        match &self.0 {
            Source::Command(deed) => {
                let why = "the command line says so".to_string();
                let orders = vec![Order { rule: None, deed, why }];
                Choice { orders, ..Choice::default() }
            }
            Source::Rules(all) => all.choose(known, proof),
        }
    }
}

/// What one of the orders would do, should it be the file's.
pub(super) struct Chance<'a> {
    pub key: Key,
    pub rule: Option<&'a Rule>,
    pub deed: &'a Deed,
}

impl Rules {
    fn choose(&self, known: &Known, proof: Option<Proof>) -> Choice<'_> {
        let decision = rules::decide(&self.rules, &Facts { proof, ..self.facts(known) });
        let open = decision.open.map(|open| (open.rule, open.why));
        let mut choice = Choice { brake: decision.brake, open, ..Choice::default() };
        for (number, rule, verdict) in decision.asked {
            let verdict = match (verdict, self.deeds.get(number)) {
                (Ok(why), Some(deed)) => {
                    choice.orders.push(Order { rule: Some(rule), deed, why });
                    Ok(choice.orders.len() - 1)
                }
                (Err(why), _) => Err(why),
                (Ok(_), None) => Err("it does nothing".into()),
            };
            choice.asked.push((rule, verdict));
        }
        choice
    }

    fn facts(&self, known: &Known) -> Facts {
        let message = known.message_path.as_deref();
        let unasked = || (Err("nobody asked".to_string()), Err("nobody asked".to_string()));
        let (account, mailbox) = self.places.as_ref().map_or_else(unasked, |places| places.find(message));
        Facts {
            media_type: known.media_type().into(),
            name: known.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            size: known.record.size,
            letter: known.letter.clone(),
            account,
            mailbox,
            age: age(message),
            proof: None,
        }
    }
}

fn age(message: Option<&Path>) -> Fact<Duration> {
    let at = message.and_then(start::arrived).ok_or("nobody knows when its message was received")?;
    // What came in the future, by a clock gone wrong, came just now.
    Ok(Duration::try_from(Timestamp::now().duration_since(at)).unwrap_or_default())
}

impl Deed {
    fn of(rule: &Rule) -> Result<Deed> {
        let strict = |words: &[String]| {
            Template::strict(words).map(Deed::Command).map_err(|why| {
                Error::new(Kind::Config, format!("cannot use the command of rule {:?}", rule.name), why)
            })
        };
        match rule.action() {
            Some(Action::Run(words)) => strict(words),
            Some(Action::Print(print)) => strict(&sentence::print(print)),
            Some(Action::Move(dir)) => Ok(Deed::Move(dir.clone())),
            Some(Action::Copy(dir)) => Ok(Deed::Copy(dir.clone())),
            None => strict(&[]),
        }
    }
}

impl Order<'_> {
    /// The rule's name; `None` for a command from the command line.
    pub fn name(&self) -> Option<&str> {
        self.rule.map(|rule| rule.name.as_str())
    }

    pub fn max_per_hour(&self) -> Option<u32> {
        self.rule.and_then(|rule| rule.max_per_hour)
    }

    pub fn timeout(&self) -> Option<Duration> {
        self.rule.and_then(|rule| rule.timeout)
    }

    pub fn max_size(&self) -> Option<u64> {
        self.rule.and_then(|rule| rule.max_size)
    }

    /// How often it is tried while it fails for now.
    pub fn tries(&self) -> u32 {
        self.rule.and_then(|rule| rule.tries).unwrap_or(TRIES)
    }

    /// True where the command is our own way of printing.
    pub fn prints(&self) -> bool {
        self.rule.is_some_and(|rule| matches!(rule.action(), Some(Action::Print(_))))
    }

    pub fn may_repeat(&self) -> bool {
        self.rule.is_some_and(Rule::may_repeat)
    }

    /// What is done once.
    pub fn key(&self, known: &Known) -> Key {
        let rule = self.rule.map_or_else(|| name_of_command(self.deed), |rule| rule.name.clone());
        let per_file = self.rule.is_some_and(|rule| rule.once_per == OncePer::File);
        let message = known.message_sha256.clone().filter(|_| !per_file);
        Key { rule, file: known.record.sha256.clone(), message }
    }

    /// The command, for a move or copy one that comes to the same; 65 where a value in it would be taken for an
    /// option.
    pub fn argv(&self, known: &Known) -> Result<Vec<OsString>> {
        let transfer = |program: &str, dir: &Path| {
            let mut into = dir.as_os_str().to_os_string();
            into.push("/");
            Ok(vec![program.into(), "-n".into(), "--".into(), known.path.clone().into_os_string(), into])
        };
        match self.deed {
            Deed::Move(dir) => transfer("mv", dir),
            Deed::Copy(dir) => transfer("cp", dir),
            Deed::Command(template) => {
                let values = Values { rule: self.name().unwrap_or_default().into(), ..known.values() };
                template.fill(&values).map_err(|why| {
                    Error::new(Kind::Data, format!("cannot act on {}", known.path.display()), why)
                })
            }
        }
    }
}

/// What a command from the command line is called in the ledger: the same words are the same thing.
fn name_of_command(deed: &Deed) -> String {
    match deed {
        Deed::Command(template) => format!("argv:{}", template.digest()),
        Deed::Move(_) | Deed::Copy(_) => "argv:".into(),
    }
}
