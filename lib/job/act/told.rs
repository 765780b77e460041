//! What was said already, so that a process that looks every minute says it once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::store::ledger::State;

/// A memory of what was said of claims; copies share it. The default has none: everything is said each time.
#[derive(Clone, Debug, Default)]
pub struct Told(Option<Arc<Mutex<HashMap<u64, State>>>>);

impl Told {
    /// One that remembers as long as it lives.
    pub fn once() -> Told {
        Told(Some(Arc::default()))
    }

    /// True if this was not the last that was said of the claim.
    pub(super) fn is_news(&self, number: u64, state: State) -> bool {
        let Some(said) = &self.0 else { return true };
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.insert(number, state) != Some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_for_each_change() {
        let told = Told::once();
        let news = |state| told.clone().is_news(7, state);
        assert_eq!(
            [news(State::Unknown), news(State::Unknown), news(State::Held), news(State::Unknown)],
            [true, false, true, true]
        );
        assert!(told.is_news(8, State::Unknown));
        let none = Told::default();
        assert!(none.is_news(7, State::Held) && none.is_news(7, State::Held));
    }
}
