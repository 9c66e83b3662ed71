//! Forecasts of the trials of a sweep while they run.

use bdh::BoxError;
use bdh_forecast::{Cut, Past, Prediction, StopRule};
use bdh_sweep::runs::{self, Keys, Run, to_forecast};
use bdh_sweep::{Goal, Ledger, Running};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Foretells where running trials will end, from those of the sweep that are through. As in the replay of a stop rule, it
/// looks when a trial has passed the next of the usual cuts.
pub(crate) struct Live {
    dir: PathBuf,
    keys: Keys,
    rule: Option<StopRule>,
    /// The runs of trials that are through.
    done: Vec<Run>,
    /// The cuts that each running trial has passed, and what was said of it at the last of them.
    seen: BTreeMap<u64, (usize, Option<Prediction>)>,
    /// Trials that the rule has ended, with the steps that it saved.
    stopped: BTreeMap<u64, u64>,
    /// The steps of all trials that ended while we looked.
    steps: u64,
}

impl Live {
    pub(crate) fn new(dir: PathBuf, keys: Keys, stop_regret: Option<f64>) -> Self {
        let rule = stop_regret.map(|regret| StopRule { regret });
        let (seen, stopped) = (BTreeMap::new(), BTreeMap::new());
        let mut live = Self {
            dir,
            keys,
            rule,
            done: Vec::new(),
            seen,
            stopped,
            steps: 0,
        };
        live.refresh();
        live
    }

    /// A trial has ended, and others can learn from it.
    pub(crate) fn ended(&mut self, number: u64, steps: u64) {
        self.seen.remove(&number);
        self.steps += steps;
        self.refresh();
    }

    fn refresh(&mut self) {
        let over = Ledger::read(&self.dir).unwrap_or_default();
        let over = over.iter().filter(|trial| trial.status.is_over());
        let dirs: Vec<PathBuf> = over.map(|trial| self.run_dir(trial.number)).collect();
        self.done = runs::read_all([&self.dir], &self.keys).runs;
        self.done.retain(|run| dirs.contains(&run.dir));
    }

    fn run_dir(&self, number: u64) -> PathBuf {
        self.dir.join(Ledger::run_name(number))
    }

    /// The trials that should not go on, with the reason.
    pub(crate) fn look(&mut self, running: &[Running]) -> Vec<(u64, String)> {
        let mut ends = Vec::new();
        for trial in running {
            let number = trial.trial.number;
            let Some(steps) = trial.steps else { continue };
            let passed = |cut: &&Cut| cut.step(steps).is_some_and(|step| step <= trial.step);
            let passed = Cut::SHARES.iter().filter(passed).count();
            if self.seen.get(&number).map_or(0, |(cuts, _)| *cuts) == passed {
                continue;
            }
            let said = self.predict(trial).ok().flatten();
            if let Some(why) = said.as_ref().and_then(|foretold| self.why_end(foretold)) {
                self.stopped
                    .insert(number, steps.saturating_sub(trial.step));
                ends.push((number, why));
            }
            self.seen.insert(number, (passed, said));
        }
        ends
    }

    /// Why a trial should not go on of which this is foretold.
    fn why_end(&self, foretold: &Prediction) -> Option<String> {
        let (rule, best) = (self.rule?, self.best()?);
        let sentence = || {
            let (end, best) = (self.sign() * foretold.value, self.sign() * best);
            let regret = rule.regret;
            format!(
                "forecast {end:.4}: it will not better the best, {best:.4}, by more than {regret}"
            )
        };
        rule.stops(foretold, best).then(sentence)
    }

    /// One trial; `None` before its first evaluation.
    fn predict(&self, trial: &Running) -> Result<Option<Prediction>, BoxError> {
        let mut now = Run::read(self.run_dir(trial.trial.number), &self.keys.all())?;
        now.chosen = trial.trial.values.clone().into_iter().collect();
        if now.last(&self.keys.metric).is_none() {
            return Ok(None);
        }
        let name = now.name.clone();
        let all: Vec<Run> = self.done.iter().cloned().chain([now]).collect();
        let (mut ours, others): (Vec<_>, Vec<_>) = to_forecast(&all, &self.keys)
            .into_iter()
            .partition(|run| run.name == name);
        let Some(ours) = ours.pop() else {
            return Ok(None);
        };
        Ok(Some(Past::new(others)?.predict(&ours)?))
    }

    /// The best end of a trial that is through, where less is better.
    fn best(&self) -> Option<f64> {
        Past::new(to_forecast(&self.done, &self.keys)).ok()?.best()
    }

    /// What forecasts turn the sign of, because less is better there.
    fn sign(&self) -> f64 {
        if self.keys.goal == Goal::Maximize {
            -1.0
        } else {
            1.0
        }
    }

    /// Where a running trial will end, between which values, and what its settings alone say; empty if nothing is known.
    pub(crate) fn shown(&self, number: u64) -> String {
        let Some((_, Some(foretold))) = self.seen.get(&number) else {
            return String::new();
        };
        let sign = self.sign();
        let ends = foretold.interval.map(|of| [sign * of.low, sign * of.high]);
        let ends = ends.map(|[a, b]| format!(" [{:.3}, {:.3}]", a.min(b), a.max(b)));
        let settings = foretold
            .settings_only
            .map(|of| format!(", settings only {:.3}", sign * of));
        let (ends, settings) = (ends.unwrap_or_default(), settings.unwrap_or_default());
        format!(" -> {:.3}{ends}{settings}", sign * foretold.value)
    }

    /// What the rule has saved, if there is one.
    pub(crate) fn saving(&self) -> Option<String> {
        let (rule, count) = (self.rule?, self.stopped.len());
        let share = 100.0 * self.stopped.values().sum::<u64>() as f64 / self.steps.max(1) as f64;
        Some(format!(
            "the stop rule (regret {}) ended {count} trials early and saved {share:.0} % of the steps",
            rule.regret
        ))
    }
}
