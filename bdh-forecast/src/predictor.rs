//! The predictors, weakest first.

use super::annealing::Annealing;
use super::interval::Interval;
use super::no_prediction::NoPrediction;
use super::process::Process;
use super::ridge::Ridge;
use super::table::{Row, Table};
use serde::Serialize;
use std::fmt;

/// A way to predict where a run will end. As text: its name in the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Predictor {
    /// Mean of the other runs. Its rank correlation is -1 by construction, so none is reported.
    Mean,
    /// Baseline: ridge regression on settings, which are known before the run begins.
    Settings,
    /// Baseline: a Gaussian process over settings, which also captures nonlinear effects.
    ///
    /// Without it, a process over curve and settings would get credit for what it knows from settings alone.
    SettingsProcess,
    /// Baseline: the last value before the cut, a strong predictor of ranks.
    LastValue,
    /// Line that maps last values to ends.
    Affine,
    /// Power law through three evaluations whose steps double, in closed form.
    ClosedForm,
    /// Power law through all evaluations, robust to outliers.
    PowerLaw,
    /// Power law over the sum of learning rates, less the gain from annealing.
    Annealing,
    /// Ridge regression on features of the curve.
    Curve,
    /// Ridge regression on features of the curve and on settings.
    CurveSettings,
    /// Ridge regression on curve, settings and norms: shows whether norms add anything.
    Norms,
    /// Gaussian process over features of the curve and settings.
    Process,
}

/// The end of one run as predicted by one predictor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    pub(super) value: f64,
    pub(super) interval: Option<Interval>,
    /// Whether the predictor fell back to the last value.
    pub(super) is_last_value: bool,
}

/// The rows of a table to learn from, and those to predict.
#[derive(Debug, Clone)]
pub(super) struct Fold {
    /// Training rows, each with the end of its run.
    pub(super) train: Vec<(usize, f64)>,
    /// Rows to predict.
    pub(super) targets: Vec<usize>,
}

/// Minimum number of training runs for a fit of many features.
const FEWEST: usize = 5;

/// Minimum number of training runs for a line.
const FEWEST_OF_LINE: usize = 3;

/// Minimum number of training runs for a mean.
const FEWEST_OF_MEAN: usize = 2;

impl Predictor {
    /// All predictors, weakest first.
    pub const ALL: [Self; 12] = [
        Self::Mean,
        Self::Settings,
        Self::SettingsProcess,
        Self::LastValue,
        Self::Affine,
        Self::ClosedForm,
        Self::PowerLaw,
        Self::Annealing,
        Self::Curve,
        Self::CurveSettings,
        Self::Norms,
        Self::Process,
    ];

    /// Whether this is a baseline, which other predictors have to beat.
    #[must_use]
    pub fn is_baseline(self) -> bool {
        self.sees_settings_only() || self == Self::LastValue
    }

    /// Whether this predictor uses only settings, which are known before a run begins.
    pub(super) fn sees_settings_only(self) -> bool {
        matches!(self, Self::Settings | Self::SettingsProcess)
    }

    fn needs_curve(self) -> bool {
        self != Self::Mean && !self.sees_settings_only()
    }

    fn needs_settings(self) -> bool {
        self.sees_settings_only() || matches!(self, Self::CurveSettings | Self::Norms)
    }

    /// Predicts the targets of a fold, in order.
    pub(super) fn predict(
        self,
        table: &Table<'_>,
        annealing: &Annealing,
        fold: &Fold,
    ) -> Vec<Result<Estimate, NoPrediction>> {
        match self {
            Self::LastValue => extrapolate(table, fold, |row| plain(row.last)),
            Self::PowerLaw => extrapolate(table, fold, |row| plain(row.robust())),
            Self::ClosedForm => extrapolate(table, fold, |row| {
                let found = row.closed_form()?;
                Ok((found.value, found.is_last_value))
            }),
            Self::Annealing => anneal(table, annealing, fold),
            Self::Process | Self::SettingsProcess => self.predict_by_process(table, fold),
            _ => self.predict_by_ridge(table, fold),
        }
    }

    fn predict_by_ridge(
        self,
        table: &Table<'_>,
        fold: &Fold,
    ) -> Vec<Result<Estimate, NoPrediction>> {
        let ridge = self.fit_ridge(table, fold);
        fold.predict_each(table, |row| {
            let features = self.features(table, row)?;
            let ridge = ridge.as_ref().map_err(|reason| *reason)?;
            Ok(Estimate {
                value: ridge.predict(features),
                interval: Interval::jackknife(&ridge.without_each(features)),
                is_last_value: false,
            })
        })
    }

    fn fit_ridge(self, table: &Table<'_>, fold: &Fold) -> Result<Ridge, NoPrediction> {
        let needed = match self {
            Self::Mean => FEWEST_OF_MEAN,
            Self::Affine => FEWEST_OF_LINE,
            _ => FEWEST,
        };
        let (rows, ends) = self.train(table, fold, needed)?;
        let ridge = match self {
            Self::Mean | Self::Affine => Ridge::plain(&rows, &ends),
            _ => Ridge::fit(&rows, &ends),
        };
        ridge.ok_or(NoPrediction::NoFit)
    }

    fn predict_by_process(
        self,
        table: &Table<'_>,
        fold: &Fold,
    ) -> Vec<Result<Estimate, NoPrediction>> {
        let process = self.fit_process(table, fold);
        fold.predict_each(table, |row| {
            let features = self.features(table, row)?;
            let process = process.as_ref().map_err(|reason| *reason)?;
            Ok(Estimate {
                value: process.predict(features).0,
                interval: process.interval(features),
                is_last_value: false,
            })
        })
    }

    fn fit_process(self, table: &Table<'_>, fold: &Fold) -> Result<Process, NoPrediction> {
        let (rows, ends) = self.train(table, fold, FEWEST)?;
        let curve = if self == Self::Process {
            table.curve
        } else {
            0
        };
        Process::fit(&rows, &ends, curve).ok_or(NoPrediction::NoFit)
    }

    /// Returns the features and the ends of the training runs.
    fn train<'t>(
        self,
        table: &'t Table<'_>,
        fold: &Fold,
        needed: usize,
    ) -> Result<(Vec<&'t [f64]>, Vec<f64>), NoPrediction> {
        if fold.train.len() < needed {
            return Err(NoPrediction::FewRuns { needed });
        }
        let (mut rows, mut ends) = (Vec::new(), Vec::new());
        for (row, end) in &fold.train {
            rows.push(self.features(table, &table.rows[*row])?);
            ends.push(*end);
        }
        Ok((rows, ends))
    }

    /// Returns the features that this predictor uses; an error if a kind of feature that it is named after is missing.
    fn features<'t>(self, table: &Table<'_>, row: &'t Row<'_>) -> Result<&'t [f64], NoPrediction> {
        self.check_features(table, row)?;
        let (settings_from, norms_from) = (table.curve, table.curve + table.settings);
        Ok(match self {
            Self::Settings | Self::SettingsProcess => &row.features[settings_from..norms_from],
            Self::Affine => &row.features[..table.curve.min(1)],
            Self::Curve => &row.features[..settings_from],
            Self::Norms => &row.features,
            Self::CurveSettings | Self::Process => &row.features[..norms_from],
            _ => &[],
        })
    }

    fn check_features(self, table: &Table<'_>, row: &Row<'_>) -> Result<(), NoPrediction> {
        if self.needs_curve() {
            row.last?;
        }
        if self.needs_settings() && table.settings == 0 {
            return Err(NoPrediction::NoSettings);
        }
        if self == Self::Norms && table.norms == 0 {
            return Err(NoPrediction::NoNorms);
        }
        Ok(())
    }
}

impl Fold {
    /// Predicts each target row.
    fn predict_each(
        &self,
        table: &Table<'_>,
        predict: impl Fn(&Row<'_>) -> Result<Estimate, NoPrediction>,
    ) -> Vec<Result<Estimate, NoPrediction>> {
        let mut estimates = Vec::with_capacity(self.targets.len());
        for target in &self.targets {
            estimates.push(predict(&table.rows[*target]));
        }
        estimates
    }
}

/// Predicts from each run's own curve; the training runs only show how far off that is.
///
/// `end_of` returns the value, and whether it is the last one.
fn extrapolate(
    table: &Table<'_>,
    fold: &Fold,
    end_of: impl Fn(&Row<'_>) -> Result<(f64, bool), NoPrediction>,
) -> Vec<Result<Estimate, NoPrediction>> {
    let mut misses = Vec::with_capacity(fold.train.len());
    for (row, end) in &fold.train {
        if let Ok((value, _)) = end_of(&table.rows[*row]) {
            misses.push((end - value).abs());
        }
    }
    fold.predict_each(table, |row| {
        let (value, is_last_value) = end_of(row)?;
        Ok(Estimate {
            value,
            interval: Interval::around(value, &misses),
            is_last_value,
        })
    })
}

/// Marks a value as the predictor's own.
fn plain(value: Result<f64, NoPrediction>) -> Result<(f64, bool), NoPrediction> {
    Ok((value?, false))
}

/// Predicts by the law of the learning-rate schedule.
fn anneal(
    table: &Table<'_>,
    annealing: &Annealing,
    fold: &Fold,
) -> Vec<Result<Estimate, NoPrediction>> {
    let mut train = Vec::with_capacity(fold.train.len());
    for (row, _) in &fold.train {
        train.push(table.rows[*row].run);
    }
    let common = annealing.common(&train);
    fold.predict_each(table, |row| {
        Ok(Estimate {
            value: annealing.predict(common?, &train, row.early)?,
            interval: None,
            is_last_value: false,
        })
    })
}

impl fmt::Display for Predictor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Mean => "mean of the others",
            Self::Settings => "settings only",
            Self::SettingsProcess => "settings only, process",
            Self::LastValue => "value at the cut",
            Self::Affine => "line on the last value",
            Self::ClosedForm => "power law, closed form",
            Self::PowerLaw => "power law, robust",
            Self::Annealing => "law of the LR schedule",
            Self::Curve => "ridge: curve",
            Self::CurveSettings => "ridge: curve+settings",
            Self::Norms => "ridge: curve+settings+norms",
            Self::Process => "Gaussian process",
        })
    }
}
