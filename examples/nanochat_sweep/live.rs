//! Forecasts of the trials of a sweep while they run.

use bdh::BoxError;
use bdh::forecast::{Past, Prediction, StopRule};
use bdh::runs::{self, Keys, Run, to_forecast};
use bdh::sweep::{Ledger, Running};
use std::path::PathBuf;

/// Foretells where running trials will end, from those of the sweep that are through.
pub(crate) struct Live {
    dir: PathBuf,
    keys: Keys,
    rule: Option<StopRule>,
    /// The runs of trials that are through.
    done: Vec<Run>,
    /// Steps that the rule has saved, and those that all trials of this call were to take.
    saved: u64,
    steps: u64,
    stopped: u64,
}

impl Live {
    pub(crate) fn new(dir: PathBuf, keys: Keys, stop_regret: Option<f64>) -> Self {
        let rule = stop_regret.map(|regret| StopRule { regret });
        let mut live = Self { dir, keys, rule, done: Vec::new(), saved: 0, steps: 0, stopped: 0 };
        live.refresh();
        live
    }

    /// Reads the trials that are through; called when one has ended.
    pub(crate) fn refresh(&mut self) {
        let over = Ledger::read(&self.dir).unwrap_or_default();
        let over = over.iter().filter(|trial| trial.status.is_over());
        let dirs: Vec<PathBuf> =
            over.map(|trial| self.dir.join(format!("trial-{:04}", trial.number))).collect();
        self.done = runs::read_all([&self.dir], &self.keys).runs;
        self.done.retain(|run| dirs.contains(&run.dir));
    }

    /// Where each running trial will end, and the reason why one should not go on.
    pub(crate) fn look(&mut self, running: &[Running]) -> Vec<(u64, Prediction, Option<String>)> {
        let look = |trial: &Running| {
            let prediction = self.predict(trial).ok().flatten()?;
            let best = self.best()?;
            let stops = self.rule.filter(|rule| rule.stops(&prediction, best));
            let why = stops.map(|rule| {
                format!(
                    "forecast {:.4}: not better than the best, {best:.4}, by more than {}",
                    prediction.value, rule.regret
                )
            });
            Some((trial.trial.number, prediction, why))
        };
        running.iter().filter_map(look).collect()
    }

    /// One trial; `None` before its first evaluation.
    fn predict(&self, trial: &Running) -> Result<Option<Prediction>, BoxError> {
        let dir = self.dir.join(format!("trial-{:04}", trial.trial.number));
        let mut now = Run::read(&dir, &self.keys.all())?;
        now.chosen = trial.trial.values.clone().into_iter().collect();
        if now.last(&self.keys.metric).is_none() {
            return Ok(None);
        }
        let name = now.name.clone();
        let all: Vec<Run> = self.done.iter().cloned().chain([now]).collect();
        let (mut ours, others): (Vec<_>, Vec<_>) =
            to_forecast(&all, &self.keys).into_iter().partition(|run| run.name == name);
        let Some(ours) = ours.pop() else { return Ok(None) };
        Ok(Some(Past::new(others)?.predict(&ours)?))
    }

    /// The best end of a trial that is through, where less is better.
    fn best(&self) -> Option<f64> {
        Past::new(to_forecast(&self.done, &self.keys)).ok()?.best()
    }

    /// Counts a trial that has ended, after so many of its steps.
    pub(crate) fn count(&mut self, step: u64, steps: u64, was_stopped: bool) {
        self.steps += steps;
        if was_stopped {
            self.stopped += 1;
            self.saved += steps.saturating_sub(step);
        }
    }

    /// What the rule has saved, if there is one.
    pub(crate) fn saving(&self) -> Option<String> {
        let rule = self.rule?;
        let share = 100.0 * self.saved as f64 / self.steps.max(1) as f64;
        Some(format!(
            "the stop rule (regret {}) ended {} trials early and saved {share:.0} % of the steps",
            rule.regret, self.stopped
        ))
    }
}
