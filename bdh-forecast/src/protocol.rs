//! Who is predicted from whom.

use super::predictor::Fold;
use super::run::Run;
use super::table::Table;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// How predictors are put to the test. None ever sees how a run ended that it predicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Each run from all others but its replicates, which would give it away: interpolation.
    LeaveOneOut,
    /// Runs with one value of this setting from those with another: extrapolation.
    LeaveGroupOut(String),
    /// Each run from those before it, as in a sweep that goes on.
    Prequential,
}

/// Runs that the prequential protocol only learns from.
pub(super) const FIRST: usize = 8;

impl Protocol {
    pub(super) fn folds(&self, runs: &[Run], table: &Table<'_>) -> Vec<Fold> {
        let run = |row: usize| &runs[table.rows[row].run];
        let rows = 0..table.rows.len();
        let fold = |train: Vec<usize>, targets| Fold {
            train: with_ends(train.into_iter().map(|row| (row, run(row)))),
            targets,
        };
        match self {
            Self::LeaveOneOut => one_out(runs, table, rows).collect(),
            Self::LeaveGroupOut(setting) => {
                let value = |row: usize| run(row).settings.get(setting).map(|x| x.to_bits());
                let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
                rows.clone()
                    .for_each(|row| groups.entry(value(row)).or_default().push(row));
                let others =
                    |group: &[usize]| rows.clone().filter(|row| !group.contains(row)).collect();
                groups
                    .into_values()
                    .map(|group| fold(others(&group), group))
                    .collect()
            }
            Self::Prequential => {
                let mut rows: Vec<usize> = rows.collect();
                rows.sort_by_key(|row| (run(*row).order, *row)); // rows are in the order of names
                let before = |index: usize| fold(rows[..index].to_vec(), vec![rows[index]]);
                (FIRST..rows.len()).map(before).collect()
            }
        }
    }
}

/// Each of some rows from all others but its replicates.
pub(super) fn one_out<'a>(
    runs: &'a [Run],
    table: &'a Table<'_>,
    targets: impl IntoIterator<Item = usize> + 'a,
) -> impl Iterator<Item = Fold> + 'a {
    let run = |row: usize| &runs[table.rows[row].run];
    let configurations: Vec<_> = (0..table.rows.len())
        .map(|row| run(row).configuration())
        .collect();
    targets.into_iter().map(move |target| {
        let differs = |other: &usize| configurations[*other] != configurations[target];
        let others = (0..configurations.len()).filter(differs);
        Fold {
            train: with_ends(others.map(|row| (row, run(row)))),
            targets: vec![target],
        }
    })
}

/// How each ended. One that diverged counts as the worst of those that did not: a finite stand-in, so that a regression
/// learns "bad" and is not torn away by it.
pub(super) fn with_ends<'r>(
    runs: impl Iterator<Item = (usize, &'r Run)> + Clone,
) -> Vec<(usize, f64)> {
    let worst = runs
        .clone()
        .filter_map(|(_, run)| run.final_value())
        .max_by(f64::total_cmp);
    let end = |(row, run): (usize, &Run)| Some((row, run.final_value().or(worst)?));
    runs.filter_map(end).collect()
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
