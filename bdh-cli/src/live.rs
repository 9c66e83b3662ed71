//! Predictions for the running trials of a sweep.

use bdh::BoxError;
use bdh_forecast::{Cut, Forecaster, Prediction, StopRule};
use bdh_sweep::runs::{self, Keys, Run, to_forecast};
use bdh_sweep::{Goal, Running, TrialStore};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Predictor of how running trials will end, learned from the sweep's finished trials.
///
/// A trial is predicted when it passes the next of [`Cut::SHARES`], the points that the replay of a stop rule uses too.
pub(crate) struct LivePredictor {
    dir: PathBuf,
    keys: Keys,
    rule: Option<StopRule>,
    /// Runs of the finished trials.
    done: Vec<Run>,
    /// Running trials by number.
    seen: BTreeMap<u64, Seen>,
    /// Steps that the rule saved, for each trial that it ended.
    stopped: BTreeMap<u64, u64>,
    /// Steps of all trials that ended during this call.
    steps: u64,
}

/// State of a running trial.
struct Seen {
    /// Number of cuts that the trial has passed.
    cuts: usize,
    /// Prediction at the last of them.
    prediction: Option<Prediction>,
}

impl LivePredictor {
    pub(crate) fn new(dir: PathBuf, keys: Keys, stop_regret: Option<f64>) -> Self {
        let mut live = Self {
            dir,
            keys,
            rule: stop_regret.map(|regret| StopRule { regret }),
            done: Vec::new(),
            seen: BTreeMap::new(),
            stopped: BTreeMap::new(),
            steps: 0,
        };
        live.refresh();
        live
    }

    /// Forgets a trial that ended, and learns from it.
    pub(crate) fn ended(&mut self, number: u64, steps: u64) {
        self.seen.remove(&number);
        self.steps += steps;
        self.refresh();
    }

    /// Reads the finished trials again: those of other machines end without a call of [`ended`](Self::ended).
    fn refresh(&mut self) {
        let mut dirs = Vec::new();
        for trial in TrialStore::read(&self.dir).unwrap_or_default() {
            if trial.status.is_over() {
                dirs.push(self.run_dir(trial.number));
            }
        }
        self.done = runs::read_all([&self.dir], &self.keys).runs;
        self.done.retain(|run| dirs.contains(&run.dir));
    }

    fn run_dir(&self, number: u64) -> PathBuf {
        self.dir.join(TrialStore::run_name(number))
    }

    /// Predicts the trials that have passed another cut, and returns those to stop, each with the reason.
    pub(crate) fn look(&mut self, running: &[Running]) -> Vec<(u64, String)> {
        let mut ends = Vec::new();
        for trial in running {
            if let Some(why) = self.look_at(trial) {
                ends.push((trial.trial.number, why));
            }
        }
        ends
    }

    /// Predicts a trial if it has passed another cut, and returns the reason if it is to stop.
    fn look_at(&mut self, trial: &Running) -> Option<String> {
        let number = trial.trial.number;
        let steps = trial.steps?;
        let cuts = passed_cuts(trial.step, steps);
        if self.seen.get(&number).map_or(0, |seen| seen.cuts) == cuts {
            return None;
        }
        // An error only delays a prediction: the trial may be writing its files at this moment.
        let prediction = self.predict(trial).ok().flatten();
        let why = prediction.as_ref().and_then(|of| self.stop_reason(of));
        if why.is_some() {
            let saved = steps.saturating_sub(trial.step);
            self.stopped.insert(number, saved);
        }
        self.seen.insert(number, Seen { cuts, prediction });
        why
    }

    /// Returns why a trial with this prediction should stop; `None` if it should not.
    fn stop_reason(&self, prediction: &Prediction) -> Option<String> {
        let (rule, best) = (self.rule?, self.best()?);
        if !rule.stops(prediction, best) {
            return None;
        }
        let (end, best) = (self.sign() * prediction.value, self.sign() * best);
        Some(format!(
            "the predicted end, {end:.4}, does not beat the best, {best:.4}, by more than {}",
            rule.regret
        ))
    }

    /// Predicts one trial; `None` before its first evaluation.
    fn predict(&self, trial: &Running) -> Result<Option<Prediction>, BoxError> {
        let now = self.read_run(trial)?;
        if now.last(&self.keys.metric).is_none() {
            return Ok(None);
        }
        let name = now.name.clone();
        let mut all = self.done.clone();
        all.push(now);
        // Converted together: which settings differ is known only of all runs at once.
        let (mut this, others): (Vec<_>, Vec<_>) = to_forecast(&all, &self.keys)
            .into_iter()
            .partition(|run| run.name == name);
        match this.pop() {
            Some(run) => Ok(Some(Forecaster::new(others)?.predict(&run)?)),
            None => Ok(None),
        }
    }

    /// Reads the run of a trial so far, with the settings that the sweep chose.
    fn read_run(&self, trial: &Running) -> Result<Run, BoxError> {
        let mut run = Run::read(self.run_dir(trial.trial.number), &self.keys.all())?;
        run.chosen = trial.trial.values.clone().into_iter().collect();
        Ok(run)
    }

    /// Returns the best final metric of a finished trial, negated where more is better.
    fn best(&self) -> Option<f64> {
        Forecaster::new(to_forecast(&self.done, &self.keys))
            .ok()?
            .best()
    }

    /// Returns -1 where more is better: forecasts minimize, so they see the negated metric.
    fn sign(&self) -> f64 {
        match self.keys.goal {
            Goal::Maximize => -1.0,
            Goal::Minimize => 1.0,
        }
    }

    /// Returns a trial's prediction, its interval, and the baseline of the settings alone; empty before the first
    /// prediction.
    pub(crate) fn shown(&self, number: u64) -> String {
        let Some(prediction) = self.seen.get(&number).and_then(|of| of.prediction.as_ref()) else {
            return String::new();
        };
        let sign = self.sign();
        let mut text = format!(" -> {:.3}", sign * prediction.value);
        if let Some(interval) = prediction.interval {
            let (a, b) = (sign * interval.low, sign * interval.high);
            text += &format!(" [{:.3}, {:.3}]", a.min(b), a.max(b));
        }
        if let Some(settings) = prediction.settings_only {
            text += &format!(", settings only {:.3}", sign * settings);
        }
        text
    }

    /// Returns a sentence on the steps that the stop rule saved; `None` without a rule.
    pub(crate) fn saving(&self) -> Option<String> {
        let (rule, count) = (self.rule?, self.stopped.len());
        let saved: u64 = self.stopped.values().sum();
        let share = 100.0 * saved as f64 / self.steps.max(1) as f64;
        let trials = if count == 1 { "trial" } else { "trials" };
        Some(format!(
            "the stop rule (regret {}) ended {count} {trials} early and saved {share:.0} % of the steps",
            rule.regret
        ))
    }
}

/// Returns how many of the usual cuts a trial of `steps` steps has passed at `step`.
fn passed_cuts(step: u64, steps: u64) -> usize {
    let mut passed = 0;
    for cut in Cut::SHARES {
        if cut.step(steps).is_some_and(|at| at <= step) {
            passed += 1;
        }
    }
    passed
}
