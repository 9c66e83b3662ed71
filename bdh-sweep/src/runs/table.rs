//! Runs side by side.

mod text;

use super::columns::{setting, settings};
use super::{Keys, Run, RunStatus};
use crate::goal::Goal;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Steps at which every row has a snapshot, where all runs are longer than the last of them.
const STEPS: [u64; 3] = [250, 500, 1000];

/// Shares of the run at which it has one elsewhere: nanochat's smallest run of the request takes 1920 steps.
const SHARES: [f64; 3] = [0.125, 0.25, 0.5];

/// Runs side by side, the best first.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Table {
    /// What they are judged by.
    pub metric: String,
    /// Whether less or more of it is better.
    #[serde(skip)]
    pub goal: Goal,
    /// The settings in which they differ.
    pub settings: Vec<String>,
    /// Where the snapshots are, such as `250` or `12.5%`.
    pub cuts: Vec<String>,
    /// One row a run.
    pub rows: Vec<Row>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// What it is called.
    pub name: String,
    /// How it ended.
    pub status: RunStatus,
    /// Its value of each of the table's settings, in their order; null where it has none.
    pub settings: Vec<Value>,
    /// The steps that it was to take.
    pub steps: u64,
    /// The steps that it took.
    pub last_step: u64,
    /// The tokens that it saw.
    pub tokens: u64,
    /// Floating-point operations, if recorded.
    pub flops: Option<f64>,
    /// How long it trained, in seconds.
    pub seconds: f64,
    /// The highest learning rate of each parameter group.
    pub rates: BTreeMap<String, f64>,
    /// What it had reached in the end.
    pub end: Snapshot,
    /// The best value of the metric on the way.
    pub best: Option<f64>,
    /// The score of the finished model, such as CORE, if measured.
    pub core: Option<f64>,
    /// What it had reached at the table's cuts.
    pub at: Vec<Snapshot>,
}

/// What a run had reached at some step; `None` where nothing was recorded until then.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The metric.
    pub metric: Option<f64>,
    /// The training loss.
    pub loss: Option<f64>,
    /// The L2 norm of the weights.
    pub weight_norm: Option<f64>,
    /// The L2 norm of the gradients.
    pub grad_norm: Option<f64>,
}

impl Table {
    /// One row a run, the best first; those without a finite value of the metric come last, and stay.
    #[must_use]
    pub fn of(runs: &[Run], keys: &Keys) -> Self {
        let settings = settings(runs);
        let are_long = runs
            .iter()
            .filter(|run| run.steps > 0)
            .all(|run| run.steps > STEPS[2]);
        let cuts = if are_long {
            STEPS.map(|step| step.to_string())
        } else {
            SHARES.map(|share| format!("{}%", share * 100.0))
        };
        let rows = runs
            .iter()
            .map(|run| row(run, keys, &settings, are_long))
            .collect();
        let mut table = Self {
            metric: keys.metric.clone(),
            goal: keys.goal,
            settings,
            cuts: cuts.to_vec(),
            rows,
        };
        table.rows.sort_by(|a, b| {
            keys.goal
                .rank(a.end.metric)
                .total_cmp(&keys.goal.rank(b.end.metric))
        });
        table
    }

    /// Sorts the rows by a column of the CSV, less first; numbers before texts, and nothing last.
    ///
    /// # Errors
    ///
    /// If there is no such column; with those that there are.
    pub fn sort_by(&mut self, column: &str) -> Result<(), String> {
        let columns = self.columns();
        let Some(place) = columns.iter().position(|name| name == column) else {
            return Err(format!(
                "there is no column `{column}` to sort by: take one of {}",
                columns.join(", ")
            ));
        };
        let rates = self.rate_names();
        let key = |row: &Row| {
            let cell = cells(row, &rates).swap_remove(place);
            let number = cell.parse::<f64>().ok().filter(|number| !number.is_nan());
            (
                cell.is_empty(),
                number.is_none(),
                number.unwrap_or_default(),
                cell,
            )
        };
        self.rows.sort_by(|a, b| {
            let (a, b) = (key(a), key(b));
            (a.0, a.1)
                .cmp(&(b.0, b.1))
                .then(a.2.total_cmp(&b.2))
                .then_with(|| a.3.cmp(&b.3))
        });
        Ok(())
    }

    /// All of it as CSV: one line of names, one line a run.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut csv = csv::Writer::from_writer(Vec::new());
        for line in std::iter::once(self.columns()).chain(self.cells()) {
            let _ = csv.write_record(line); // memory takes everything, and each line has as many cells
        }
        String::from_utf8(csv.into_inner().unwrap_or_default()).unwrap_or_default()
    }

    /// The cells of each row, as in the CSV.
    pub(super) fn cells(&self) -> Vec<Vec<String>> {
        let rates = self.rate_names();
        self.rows.iter().map(|row| cells(row, &rates)).collect()
    }

    /// The parameter groups of all runs.
    fn rate_names(&self) -> Vec<String> {
        let names: BTreeSet<_> = self.rows.iter().flat_map(|row| row.rates.keys()).collect();
        names.into_iter().cloned().collect()
    }

    /// The names of the columns of the CSV.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        let fixed = ["steps", "last_step", "tokens", "flops", "seconds"];
        let snapshot = |at: &str| {
            [self.metric.as_str(), "loss", "weight_norm", "grad_norm"]
                .map(|name| format!("{name}{at}"))
        };
        let rates = self.rate_names();
        let mut columns = vec!["run".to_owned(), "status".to_owned()];
        columns.extend(self.settings.iter().cloned());
        columns.extend(snapshot(""));
        columns.extend([format!("best {}", self.metric), "core".to_owned()]);
        columns.extend(
            self.cuts
                .iter()
                .flat_map(|cut| snapshot(&format!("@{cut}"))),
        );
        columns.extend(fixed.map(str::to_owned));
        columns.extend(rates.iter().map(|name| format!("lr/{name}")));
        columns.push("why".to_owned());
        columns
    }
}

/// The cells of a row of the CSV.
fn cells(row: &Row, rates: &[String]) -> Vec<String> {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let snapshot = |at: &Snapshot| [at.metric, at.loss, at.weight_norm, at.grad_norm].map(number);
    let why = if let RunStatus::Failed(why) = &row.status {
        why.clone()
    } else {
        String::new()
    };
    let mut cells = vec![row.name.clone(), row.status.to_string()];
    cells.extend(row.settings.iter().map(plain));
    cells.extend(snapshot(&row.end));
    cells.extend([number(row.best), number(row.core)]);
    cells.extend(row.at.iter().flat_map(snapshot));
    cells.extend([row.steps, row.last_step, row.tokens].map(|count| count.to_string()));
    cells.extend([number(row.flops), row.seconds.to_string()]);
    cells.extend(
        rates
            .iter()
            .map(|name| number(row.rates.get(name).copied())),
    );
    cells.push(why);
    cells
}

/// A setting as people write it.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

fn row(run: &Run, keys: &Keys, names: &[String], are_long: bool) -> Row {
    let at = |step: u64| Snapshot {
        metric: run.at(&keys.metric, step),
        loss: run.at(&keys.loss, step),
        weight_norm: run.at(&keys.weight_norm, step),
        grad_norm: run.at(&keys.grad_norm, step),
    };
    let in_steps = |share: f64| (share * run.steps as f64).round() as u64;
    let cuts = if are_long {
        STEPS
    } else {
        SHARES.map(in_steps)
    };
    // What lies beyond a run that died is no snapshot of it.
    let reached = |step: u64| {
        if step <= run.last_step {
            at(step)
        } else {
            Snapshot::default()
        }
    };
    let finite = run.series(&keys.metric).iter().map(|(_, value)| *value);
    let best = finite.filter(|value| value.is_finite());
    let rank = |value: &f64| keys.goal.rank(Some(*value));
    Row {
        name: run.name.clone(),
        status: run.status.clone(),
        settings: names
            .iter()
            .map(|key| setting(run, key).cloned().unwrap_or_default())
            .collect(),
        steps: run.steps,
        last_step: run.last_step,
        tokens: run.tokens,
        flops: run.last(&keys.flops),
        seconds: run.seconds,
        rates: rates(run),
        end: at(u64::MAX),
        best: best.min_by(|a, b| rank(a).total_cmp(&rank(b))),
        core: run.last(&keys.core),
        at: cuts.map(reached).to_vec(),
    }
}

/// The peak of each parameter group's schedule.
fn rates(run: &Run) -> BTreeMap<String, f64> {
    let peak = |(key, value): (&String, &Value)| {
        let name = key
            .strip_prefix("groups.")?
            .strip_suffix(".schedule.peak")?;
        Some((name.to_owned(), value.as_f64()?))
    };
    run.config.iter().filter_map(peak).collect()
}
