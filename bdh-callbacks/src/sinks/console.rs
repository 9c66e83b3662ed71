//! The terminal: a progress bar where there is one, plain lines where there is not.

use bdh::{BoxError, Clock, Outcome, Problem, Record, RunInfo, Sink};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Shows a run on the terminal.
///
/// On a terminal it is a progress bar with loss, tokens per second and the time that remains, from the
/// first step on. In a pipe or a log file it is a line every [`line_every`](Self::line_every) steps:
/// `Step: 100/3000 loss 2.450`. Evals, and the last step, get a line of their own in both.
#[derive(Debug)]
pub struct Console {
    line_every: u64,
    bar: Option<ProgressBar>,
    steps: u64,
    from: From,
    loss: Mean,
}

/// Where rates and the remaining time are counted from.
///
/// The first record, once there is one: before it lie the evaluation of the untrained model, or whatever
/// a resumed run did in its earlier life.
#[derive(Debug)]
struct From {
    time: Instant,
    step: u64,
    tokens: Option<u64>,
}

/// A mean since the last line.
#[derive(Debug, Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Default for Console {
    fn default() -> Self {
        Self {
            line_every: 100,
            bar: None,
            steps: 0,
            from: From { time: Instant::now(), step: 0, tokens: None },
            loss: Mean::default(),
        }
    }
}

impl Console {
    /// Prints a plain line every so many steps where there is no terminal. Defaults to 100; the first and
    /// the last step are printed always.
    #[must_use]
    pub fn line_every(self, steps: u64) -> Self {
        Self { line_every: steps.max(1), ..self }
    }

    /// A line that stands above the bar, or just a line.
    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            // A closed pipe is no reason to end a run.
            None => drop(writeln!(io::stdout(), "{line}")),
        }
    }

    fn step_line(&mut self, record: &Record) {
        let step = record.clock.step;
        let is_first = step == 1 && self.bar.is_none();
        let is_regular = step.is_multiple_of(self.line_every) && self.bar.is_none();
        if step == 0 || !(is_first || is_regular || step == self.steps) {
            return;
        }
        let loss = std::mem::take(&mut self.loss).mean();
        let loss = loss.map(|loss| format!(" loss {loss:.3}")).unwrap_or_default();
        self.say(&format!("Step: {step}/{}{loss}{}", self.steps, self.pace(record)));
    }

    fn move_bar(&self, bar: &ProgressBar, record: &Record) {
        let loss = record.scalar("train/loss").map(|loss| format!("loss {loss:.4}"));
        bar.set_position(record.clock.step);
        bar.set_message(loss.unwrap_or_default() + &self.pace(record));
    }

    /// `  23,014 tok/s  eta 1m20s`, as far as known.
    fn pace(&self, record: &Record) -> String {
        let rate = self.tokens_per_second(record);
        let rate = rate.map(|rate| format!("  {} tok/s", with_commas(rate)));
        let left = self.time_left(record.clock.step);
        rate.into_iter().chain(left.map(|left| format!("  eta {}", short(left)))).collect()
    }

    /// The run's own figure if it records one; otherwise tokens since the first record, by the wall.
    fn tokens_per_second(&self, record: &Record) -> Option<f64> {
        let by_the_wall = || {
            let tokens = record.clock.tokens.checked_sub(self.from.tokens?)?;
            Some(tokens as f64 / self.from.time.elapsed().as_secs_f64())
        };
        record.scalar("train/tok_per_sec").or_else(by_the_wall).filter(|rate| *rate > 0.0)
    }

    fn time_left(&self, step: u64) -> Option<Duration> {
        let done = step.checked_sub(self.from.step).filter(|done| *done > 0)?;
        let left = self.steps.checked_sub(step).filter(|left| *left > 0)?;
        Some(self.from.time.elapsed().mul_f64(left as f64 / done as f64))
    }

    fn eval_line(&self, record: &Record) {
        let metrics = record
            .scalars()
            .filter_map(|(key, value)| Some(format!("{} {value:.4}", key.strip_prefix("val/")?)));
        let metrics: Vec<_> = metrics.collect();
        if !metrics.is_empty() {
            self.say(&format!("Step {:05} | val {}", record.clock.step, metrics.join(" | ")));
        }
    }
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }
}

impl Sink for Console {
    fn name(&self) -> String {
        "console".to_owned()
    }

    fn open(&mut self, run: &RunInfo) -> Result<(), BoxError> {
        self.steps = run.steps;
        self.from = From { time: Instant::now(), step: run.resumed_at.unwrap_or(0), tokens: None };
        // A log file of a run that is watched on a terminal gets its lines too.
        if io::stderr().is_terminal() && io::stdout().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(run.steps), ProgressDrawTarget::stderr());
            let style = "{bar:30} {pos}/{len}  {msg}";
            bar.set_style(ProgressStyle::with_template(style)?);
            bar.set_position(run.resumed_at.unwrap_or(0));
            bar.set_message("first step under way");
            self.bar = Some(bar);
        }
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        if let Some(bar) = self.bar.clone() {
            self.move_bar(&bar, record);
            self.loss = Mean::default(); // a bar shows each step's own
        }
        if let Some(loss) = record.scalar("train/loss") {
            self.loss.add(loss);
        }
        self.step_line(record);
        self.eval_line(record);
        let Clock { step, tokens, .. } = record.clock;
        if self.from.tokens.is_none() {
            self.from = From { time: Instant::now(), step, tokens: Some(tokens) };
        }
        Ok(())
    }

    fn may_thin(&self) -> bool {
        true
    }

    fn problem(&mut self, problem: &Problem) {
        self.say(&format!("warning: {problem}"));
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

/// `12,345`.
fn with_commas(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `45s`, `3m20s`, `2h05m`.
fn short(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_short() {
        let times = [59.4, 60.0, 7_500.0].map(|s| short(Duration::from_secs_f64(s)));
        assert_eq!(times, ["59s", "1m00s", "2h05m"]);
        assert_eq!([0.0, 999.0, 1_234_567.0].map(with_commas), ["0", "999", "1,234,567"]);
    }
}
