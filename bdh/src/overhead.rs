//! What each callback cost, and which of them cost too much.

use crate::clock::save_seconds;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Where the time of a run went. Printed, it is a table, with a warning for each callback over its budget.
///
/// A callback costs the time that its hooks take on the training thread. On a GPU they only ask for work there, and
/// what the device needs for it is in `steps`, with everything else that it computes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Overhead {
    /// Wall time of the run, in everything.
    #[serde(serialize_with = "save_seconds")]
    pub total: Duration,
    /// Data, forward, backward, optimizer, hooks and records.
    #[serde(serialize_with = "save_seconds")]
    pub steps: Duration,
    /// How many steps that were.
    pub num_steps: u64,
    /// Evaluation.
    #[serde(serialize_with = "save_seconds")]
    pub eval: Duration,
    /// Writing checkpoints.
    #[serde(serialize_with = "save_seconds")]
    pub checkpoints: Duration,
    /// Device reads for everything that was logged, at most one a step; on several devices, where they exchange
    /// through the host, also two a step for that, and by NCCL one in each of the first three; and one for each 100 MB
    /// whenever the replicas are compared.
    pub reads: u64,
    /// How much one callback may slow the steps, in percent.
    pub budget: f64,
    /// A row for each callback.
    pub rows: Vec<OverheadRow>,
}

/// What one callback cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct OverheadRow {
    /// The callback's name.
    pub name: String,
    /// On how many steps it was due.
    pub due: u64,
    /// How many times a hook of it was called.
    pub calls: u64,
    /// Time on the training thread, in all its hooks.
    #[serde(serialize_with = "save_seconds")]
    pub host: Duration,
    /// The part of it in the hooks of a step, which are called when it is due; the rest comes with evals, checkpoints,
    /// and both ends of the run.
    #[serde(serialize_with = "save_seconds")]
    pub host_when_due: Duration,
    /// Device reads of its own, each of them a stall; 0 for a callback that only logs.
    pub reads: u64,
    /// How many of its calls failed.
    pub errors: u64,
}

impl Overhead {
    /// A sentence for each callback that slows the steps by more than the budget: by how much, and which cadence would
    /// keep it below.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.rows
            .iter()
            .filter_map(|row| self.warning(row))
            .collect()
    }

    fn warning(&self, row: &OverheadRow) -> Option<String> {
        let seconds = Duration::as_secs_f64;
        // What the steps would take without it.
        let rest = seconds(&self.steps.saturating_sub(row.host_when_due)).max(f64::MIN_POSITIVE);
        let percent = |cost: f64| 100.0 * cost / rest;
        let (host, when_due) = (seconds(&row.host), seconds(&row.host_when_due));
        if self.num_steps == 0 || percent(host) <= self.budget {
            return None;
        }
        let (name, slows, budget) = (&row.name, percent(host), self.budget);
        let too_much = format!("`{name}` slows the steps by {slows:.1} % (budget {budget} %)");
        let spare = self.budget / 100.0 * rest - (host - when_due);
        if spare <= 0.0 || row.due == 0 {
            return Some(format!(
                "{too_much}; that is in hooks which come with evals and checkpoints: have fewer of those, or do less"
            ));
        }
        let apart = self.num_steps as f64 / row.due as f64;
        let rarer = round_up(apart * when_due / spare);
        let then = percent(host - when_due + when_due * apart / rarer);
        let now = match apart.round() {
            ..2.0 => "every one".to_owned(),
            apart => format!("every {apart}"),
        };
        Some(format!(
            "{too_much}; acting every {rarer} steps instead of {now}, it would slow them by {then:.1} %"
        ))
    }
}

/// The next of 1, 2, 5, 10, 20, 50, …: a number of steps that a person would choose.
fn round_up(steps: f64) -> f64 {
    let power = 10_f64.powf(steps.max(1.0).log10().floor());
    let round = [1.0, 2.0, 5.0]
        .map(|digit| digit * power)
        .into_iter()
        .find(|round| *round >= steps);
    round.unwrap_or(10.0 * power)
}

impl fmt::Display for Overhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total.as_secs_f64().max(f64::MIN_POSITIVE);
        let time = |part: Duration| {
            let seconds = part.as_secs_f64();
            format!("{:>10.1} {:>7.2}", seconds * 1e3, 100.0 * seconds / total)
        };
        writeln!(
            f,
            "{:<24} {:>9} {:>10} {:>7} {:>6} {:>6}",
            "where the time went", "calls", "ms", "% run", "reads", "errors"
        )?;
        for (name, part) in [
            ("steps", self.steps),
            ("eval", self.eval),
            ("checkpoints", self.checkpoints),
        ] {
            writeln!(f, "{name:<24} {:>9} {} {:>6} {:>6}", "", time(part), "", "")?;
        }
        for OverheadRow {
            name,
            calls,
            host,
            reads,
            errors,
            ..
        } in &self.rows
        {
            writeln!(
                f,
                "{name:<24} {calls:>9} {} {reads:>6} {errors:>6}",
                time(*host)
            )?;
        }
        write!(f, "device reads for all that was logged: {}", self.reads)?;
        self.warnings()
            .iter()
            .try_for_each(|warning| write!(f, "\nwarning: {warning}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second of 100 steps, in which a callback takes some milliseconds on the steps on which it is due, and others
    /// elsewhere.
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
    fn what_is_within_its_budget_is_not_warned_of() {
        assert_eq!(overhead(100, 50, 0).warnings(), [""; 0]);
        assert_eq!(overhead(0, 0, 50).warnings(), [""; 0]);
        let replay = Overhead {
            num_steps: 0,
            ..overhead(100, 5_000, 0)
        };
        assert_eq!(
            replay.warnings(),
            [""; 0],
            "without a step there is none to slow"
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
    fn the_cadence_that_a_warning_advises_brings_the_cost_below_the_budget() {
        let warning =
            |due, when_due, elsewhere| overhead(due, when_due, elsewhere).warnings().remove(0);
        assert_eq!(
            warning(100, 120, 0),
            "`slow` slows the steps by 12.0 % (budget 5 %); acting every 5 steps instead of every one, it would slow them by 2.4 %"
        );
        // 20 ms elsewhere leave 30 of the 50 that it may.
        let fixed = warning(10, 100, 20);
        assert!(
            fixed.ends_with(
                "acting every 50 steps instead of every 10, it would slow them by 4.0 %"
            ),
            "{fixed}"
        );
        // Many times the step itself: a share of the whole would not tell how much rarer.
        let heavy = warning(100, 20_000, 0);
        assert!(heavy.ends_with("by 2000.0 % (budget 5 %); acting every 500 steps instead of every one, it would slow them by 4.0 %"), "{heavy}");
    }

    #[test]
    fn what_no_cadence_would_help_is_told_as_that() {
        for (when_due, elsewhere) in [(0, 60), (60, 50)] {
            let warning = overhead(10, when_due, elsewhere).warnings().remove(0);
            assert!(
                warning.contains("in hooks which come with evals and checkpoints"),
                "{warning}"
            );
        }
    }

    #[test]
    fn a_number_of_steps_is_rounded_up_to_one_that_a_person_would_choose() {
        let rounded = [0.3, 1.0, 1.2, 2.0, 3.4, 7.0, 10.0, 11.0, 333.0].map(round_up);
        assert_eq!(rounded, [1.0, 1.0, 2.0, 2.0, 5.0, 10.0, 10.0, 20.0, 500.0]);
    }

    #[test]
    fn warnings_stand_below_the_table() {
        let table = overhead(100, 120, 0).to_string();
        let last = table.lines().last().expect("lines");
        assert!(
            last.starts_with("warning: `slow` slows the steps by 12.0 %"),
            "{table}"
        );
        assert!(!overhead(100, 0, 0).to_string().contains("warning"));
    }
}
