//! Stopping trials that are not worth their remaining steps.

use super::early::Cut;
use super::forecaster::predict_at;
use super::report::Prediction;
use super::run::{End, ForecastError, Run, best_end, tidy_all};
use serde::Serialize;

/// Stops a trial if even the lower end of its interval improves on the best finished run by less than `regret`.
///
/// With each stop the chance is about 10 % (one tail of an 80 % interval) that the sweep's best ends up worse by more
/// than `regret`. Without eight finished runs there is no interval, and no stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct StopRule {
    /// How much worse the sweep's best may become, in units of the metric.
    ///
    /// The seed noise is a good choice: a difference within it is no improvement.
    pub regret: f64,
}

/// Savings and cost of a stop rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Saving {
    /// The rule.
    pub rule: StopRule,
    /// Runs that it stopped.
    pub stopped: Vec<Stopped>,
    /// Share of the sweep's cost that is saved.
    pub saved: f64,
    /// How much worse the best run that finished is than the best of all.
    pub regret: f64,
}

/// A run that the rule stopped.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stopped {
    /// The prediction that stopped it.
    pub prediction: Prediction,
    /// Lowest end of a finished run by then.
    pub best: f64,
    /// Actual end of the run; `None` if it diverged.
    pub truth: Option<f64>,
}

impl StopRule {
    /// Whether to stop a trial with this prediction while `best` is the lowest end of a finished one.
    #[must_use]
    pub fn stops(self, prediction: &Prediction, best: f64) -> bool {
        match prediction.interval {
            Some(interval) => interval.low > best - self.regret,
            None => false,
        }
    }

    /// Replays the rule on runs that have ended, as if they had run one after the other, in their order.
    ///
    /// The rule looks at each run at each cut. Later predictions do not know the ends of runs that it stops.
    ///
    /// # Errors
    ///
    /// [`ForecastError::SameName`], [`ForecastError::NoHorizon`].
    pub fn replay(self, runs: &[Run], cuts: &[Cut]) -> Result<Saving, ForecastError> {
        Ok(self.replay_tidy(&tidy_all(runs.to_vec())?, cuts))
    }

    pub(super) fn replay_tidy(self, runs: &[Run], cuts: &[Cut]) -> Saving {
        let ended = ended_in_order(runs);
        let are_costs_known = ended.iter().all(|run| run.cost > 0.0);
        let (mut past, mut stopped) = (Vec::new(), Vec::new());
        let (mut spent, mut whole) = (0.0, 0.0);
        for run in &ended {
            let cost = if are_costs_known { run.cost } else { 1.0 };
            let mut steps = last_step(run);
            whole += cost * share_of(run, steps);
            if let Some(stopping) = self.first_stop(&past, run, cuts) {
                steps = stopping.prediction.step;
                stopped.push(stopping);
            } else {
                past.push(*run);
            }
            spent += cost * share_of(run, steps);
        }
        let saved = if whole > 0.0 {
            1.0 - spent / whole
        } else {
            0.0
        };
        Saving {
            rule: self,
            stopped,
            saved,
            regret: regret(past, ended),
        }
    }

    /// Returns the first stop of a run that has ended; `None` if the rule lets it finish.
    fn first_stop(self, past: &[&Run], run: &Run, cuts: &[Cut]) -> Option<Stopped> {
        let best = best_end(past.iter().copied())?;
        for step in steps_of_cuts(run, cuts) {
            if let Ok(prediction) = predict_at(past, run, step)
                && self.stops(&prediction, best)
            {
                return Some(Stopped {
                    prediction,
                    best,
                    truth: run.final_value(),
                });
            }
        }
        None
    }
}

/// Returns the steps at which the rule looks at a run that has ended, in order.
fn steps_of_cuts(run: &Run, cuts: &[Cut]) -> Vec<u64> {
    let mut steps = Vec::with_capacity(cuts.len());
    for cut in cuts {
        if let Some(step) = cut.step(run.horizon)
            && step < last_step(run)
        {
            steps.push(step);
        }
    }
    steps.sort_unstable();
    steps
}

/// Returns the runs that have ended, in their order in time.
fn ended_in_order(runs: &[Run]) -> Vec<&Run> {
    let mut ended: Vec<&Run> = runs.iter().filter(|run| run.has_ended()).collect();
    // The sort is stable: runs with the same position in time stay in the order of names.
    ended.sort_by_key(|run| run.order);
    ended
}

/// Returns the share of a run's steps.
fn share_of(run: &Run, steps: u64) -> f64 {
    steps as f64 / run.horizon as f64
}

/// Returns how much worse the best of the runs that were kept is than the best of all; 0 without a finished run.
fn regret(kept: Vec<&Run>, all: Vec<&Run>) -> f64 {
    match (best_end(kept), best_end(all)) {
        (Some(kept), Some(all)) => kept - all,
        _ => 0.0,
    }
}

/// Returns the last step of a run that has ended.
fn last_step(run: &Run) -> u64 {
    match run.end {
        End::Diverged { step } => step.min(run.horizon),
        _ => run.horizon,
    }
}
