//! Which trials are not worth their remaining steps.

use super::early::Cut;
use super::live::predict_at;
use super::report::Prediction;
use super::run::{End, ForecastError, Run, tidy_all};
use serde::Serialize;

/// Stops a trial when even the lower end of its interval would better the best finished run by less than `regret`.
///
/// So with each stop there is a chance of at most 10 % or so (one tail of an interval that holds the truth in 80 % of
/// cases) that the sweep's best becomes worse by more than `regret` than it would have been. Without eight finished
/// runs there is no interval, and no stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct StopRule {
    /// By how much the best of the sweep may become worse, in units of the metric. The noise of seeds is a good choice:
    /// what is within it is not better.
    pub regret: f64,
}

/// What a stop rule saves, and what it costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Saving {
    /// The rule.
    pub rule: StopRule,
    /// Runs that it stopped.
    pub stopped: Vec<Stopped>,
    /// The share of the sweep's cost that is saved.
    pub saved: f64,
    /// By how much the best run that it let finish is worse than the best of all.
    pub regret: f64,
}

/// A run that was stopped.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stopped {
    /// What was predicted, and when.
    pub prediction: Prediction,
    /// The best finished run by then.
    pub best: f64,
    /// Where the run ended, as it was not stopped; `None` if it diverged.
    pub truth: Option<f64>,
}

impl StopRule {
    /// Whether a trial of which this is predicted should stop, while `best` is the best end of a finished one.
    #[must_use]
    pub fn stops(self, prediction: &Prediction, best: f64) -> bool {
        prediction
            .interval
            .is_some_and(|interval| interval.low > best - self.regret)
    }

    /// Goes through runs that have ended as if they had come one after the other, in their order, and this rule had
    /// looked at each of them at each cut. Of those that it stops, no later prediction knows the end.
    ///
    /// # Errors
    ///
    /// [`ForecastError::SameName`], [`ForecastError::NoHorizon`].
    pub fn replay(self, runs: &[Run], cuts: &[Cut]) -> Result<Saving, ForecastError> {
        Ok(self.replay_tidy(&tidy_all(runs.to_vec())?, cuts))
    }

    pub(super) fn replay_tidy(self, runs: &[Run], cuts: &[Cut]) -> Saving {
        let ended = runs.iter().filter(|run| run.end != End::Unfinished);
        let mut runs: Vec<&Run> = ended.collect();
        runs.sort_by_key(|run| run.order); // stable: equal ones stay in the order of names
        let known = runs.iter().all(|run| run.cost > 0.0);
        let cost = |run: &Run| if known { run.cost } else { 1.0 };
        let (mut past, mut stopped, mut spent, mut whole) = (Vec::new(), Vec::new(), 0.0, 0.0);
        for run in &runs {
            let to = match run.end {
                End::Diverged { step } => step.min(run.horizon),
                _ => run.horizon,
            };
            let share = |step: u64| step as f64 / run.horizon as f64;
            whole += cost(run) * share(to);
            let stop = self.first_stop(&past, run, cuts, to);
            spent += cost(run) * share(stop.as_ref().map_or(to, |stop| stop.prediction.step));
            if stop.is_none() {
                past.push(*run);
            }
            stopped.extend(stop);
        }
        let regret = best(&past)
            .zip(best(&runs))
            .map_or(0.0, |(kept, all)| kept - all);
        let saved = if whole > 0.0 {
            1.0 - spent / whole
        } else {
            0.0
        };
        Saving {
            rule: self,
            stopped,
            saved,
            regret,
        }
    }

    /// Where it stops a run that would go on to a step.
    fn first_stop(self, past: &[&Run], run: &Run, cuts: &[Cut], to: u64) -> Option<Stopped> {
        let best = best(past)?;
        let mut steps: Vec<u64> = cuts
            .iter()
            .filter_map(|cut| cut.step(run.horizon))
            .collect();
        steps.sort_unstable();
        let prediction = steps
            .into_iter()
            .filter(|step| *step < to)
            .find_map(|step| {
                let prediction = predict_at(past, run, step).ok()?;
                self.stops(&prediction, best).then_some(prediction)
            })?;
        Some(Stopped {
            prediction,
            best,
            truth: run.final_value(),
        })
    }
}

/// The best end of finished runs.
fn best(runs: &[&Run]) -> Option<f64> {
    runs.iter()
        .filter_map(|run| run.final_value())
        .min_by(f64::total_cmp)
}
