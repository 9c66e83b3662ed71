//! The features of all runs at one cut: one row a run.

use super::curve;
use super::early::Early;
use super::no_prediction::NoPrediction;
use super::power::{self, Extrapolated};
use super::settings::{self, SettingFeature};
use std::sync::OnceLock;

/// Rows of features, in the order curve, settings, norms.
///
/// A column that some row lacks is left out for all, so that no value is made up.
#[derive(Debug)]
pub(super) struct Table<'a> {
    pub(super) rows: Vec<Row<'a>>,
    /// Number of curve features.
    pub(super) curve: usize,
    /// Number of features made of settings.
    pub(super) settings: usize,
    /// Number of norm features.
    pub(super) norms: usize,
    /// Names of the features made of settings.
    pub(super) labels: Vec<String>,
    /// Settings that only some runs have.
    pub(super) partial: Vec<String>,
}

/// One run up to the cut.
#[derive(Debug)]
pub(super) struct Row<'a> {
    /// Index of the run among all runs.
    pub(super) run: usize,
    pub(super) early: Early<'a>,
    /// Curve, then settings, then norms.
    pub(super) features: Vec<f64>,
    /// Last value of the metric.
    pub(super) last: Result<f64, NoPrediction>,
    // Fitted on first use and shared by all folds; predictors run on several threads.
    closed_form: OnceLock<Result<Extrapolated, NoPrediction>>,
    robust: OnceLock<Result<f64, NoPrediction>>,
}

impl<'a> Row<'a> {
    fn new(run: usize, early: Early<'a>, features: Vec<f64>) -> Self {
        let last = match early.metric().last() {
            Some((_, value)) => Ok(*value),
            None => Err(NoPrediction::NoEvaluation),
        };
        Self {
            run,
            early,
            features,
            last,
            closed_form: OnceLock::new(),
            robust: OnceLock::new(),
        }
    }

    pub(super) fn closed_form(&self) -> Result<Extrapolated, NoPrediction> {
        *self
            .closed_form
            .get_or_init(|| power::closed_form(self.early.metric(), self.early.horizon()))
    }

    pub(super) fn robust(&self) -> Result<f64, NoPrediction> {
        *self
            .robust
            .get_or_init(|| power::robust(self.early.metric(), self.early.horizon()))
    }
}

impl<'a> Table<'a> {
    /// Builds the table of runs, each given by its index and its part up to the cut.
    pub(super) fn new(runs: &[(usize, Early<'a>)]) -> Self {
        let early: Vec<Early<'a>> = runs.iter().map(|(_, early)| *early).collect();
        let (settings, partial) = settings::features(&early);
        let curves = complete_columns(&curve_rows(&early));
        let norms = complete_columns(&norm_rows(&early));
        Self {
            rows: joined(runs, &curves, &settings, &norms),
            curve: width(&curves),
            settings: settings.len(),
            norms: width(&norms),
            labels: settings.iter().map(SettingFeature::label).collect(),
            partial,
        }
    }
}

/// Joins the features of each run.
fn joined<'a>(
    runs: &[(usize, Early<'a>)],
    curves: &[Vec<f64>],
    settings: &[SettingFeature],
    norms: &[Vec<f64>],
) -> Vec<Row<'a>> {
    let mut rows = Vec::with_capacity(runs.len());
    for (index, (run, early)) in runs.iter().enumerate() {
        let mut features = curves[index].clone();
        features.extend(settings.iter().map(|feature| feature.value(*early)));
        features.extend(&norms[index]);
        rows.push(Row::new(*run, *early, features));
    }
    rows
}

/// Returns the features of the curves, one row a run.
fn curve_rows(runs: &[Early<'_>]) -> Vec<Vec<Option<f64>>> {
    let features = runs.iter().map(|run| curve::features(*run));
    features.map(Vec::from).collect()
}

/// Returns the features of the norms that the first run records, one row a run.
fn norm_rows(runs: &[Early<'_>]) -> Vec<Vec<Option<f64>>> {
    let Some(first) = runs.first() else {
        return Vec::new();
    };
    let names: Vec<&str> = first.norms().collect();
    let mut rows = Vec::with_capacity(runs.len());
    for run in runs {
        let mut row = Vec::new();
        for name in &names {
            row.extend(curve::norm_features(*run, name));
        }
        rows.push(row);
    }
    rows
}

/// Keeps the columns that every row has.
fn complete_columns(rows: &[Vec<Option<f64>>]) -> Vec<Vec<f64>> {
    let mut complete = vec![Vec::new(); rows.len()];
    for column in 0..width(rows) {
        let values: Option<Vec<f64>> = rows.iter().map(|row| row[column]).collect();
        let Some(values) = values else {
            continue;
        };
        for (row, value) in complete.iter_mut().zip(values) {
            row.push(value);
        }
    }
    complete
}

/// Number of columns.
fn width<T>(rows: &[Vec<T>]) -> usize {
    rows.first().map_or(0, Vec::len)
}
