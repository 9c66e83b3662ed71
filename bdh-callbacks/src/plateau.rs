//! Learning rates that fall when an eval's metric no longer improves.
//!
//! Records no keys: the trainer records the reduced rates as `lr` and `lr/<group>`.

use crate::early_stop::Mode;
use crate::settings::within;
use bdh::hooks::EvalReport;
use bdh::number::Number;
use bdh::{BoxError, Intervention, InterventionContext, Outlook, UpdateDecision};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Multiplies learning rates by a factor each time a metric has stopped improving.
///
/// An intervention, since it changes training. The factor applies on top of the groups' schedules, from the step after
/// the eval; a resumed run continues to count from the checkpoint. Costs no device read. A NaN metric is no improvement.
///
/// Source: PyTorch's `ReduceLROnPlateau`, whose defaults these are. Two differences: the lower bound is one of the
/// factor instead of the rate, as rates also follow a schedule; and a reduction is never too small to be made (`eps`).
///
/// # Examples
///
/// ```
/// use bdh_callbacks::{Mode, ReduceOnPlateau};
///
/// let by_loss = ReduceOnPlateau::default(); // a tenth of the rate after 11 evals without a lower loss
/// let head_by_accuracy = ReduceOnPlateau::default()
///     .metric("val/accuracy")
///     .mode(Mode::Max)
///     .factor(0.5)
///     .patience(3)
///     .groups(["head"]);
/// ```
#[derive(Debug, Clone, Setters, Serialize)]
#[setters(into)]
pub struct ReduceOnPlateau {
    /// Metric of the evals: `val/loss`, or `loss` of the first eval set. Metrics that callbacks record, such as
    /// `ema_loss`, are not among them. Defaults to `loss`.
    metric: String,
    /// Whether less or more of the metric is better. Defaults to less.
    mode: Mode,
    /// Factor of each reduction, between 0 and 1. Defaults to 0.1.
    factor: f64,
    /// Evals without improvement that are tolerated: one more reduces the rate. Defaults to 10.
    #[setters(into = false)]
    patience: u32,
    /// Least change of the metric that counts as an improvement, as a share of the best value so far, below 1 if less is
    /// better. Defaults to 1e-4.
    threshold: f64,
    /// Whether `threshold` is a difference instead of a share. Defaults to no.
    absolute: bool,
    /// Evals after a reduction in which a lack of improvement does not count. Defaults to 0.
    #[setters(into = false)]
    cooldown: u32,
    /// Lower bound of the product of all factors. Defaults to 0.
    min_factor: f64,
    /// Groups whose rates are reduced. Defaults to all.
    #[setters(skip)]
    groups: Vec<String>,
    /// Name for `run.json` and the plan, so that a run can have two of them. Defaults to `reduce_on_plateau`.
    #[serde(skip)]
    named: String,
    #[setters(skip)]
    #[serde(skip)]
    seen: Seen,
    /// Error of the last eval, which the next step reports.
    #[setters(skip)]
    #[serde(skip)]
    fault: Option<String>,
}

/// Evals so far, as a checkpoint has them.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Seen {
    /// Best value of the metric.
    best: Option<Number>,
    /// Evals without improvement since the best one, or since the last reduction.
    bad: u32,
    /// Evals left of the cooldown.
    cooling: u32,
    /// Product of the factors so far.
    scale: f64,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            best: None,
            bad: 0,
            cooling: 0,
            scale: 1.0,
        }
    }
}

impl Default for ReduceOnPlateau {
    fn default() -> Self {
        Self {
            metric: "loss".to_owned(),
            mode: Mode::Min,
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
            absolute: false,
            cooldown: 0,
            min_factor: 0.0,
            groups: Vec::new(),
            named: "reduce_on_plateau".to_owned(),
            seen: Seen::default(),
            fault: None,
        }
    }
}

impl ReduceOnPlateau {
    /// Reduces the rates of these groups only.
    #[must_use]
    pub fn groups(mut self, groups: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.groups = groups.into_iter().map(Into::into).collect();
        self
    }

    /// Counts an eval, and reduces the scale if patience has run out.
    fn count(&mut self, value: f64) {
        let is_better = self.is_better(value);
        let seen = &mut self.seen;
        if is_better {
            seen.best = Some(Number(value));
            seen.bad = 0;
        } else {
            seen.bad = seen.bad.saturating_add(1);
        }
        if seen.cooling > 0 {
            seen.cooling -= 1;
            seen.bad = 0;
        }
        if seen.bad > self.patience {
            seen.scale = (seen.scale * self.factor).max(self.min_factor);
            seen.cooling = self.cooldown;
            seen.bad = 0;
        }
    }

    /// Whether a value is an improvement, in PyTorch's terms to the bit. NaN is none.
    fn is_better(&self, value: f64) -> bool {
        let best = self.seen.best.map(|Number(best)| best);
        match (self.mode, self.absolute) {
            (Mode::Min, false) => value < best.unwrap_or(f64::INFINITY) * (1.0 - self.threshold),
            (Mode::Min, true) => value < best.unwrap_or(f64::INFINITY) - self.threshold,
            (Mode::Max, false) => {
                value > best.unwrap_or(f64::NEG_INFINITY) * (self.threshold + 1.0)
            }
            (Mode::Max, true) => value > best.unwrap_or(f64::NEG_INFINITY) + self.threshold,
        }
    }

    fn check_settings(&self) -> Result<(), BoxError> {
        let (factor, least) = (self.factor, self.min_factor);
        if !(factor > 0.0 && factor < 1.0) {
            return Err(format!("`factor` is {factor}; use a number between 0 and 1").into());
        }
        // From a share of 1, nothing is less than the first value, which is compared with infinity.
        let (most, advice) = match (self.mode, self.absolute) {
            (Mode::Min, false) => (1.0_f64.next_down(), "use 0 or more, and less than 1"),
            _ => (f64::MAX, "use 0 or more"),
        };
        within("threshold", self.threshold, 0.0..=most, advice)?;
        within("min_factor", least, 0.0..=1.0, "use 0 to 1")
    }

    /// Checks that the run has the groups.
    fn check_groups(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        let groups = run.plan().groups.iter();
        let known: Vec<_> = groups.map(|group| group.name.as_str()).collect();
        for group in &self.groups {
            if !known.contains(&group.as_str()) {
                let known = known.join(", ");
                return Err(format!("unknown group {group:?}: this run has {known}").into());
            }
        }
        Ok(())
    }
}

impl Intervention for ReduceOnPlateau {
    fn name(&self) -> String {
        self.named.clone()
    }

    fn config(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        self.check_settings()?;
        self.check_groups(run)?;
        match run.evals_of(&self.metric) {
            Some(0) => {
                run.note("never reduces a learning rate: this run has no evals");
                return Ok(());
            }
            Some(evals) if evals as u64 <= u64::from(self.patience) + 1 => run.note(format!(
                "never reduces a learning rate: `patience` is {} evals, and this run has {evals}",
                self.patience
            )),
            _ => {}
        }
        run.check_metric(&self.metric)
    }

    fn on_eval(&mut self, report: &EvalReport) {
        match report.monitored(&self.metric) {
            Ok(Some(value)) => self.count(value),
            Ok(None) => {} // an eval of another set
            Err(error) => self.fault = Some(error.to_string()),
        }
    }

    fn intervene(&mut self, ctx: &mut InterventionContext<'_>) -> Result<UpdateDecision, BoxError> {
        if let Some(fault) = self.fault.take() {
            return Err(fault.into());
        }
        if self.groups.is_empty() {
            ctx.scale_lr(self.seen.scale);
        }
        for group in &self.groups {
            ctx.scale_lr_of(group, self.seen.scale)?;
        }
        Ok(UpdateDecision::Apply)
    }

    fn state(&self) -> Value {
        serde_json::to_value(&self.seen).unwrap_or_default()
    }

    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        self.seen = serde_json::from_value(state)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the scale after each eval.
    fn scales(mut plateau: ReduceOnPlateau, values: &[f64]) -> Vec<f64> {
        let mut scales = Vec::new();
        for value in values {
            plateau.count(*value);
            scales.push(plateau.seen.scale);
        }
        scales
    }

    // The expected rates were made by a transcription to plain Python of `step`, `is_better` and `_reduce_lr` in
    // torch/optim/lr_scheduler.py (PyTorch 2), with a base rate of 1 and `eps=0`.

    #[test]
    fn patience_and_relative_threshold_are_those_of_pytorch() {
        // ReduceLROnPlateau(patience=2, factor=0.5); 1.4999 is not better than 1.5 · (1 − 1e-4), 1.49984 is.
        let plateau = ReduceOnPlateau::default().patience(2).factor(0.5);
        let losses = [
            2.0, 1.5, 1.5, 1.6, 1.4999, 1.49984, 1.7, 1.7, 1.7, 1.2, 1.3, 1.3, 1.3, 1.3,
        ];
        let expected = [
            1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.125, 0.125,
        ];
        assert_eq!(scales(plateau, &losses), expected);
    }

    #[test]
    fn cooldown_and_lower_bound_are_those_of_pytorch() {
        // ReduceLROnPlateau(patience=1, factor=0.5, cooldown=2, min_lr=0.2)
        let plateau = ReduceOnPlateau::default()
            .patience(1)
            .factor(0.5)
            .cooldown(2)
            .min_factor(0.2);
        let losses = [2.0, 1.5, 1.6, 1.6, 1.6, 1.6, 1.6, 1.6, 1.4, 1.5, 1.5, 1.5];
        let expected = [
            1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.2,
        ];
        assert_eq!(scales(plateau, &losses), expected);
    }

    #[test]
    fn maxima_thresholds_and_nan_are_those_of_pytorch() {
        // ReduceLROnPlateau(mode="max", patience=1, threshold=0.02), then with threshold_mode="abs"
        let plateau = ReduceOnPlateau::default()
            .mode(Mode::Max)
            .patience(1)
            .threshold(0.02);
        let accuracies = [0.5, 0.6, 0.605, 0.605, 0.62, 0.62, f64::NAN, 0.1];
        let twice = 0.1 * 0.1;
        assert_eq!(
            scales(plateau.clone(), &accuracies),
            [1.0, 1.0, 1.0, 0.1, 0.1, 0.1, twice, twice]
        );
        let accuracies = [0.5, 0.6, 0.605, 0.605, 0.62, 0.615, f64::NAN, 0.7];
        assert_eq!(
            scales(plateau.absolute(true), &accuracies),
            [1.0, 1.0, 1.0, 0.1, 0.1, twice, twice, twice]
        );
    }

    #[test]
    fn defaults_are_those_of_pytorch() {
        let scales = scales(ReduceOnPlateau::default(), &[1.0; 24]); // ReduceLROnPlateau()
        let (first, rest) = scales.split_at(11);
        let (second, third) = rest.split_at(11);
        assert_eq!((first, second), (&[1.0; 11][..], &[0.1; 11][..]));
        assert_eq!(third, [0.1 * 0.1; 2]);
    }

    #[test]
    fn saved_state_continues_the_count() {
        let plateau = ReduceOnPlateau::default().patience(2).factor(0.5);
        let values: Vec<_> = (0..40).map(|step| f64::from(step * 37 % 11)).collect();
        let expected = scales(plateau.clone(), &values);
        for stop in 0..values.len() {
            let mut before = plateau.clone();
            values[..stop].iter().for_each(|value| before.count(*value));
            let mut after = plateau.clone();
            after.load_state(before.state()).expect("its own state");
            assert_eq!(scales(after, &values[stop..]), expected[stop..], "{stop}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let refused = |plateau: ReduceOnPlateau| {
            let error = plateau.check_settings().expect_err("a wrong setting");
            error.to_string()
        };
        let default = ReduceOnPlateau::default;
        let advice = "use a number between 0 and 1";
        assert_eq!(
            refused(default().factor(1.0)),
            format!("`factor` is 1; {advice}")
        );
        assert_eq!(
            refused(default().factor(f64::NAN)),
            format!("`factor` is NaN; {advice}")
        );
        assert_eq!(
            refused(default().threshold(-0.1)),
            "`threshold` is -0.1; use 0 or more, and less than 1"
        );
        assert_eq!(
            refused(default().threshold(1.0)),
            "`threshold` is 1; use 0 or more, and less than 1"
        );
        assert_eq!(
            refused(default().absolute(true).threshold(f64::INFINITY)),
            "`threshold` is inf; use 0 or more"
        );
        for any in [default().absolute(true), default().mode(Mode::Max)] {
            let checked = any.threshold(100.0).check_settings();
            checked.expect("a difference, or a multiple of the largest value");
        }
        assert_eq!(
            refused(default().min_factor(2.0)),
            "`min_factor` is 2; use 0 to 1"
        );
    }
}
