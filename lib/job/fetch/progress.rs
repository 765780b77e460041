//! How far the downloads are, in one line at the bottom of the terminal; silent otherwise.
//!
//! Several mailboxes that are fetched at once share the line.

use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report;

/// One mailbox's part in the line: messages, octets, rate, what is left. With the last part the line goes.
pub(super) struct Progress {
    is_shown: bool,
    /// Octets that were not added yet.
    fresh: u64,
}

/// The line, and what it tells.
struct Line {
    bar: Option<ProgressBar>,
    parts: usize,
    octets: u64,
}

static LINE: Mutex<Line> = Mutex::new(Line { bar: None, parts: 0, octets: 0 });

/// Nobody sees less move.
const STEP: u64 = 256 << 10;

fn line() -> MutexGuard<'static, Line> {
    LINE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Progress {
    /// For this many messages of a mailbox.
    pub fn new(account: &str, mailbox: &str, messages: usize) -> Progress {
        let is_shown = report::voice() == 0 && std::io::stderr().is_terminal();
        if is_shown {
            line().begin(&report::printable(&format!("{account}: {mailbox}")), messages as u64);
        }
        Progress { is_shown, fresh: 0 }
    }

    /// So many octets more came.
    pub fn octets(&mut self, number: usize) {
        self.fresh += number as u64;
        if self.fresh >= STEP {
            self.add(0);
        }
    }

    /// A message is whole.
    pub fn message(&mut self) {
        self.add(1);
    }

    fn add(&mut self, messages: u64) {
        let fresh = std::mem::take(&mut self.fresh);
        if self.is_shown {
            line().add(messages, fresh);
        }
    }
}

impl Line {
    fn begin(&mut self, name: &str, messages: u64) {
        self.parts += 1;
        match &self.bar {
            Some(bar) => {
                bar.inc_length(messages);
                bar.set_prefix(format!("{} mailboxes", self.parts));
            }
            None => {
                let bar =
                    ProgressBar::with_draw_target(Some(messages), ProgressDrawTarget::stderr_with_hz(4));
                if let Ok(style) =
                    ProgressStyle::with_template("{prefix} {pos}/{len} {bar:20} {msg} {eta} left")
                {
                    bar.set_style(style);
                }
                bar.set_prefix(name.to_string());
                // Not on a terminal that can do nothing, either.
                report::set_progress(!bar.is_hidden());
                (self.bar, self.octets) = (Some(bar), 0);
            }
        }
    }

    fn add(&mut self, messages: u64, octets: u64) {
        let Some(bar) = &self.bar else { return };
        self.octets += octets;
        let seconds = bar.elapsed().as_secs_f64().max(0.001);
        let rate = (self.octets as f64 / seconds) as u64;
        bar.set_message(format!("{}, {}/s", HumanBytes(self.octets), HumanBytes(rate)));
        bar.inc(messages);
    }

    fn end(&mut self) {
        self.parts = self.parts.saturating_sub(1);
        if self.parts > 0 {
            return;
        }
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        report::set_progress(false);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            line().end();
        }
    }
}
