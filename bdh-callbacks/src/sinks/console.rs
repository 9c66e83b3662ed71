//! The terminal: a progress bar where there is one, plain lines where there is not.

use bdh::lines::Lines;
use bdh::{BoxError, Outcome, Problem, Record, RunInfo, Sink};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};

/// Shows a run on the terminal.
///
/// On a terminal it is a progress bar with loss, tokens per second and the time that remains, from the
/// first step on. In a pipe or a log file it is a line every [`line_every`](Self::line_every) steps:
/// `Step: 100/3000 loss 2.45`. Evals, and the last step, get a line of their own in both.
#[derive(Debug)]
pub struct Console {
    line_every: u64,
    bar: Option<ProgressBar>,
    lines: Option<Lines>,
}

impl Default for Console {
    fn default() -> Self {
        Self {
            line_every: 100,
            bar: None,
            lines: None,
        }
    }
}

impl Console {
    /// Prints a plain line every so many steps where there is no terminal. Defaults to 100; the first and
    /// the last step are printed always.
    #[must_use]
    pub fn line_every(self, steps: u64) -> Self {
        Self {
            line_every: steps.max(1),
            ..self
        }
    }

    /// A line that stands above the bar, or just a line. It may hold what a server or a file said.
    fn say(&self, line: &str) {
        let line = bdh::printable(line);
        match &self.bar {
            Some(bar) => bar.println(&line),
            // A closed pipe is no reason to end a run.
            None => drop(writeln!(io::stdout(), "{line}")),
        }
    }
}

/// A bar for a run, if somebody is watching. A log file of a run that is watched on a terminal gets its lines too.
fn bar(run: &RunInfo) -> Result<Option<ProgressBar>, BoxError> {
    if !(io::stderr().is_terminal() && io::stdout().is_terminal()) {
        return Ok(None);
    }
    let bar = ProgressBar::with_draw_target(Some(run.steps), ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}")?);
    bar.set_position(run.resumed_at.unwrap_or(0));
    bar.set_message("first step under way");
    Ok(Some(bar))
}

impl Sink for Console {
    fn name(&self) -> String {
        "console".to_owned()
    }

    fn open(&mut self, run: &RunInfo) -> Result<(), BoxError> {
        self.bar = bar(run)?;
        let every = self.bar.is_none().then_some(self.line_every);
        self.lines = Some(Lines::new(every, run));
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        let lines = self.lines.as_mut().ok_or("the console is not open")?;
        if let Some(bar) = &self.bar {
            let loss = record
                .scalar("train/loss")
                .map(|loss| format!("loss {loss:.4}"));
            bar.set_position(record.clock.step);
            bar.set_message(loss.unwrap_or_default() + &lines.pace(record));
        }
        lines.of(record).iter().for_each(|line| self.say(line));
        Ok(())
    }

    fn may_thin(&self) -> bool {
        true
    }

    fn problem(&mut self, problem: &Problem) {
        self.say(&format!("warning: {problem}"));
    }

    fn remark(&mut self, text: &str) {
        self.say(text);
    }

    fn close(&mut self, outcome: &Outcome) -> Result<(), BoxError> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if *outcome != Outcome::Completed {
            self.say(&format!("run {outcome}"));
        }
        Ok(())
    }
}
