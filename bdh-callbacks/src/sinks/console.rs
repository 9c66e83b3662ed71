//! The terminal as a sink: a progress bar, or plain lines in a pipe.

use bdh::lines::Lines;
use bdh::{BoxError, Message, Outcome, Record, RunInfo, Sink};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};

/// Shows a run on the terminal.
///
/// On a terminal it is a progress bar with loss, tokens per second and the remaining time. In a pipe or a log file it is
/// a line every [`line_every`](Self::line_every) steps: `Step: 100/3000 loss 2.45`. Evals and the last step get a line
/// of their own in both.
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
    /// Prints a plain line every `steps` steps without a terminal. Defaults to 100. The first and the last step are
    /// always printed.
    #[must_use]
    pub fn line_every(self, steps: u64) -> Self {
        Self {
            line_every: steps.max(1),
            ..self
        }
    }

    /// Prints a line, above the bar if there is one.
    fn print(&self, line: &str) {
        // The line may contain text from a server or a file, with control characters.
        let line = bdh::lines::printable(line);
        match &self.bar {
            Some(bar) => bar.println(&line),
            // A closed pipe must not end the run.
            None => drop(writeln!(io::stdout(), "{line}")),
        }
    }
}

/// Makes a progress bar if stdout and stderr are terminals. With stdout in a log file the run prints lines instead.
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
            let loss = match record.scalar("train/loss") {
                Some(loss) => format!("loss {loss:.4}"),
                None => String::new(),
            };
            bar.set_position(record.clock.step);
            bar.set_message(loss + &lines.pace(record));
        }
        for line in lines.of(record) {
            self.print(&line);
        }
        Ok(())
    }

    fn is_lossy(&self) -> bool {
        true
    }

    fn message(&mut self, message: &Message) {
        self.print(&message.to_string());
    }

    fn close(&mut self, outcome: &Outcome) -> Result<(), BoxError> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if *outcome != Outcome::Completed {
            self.print(&format!("run {outcome}"));
        }
        Ok(())
    }
}
