//! The terminal as a sink: a progress bar, or plain lines in a pipe.

use bdh::clock::RunLength;
use bdh::lines::Lines;
use bdh::{BoxError, Clock, Message, Outcome, Record, RunInfo, Sink};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Shows a run on the terminal.
///
/// On a terminal it is a progress bar with loss, tokens or samples per second and the remaining time. In a pipe or a log
/// file it is a line every [`line_every`](Self::line_every) steps: `Step: 100/3000 loss 2.45`. Evals and the last step
/// get a line of their own in both. A run that is limited by time shows the share of the time: `Step: 100 (40%)`.
#[derive(Debug)]
pub struct Console {
    line_every: u64,
    bar: Option<Bar>,
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
            Some(bar) => bar.shown.println(&line),
            // A closed pipe must not end the run.
            None => drop(writeln!(io::stdout(), "{line}")),
        }
    }
}

/// Progress bar, whose unit is a step, or a millisecond in a run that is limited by time.
#[derive(Debug)]
struct Bar {
    shown: ProgressBar,
    length: RunLength,
}

impl Bar {
    /// Makes a bar if stdout and stderr are terminals. With stdout in a log file the run prints lines instead.
    fn on_terminal(run: &RunInfo) -> Result<Option<Self>, BoxError> {
        if !(io::stderr().is_terminal() && io::stdout().is_terminal()) {
            return Ok(None);
        }
        Ok(Some(Self::new(run, ProgressDrawTarget::stderr())?))
    }

    fn new(run: &RunInfo, target: ProgressDrawTarget) -> Result<Self, BoxError> {
        let length = match run.length {
            RunLength::Time(limit) => millis(limit),
            _ => run.steps,
        };
        let shown = ProgressBar::with_draw_target(Some(length), target);
        shown.set_style(ProgressStyle::with_template("{bar:30} {msg}")?);
        let bar = Self {
            shown,
            length: run.length,
        };
        bar.move_to(&resumed_clock(run));
        bar.shown.set_message("first step under way");
        Ok(bar)
    }

    fn move_to(&self, clock: &Clock) {
        self.shown.set_position(match self.length {
            RunLength::Time(_) => millis(clock.elapsed),
            _ => clock.step,
        });
    }
}

/// Returns the clock of the resumed step; that of a new run is zero.
fn resumed_clock(run: &RunInfo) -> Clock {
    match &run.resumed_record {
        Some(record) => record.clock,
        None => Clock::default().after(run.resumed_at.unwrap_or(0)),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Sink for Console {
    fn name(&self) -> String {
        "console".to_owned()
    }

    fn open(&mut self, run: &RunInfo) -> Result<(), BoxError> {
        self.bar = Bar::on_terminal(run)?;
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
            bar.move_to(&record.clock);
            let place = lines.place(&record.clock);
            bar.shown
                .set_message(format!("{place}  {loss}{}", lines.pace(record)));
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
            bar.shown.finish_and_clear();
        }
        if *outcome != Outcome::Completed {
            self.print(&format!("run {outcome}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdh::sink::Feedback;
    use serde_json::Value;

    fn run(length: RunLength, resumed_at: Option<u64>) -> RunInfo {
        RunInfo {
            name: "run".to_owned(),
            dir: None,
            steps: length.steps().unwrap_or(0),
            length,
            seed: 0,
            config: Value::Null,
            eval_sets: Vec::new(),
            resumed_at,
            resumed_record: None,
            notes: Vec::new(),
            started_at: 0.0,
            feedback: Feedback::default(),
        }
    }

    /// Returns position and length of a bar, at the start and after step 10, which ends after 75 s.
    fn places(run: &RunInfo) -> [(u64, Option<u64>); 2] {
        let bar = Bar::new(run, ProgressDrawTarget::hidden()).expect("a valid style");
        let place = |bar: &Bar| (bar.shown.position(), bar.shown.length());
        let start = place(&bar);
        bar.move_to(&Clock {
            elapsed: Duration::from_secs(75),
            ..Clock::default().after(10)
        });
        [start, place(&bar)]
    }

    #[test]
    fn bar_counts_steps_or_the_time_of_a_run_that_is_limited_by_it() {
        let counted = run(RunLength::Steps(40), Some(4));
        assert_eq!(places(&counted), [(4, Some(40)), (10, Some(40))]);
        let timed = run(RunLength::Time(Duration::from_mins(5)), None);
        assert_eq!(
            places(&timed),
            [(0, Some(300_000)), (75_000, Some(300_000))]
        );
    }

    #[test]
    fn bar_of_a_resumed_timed_run_begins_at_the_time_before() {
        let mut timed = run(RunLength::Time(Duration::from_mins(5)), Some(7));
        timed.resumed_record = Some(Record {
            clock: Clock {
                elapsed: Duration::from_mins(1),
                ..Clock::default().after(7)
            },
            values: Vec::new(),
        });
        assert_eq!(places(&timed)[0], (60_000, Some(300_000)));
    }
}
