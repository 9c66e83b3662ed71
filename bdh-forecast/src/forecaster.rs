//! Predictions for runs that are still in progress.

use super::ENOUGH;
use super::annealing::Annealing;
use super::early::{Cut, Early};
use super::interval::Interval;
use super::predictor::{Estimate, Fold, Predictor};
use super::protocol::with_ends;
use super::report::Prediction;
use super::run::{ForecastError, Run, best_end, tidy_all};
use super::table::Table;

/// Predictors to try, in order, when at least eight other runs have finished.
///
/// The order is fixed and does not follow the errors on the given runs: choosing by error would make intervals too
/// narrow, and with few runs the choice would be chance. It is the order of errors in the study of
/// `docs/forecasting.md`, with each run predicted from those before it.
const WITH_ENOUGH: [Predictor; 7] = [
    Predictor::Process,
    Predictor::CurveSettings,
    Predictor::Curve,
    Predictor::SettingsProcess,
    Predictor::Settings,
    Predictor::Affine,
    Predictor::LastValue,
];
/// Predictors to try with fewer runs.
const WITH_FEW: [Predictor; 2] = [Predictor::Affine, Predictor::LastValue];
/// Predictors to try for the baseline.
const SETTINGS_ONLY: [Predictor; 2] = [Predictor::SettingsProcess, Predictor::Settings];

/// Predicts runs in progress from runs that have ended.
///
/// # Examples
///
/// ```
/// use bdh_forecast::{End, Forecaster, Run};
///
/// let run = |name: &str, end| Run {
///     name: name.into(),
///     horizon: 100,
///     metric: vec![(50, end + 1.0)],
///     end: End::Finished(end),
///     ..Run::default()
/// };
/// let forecaster = Forecaster::new(vec![run("a", 2.0), run("b", 3.0), run("c", 4.0)])?;
/// let now = Run { horizon: 100, metric: vec![(50, 3.5)], ..Run::default() };
/// assert_eq!(forecaster.predict(&now)?.value, 2.5);
/// # Ok::<(), bdh_forecast::ForecastError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Forecaster {
    runs: Vec<Run>,
}

impl Forecaster {
    /// Learns from the runs that have ended and ignores the others.
    ///
    /// # Errors
    ///
    /// [`ForecastError::SameName`], [`ForecastError::NoHorizon`].
    pub fn new(mut runs: Vec<Run>) -> Result<Self, ForecastError> {
        runs.retain(Run::has_ended);
        Ok(Self {
            runs: tidy_all(runs)?,
        })
    }

    /// Returns the lowest end of the finished runs.
    #[must_use]
    pub fn best(&self) -> Option<f64> {
        best_end(&self.runs)
    }

    /// Predicts where a run will end, from its records so far. The run's own end is ignored.
    ///
    /// Runs are compared at equal shares of their steps. If at least eight have finished, the prediction is
    /// that of a Gaussian process over curve and settings, with an interval. With fewer, it is a line on the last value
    /// or that value itself, without an interval. The prediction includes two baselines.
    ///
    /// # Errors
    ///
    /// [`ForecastError::NothingKnown`] if the run has not been evaluated yet and the other runs are too few for a
    /// prediction from its settings; [`ForecastError::NoHorizon`].
    pub fn predict(&self, run: &Run) -> Result<Prediction, ForecastError> {
        let run = run.clone().tidy()?;
        let past: Vec<&Run> = self.runs.iter().collect();
        predict_at(&past, &run, run.latest_step())
    }
}

/// Predicts a run's end at one of its steps. All runs are tidy, and the past ones have ended.
pub(super) fn predict_at(past: &[&Run], run: &Run, step: u64) -> Result<Prediction, ForecastError> {
    let target = Early::new(run, step);
    let mut rows = comparable(past, target);
    let train = rows.iter().map(|(index, _)| past[*index]);
    let has_enough = train.clone().filter(|run| run.is_finished()).count() >= ENOUGH;
    let fold = Fold {
        train: with_ends(train.enumerate()),
        targets: vec![rows.len()],
    };
    rows.push((past.len(), target));
    let table = Table::new(&rows);
    let estimates = if has_enough {
        Estimates::with_enough(&table, &fold)
    } else {
        Estimates::with_few(&table, &fold)
    };
    let Some(estimates) = estimates else {
        return Err(ForecastError::NothingKnown {
            run: run.name.clone(),
            step,
            past: past.len(),
        });
    };
    Ok(Prediction {
        run: run.name.clone(),
        step,
        horizon: run.horizon,
        value: estimates.value,
        interval: estimates.interval,
        last: target.metric().last().map(|(_, value)| *value),
        settings_only: estimates.settings_only,
        predictor: estimates.predictor,
        others: fold.train.len(),
    })
}

/// The predicted end of a run, with its baseline.
struct Estimates {
    predictor: Predictor,
    value: f64,
    interval: Option<Interval>,
    settings_only: Option<f64>,
}

impl Estimates {
    /// Predicts when at least eight other runs have finished.
    fn with_enough(table: &Table<'_>, fold: &Fold) -> Option<Self> {
        let (predictor, estimate) = first_estimate(&WITH_ENOUGH, table, fold)?;
        let settings_only = first_estimate(&SETTINGS_ONLY, table, fold);
        Some(Self {
            predictor,
            value: estimate.value,
            interval: estimate.interval,
            settings_only: settings_only.map(|(_, estimate)| estimate.value),
        })
    }

    /// Predicts from fewer runs, without an interval and a baseline.
    fn with_few(table: &Table<'_>, fold: &Fold) -> Option<Self> {
        let (predictor, estimate) = first_estimate(&WITH_FEW, table, fold)?;
        Some(Self {
            predictor,
            value: estimate.value,
            interval: None,
            settings_only: None,
        })
    }
}

/// Returns the past runs that can be compared with a run, up to the same share of their steps.
///
/// Runs that had diverged by then are left out, and, if the run has been evaluated, those that had not been.
fn comparable<'r>(past: &[&'r Run], target: Early<'_>) -> Vec<(usize, Early<'r>)> {
    let cut = Cut::Fraction(target.share());
    let mut known = Vec::with_capacity(past.len());
    for (index, run) in past.iter().enumerate() {
        // Step 0 and the horizon are not valid cuts.
        let end = if target.step == 0 { 0 } else { run.horizon };
        let early = Early::new(run, cut.step(run.horizon).unwrap_or(end));
        let is_seen = early.has_metric() || !target.has_metric();
        if is_seen && !early.has_diverged() {
            known.push((index, early));
        }
    }
    known
}

/// Returns the first finite prediction of the fold's only target.
fn first_estimate(
    candidates: &[Predictor],
    table: &Table<'_>,
    fold: &Fold,
) -> Option<(Predictor, Estimate)> {
    let no_annealing = Annealing::of(&[]);
    for predictor in candidates {
        let estimates = predictor.predict(table, &no_annealing, fold);
        if let Some(Ok(estimate)) = estimates.first()
            && estimate.value.is_finite()
        {
            return Some((*predictor, *estimate));
        }
    }
    None
}
