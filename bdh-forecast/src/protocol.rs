//! Protocols: which runs are predicted from which.

use super::predictor::Fold;
use super::run::Run;
use super::table::Table;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// A way to test predictors on finished runs. No predictor ever sees how a run ended that it predicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Interpolation: each run from all others except its replicates, which would give its end away.
    LeaveOneOut,
    /// Extrapolation: runs with one value of this setting from the runs with other values.
    LeaveGroupOut(String),
    /// Each run from those before it, as in a sweep in progress.
    Prequential,
}

/// Number of runs that the prequential protocol only learns from.
pub(super) const FIRST: usize = 8;

impl Protocol {
    /// Returns the folds: for each, the rows to learn from and the rows to predict.
    pub(super) fn folds(&self, runs: &[Run], table: &Table<'_>) -> Vec<Fold> {
        match self {
            Self::LeaveOneOut => one_out(runs, table, 0..table.rows.len()).collect(),
            Self::LeaveGroupOut(setting) => groups_out(runs, table, setting),
            Self::Prequential => prequential(runs, table),
        }
    }
}

/// Returns a fold for each of some rows, learning from all others except its replicates.
pub(super) fn one_out<'a>(
    runs: &'a [Run],
    table: &'a Table<'_>,
    targets: impl IntoIterator<Item = usize> + 'a,
) -> impl Iterator<Item = Fold> + 'a {
    let mut configurations = Vec::with_capacity(table.rows.len());
    for row in &table.rows {
        configurations.push(runs[row.run].configuration());
    }
    targets.into_iter().map(move |target| {
        let mut train = Vec::new();
        for (row, configuration) in configurations.iter().enumerate() {
            if *configuration != configurations[target] {
                train.push(row);
            }
        }
        fold(runs, table, &train, vec![target])
    })
}

/// Returns a fold for each value of a setting, learning from the rows with other values.
fn groups_out(runs: &[Run], table: &Table<'_>, setting: &str) -> Vec<Fold> {
    let groups = rows_by_value(runs, table, setting);
    let mut folds = Vec::with_capacity(groups.len());
    for group in groups {
        let mut others: Vec<usize> = (0..table.rows.len()).collect();
        others.retain(|row| !group.contains(row));
        folds.push(fold(runs, table, &others, group));
    }
    folds
}

/// Returns the rows with each value of a setting.
fn rows_by_value(runs: &[Run], table: &Table<'_>, setting: &str) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (index, row) in table.rows.iter().enumerate() {
        let value = runs[row.run].settings.get(setting);
        let key = value.map(|value| value.to_bits());
        groups.entry(key).or_default().push(index);
    }
    groups.into_values().collect()
}

/// Returns a fold for each row but the first [`FIRST`], learning from the rows before it.
fn prequential(runs: &[Run], table: &Table<'_>) -> Vec<Fold> {
    let mut rows: Vec<usize> = (0..table.rows.len()).collect();
    // Rows are in the order of names, which decides between runs with the same position in time.
    rows.sort_by_key(|row| (runs[table.rows[*row].run].order, *row));
    let mut folds = Vec::new();
    for index in FIRST..rows.len() {
        folds.push(fold(runs, table, &rows[..index], vec![rows[index]]));
    }
    folds
}

fn fold(runs: &[Run], table: &Table<'_>, train: &[usize], targets: Vec<usize>) -> Fold {
    let train = train.iter().map(|row| (*row, &runs[table.rows[*row].run]));
    Fold {
        train: with_ends(train),
        targets,
    }
}

/// Returns each row with the end of its run.
///
/// A diverged run counts as the worst finished one: a finite stand-in, so that a regression learns "bad" without being
/// dominated by it.
pub(super) fn with_ends<'r>(
    runs: impl Iterator<Item = (usize, &'r Run)> + Clone,
) -> Vec<(usize, f64)> {
    let finished = runs.clone().filter_map(|(_, run)| run.final_value());
    let worst = finished.max_by(f64::total_cmp);
    let mut ends = Vec::new();
    for (row, run) in runs {
        if let Some(end) = run.final_value().or(worst) {
            ends.push((row, end));
        }
    }
    ends
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeaveOneOut => write!(f, "leave one out"),
            Self::LeaveGroupOut(setting) => write!(f, "leave one {setting} out"),
            Self::Prequential => write!(f, "prequential (each from those before it)"),
        }
    }
}
