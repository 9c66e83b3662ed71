//! Cost of each callback, with warnings for those over the budget.

use crate::clock::save_seconds;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Time of a run by part and callback. Prints as a table, with a warning for each callback over the budget.
///
/// The cost of a callback is the time of its hooks on the training thread. On a GPU hooks only queue work; the time of
/// the device is part of `steps`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Overhead {
    /// Wall-clock time of the whole run.
    #[serde(serialize_with = "save_seconds")]
    pub total: Duration,
    /// Time of the steps: data, forward and backward passes, optimizer, hooks and records.
    #[serde(serialize_with = "save_seconds")]
    pub steps: Duration,
    /// Number of steps in `steps`.
    pub num_steps: u64,
    /// Time of evals.
    #[serde(serialize_with = "save_seconds")]
    pub eval: Duration,
    /// Time of writing checkpoints.
    #[serde(serialize_with = "save_seconds")]
    pub checkpoints: Duration,
    /// Number of device reads of the trainer: at most one per step for logged values.
    ///
    /// Several devices need more: two per step if they exchange through the host, one in each of the first three steps
    /// with NCCL, and one for each 100 MB when replicas are compared.
    pub reads: u64,
    /// Largest slowdown of the steps by one callback, in percent.
    pub budget: f64,
    /// Cost of each callback.
    pub rows: Vec<OverheadRow>,
}

/// Cost of one callback.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct OverheadRow {
    /// Name of the callback.
    pub name: String,
    /// Number of steps on which it was due.
    pub due: u64,
    /// Number of calls of its hooks.
    pub calls: u64,
    /// Time of all its hooks on the training thread.
    #[serde(serialize_with = "save_seconds")]
    pub host: Duration,
    /// Part of `host` in the hooks of due steps; the rest is in hooks of evals, checkpoints, and the start and end of the
    /// run.
    #[serde(serialize_with = "save_seconds")]
    pub host_when_due: Duration,
    /// Number of its own device reads, which stall the device; 0 for a callback that only logs.
    pub reads: u64,
    /// Number of failed calls.
    pub errors: u64,
}

impl Overhead {
    /// Returns a warning for each callback over the budget, with a cadence that would keep it within.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let rows = self.rows.iter();
        rows.filter_map(|row| self.warning(row)).collect()
    }

    fn warning(&self, row: &OverheadRow) -> Option<String> {
        let cost = Cost::of(row, self);
        let slows = cost.percent(cost.host);
        if self.num_steps == 0 || slows <= self.budget {
            return None;
        }
        let (name, budget) = (&row.name, self.budget);
        let advice = self.advice(row, &cost);
        Some(format!(
            "`{name}` slows the steps by {slows:.1} % (budget {budget} %); {advice}"
        ))
    }

    fn advice(&self, row: &OverheadRow, cost: &Cost) -> String {
        // Seconds that the budget leaves for the hooks of due steps.
        let spare = self.budget / 100.0 * cost.rest - cost.elsewhere();
        if spare <= 0.0 || row.due == 0 {
            return "that time is in hooks of evals and checkpoints: have fewer of those, or do less in them"
                .to_owned();
        }
        let period = self.num_steps as f64 / row.due as f64;
        let longer = round_up(period * cost.when_due / spare);
        let then = cost.percent(cost.elsewhere() + cost.when_due * period / longer);
        let now = describe_period(period);
        format!("acting every {longer} steps instead of {now}, it would slow them by {then:.1} %")
    }
}

/// Times of a callback and of the steps without it, in seconds.
struct Cost {
    host: f64,
    when_due: f64,
    /// Time of the steps without the callback; above 0.
    rest: f64,
}

impl Cost {
    fn of(row: &OverheadRow, run: &Overhead) -> Self {
        let rest = run.steps.saturating_sub(row.host_when_due);
        Self {
            host: row.host.as_secs_f64(),
            when_due: row.host_when_due.as_secs_f64(),
            rest: rest.as_secs_f64().max(f64::MIN_POSITIVE),
        }
    }

    /// Returns the time in hooks of evals, checkpoints, and the start and end of the run.
    fn elsewhere(&self) -> f64 {
        self.host - self.when_due
    }

    fn percent(&self, cost: f64) -> f64 {
        100.0 * cost / self.rest
    }
}

fn describe_period(steps: f64) -> String {
    match steps.round() {
        ..2.0 => "every step".to_owned(),
        steps => format!("every {steps}"),
    }
}

/// Rounds up to the next of 1, 2, 5, 10, 20, 50, ….
fn round_up(steps: f64) -> f64 {
    let power = 10_f64.powf(steps.max(1.0).log10().floor());
    for digit in [1.0, 2.0, 5.0] {
        if digit * power >= steps {
            return digit * power;
        }
    }
    10.0 * power
}

impl fmt::Display for Overhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24} {:>9} {:>10} {:>7} {:>6} {:>6}",
            "where the time went", "calls", "ms", "% run", "reads", "errors"
        )?;
        self.write_parts(f)?;
        self.write_rows(f)?;
        write!(f, "device reads of the trainer: {}", self.reads)?;
        for warning in self.warnings() {
            write!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

impl Overhead {
    fn write_parts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("steps", self.steps),
            ("eval", self.eval),
            ("checkpoints", self.checkpoints),
        ];
        for (name, part) in parts {
            let time = self.time(part);
            writeln!(f, "{name:<24} {:>9} {time} {:>6} {:>6}", "", "", "")?;
        }
        Ok(())
    }

    fn write_rows(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            let (time, name, calls) = (self.time(row.host), &row.name, row.calls);
            let (reads, errors) = (row.reads, row.errors);
            writeln!(f, "{name:<24} {calls:>9} {time} {reads:>6} {errors:>6}")?;
        }
        Ok(())
    }

    /// Formats a time in milliseconds and in percent of the run.
    fn time(&self, part: Duration) -> String {
        let total = self.total.as_secs_f64().max(f64::MIN_POSITIVE);
        let seconds = part.as_secs_f64();
        format!("{:>10.1} {:>7.2}", seconds * 1e3, 100.0 * seconds / total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the overhead of 100 steps in one second, with a callback that takes milliseconds on due steps and elsewhere.
    fn overhead(due: u64, when_due: u64, elsewhere: u64) -> Overhead {
        let host_when_due = Duration::from_millis(when_due);
        let host = host_when_due + Duration::from_millis(elsewhere);
        let row = OverheadRow {
            name: "slow".to_owned(),
            due,
            host,
            host_when_due,
            ..OverheadRow::default()
        };
        let steps = Duration::from_secs(1) + host_when_due;
        Overhead {
            steps,
            num_steps: 100,
            budget: 5.0,
            rows: vec![row],
            ..Overhead::default()
        }
    }

    #[test]
    fn callbacks_within_the_budget_have_no_warning() {
        assert_eq!(overhead(100, 50, 0).warnings(), [""; 0]);
        assert_eq!(overhead(0, 0, 50).warnings(), [""; 0]);
        let replay = Overhead {
            num_steps: 0,
            ..overhead(100, 5_000, 0)
        };
        assert_eq!(
            replay.warnings(),
            [""; 0],
            "a run without steps cannot be slowed"
        );
        assert_eq!(
            Overhead {
                budget: f64::INFINITY,
                ..overhead(100, 5_000, 0)
            }
            .warnings(),
            [""; 0]
        );
    }

    #[test]
    fn the_suggested_cadence_keeps_the_budget() {
        let warning =
            |due, when_due, elsewhere| overhead(due, when_due, elsewhere).warnings().remove(0);
        assert_eq!(
            warning(100, 120, 0),
            "`slow` slows the steps by 12.0 % (budget 5 %); acting every 5 steps instead of every step, it would slow them by 2.4 %"
        );
        // 20 ms elsewhere leave 30 of the 50 ms in the budget.
        let fixed = warning(10, 100, 20);
        assert!(
            fixed.ends_with(
                "acting every 50 steps instead of every 10, it would slow them by 4.0 %"
            ),
            "{fixed}"
        );
        // The callback takes far longer than the steps. Its share of the total would suggest the wrong cadence.
        let heavy = warning(100, 20_000, 0);
        assert!(heavy.ends_with("by 2000.0 % (budget 5 %); acting every 500 steps instead of every step, it would slow them by 4.0 %"), "{heavy}");
    }

    #[test]
    fn warnings_name_hooks_that_a_cadence_cannot_help() {
        for (when_due, elsewhere) in [(0, 60), (60, 50)] {
            let warning = overhead(10, when_due, elsewhere).warnings().remove(0);
            assert!(
                warning.contains("that time is in hooks of evals and checkpoints"),
                "{warning}"
            );
        }
    }

    #[test]
    fn step_counts_are_rounded_up_to_round_numbers() {
        let rounded = [0.3, 1.0, 1.2, 2.0, 3.4, 7.0, 10.0, 11.0, 333.0].map(round_up);
        assert_eq!(rounded, [1.0, 1.0, 2.0, 2.0, 5.0, 10.0, 10.0, 20.0, 500.0]);
    }

    #[test]
    fn warnings_follow_the_table() {
        let table = overhead(100, 120, 0).to_string();
        let last = table.lines().last().expect("lines");
        assert!(
            last.starts_with("warning: `slow` slows the steps by 12.0 %"),
            "{table}"
        );
        assert!(!overhead(100, 0, 0).to_string().contains("warning"));
    }
}
