//! Files with which nothing is done whatever the rules say: said and remembered once, under names that no rule has.

use crate::error::Result;
use crate::record::File;
use crate::report;
use crate::store::ledger::{Again, Claim, Claimed, End, Key, State};

use super::Mode;
use super::actor::Actor;
use super::facts::Known;
use super::tell::About;

/// In the place of a rule's name, for files that were removed before a rule could decide.
pub(crate) const GONE: &str = "(gone)";
/// The same for files of messages on which nothing is ever done. A stranger can write what makes one such a message; so it
/// is no secret that nothing was done.
const BRAKED: &str = "(braked)";

impl Actor<'_, '_> {
    /// Somebody took it away.
    pub(super) fn tell_gone(&mut self, file: &File) -> Result<()> {
        self.skip(file, gone(file), "it was removed before anything was done with it").map(drop)
    }

    /// Its message is one of ours, of a machine, or a bounce. One that cannot be read now may be read another time.
    pub(super) fn tell_braked(&mut self, known: &Known, why: &str) -> Result<()> {
        let why = format!("no action: {why}");
        let key = braked(&known.record, known.message_sha256.clone());
        let is_told = self.claims() && known.is_read && self.skip(&known.record, key, &why)?;
        if !is_told && !self.pending && !self.options.orders.are_rules() {
            report::say(format_args!("{}: {why}", known.path.display()));
        }
        Ok(())
    }

    /// True if that was said of it before.
    pub(super) fn was_braked(&mut self, file: &File) -> Result<bool> {
        if !self.claims() {
            return Ok(false);
        }
        let message = file.message.as_ref().and_then(|message| message.sha256.clone());
        let Some(ledger) = &mut self.ledger else { return Ok(false) };
        Ok(message.is_some() && ledger.before(&braked(file, message))?.is_some())
    }

    /// True if it is news, and was told.
    fn skip(&mut self, file: &File, key: Key, why: &str) -> Result<bool> {
        let Some(path) = file.path.get() else { return Ok(false) };
        let (claims, settle) = (self.claims(), End::because(State::Skipped, why.to_string()));
        let news = match &mut self.ledger {
            Some(ledger) if claims => {
                let (argv, again) = (Vec::new(), Again::No);
                let settle = Some(settle.clone());
                let claim = Claim { key: &key, path, argv, again, max_per_hour: None, settle };
                matches!(ledger.claim(claim)?, Claimed::Ours(_))
            }
            Some(ledger) => ledger.before(&key)?.is_none(),
            None => true,
        };
        if !news || !self.shown.insert(key) {
            return Ok(false);
        }
        report::say(format_args!("{}: {why}", path.display()));
        self.record(&About::file(file, None), &[], "skipped", &settle)?;
        Ok(true)
    }

    /// True if this run changes the ledger.
    pub(super) fn claims(&self) -> bool {
        self.options.mode != Mode::Print && !self.options.dry_run && !self.options.explain
    }
}

fn gone(file: &File) -> Key {
    Key { rule: GONE.into(), file: file.sha256.clone(), message: None }
}

fn braked(file: &File, message: Option<String>) -> Key {
    Key { rule: BRAKED.into(), file: file.sha256.clone(), message }
}
