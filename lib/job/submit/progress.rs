//! How far sending is, on a terminal; silent otherwise.

use std::io::{self, IsTerminal, Read};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report;

/// What is smaller is sent before anybody can look.
const BIG: u64 = 1 << 20;

/// So many messages are counted; of fewer, their octets.
const MANY: usize = 10;

/// A line at the bottom of the terminal; gone when dropped. What is reported meanwhile takes its place for a moment.
pub struct Progress {
    bar: ProgressBar,
    counts_messages: bool,
}

impl Progress {
    /// For the octets of one message.
    pub fn octets(size: u64) -> Progress {
        let template = "{bytes}/{total_bytes} {bar:20} {bytes_per_sec} {eta} left";
        Progress::new(size, size >= BIG, template, false)
    }

    /// For so many messages of a queue, so many octets in all.
    pub fn queue(count: usize, size: u64) -> Progress {
        match count >= MANY {
            true => {
                Progress::new(count as u64, true, "{pos}/{len} messages {bar:20} {per_sec} {eta} left", true)
            }
            false => Progress::octets(size),
        }
    }

    fn new(len: u64, is_worth_it: bool, template: &str, counts_messages: bool) -> Progress {
        let shown = is_worth_it && report::voice() == 0 && io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(4) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(len), target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        // Not on a terminal that can do nothing, either.
        if !bar.is_hidden() {
            report::set_progress(true);
        }
        Progress { bar, counts_messages }
    }

    /// One message more is done.
    pub fn message(&self) {
        if self.counts_messages {
            self.bar.inc(1);
        }
    }

    /// So many octets more are sent.
    pub fn sent(&self, octets: u64) {
        if !self.counts_messages {
            self.bar.inc(octets);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let is_shown = !self.bar.is_hidden();
        self.bar.finish_and_clear();
        if is_shown {
            report::set_progress(false);
        }
    }
}

/// Counts what is read through it.
pub struct Counted<R, P> {
    /// What is read.
    pub inner: R,
    /// Where it is counted: a [`Progress`], owned or borrowed.
    pub progress: P,
}

impl<R: Read, P: std::borrow::Borrow<Progress>> Read for Counted<R, P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.progress.borrow().sent(n as u64);
        Ok(n)
    }
}
