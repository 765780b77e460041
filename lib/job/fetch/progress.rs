//! How far a download is, on a terminal; silent otherwise.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report;

/// A line at the bottom of the terminal: messages, octets, rate, what is left. Gone when dropped.
pub(super) struct Progress {
    bar: ProgressBar,
    octets: u64,
}

impl Progress {
    /// For this many messages of a mailbox.
    pub fn new(account: &str, mailbox: &str, messages: usize) -> Progress {
        let quiet = messages < 2 || report::voice() != 0 || !std::io::stderr().is_terminal();
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(4) };
        let bar = ProgressBar::with_draw_target(Some(messages as u64), target);
        if let Ok(style) = ProgressStyle::with_template("{prefix} {pos}/{len} {bar:20} {msg} {eta} left") {
            bar.set_style(style);
        }
        bar.set_prefix(report::printable(&format!("{account}: {mailbox}")).into_owned());
        Progress { bar, octets: 0 }
    }

    /// One more message of this size came.
    pub fn came(&mut self, size: u64) {
        if self.bar.is_hidden() {
            return;
        }
        self.octets += size;
        let seconds = self.bar.elapsed().as_secs_f64().max(0.001);
        let (all, rate) = (self.octets as f64 / 1e6, self.octets as f64 / 1e6 / seconds);
        self.bar.set_message(format!("{all:.1} MB, {rate:.1} MB/s"));
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
