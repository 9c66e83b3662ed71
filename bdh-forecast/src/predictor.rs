//! The predictors, weakest first.

use super::annealing::Annealing;
use super::interval::Interval;
use super::process::Process;
use super::ridge::Ridge;
use super::silence::Silence;
use super::table::{Row, Table};
use serde::Serialize;
use std::fmt;

/// A way to say where a run will end. As text: its name in the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Predictor {
    /// The mean of the others. Its rank correlation is -1 by construction, so it gets none.
    Mean,
    /// Ridge regression on settings: what is known before the run begins. A baseline.
    Settings,
    /// A Gaussian process over settings: what the same says that is no straight line. A baseline, too, without which a
    /// process over curve and settings would be praised for what it knows of the settings alone.
    SettingsProcess,
    /// The last value seen, as it is. A baseline, and a strong one for ranks.
    LastValue,
    /// A line through last values and ends.
    Affine,
    /// The power law through three evaluations whose steps double, in closed form.
    ClosedForm,
    /// The power law through all evaluations, robust to outliers.
    PowerLaw,
    /// The power law over the sum of learning rates, less what annealing gains.
    Annealing,
    /// Ridge regression on features of the curve.
    Curve,
    /// The same on features of the curve and on settings.
    CurveSettings,
    /// The same with norms: shows whether norms add anything.
    Norms,
    /// A Gaussian process over features of the curve and settings.
    Process,
}

/// What is said of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Saying {
    pub(super) value: f64,
    pub(super) interval: Option<Interval>,
    /// The predictor had nothing to say, and this is the last value.
    pub(super) is_last_value: bool,
}

/// Who is learned from, with how they ended, and who is predicted: rows of a table.
#[derive(Debug, Clone)]
pub(super) struct Fold {
    pub(super) train: Vec<(usize, f64)>,
    pub(super) targets: Vec<usize>,
}

/// Others that a fit of many features takes.
const FEWEST: usize = 5;

/// Others that a line takes.
const FEWEST_OF_LINE: usize = 3;

impl Predictor {
    /// All of them, weakest first.
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

    /// Whether it is one of those that any other has to beat.
    #[must_use]
    pub fn is_baseline(self) -> bool {
        self.sees_settings_only() || self == Self::LastValue
    }

    /// Whether it knows what is known before a run begins, and no more.
    pub(super) fn sees_settings_only(self) -> bool {
        matches!(self, Self::Settings | Self::SettingsProcess)
    }

    /// Of each target, in order.
    pub(super) fn say(
        self,
        table: &Table<'_>,
        annealing: &Annealing,
        fold: &Fold,
    ) -> Vec<Result<Saying, Silence>> {
        match self {
            Self::LastValue => own(table, fold, |row| Ok((row.last?, false))),
            Self::PowerLaw => own(table, fold, |row| Ok((row.robust()?, false))),
            Self::ClosedForm => own(table, fold, |row| {
                row.closed_form()
                    .map(|found| (found.value, found.is_last_value))
            }),
            Self::Annealing => annealed(table, annealing, fold),
            Self::Process | Self::SettingsProcess => self.process(table, fold),
            _ => self.ridge(table, fold),
        }
    }

    /// The columns that it looks at, if there is something in all that it claims to look at.
    fn features<'t>(self, table: &Table<'_>, row: &'t Row<'_>) -> Result<&'t [f64], Silence> {
        let (settings_from, norms_from) = (table.curve, table.curve + table.settings);
        let needs_settings =
            self.sees_settings_only() || matches!(self, Self::CurveSettings | Self::Norms);
        let needs_curve = self != Self::Mean && !self.sees_settings_only();
        if needs_curve {
            row.last?;
        }
        if needs_settings && table.settings == 0 {
            return Err(Silence::NoSettings);
        }
        Ok(match self {
            Self::Settings | Self::SettingsProcess => &row.features[settings_from..norms_from],
            Self::Affine => &row.features[..table.curve.min(1)],
            Self::Curve => &row.features[..settings_from],
            Self::Norms if table.norms == 0 => return Err(Silence::NoNorms),
            Self::Norms => &row.features,
            Self::CurveSettings | Self::Process => &row.features[..norms_from],
            _ => &[],
        })
    }

    fn ridge(self, table: &Table<'_>, fold: &Fold) -> Vec<Result<Saying, Silence>> {
        let fit = || {
            let needed = match self {
                Self::Mean => 2,
                Self::Affine => FEWEST_OF_LINE,
                _ => FEWEST,
            };
            let (rows, values) = self.known(table, fold, needed)?;
            let fit = match self {
                Self::Mean | Self::Affine => Ridge::plain(&rows, &values),
                _ => Ridge::fit(&rows, &values),
            };
            fit.ok_or(Silence::NoFit)
        };
        let fit = fit();
        let say = |target: &usize| {
            let features = self.features(table, &table.rows[*target])?;
            let fit = fit.as_ref().map_err(|silence| *silence)?;
            let interval = Interval::jackknife(&fit.without_each(features));
            Ok(Saying {
                value: fit.predict(features),
                interval,
                is_last_value: false,
            })
        };
        fold.targets.iter().map(say).collect()
    }

    fn process(self, table: &Table<'_>, fold: &Fold) -> Vec<Result<Saying, Silence>> {
        let fit = || {
            let (rows, values) = self.known(table, fold, FEWEST)?;
            let curve = if self == Self::Process {
                table.curve
            } else {
                0
            };
            Process::fit(&rows, &values, curve).ok_or(Silence::NoFit)
        };
        let fit = fit();
        let say = |target: &usize| {
            let features = self.features(table, &table.rows[*target])?;
            let fit = fit.as_ref().map_err(|silence| *silence)?;
            let (value, _) = fit.predict(features);
            Ok(Saying {
                value,
                interval: fit.interval(features),
                is_last_value: false,
            })
        };
        fold.targets.iter().map(say).collect()
    }

    /// Features and ends of those that are learned from.
    fn known<'t>(
        self,
        table: &'t Table<'_>,
        fold: &Fold,
        needed: usize,
    ) -> Result<(Vec<&'t [f64]>, Vec<f64>), Silence> {
        if fold.train.len() < needed {
            return Err(Silence::FewRuns { needed });
        }
        let features = |(row, _): &(usize, f64)| self.features(table, &table.rows[*row]);
        let rows = fold.train.iter().map(features).collect::<Result<_, _>>()?;
        Ok((rows, fold.train.iter().map(|(_, end)| *end).collect()))
    }
}

/// What needs the run's own curve only; the others show how far off it is.
fn own(
    table: &Table<'_>,
    fold: &Fold,
    of: impl Fn(&Row<'_>) -> Result<(f64, bool), Silence>,
) -> Vec<Result<Saying, Silence>> {
    let misses: Vec<f64> = fold
        .train
        .iter()
        .filter_map(|(row, end)| Some((end - of(&table.rows[*row]).ok()?.0).abs()))
        .collect();
    let say = |target: &usize| {
        let (value, is_last_value) = of(&table.rows[*target])?;
        let without_each: Vec<_> = misses.iter().map(|miss| (value, *miss)).collect();
        Ok(Saying {
            value,
            interval: Interval::jackknife(&without_each),
            is_last_value,
        })
    };
    fold.targets.iter().map(say).collect()
}

fn annealed(table: &Table<'_>, annealing: &Annealing, fold: &Fold) -> Vec<Result<Saying, Silence>> {
    let train: Vec<usize> = fold
        .train
        .iter()
        .map(|(row, _)| table.rows[*row].run)
        .collect();
    let common = annealing.common(&train);
    let say = |target: &usize| {
        let value = annealing.predict(common?, &train, table.rows[*target].early)?;
        Ok(Saying {
            value,
            interval: None,
            is_last_value: false,
        })
    };
    fold.targets.iter().map(say).collect()
}

impl fmt::Display for Predictor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Mean => "mean of the others",
            Self::Settings => "settings only",
            Self::SettingsProcess => "settings only, process",
            Self::LastValue => "value at the cut",
            Self::Affine => "line on it",
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
