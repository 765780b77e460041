//! Which command a file gets: from the command line, the same for all, or from the first rule that matches.

use std::ffi::OsString;
use std::time::Duration;

use crate::config::{Config, OncePer, Rule};
use crate::error::{Error, Kind, Result};
use crate::rules::template::{Field, Template, Values};
use crate::rules::{self, Facts};
use crate::store::ledger::Key;

use super::facts::Known;

/// The commands that there may be, checked.
#[derive(Clone, Debug)]
pub struct Orders(Source);

#[derive(Clone, Debug)]
enum Source {
    Command(Template),
    /// Each rule with its command, in the order of the configuration.
    Rules(Vec<Rule>, Vec<Template>),
}

/// What was decided for one file.
pub(super) struct Choice<'a> {
    pub order: Option<Order<'a>>,
    /// The rules that did not match, and why.
    pub passed: Vec<(&'a Rule, String)>,
}

/// The command for one file.
pub(super) struct Order<'a> {
    rule: Option<&'a Rule>,
    template: &'a Template,
    /// Why it is this one.
    pub why: String,
}

impl Orders {
    /// One command for each file, as typed on a command line; 64 where it makes no sense.
    pub fn command(argv: &[OsString]) -> Result<Orders> {
        let template = Template::lenient(argv)
            .map_err(|why| Error::new(Kind::Usage, "cannot use the command after --", why))?;
        Ok(Orders(Source::Command(template)))
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
        let templates = rules.iter().map(|rule| {
            Template::strict(&rule.run).map_err(|why| {
                Error::new(Kind::Config, format!("cannot use the run of rule {:?}", rule.name), why)
            })
        });
        let templates = templates.collect::<Result<_>>()?;
        Ok(Orders(Source::Rules(rules, templates)))
    }

    pub(super) fn are_rules(&self) -> bool {
        matches!(self.0, Source::Rules(..))
    }

    pub(super) fn ask_for_more_than_the_path(&self) -> bool {
        match &self.0 {
            Source::Rules(..) => true,
            Source::Command(template) => [Field::From, Field::Subject, Field::Date, Field::Sha256]
                .iter()
                .any(|field| template.has(*field)),
        }
    }

    /// Every key that one of the orders would claim for a file of a message; `message` is `None` where there is
    /// none, and `Some(None)` where its digest is not known: then only orders that do not ask for it are given.
    pub(super) fn keys(&self, file: &str, message: Option<Option<String>>) -> Vec<Key> {
        let key = |rule: String, once_per: OncePer| {
            let message = match (once_per, &message) {
                (OncePer::File, _) | (_, None) => None,
                (OncePer::Message, Some(Some(digest))) => Some(digest.clone()),
                (OncePer::Message, Some(None)) => return None,
            };
            Some(Key { rule, file: file.into(), message })
        };
        match &self.0 {
            Source::Command(template) => {
                key(name_of_command(template), OncePer::Message).into_iter().collect()
            }
            Source::Rules(rules, _) => {
                rules.iter().filter_map(|rule| key(rule.name.clone(), rule.once_per)).collect()
            }
        }
    }

    pub(super) fn choose(&self, known: &Known) -> Choice<'_> {
        match &self.0 {
            Source::Command(template) => {
                let why = "the command line says so".to_string();
                Choice { order: Some(Order { rule: None, template, why }), passed: Vec::new() }
            }
            Source::Rules(rules, templates) => {
                let facts = Facts { media_type: known.media_type().into(), from: known.sender.clone() };
                let decision = rules::decide(rules, &facts);
                let order = decision.matched.and_then(|(rule, why)| {
                    let at = rules.iter().position(|each| each.name == rule.name)?;
                    Some(Order { rule: Some(rule), template: templates.get(at)?, why })
                });
                Choice { order, passed: decision.passed }
            }
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

    /// What is done once.
    pub fn key(&self, known: &Known) -> Key {
        let rule = self.rule.map_or_else(|| name_of_command(self.template), |rule| rule.name.clone());
        let per_file = self.rule.is_some_and(|rule| rule.once_per == OncePer::File);
        let message = known.message_sha256.clone().filter(|_| !per_file);
        Key { rule, file: known.record.sha256.clone(), message }
    }

    /// The command; 65 where a value in it would be taken for an option.
    pub fn argv(&self, known: &Known) -> Result<Vec<OsString>> {
        let values = Values { rule: self.name().unwrap_or_default().into(), ..known.values() };
        self.template
            .fill(&values)
            .map_err(|why| Error::new(Kind::Data, format!("cannot act on {}", known.path.display()), why))
    }
}

/// What a command from the command line is called in the ledger: the same words are the same thing.
fn name_of_command(template: &Template) -> String {
    format!("argv:{}", template.digest())
}
