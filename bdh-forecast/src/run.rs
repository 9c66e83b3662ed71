//! Runs as plain numbers.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One run as plain numbers. Lower values of the metric are better: negate a metric to maximize.
///
/// A series is a list of (step, value). Steps may be in any order; of several values at one step the last counts, and
/// values that are not finite are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Unique name.
    pub name: String,
    /// Position in time, such as the trial's number. The prequential protocol and the stop rule use this order.
    pub order: u64,
    /// Numeric settings: `depth`, `lr`, … Runs that differ only in `seed` are replicates.
    pub settings: BTreeMap<String, f64>,
    /// Steps of the whole run, at least 1.
    pub horizon: u64,
    /// Evaluations of the metric to predict.
    pub metric: Vec<(u64, f64)>,
    /// Training losses.
    pub loss: Vec<(u64, f64)>,
    /// Learning rates, or multiples of one. May be empty: the law of the schedule then makes no prediction.
    ///
    /// Planned values of future steps may be included; values after a cut are never read.
    pub lr: Vec<(u64, f64)>,
    /// Positive series by name, such as `weight_norm` and `grad_norm`. May be empty.
    pub norms: BTreeMap<String, Vec<(u64, f64)>>,
    /// Cost of the whole run, in FLOPs, seconds or money; 0 if it is unknown.
    pub cost: f64,
    /// End of the run.
    pub end: End,
}

/// End of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Finished, with this value of the metric at the horizon. A value that is not finite counts as diverged there.
    Finished(f64),
    /// Diverged.
    Diverged {
        /// First step at which the divergence was known.
        step: u64,
    },
    /// Still in progress, or interrupted: other runs do not learn from it.
    #[default]
    Unfinished,
}

/// Errors in the input of a forecast.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ForecastError {
    /// Two runs have the same name; reports identify runs by name.
    #[error("two runs are called `{0}`: give each run a unique name")]
    SameName(String),
    /// The number of steps of a run is 0.
    #[error("run `{0}` has a horizon of 0 steps: set it to the number of steps of the whole run")]
    NoHorizon(String),
    /// A cut is not inside a run, or its text is not one.
    #[error("invalid cut `{0}`: give a share like `12.5%` or `0.125`, or a step like `250`")]
    BadCut(String),
    /// The run has no evaluation, and too few other runs have ended.
    #[error(
        "run `{run}` cannot be predicted at step {step}: it has no evaluation yet, and only {past} other runs have \
         ended (8 are needed)"
    )]
    NothingKnown {
        /// Name of the run.
        run: String,
        /// Latest step of the run.
        step: u64,
        /// Number of runs that have ended.
        past: usize,
    },
}

impl Run {
    /// Sorts the series and drops values that are not finite.
    pub(super) fn tidy(mut self) -> Result<Self, ForecastError> {
        if self.horizon == 0 {
            return Err(ForecastError::NoHorizon(self.name));
        }
        self.settings.retain(|_, value| value.is_finite());
        let series = [&mut self.metric, &mut self.loss, &mut self.lr];
        for series in series.into_iter().chain(self.norms.values_mut()) {
            tidy_series(series);
        }
        if !(self.cost.is_finite() && self.cost > 0.0) {
            self.cost = 0.0;
        }
        if matches!(self.end, End::Finished(value) if !value.is_finite()) {
            self.end = End::Diverged { step: self.horizon };
        }
        Ok(self)
    }

    /// Returns the metric at the horizon; `None` unless the run finished.
    #[must_use]
    pub fn final_value(&self) -> Option<f64> {
        if let End::Finished(value) = self.end {
            Some(value)
        } else {
            None
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.final_value().is_some()
    }

    /// Whether the run finished or diverged.
    pub(super) fn has_ended(&self) -> bool {
        self.end != End::Unfinished
    }

    /// Returns the last step with any recorded value other than the learning rate, which may be a plan.
    pub(super) fn latest_step(&self) -> u64 {
        let mut latest = 0;
        for series in [&self.metric, &self.loss]
            .into_iter()
            .chain(self.norms.values())
        {
            if let Some((step, _)) = series.last() {
                latest = latest.max(*step);
            }
        }
        latest
    }

    /// Returns all settings but the seed, and the horizon: the identity of replicates.
    pub(super) fn configuration(&self) -> Vec<(&str, u64)> {
        let mut bits = Vec::with_capacity(self.settings.len() + 1);
        for (name, value) in &self.settings {
            if name != SEED {
                // Adding 0 turns -0 into 0, which is the same setting.
                bits.push((name.as_str(), (value + 0.0).to_bits()));
            }
        }
        bits.push((HORIZON, self.horizon));
        bits
    }
}

/// Name of the setting that is not a hyperparameter.
pub(super) const SEED: &str = "seed";

/// Name of the number of steps among the settings.
pub(super) const HORIZON: &str = "horizon";

/// Sorts a series by step, keeping the last finite value of each step.
fn tidy_series(series: &mut Vec<(u64, f64)>) {
    series.retain(|(_, value)| value.is_finite());
    // The sort is stable, so of two values at one step the one given later comes last.
    series.sort_by_key(|(step, _)| *step);
    series.dedup_by(|next, kept| {
        let is_same_step = next.0 == kept.0;
        if is_same_step {
            kept.1 = next.1;
        }
        is_same_step
    });
}

/// Tidies all runs and sorts them by name, so that no result depends on the order of the input.
pub(super) fn tidy_all(runs: Vec<Run>) -> Result<Vec<Run>, ForecastError> {
    let mut tidied = Vec::with_capacity(runs.len());
    for run in runs {
        tidied.push(run.tidy()?);
    }
    tidied.sort_by(|a, b| a.name.cmp(&b.name));
    for pair in tidied.windows(2) {
        if pair[0].name == pair[1].name {
            return Err(ForecastError::SameName(pair[0].name.clone()));
        }
    }
    Ok(tidied)
}

/// Returns the lowest end of the finished runs.
pub(super) fn best_end<'r>(runs: impl IntoIterator<Item = &'r Run>) -> Option<f64> {
    let mut best: Option<f64> = None;
    for run in runs {
        if let Some(end) = run.final_value()
            && best.is_none_or(|best| end.total_cmp(&best).is_lt())
        {
            best = Some(end);
        }
    }
    best
}
