//! What is known of a run.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One run as plain numbers. Of its metric, less is better: negate what is to be maximized.
///
/// A series is a list of (step, value). Steps need not be in order; of several values at one step the last counts, and
/// values that are not finite are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Different from those of all other runs.
    pub name: String,
    /// Its place in time: the number of the trial, say. The prequential protocol and the stop rule go by it.
    pub order: u64,
    /// Numeric settings: `depth`, `lr` … Runs that differ in nothing but `seed` are replicates.
    pub settings: BTreeMap<String, f64>,
    /// Steps of the whole run, at least 1.
    pub horizon: u64,
    /// Evaluations of what is to be predicted.
    pub metric: Vec<(u64, f64)>,
    /// Losses of training.
    pub loss: Vec<(u64, f64)>,
    /// Learning rates, or multiples of one. May be empty: the law of the schedule then says nothing. A plan for steps to
    /// come does no harm, and no good: what is after a cut is not read.
    pub lr: Vec<(u64, f64)>,
    /// Norms and the like, all above 0, by name: `weight_norm`, `grad_norm` … May be empty.
    pub norms: BTreeMap<String, Vec<(u64, f64)>>,
    /// Cost of the whole run, in FLOPs, seconds or money; 0 if it is unknown.
    pub cost: f64,
    /// How it ended.
    pub end: End,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With this value of the metric at the horizon. One that is not finite counts as diverged there.
    Finished(f64),
    /// It diverged, which was known from this step on.
    Diverged {
        /// The first step at which it was known.
        step: u64,
    },
    /// It goes on, or was cut off: nothing is to be learned from it.
    #[default]
    Unfinished,
}

/// Why nothing can be forecast.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ForecastError {
    /// Names tell runs apart, in reports and in their order.
    #[error("two runs are called `{0}`; each needs a name of its own")]
    SameName(String),
    /// Nobody knows where the run would end.
    #[error("run `{0}` has a horizon of 0 steps; it must be the number of steps of the whole run")]
    NoHorizon(String),
    /// A cut is inside a run.
    #[error("cut `{0}` is none; what works: a share like `12.5%` or `0.125`, or a step like `250`")]
    BadCut(String),
    /// Neither a value of its own nor enough others.
    #[error(
        "nothing can be said of run `{run}` at step {step}: it has no evaluation yet, and only {past} others have ended \
         (8 would do)"
    )]
    NothingKnown {
        /// The run.
        run: String,
        /// Its latest step.
        step: u64,
        /// Runs that have ended.
        past: usize,
    },
}

impl Run {
    /// The same with its series in order and without what is not finite.
    pub(super) fn tidy(mut self) -> Result<Self, ForecastError> {
        if self.horizon == 0 {
            return Err(ForecastError::NoHorizon(self.name));
        }
        self.settings.retain(|_, value| value.is_finite());
        let norms = self.norms.values_mut();
        norms
            .chain([&mut self.metric, &mut self.loss, &mut self.lr])
            .for_each(tidy);
        if !(self.cost.is_finite() && self.cost > 0.0) {
            self.cost = 0.0;
        }
        if matches!(self.end, End::Finished(value) if !value.is_finite()) {
            self.end = End::Diverged { step: self.horizon };
        }
        Ok(self)
    }

    /// The value at the horizon, of a run that got there.
    #[must_use]
    pub fn final_value(&self) -> Option<f64> {
        if let End::Finished(value) = self.end {
            Some(value)
        } else {
            None
        }
    }

    /// The latest step of which anything is recorded but the learning rate, which may be a plan.
    pub(super) fn latest_step(&self) -> u64 {
        let series = [&self.metric, &self.loss]
            .into_iter()
            .chain(self.norms.values());
        series
            .filter_map(|series| Some(series.last()?.0))
            .max()
            .unwrap_or(0)
    }

    /// What replicates have in common: everything but the seed.
    pub(super) fn configuration(&self) -> Vec<(&str, u64)> {
        let settings = self.settings.iter().filter(|(name, _)| *name != SEED);
        let bits = settings.map(|(name, value)| (name.as_str(), (value + 0.0).to_bits()));
        bits.chain([(HORIZON, self.horizon)]).collect()
    }
}

/// The setting that is no hyperparameter.
pub(super) const SEED: &str = "seed";

/// What the number of steps is called among the settings.
pub(super) const HORIZON: &str = "horizon";

fn tidy(series: &mut Vec<(u64, f64)>) {
    series.retain(|(_, value)| value.is_finite());
    series.sort_by_key(|(step, _)| *step); // stable: the later of two at one step stays behind
    series.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 = next.1;
        }
        same
    });
}

/// All runs, tidy, in the order of their names: whatever follows cannot depend on the order of rows.
pub(super) fn tidy_all(runs: Vec<Run>) -> Result<Vec<Run>, ForecastError> {
    let mut runs = runs
        .into_iter()
        .map(Run::tidy)
        .collect::<Result<Vec<_>, _>>()?;
    runs.sort_by(|a, b| a.name.cmp(&b.name));
    match runs.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(pair) => Err(ForecastError::SameName(pair[0].name.clone())),
        None => Ok(runs),
    }
}
