//! Lines that tell a person how a run is going: one every so many steps, and one for each eval.

use crate::clock::Clock;
use crate::record::Record;
use crate::run::RunInfo;
use std::time::Duration;

/// Lines of records, as the console shows them and as W&B's log keeps them.
#[derive(Debug)]
pub struct Lines {
    /// Steps from one line to the next; the first and the last step have one always. With `None` the last
    /// step alone has.
    every: Option<u64>,
    steps: u64,
    /// Where rates and the remaining time are counted from: the first step that this process took. Before it lie the
    /// evaluation of the untrained model, or whatever a resumed run did in its earlier life.
    ///
    /// Times are those of the records. By the clock on the wall, records that come in a burst would all be fast.
    from: Option<Clock>,
    loss: Mean,
}

/// A mean since the last line.
#[derive(Debug, Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Lines {
    /// Lines of a run that begins now: one every so many steps, or with `None` none but the last step's.
    #[must_use]
    pub fn new(every: Option<u64>, run: &RunInfo) -> Self {
        Self {
            every,
            steps: run.steps,
            from: None,
            loss: Mean::default(),
        }
    }

    /// The lines of a record, if it has any.
    pub fn of(&mut self, record: &Record) -> Vec<String> {
        if self.every.is_none() {
            self.loss = Mean::default(); // a bar shows each step's own
        }
        if let Some(loss) = record.scalar("train/loss") {
            self.loss.add(loss);
        }
        let lines = [self.step_line(record), eval_line(record)];
        if record.clock.step > 0 {
            self.from.get_or_insert(record.clock);
        }
        lines.into_iter().flatten().collect()
    }

    /// `Step: 100/3000 loss 2.45  23,014 tok/s  eta 1m20s`, if it is time for one.
    fn step_line(&mut self, record: &Record) -> Option<String> {
        let step = record.clock.step;
        let is_regular = self
            .every
            .is_some_and(|every| step == 1 || step.is_multiple_of(every));
        if step == 0 || !(is_regular || step == self.steps) {
            return None;
        }
        let loss = std::mem::take(&mut self.loss).mean();
        let loss = loss
            .map(|loss| format!(" loss {}", three_digits(loss)))
            .unwrap_or_default();
        Some(format!(
            "Step: {step}/{}{loss}{}",
            self.steps,
            self.pace(record)
        ))
    }

    /// `  23,014 tok/s  eta 1m20s`, as far as known.
    #[must_use]
    pub fn pace(&self, record: &Record) -> String {
        let rate = self.tokens_per_second(record);
        let rate = rate.map(|rate| format!("  {} tok/s", with_commas(rate)));
        let left = self.time_left(&record.clock);
        rate.into_iter()
            .chain(left.map(|left| format!("  eta {}", short(left))))
            .collect()
    }

    /// The run's own figure if it records one; otherwise tokens over the training time since the first step.
    fn tokens_per_second(&self, record: &Record) -> Option<f64> {
        let since_the_first = || {
            let tokens = record.clock.tokens.checked_sub(self.from?.tokens)?;
            Some(tokens as f64 / self.time_since(&record.clock)?.as_secs_f64())
        };
        record
            .scalar("train/tok_per_sec")
            .or_else(since_the_first)
            .filter(|rate| *rate > 0.0)
    }

    fn time_left(&self, now: &Clock) -> Option<Duration> {
        let done = now
            .step
            .checked_sub(self.from?.step)
            .filter(|done| *done > 0)?;
        let left = self.steps.checked_sub(now.step).filter(|left| *left > 0)?;
        let seconds = self.time_since(now)?.as_secs_f64() * (left as f64 / done as f64);
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Training time since the first step, if there is any.
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

/// `Step 00250 | val loss 2.1034 | bpb 1.2345`.
fn eval_line(record: &Record) -> Option<String> {
    let metrics = record
        .scalars()
        .filter_map(|(key, value)| Some(format!("{} {value:.4}", key.strip_prefix("val/")?)));
    let metrics: Vec<_> = metrics.collect();
    let step = record.clock.step;
    (!metrics.is_empty()).then(|| format!("Step {step:05} | val {}", metrics.join(" | ")))
}

/// `5.64`, `0.987`: a loss as BDH's `train.py` prints it, which asks Python for three digits.
fn three_digits(loss: f64) -> String {
    let decimals = if loss.abs() < 1.0 { 3 } else { 2 };
    format!("{loss:.decimals$}")
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

    /// The paces of records that come all at once.
    fn paces(records: &[(u64, u64)]) -> Vec<String> {
        let mut lines = Lines {
            every: Some(1),
            steps: 100,
            from: None,
            loss: Mean::default(),
        };
        let pace = |(step, seconds): &(u64, u64)| {
            let record = record(*step, *seconds);
            lines.of(&record);
            lines.pace(&record)
        };
        records.iter().map(pace).collect()
    }

    #[test]
    fn rates_are_by_the_records_own_time_however_fast_they_come() {
        let paces = paces(&[(0, 0), (1, 0), (11, 20), (51, 100)]);
        assert_eq!(
            paces,
            ["", "", "  500 tok/s  eta 2m58s", "  500 tok/s  eta 1m38s"]
        );
    }

    #[test]
    fn a_resumed_run_counts_from_its_first_step_not_from_its_earlier_life() {
        let paces = paces(&[(51, 9_000), (61, 9_010)]);
        assert_eq!(paces, ["", "  1,000 tok/s  eta 39s"]);
    }

    #[test]
    fn a_run_of_more_steps_than_time_has_seconds_has_lines_without_a_remaining_time() {
        let mut lines = Lines {
            every: Some(1),
            steps: u64::MAX,
            from: None,
            loss: Mean::default(),
        };
        lines.of(&record(1, 0));
        let second = record(2, 3);
        lines.of(&second);
        assert_eq!(lines.pace(&second), "  333 tok/s");
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
