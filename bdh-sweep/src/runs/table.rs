//! A table that compares runs.

mod text;

use super::columns::{setting, settings};
use super::{Keys, Run, RunStatus};
use crate::goal::Goal;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Steps of the snapshots, if all runs are longer than the last of them.
const STEPS: [u64; 3] = [250, 500, 1000];

/// Snapshots of shorter runs, as shares of the run. (The smallest nanochat run of the original request has 1,920
/// steps.)
const SHARES: [f64; 3] = [0.125, 0.25, 0.5];

/// A table that compares runs, the best first.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Table {
    /// Metric that runs are judged by.
    pub metric: String,
    /// Whether lower or higher is better.
    #[serde(skip)]
    pub goal: Goal,
    /// Settings in which the runs differ.
    pub settings: Vec<String>,
    /// Positions of the snapshots, such as `250` or `12.5%`.
    pub cuts: Vec<String>,
    /// One row per run.
    pub rows: Vec<Row>,
}

/// One run in a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// Name of the run.
    pub name: String,
    /// Status of the run.
    pub status: RunStatus,
    /// Values of the table's settings, in their order; null where the run has none.
    pub settings: Vec<Value>,
    /// Planned number of steps, as in [`Run::steps`].
    pub steps: u64,
    /// Last recorded step.
    pub last_step: u64,
    /// Number of tokens trained on.
    pub tokens: u64,
    /// Floating-point operations, if recorded.
    pub flops: Option<f64>,
    /// Training time in seconds.
    pub seconds: f64,
    /// Peak learning rate of each parameter group.
    pub rates: BTreeMap<String, f64>,
    /// Values at the end.
    pub end: Snapshot,
    /// Best value of the metric at any step.
    pub best: Option<f64>,
    /// Score of the finished model, such as CORE, if measured.
    pub core: Option<f64>,
    /// Values at the table's cuts.
    pub at: Vec<Snapshot>,
}

/// The latest values of a run at some step; `None` where nothing was recorded until then.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// Metric.
    pub metric: Option<f64>,
    /// Training loss.
    pub loss: Option<f64>,
    /// L2 norm of the weights.
    pub weight_norm: Option<f64>,
    /// L2 norm of the gradients.
    pub grad_norm: Option<f64>,
}

/// A column that a table does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no column `{column}` to sort by: use one of {}", columns.join(", "))]
pub struct UnknownColumn {
    /// Requested column.
    pub column: String,
    /// Columns of the table.
    pub columns: Vec<String>,
}

impl Table {
    /// Creates the table of these runs, the best first; runs without a finite value of the metric come last.
    #[must_use]
    pub fn of(runs: &[Run], keys: &Keys) -> Self {
        let settings = settings(runs);
        let are_long = are_long(runs);
        let mut rows = Vec::with_capacity(runs.len());
        for run in runs {
            rows.push(Row::of(run, keys, &settings, are_long));
        }
        let rank = |row: &Row| keys.goal.rank(row.end.metric);
        rows.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
        Self {
            metric: keys.metric.clone(),
            goal: keys.goal,
            settings,
            cuts: cut_names(are_long).to_vec(),
            rows,
        }
    }

    /// Sorts the rows by a column of the CSV: numbers in increasing order, then texts, then empty cells.
    ///
    /// # Errors
    ///
    /// [`UnknownColumn`], with the columns that there are.
    pub fn sort_by(&mut self, column: &str) -> Result<(), UnknownColumn> {
        let columns = self.columns();
        let Some(index) = columns.iter().position(|name| name == column) else {
            return Err(UnknownColumn {
                column: column.to_owned(),
                columns,
            });
        };
        let rates = self.rate_names();
        let key = |row: &Row| SortKey::of(row.cells(&rates).swap_remove(index));
        self.rows.sort_by(|a, b| key(a).cmp(&key(b)));
        Ok(())
    }

    /// Returns the table as CSV: one line of names, one line per run.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut csv = csv::Writer::from_writer(Vec::new());
        for line in std::iter::once(self.columns()).chain(self.cells()) {
            // Writing to memory does not fail, and all lines have the same number of cells.
            let _ = csv.write_record(line);
        }
        String::from_utf8(csv.into_inner().unwrap_or_default()).unwrap_or_default()
    }

    /// Returns the cells of each row of the CSV.
    pub(super) fn cells(&self) -> Vec<Vec<String>> {
        let rates = self.rate_names();
        self.rows.iter().map(|row| row.cells(&rates)).collect()
    }

    /// Returns the parameter groups of all runs.
    fn rate_names(&self) -> Vec<String> {
        let mut names = BTreeSet::new();
        for row in &self.rows {
            names.extend(row.rates.keys().cloned());
        }
        names.into_iter().collect()
    }

    /// Returns the names of the columns of the CSV.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        let mut columns = vec!["run".to_owned(), "status".to_owned()];
        columns.extend_from_slice(&self.settings);
        self.push_snapshot(&mut columns, "");
        columns.extend([format!("best {}", self.metric), "core".to_owned()]);
        for cut in &self.cuts {
            self.push_snapshot(&mut columns, &format!("@{cut}"));
        }
        columns.extend(["steps", "last_step", "tokens", "flops", "seconds"].map(str::to_owned));
        for name in self.rate_names() {
            columns.push(format!("lr/{name}"));
        }
        columns.push("why".to_owned());
        columns
    }

    /// Appends the columns of a snapshot at a cut.
    fn push_snapshot(&self, columns: &mut Vec<String>, at: &str) {
        for name in [self.metric.as_str(), "loss", "weight_norm", "grad_norm"] {
            columns.push(format!("{name}{at}"));
        }
    }
}

/// Whether all runs are longer than the last of the [`STEPS`].
fn are_long(runs: &[Run]) -> bool {
    runs.iter()
        .all(|run| run.steps == 0 || run.steps > STEPS[2])
}

fn cut_names(are_long: bool) -> [String; 3] {
    if are_long {
        STEPS.map(|step| step.to_string())
    } else {
        SHARES.map(|share| format!("{}%", share * 100.0))
    }
}

/// Returns the steps of the snapshots of a run; none for shares of an unknown number of steps.
fn cut_steps(run: &Run, are_long: bool) -> [Option<u64>; 3] {
    if are_long {
        return STEPS.map(Some);
    }
    SHARES.map(|share| (run.steps > 0).then(|| (share * run.steps as f64).round() as u64))
}

/// A cell in the order of sorting.
struct SortKey {
    is_empty: bool,
    number: Option<f64>,
    text: String,
}

impl SortKey {
    fn of(text: String) -> Self {
        Self {
            is_empty: text.is_empty(),
            number: text.parse().ok().filter(|number: &f64| !number.is_nan()),
            text,
        }
    }

    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let kind = |key: &Self| (key.is_empty, key.number.is_none());
        let number = |key: &Self| key.number.unwrap_or_default();
        kind(self)
            .cmp(&kind(other))
            .then_with(|| number(self).total_cmp(&number(other)))
            .then_with(|| self.text.cmp(&other.text))
    }
}

impl Row {
    fn of(run: &Run, keys: &Keys, settings: &[String], are_long: bool) -> Self {
        let mut values = Vec::with_capacity(settings.len());
        for key in settings {
            values.push(setting(run, key).cloned().unwrap_or_default());
        }
        Self {
            name: run.name.clone(),
            status: run.status.clone(),
            settings: values,
            steps: run.steps,
            last_step: run.last_step,
            tokens: run.tokens,
            flops: run.last(&keys.flops),
            seconds: run.seconds,
            rates: peak_rates(run),
            end: Snapshot::of(run, keys, u64::MAX),
            best: best(run, keys),
            core: run.last(&keys.core),
            at: cut_steps(run, are_long)
                .map(|step| Snapshot::at_cut(run, keys, step))
                .to_vec(),
        }
    }

    /// Returns the cells of the CSV.
    fn cells(&self, rates: &[String]) -> Vec<String> {
        let mut cells = vec![self.name.clone(), self.status.to_string()];
        cells.extend(self.settings.iter().map(plain));
        self.end.push_cells(&mut cells);
        cells.extend([cell(self.best), cell(self.core)]);
        for snapshot in &self.at {
            snapshot.push_cells(&mut cells);
        }
        cells.extend([self.steps, self.last_step, self.tokens].map(|count| count.to_string()));
        cells.extend([cell(self.flops), self.seconds.to_string()]);
        for name in rates {
            cells.push(cell(self.rates.get(name).copied()));
        }
        cells.push(self.failure().to_owned());
        cells
    }

    /// Returns the reason of a failed run; empty for another one.
    fn failure(&self) -> &str {
        match &self.status {
            RunStatus::Failed(why) => why,
            _ => "",
        }
    }
}

impl Snapshot {
    /// Returns the values at a cut; none if its step is not known, or the run died before it.
    fn at_cut(run: &Run, keys: &Keys, step: Option<u64>) -> Self {
        match step {
            Some(step) if step <= run.last_step => Self::of(run, keys, step),
            _ => Self::default(),
        }
    }

    fn of(run: &Run, keys: &Keys, step: u64) -> Self {
        Self {
            metric: run.at(&keys.metric, step),
            loss: run.at(&keys.loss, step),
            weight_norm: run.at(&keys.weight_norm, step),
            grad_norm: run.at(&keys.grad_norm, step),
        }
    }

    fn push_cells(&self, cells: &mut Vec<String>) {
        for value in [self.metric, self.loss, self.weight_norm, self.grad_norm] {
            cells.push(cell(value));
        }
    }
}

fn cell(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// Formats a setting as people write it.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// Returns the best finite value of the metric.
fn best(run: &Run, keys: &Keys) -> Option<f64> {
    let mut best: Option<f64> = None;
    for (_, value) in run.series(&keys.metric) {
        let rank = keys.goal.rank(Some(*value));
        if value.is_finite() && best.is_none_or(|best| rank < keys.goal.rank(Some(best))) {
            best = Some(*value);
        }
    }
    best
}

/// Returns the peak of each parameter group's schedule.
fn peak_rates(run: &Run) -> BTreeMap<String, f64> {
    let mut rates = BTreeMap::new();
    for (key, value) in &run.config {
        if let Some(rest) = key.strip_prefix("groups.")
            && let Some(name) = rest.strip_suffix(".schedule.peak")
            && let Some(peak) = value.as_f64()
        {
            rates.insert(name.to_owned(), peak);
        }
    }
    rates
}
