//! Progress lines of a run: one per number of steps, and one per eval of a set.

pub use crate::printable::printable;

use crate::clock::{Clock, RunLength};
use crate::record::Record;
use crate::run::RunInfo;
use std::time::Duration;

/// Formatter of progress lines for the console and W&B's log.
#[derive(Debug)]
pub struct Lines {
    /// Steps from one line to the next; the first and the last step always have one. With `None` only the last step
    /// has one.
    every: Option<u64>,
    length: RunLength,
    /// Names of the eval sets.
    eval_sets: Vec<String>,
    /// Clock of the first step of this process, from which rates and the remaining time are computed. The eval of the
    /// untrained model, and the part of a run before it was resumed, are before it.
    ///
    /// Times are those of the records: by wall-clock time, records that arrive in a burst would all seem fast.
    from: Option<Clock>,
    loss: Mean,
}

/// Mean of the loss since the last line.
#[derive(Debug, Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Lines {
    /// Creates the formatter of a run, with a line every `every` steps; with `None` only the last step has one.
    #[must_use]
    pub fn new(every: Option<u64>, run: &RunInfo) -> Self {
        Self {
            every,
            length: run.length,
            eval_sets: run.eval_sets.clone(),
            from: None,
            loss: Mean::default(),
        }
    }

    /// Returns the lines of a record: that of the step, and one for each eval set that was evaluated.
    pub fn of(&mut self, record: &Record) -> Vec<String> {
        if self.every.is_none() {
            self.loss = Mean::default(); // a progress bar shows the loss of each step
        }
        if let Some(loss) = record.scalar("train/loss") {
            self.loss.add(loss);
        }
        let mut lines = Vec::from_iter(self.step_line(record));
        for set in &self.eval_sets {
            lines.extend(eval_line(set, record));
        }
        if record.clock.step > 0 {
            self.from.get_or_insert(record.clock);
        }
        lines
    }

    /// Returns the line of a step, such as `Step: 100/3000 loss 2.45  23,014 tok/s  eta 1m20s`, if one is due.
    fn step_line(&mut self, record: &Record) -> Option<String> {
        if !self.has_line(&record.clock) {
            return None;
        }
        let mut line = format!("Step: {}", self.place(&record.clock));
        if let Some(loss) = std::mem::take(&mut self.loss).mean() {
            line += &format!(" loss {}", three_digits(loss));
        }
        Some(line + &self.pace(record))
    }

    fn has_line(&self, clock: &Clock) -> bool {
        let step = clock.step;
        if step == 0 || self.length.is_reached(clock) {
            return step > 0;
        }
        self.every
            .is_some_and(|every| step == 1 || step.is_multiple_of(every))
    }

    /// Returns the step and the length of the run, such as `100/3000`. In a run that is limited by time it is the step
    /// and the share of the time, such as `100 (40%)`.
    #[must_use]
    pub fn place(&self, clock: &Clock) -> String {
        let step = clock.step;
        match self.length {
            RunLength::Steps(steps) => format!("{step}/{steps}"),
            // Rounded down: 100% is the end.
            RunLength::Time(_) => format!(
                "{step} ({:.0}%)",
                (100.0 * self.length.share(clock)).floor()
            ),
        }
    }

    /// Returns the rate and the remaining time, as far as known: `  23,014 tok/s  eta 1m20s`.
    ///
    /// The rate is in samples per second if the data is not text.
    #[must_use]
    pub fn pace(&self, record: &Record) -> String {
        let mut pace = String::new();
        if let Some((rate, unit)) = self.rate(record) {
            pace += &format!("  {} {unit}", with_commas(rate));
        }
        if let Some(left) = self.time_left(&record.clock) {
            pace += &format!("  eta {}", short(left));
        }
        pace
    }

    /// Returns the recorded rate, or the mean since the first step, and its unit.
    fn rate(&self, record: &Record) -> Option<(f64, &'static str)> {
        let (key, unit, count): (_, _, fn(&Clock) -> u64) = if record.clock.tokens > 0 {
            ("train/tok_per_sec", "tok/s", |clock| clock.tokens)
        } else {
            ("train/samples_per_sec", "samples/s", |clock| clock.samples)
        };
        let rate = match record.scalar(key) {
            Some(rate) => rate,
            None => self.mean_rate(&record.clock, count)?,
        };
        (rate > 0.0).then_some((rate, unit))
    }

    /// Returns a count divided by the training time since the first step.
    fn mean_rate(&self, now: &Clock, count: fn(&Clock) -> u64) -> Option<f64> {
        let counted = count(now).checked_sub(count(&self.from?))?;
        Some(counted as f64 / self.time_since(now)?.as_secs_f64())
    }

    /// Returns the remaining time; `None` after the last step, and while it is not known.
    fn time_left(&self, now: &Clock) -> Option<Duration> {
        match self.length {
            RunLength::Steps(steps) => self.time_of_steps(now, steps),
            RunLength::Time(limit) => limit
                .checked_sub(now.elapsed)
                .filter(|left| !left.is_zero()),
        }
    }

    /// Estimates the remaining time of a run of `steps` steps from the mean time of a step; `None` before the second step
    /// and after the last.
    fn time_of_steps(&self, now: &Clock, steps: u64) -> Option<Duration> {
        let done = now.step.checked_sub(self.from?.step)?;
        let left = steps.checked_sub(now.step)?;
        if done == 0 || left == 0 {
            return None;
        }
        let seconds = self.time_since(now)?.as_secs_f64() * (left as f64 / done as f64);
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Returns the training time since the first step; `None` if it is zero.
    fn time_since(&self, now: &Clock) -> Option<Duration> {
        now.elapsed
            .checked_sub(self.from?.elapsed)
            .filter(|time| !time.is_zero())
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

/// Returns the line of an eval of a set, such as `Step 00250 | val loss 2.1034 | bpb 1.2345`.
fn eval_line(set: &str, record: &Record) -> Option<String> {
    let mut metrics = Vec::new();
    for (key, value) in record.scalars() {
        let rest = key.strip_prefix(set).unwrap_or_default();
        if let Some(name) = rest.strip_prefix('/') {
            metrics.push(format!("{name} {value:.4}"));
        }
    }
    if metrics.is_empty() {
        return None;
    }
    let step = record.clock.step;
    Some(format!("Step {step:05} | {set} {}", metrics.join(" | ")))
}

/// Formats a loss with three digits, such as `5.64` or `0.987`, like `train.py` of the BDH model.
fn three_digits(loss: f64) -> String {
    let decimals = if loss.abs() < 1.0 { 3 } else { 2 };
    format!("{loss:.decimals$}")
}

/// Formats a number with commas: `12,345`.
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

/// Formats a duration briefly: `45s`, `3m20s`, `2h05m`.
#[must_use]
pub fn short(time: Duration) -> String {
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
    use crate::record::Value;

    fn record(step: u64, seconds: u64) -> Record {
        let elapsed = Duration::from_secs(seconds);
        let clock = Clock {
            step,
            tokens: step * 1_000,
            elapsed,
            ..Clock::default()
        };
        Record {
            clock,
            values: vec![("train/loss".to_owned(), Value::Scalar(1.0))],
        }
    }

    fn lines(length: impl Into<RunLength>) -> Lines {
        Lines {
            every: Some(1),
            length: length.into(),
            eval_sets: ["val", "test"].map(str::to_owned).to_vec(),
            from: None,
            loss: Mean::default(),
        }
    }

    /// Returns the paces of records that arrive in one burst.
    fn paces(records: &[(u64, u64)]) -> Vec<String> {
        let mut lines = lines(100);
        let pace = |(step, seconds): &(u64, u64)| {
            let record = record(*step, *seconds);
            lines.of(&record);
            lines.pace(&record)
        };
        records.iter().map(pace).collect()
    }

    #[test]
    fn rates_use_the_time_of_the_records() {
        let paces = paces(&[(0, 0), (1, 0), (11, 20), (51, 100)]);
        assert_eq!(
            paces,
            ["", "", "  500 tok/s  eta 2m58s", "  500 tok/s  eta 1m38s"]
        );
    }

    #[test]
    fn rates_of_a_resumed_run_start_at_its_first_step() {
        let paces = paces(&[(51, 9_000), (61, 9_010)]);
        assert_eq!(paces, ["", "  1,000 tok/s  eta 39s"]);
    }

    #[test]
    fn a_run_without_end_has_no_remaining_time() {
        let mut lines = lines(u64::MAX);
        lines.of(&record(1, 0));
        let second = record(2, 3);
        lines.of(&second);
        assert_eq!(lines.pace(&second), "  333 tok/s");
    }

    #[test]
    fn a_run_that_is_limited_by_time_shows_its_share_and_the_time_left() {
        let mut lines = lines(Duration::from_mins(5));
        lines.every = Some(2);
        let shown = [(1, 1), (2, 119), (3, 299), (4, 301)].map(|(step, seconds)| {
            let record = record(step, seconds);
            lines.of(&record)
        });
        assert_eq!(
            shown.concat(),
            [
                "Step: 1 (0%) loss 1.00  eta 4m59s",
                "Step: 2 (39%) loss 1.00  8 tok/s  eta 3m01s",
                "Step: 4 (100%) loss 1.00  10 tok/s",
            ],
            "the first step, every second one, and the last one"
        );
        assert_eq!(lines.place(&record(3, 299).clock), "3 (99%)");
    }

    #[test]
    fn data_without_tokens_has_a_rate_in_samples() {
        let images = |step, seconds| {
            let mut record = record(step, seconds);
            record.clock.samples = record.clock.tokens;
            record.clock.tokens = 0;
            record
        };
        let mut lines = lines(3);
        lines.of(&images(1, 0));
        let second = images(3, 4);
        assert_eq!(lines.pace(&second), "  500 samples/s");
        let measured = ("train/samples_per_sec".to_owned(), Value::Scalar(7.0));
        let second = Record {
            values: vec![measured],
            ..second
        };
        assert_eq!(lines.pace(&second), "  7 samples/s");
    }

    #[test]
    fn each_evaluated_set_has_a_line() {
        let mut lines = lines(100);
        lines.every = None;
        let values = [
            ("val/loss", 2.0),
            ("values/loss", 9.0),
            ("test/loss", 3.0),
            ("val/loss/aux", 0.5),
        ];
        let values = values.map(|(key, value)| (key.to_owned(), Value::Scalar(value)));
        let record = Record {
            values: values.to_vec(),
            ..record(7, 1)
        };
        assert_eq!(
            lines.of(&record),
            [
                "Step 00007 | val loss 2.0000 | loss/aux 0.5000",
                "Step 00007 | test loss 3.0000"
            ]
        );
    }

    #[test]
    fn times_rates_and_losses_are_short() {
        let times = [59.4, 60.0, 7_500.0].map(|s| short(Duration::from_secs_f64(s)));
        assert_eq!(times, ["59s", "1m00s", "2h05m"]);
        assert_eq!(
            [5.6449, 2.4, 0.9876].map(three_digits),
            ["5.64", "2.40", "0.988"]
        );
        assert_eq!(
            [0.0, 999.0, 1_234_567.0].map(with_commas),
            ["0", "999", "1,234,567"]
        );
    }
}
