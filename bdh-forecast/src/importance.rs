//! Importance of settings.

use super::annealing::Annealing;
use super::bootstrap::{BootstrapInterval, resamples};
use super::protocol::one_out;
use super::run::{SEED, tidy_all};
use super::table::{Row, Table};
use super::test::CutView;
use super::{Cut, ENOUGH, ForecastError, Predictor, Run};
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::collections::BTreeSet;

/// How much worse the end of a run is predicted without knowing a setting.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Importance {
    /// The setting.
    pub name: String,
    /// Mean absolute error without the setting, less that with it, in units of the metric.
    pub value: f64,
    /// 95 % bootstrap interval of the value. If it contains 0, the importance is unresolved.
    pub between: BootstrapInterval,
}

/// Largest number of runs to predict.
///
/// Each prediction takes a fit to all other runs, so predicting all of them would cost as the square of their number.
/// The bootstrap interval covers the uncertainty of the draw.
const MOST_PREDICTED: usize = 256;

impl Importance {
    /// Measures the importance of each setting in which runs differ, the most important first.
    ///
    /// Each run's end is predicted from the other runs' settings, by ridge regression, once with the setting and once
    /// without. The result is empty below eight finished runs. Of more than 256 runs, 256 are drawn to be predicted,
    /// each from all others; the draw is always the same.
    ///
    /// Two settings that always vary together both seem unimportant, because each carries the information of the
    /// other. Source: J. Lei et al., "Distribution-free predictive inference for regression", 2018 (leave one
    /// covariate out).
    ///
    /// # Errors
    ///
    /// [`ForecastError::SameName`], [`ForecastError::NoHorizon`].
    pub fn of(runs: &[Run]) -> Result<Vec<Self>, ForecastError> {
        let runs = tidy_all(runs.to_vec())?;
        let Some(with) = errors(&runs, &runs) else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        for name in hyperparameters(&runs) {
            all.extend(Self::of_setting(&runs, name, &with));
        }
        all.sort_by(|a, b| b.value.total_cmp(&a.value));
        Ok(all)
    }

    /// Measures one setting, given the errors with it; `None` if it changes no prediction, or there are none.
    fn of_setting(runs: &[Run], name: &str, with: &[f64]) -> Option<Self> {
        let without = errors_without(runs, name)?;
        let gains: Vec<f64> = without.iter().zip(with).map(|(a, b)| a - b).collect();
        if gains.iter().all(|gain| *gain == 0.0) {
            return None;
        }
        Self::of_gains(name, &gains)
    }

    /// Averages how much each run's error grows without the setting.
    fn of_gains(name: &str, gains: &[f64]) -> Option<Self> {
        let mut means = Vec::new();
        for times in resamples(gains.len()) {
            means.push(mean_of_sample(gains, &times));
        }
        Some(Self {
            name: name.to_owned(),
            value: mean_of_sample(gains, &vec![1; gains.len()]),
            between: BootstrapInterval::of(means)?,
        })
    }
}

/// Returns the names of all settings but the seed.
fn hyperparameters(runs: &[Run]) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for run in runs {
        names.extend(run.settings.keys().map(String::as_str));
    }
    names.remove(SEED);
    names
}

/// Returns the mean of a sample that has gain `i` `times[i]` times.
fn mean_of_sample(gains: &[f64], times: &[u32]) -> f64 {
    let mut sum = 0.0;
    for (gain, times) in gains.iter().zip(times) {
        sum += gain * f64::from(*times);
    }
    sum / gains.len() as f64
}

/// Returns the errors without knowing a setting.
fn errors_without(runs: &[Run], setting: &str) -> Option<Vec<f64>> {
    let mut known = runs.to_vec();
    for run in &mut known {
        run.settings.remove(setting);
    }
    errors(&known, runs)
}

/// Returns the absolute error of the prediction of each finished run's end from the others' settings.
///
/// `None` without predictions, or with too few. `known` are the same runs with the settings that predictors may use.
fn errors(known: &[Run], runs: &[Run]) -> Option<Vec<f64>> {
    // Settings are the same at every cut; at this one most runs have been evaluated.
    let view = CutView::of(known, Cut::Fraction(0.5));
    let rows = &view.table.rows;
    let predictor = settings_predictor(&view.table);
    let no_annealing = Annealing::of(&[]);
    let mut errors = Vec::new();
    // Folds follow all settings: which runs are replicates does not depend on what is known of them.
    for fold in one_out(runs, &view.table, rows_to_predict(runs, rows)) {
        let estimates = predictor.predict(&view.table, &no_annealing, &fold);
        for (target, estimate) in fold.targets.iter().zip(estimates) {
            let end = runs[rows[*target].run].final_value()?;
            errors.push((end - estimate.ok()?.value).abs());
        }
    }
    (errors.len() >= ENOUGH).then_some(errors)
}

/// Returns the predictor from settings; the mean of the others if there are none.
fn settings_predictor(table: &Table<'_>) -> Predictor {
    if table.settings > 0 {
        Predictor::Settings
    } else {
        Predictor::Mean
    }
}

/// Returns the rows of finished runs, or [`MOST_PREDICTED`] of them.
fn rows_to_predict(runs: &[Run], rows: &[Row<'_>]) -> Vec<usize> {
    let finished = finished_rows(runs, rows);
    let mut rng = ChaCha8Rng::seed_from_u64(finished.len() as u64);
    let amount = finished.len().min(MOST_PREDICTED);
    let mut drawn = sample(&mut rng, finished.len(), amount).into_vec();
    drawn.sort_unstable();
    drawn.into_iter().map(|place| finished[place]).collect()
}

/// Returns the rows of finished runs.
fn finished_rows(runs: &[Run], rows: &[Row<'_>]) -> Vec<usize> {
    let mut finished = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        if runs[row.run].is_finished() {
            finished.push(index);
        }
    }
    finished
}
