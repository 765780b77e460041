//! How far sending is, on a terminal; silent otherwise.

use std::io::{self, IsTerminal, Read};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report;

/// What is smaller is sent before anybody can look.
const WORTH_SHOWING: u64 = 1 << 20;

/// A line at the bottom of the terminal; gone when dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// For the octets of one message.
    pub fn octets(size: u64) -> Progress {
        Progress::new(
            size,
            size >= WORTH_SHOWING,
            "{bytes}/{total_bytes} {bar:20} {bytes_per_sec} {eta} left",
        )
    }

    /// For the messages of a queue.
    pub fn messages(count: usize) -> Progress {
        Progress::new(count as u64, count >= 10, "{pos}/{len} messages {bar:20} {per_sec} {eta} left")
    }

    fn new(len: u64, is_worth_it: bool, template: &str) -> Progress {
        let shown = is_worth_it && report::voice() == 0 && io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(4) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(len), target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Progress(bar)
    }

    /// So many more are done.
    pub fn add(&self, count: u64) {
        self.0.inc(count);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Counts what is read through it.
pub struct Counted<R> {
    /// What is read.
    pub inner: R,
    /// Where it is counted.
    pub progress: Progress,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.progress.add(n as u64);
        Ok(n)
    }
}
