//! Progress of work before a run: a bar on a terminal, a line from time to time elsewhere.

use crate::page::say;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// Time between two lines without a terminal, and before the first one.
const APART: Duration = Duration::from_secs(30);

/// Form of the bar.
const TEMPLATE: &str = "{prefix} {bar:24} {percent:>3} %  {bytes} of {total_bytes}  eta {eta}";

/// Display of work whose amount is known in bytes.
pub(crate) struct Progress {
    what: String,
    is_quiet: bool,
    /// Bar on stderr, if that is a terminal.
    bar: Option<ProgressBar>,
    began: Instant,
    printed: Instant,
}

impl Progress {
    /// Creates the display of work that is described by a verb and its object, such as `trains a tokenizer`.
    ///
    /// A quiet one shows nothing.
    pub(crate) fn new(what: impl Into<String>, is_quiet: bool) -> Self {
        let (what, now) = (what.into(), Instant::now());
        let is_shown = !is_quiet && io::stderr().is_terminal() && io::stdout().is_terminal();
        Self {
            bar: is_shown.then(|| bar(&what)),
            what,
            is_quiet,
            began: now,
            printed: now,
        }
    }

    /// Prints a line about the work.
    pub(crate) fn note(&self, text: &str) {
        if !self.is_quiet {
            say(format_args!("data     {}: {text}", self.what));
        }
    }

    /// Shows that `done` of `total` bytes are done.
    pub(crate) fn show(&mut self, done: u64, total: u64) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            None if self.printed.elapsed() >= APART => self.print(done, total),
            None => {}
        }
    }

    fn print(&mut self, done: u64, total: u64) {
        self.printed = Instant::now();
        let share = done as f64 / total.max(1) as f64;
        let left = self.began.elapsed().as_secs_f64() * (1.0 / share.max(1e-9) - 1.0);
        self.note(&format!("{:.0} %, eta {left:.0} s", 100.0 * share));
    }

    /// Removes the bar, and prints that the work is done.
    pub(crate) fn finish(self, result: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let seconds = self.began.elapsed().as_secs_f64();
        self.note(&format!("{result} in {seconds:.1} s"));
    }
}

fn bar(what: &str) -> ProgressBar {
    let bar = ProgressBar::new(0).with_prefix(what.to_owned());
    let style = ProgressStyle::with_template(TEMPLATE);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
