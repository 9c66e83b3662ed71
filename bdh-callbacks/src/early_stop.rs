//! Ends a run that has stopped improving, is good enough, or has diverged.
//!
//! Records no keys. The reason is in the run's outcome, in `run.json` and in every sink.
//!
//! | stops when                                               | checked                 | setting      |
//! |----------------------------------------------------------|-------------------------|--------------|
//! | the metric has not improved for `patience` evals         | after each eval         | `patience`   |
//! | the metric has reached `threshold`                       | after each eval         | `threshold`  |
//! | the metric is NaN, or worse than `divergence`            | after each eval         | `stop_on_nan`, `divergence` |
//! | the training loss is NaN, or above `divergence`          | one step late           | `stop_on_nan`, `divergence` |

use crate::settings::{key_of, within};
use bdh::hooks::{EvalEnd, StepEnd};
use bdh::number::Number;
use bdh::{BoxError, Callback, Deferred, ErrorPolicy, HookResult, Outlook, callback};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};

/// Direction in which a metric improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Less is better, as with a loss.
    #[default]
    Min,
    /// More is better, as with an accuracy.
    Max,
}

impl Mode {
    /// Returns by how much `new` is better than `old`. Negative if it is worse.
    pub(crate) fn gain(self, new: f64, old: f64) -> f64 {
        match self {
            Self::Min => old - new,
            Self::Max => new - old,
        }
    }
}

/// Stops a run when an eval shows that more training is pointless.
///
/// With several eval sets, only those of the metric's set count.
/// Costs no device read. The training loss of a step is checked on the next step, if the trainer recorded it
/// (its `log` cadence, by default every step). A resumed run continues to count from the checkpoint.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::{EarlyStop, Mode};
///
/// let by_loss = EarlyStop::default(); // stops after 5 evals without a lower loss, or at NaN
/// let by_accuracy = EarlyStop::default()
///     .metric("val/accuracy")
///     .mode(Mode::Max)
///     .patience(3)
///     .min_delta(0.001)
///     .threshold(0.95);
/// ```
#[derive(Debug, Clone, Setters, Deserialize, Serialize)]
#[setters(into)]
#[serde(default, deny_unknown_fields)]
pub struct EarlyStop {
    /// Metric of the eval, with or without the name of its set: `val/loss`, or `loss` of the first eval set. One of the
    /// task's metrics, or one that a callback added earlier records, such as `val/ema_loss`. Defaults
    /// to `loss`.
    metric: String,
    /// Whether less or more of the metric is better. Defaults to less.
    mode: Mode,
    /// Evals without improvement after which to stop. Defaults to 5.
    #[setters(into = false)]
    patience: u32,
    /// Least change of the metric that counts as an improvement. Defaults to 0, any improvement.
    min_delta: f64,
    /// Value of the metric that is good enough and ends the run. Defaults to none.
    #[setters(strip_option)]
    threshold: Option<f64>,
    /// Bound beyond which the metric or the training loss has diverged. Defaults to none.
    #[setters(strip_option)]
    divergence: Option<f64>,
    /// Whether a NaN metric or training loss ends the run. Defaults to yes.
    stop_on_nan: bool,
    #[setters(skip)]
    #[serde(skip)]
    seen: Seen,
    /// Loss of the previous step, known by now if the trainer recorded it.
    #[setters(skip)]
    #[serde(skip)]
    pending: Option<(u64, Deferred)>,
}

/// Evals so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    /// Best value of the metric.
    best: Option<Number>,
    /// Evals since the best one.
    waited: u32,
}

/// State in a checkpoint.
#[derive(Serialize, Deserialize)]
struct State {
    seen: Seen,
    /// Loss of the saved step, which is checked on the next step.
    pending: Option<(u64, Number)>,
}

impl Default for EarlyStop {
    fn default() -> Self {
        Self {
            metric: "loss".to_owned(),
            mode: Mode::Min,
            patience: 5,
            min_delta: 0.0,
            threshold: None,
            divergence: None,
            stop_on_nan: true,
            seen: Seen::default(),
            pending: None,
        }
    }
}

impl EarlyStop {
    /// Counts an eval, in which the metric `name` has a value. Returns a reason to stop, if there is one.
    fn judge(&mut self, name: &str, value: f64) -> Option<String> {
        if self.has_diverged(value) {
            return Some(format!("{name} is {value}"));
        }
        if self.is_good_enough(value) {
            return Some(format!("{name} is {value}, which is good enough"));
        }
        if self.is_improvement(value) {
            self.seen = Seen {
                best: Some(Number(value)),
                waited: 0,
            };
            return None;
        }
        self.wait(name)
    }

    /// Counts an eval without an improvement. Returns a reason to stop once patience has run out.
    fn wait(&mut self, name: &str) -> Option<String> {
        self.seen.waited += 1;
        if self.seen.waited < self.patience {
            return None;
        }
        let Seen { best, waited } = &self.seen;
        let best = best.map_or(f64::NAN, |Number(best)| best);
        Some(format!(
            "{name} did not improve on {best} for {waited} evals"
        ))
    }

    fn has_diverged(&self, value: f64) -> bool {
        if value.is_nan() && self.stop_on_nan {
            return true;
        }
        self.divergence
            .is_some_and(|bound| self.mode.gain(value, bound) < 0.0)
    }

    fn is_good_enough(&self, value: f64) -> bool {
        self.threshold
            .is_some_and(|wanted| self.mode.gain(value, wanted) >= 0.0)
    }

    fn is_improvement(&self, value: f64) -> bool {
        match self.seen.best {
            _ if value.is_nan() => false,
            Some(Number(best)) => self.mode.gain(value, best) > self.min_delta,
            None => true,
        }
    }

    /// Whether a training loss means divergence. With [`Mode::Max`] the bound is that of another metric, such as an
    /// accuracy, and only NaN counts.
    fn has_diverged_in_training(&self, loss: f64) -> bool {
        match self.mode {
            Mode::Min => self.has_diverged(loss),
            Mode::Max => loss.is_nan() && self.stop_on_nan,
        }
    }

    fn check_settings(&self) -> Result<(), BoxError> {
        within("patience", self.patience, 1.., "use 1 or more")?;
        within("min_delta", self.min_delta, 0.0.., "use 0 or more")?;
        for (field, bound) in [
            ("threshold", self.threshold),
            ("divergence", self.divergence),
        ] {
            let bound = bound.unwrap_or(0.0);
            within(field, bound, f64::NEG_INFINITY.., "use a number")?;
        }
        Ok(())
    }
}

#[callback("early_stop")]
impl Callback for EarlyStop {
    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        self.check_settings()?;
        let Some(evals) = run.evals_of(&self.metric) else {
            return run.check_metric(&self.metric);
        };
        if evals == 0 {
            run.note(format!(
                "watches the training loss only: this run has no evals of `{}`",
                self.metric
            ));
            return Ok(());
        }
        if evals as u64 <= u64::from(self.patience) {
            run.note(format!(
                "never runs out of patience: `patience` is {} evals, and this run has {evals}",
                self.patience
            ));
        }
        run.check_metric(&self.metric)
    }

    /// Aborts: a run that should have been stopped must not continue as if all were well.
    fn error_policy(&self) -> ErrorPolicy {
        ErrorPolicy::Abort
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        let Some((step, loss)) = self.pending.replace((ctx.step(), ctx.loss.clone())) else {
            return Ok(());
        };
        if let Some(loss) = loss.value()
            && self.has_diverged_in_training(loss)
        {
            ctx.stop(format!("train/loss was {loss} at step {step}"));
        }
        Ok(())
    }

    fn on_eval(&mut self, ctx: &EvalEnd<'_>) -> HookResult {
        let Some(value) = ctx.monitored(&self.metric)? else {
            return Ok(()); // another set's eval
        };
        let name = key_of(&self.metric, &ctx.report.set);
        if let Some(why) = self.judge(&name, value) {
            ctx.stop(why);
        }
        Ok(())
    }

    fn state(&self) -> serde_json::Value {
        let mut pending = None;
        if let Some((step, loss)) = &self.pending
            && let Some(loss) = loss.value()
        {
            pending = Some((*step, Number(loss)));
        }
        let seen = self.seen.clone();
        serde_json::to_value(State { seen, pending }).unwrap_or_default()
    }

    fn load_state(&mut self, state: serde_json::Value) -> Result<(), BoxError> {
        let State { seen, pending } = serde_json::from_value(state)?;
        self.seen = seen;
        self.pending = pending.map(|(step, Number(loss))| (step, loss.into()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the index of the value that stops the run, and the reason.
    fn stops(mut stop: EarlyStop, values: &[f64]) -> Option<(usize, String)> {
        values
            .iter()
            .enumerate()
            .find_map(|(index, value)| Some((index, stop.judge("val/loss", *value)?)))
    }

    fn patient(evals: u32) -> EarlyStop {
        EarlyStop {
            patience: evals,
            ..EarlyStop::default()
        }
    }

    #[test]
    fn patience_counts_evals_since_the_best() {
        let stopped = stops(patient(2), &[3.0, 2.0, 2.5, 1.5, 1.6, 1.5, 1.0]);
        assert_eq!(
            stopped,
            Some((5, "val/loss did not improve on 1.5 for 2 evals".into()))
        );
        assert_eq!(stops(patient(2), &[3.0, 2.0, 2.5, 1.5, 1.6]), None);
    }

    #[test]
    fn gain_below_min_delta_is_no_improvement() {
        let stop = EarlyStop {
            min_delta: 0.25,
            ..patient(2)
        };
        assert_eq!(
            stops(stop, &[2.0, 1.9, 1.8]).map(|(index, _)| index),
            Some(2)
        );
        let stop = EarlyStop {
            min_delta: 0.25,
            ..patient(2)
        };
        assert_eq!(stops(stop, &[2.0, 1.9, 1.7, 1.6]), None); // 1.7 is 0.3 below the best
    }

    #[test]
    fn mode_decides_what_is_better() {
        let stop = EarlyStop {
            mode: Mode::Max,
            ..patient(1)
        };
        assert_eq!(
            stops(stop, &[0.1, 0.2, 0.3, 0.25]).map(|(index, _)| index),
            Some(3)
        );
        let wanted = EarlyStop {
            mode: Mode::Max,
            threshold: Some(0.3),
            ..patient(9)
        };
        let (index, why) = stops(wanted, &[0.1, 0.4]).expect("good enough");
        assert_eq!(
            (index, why.as_str()),
            (1, "val/loss is 0.4, which is good enough")
        );
    }

    #[test]
    fn nan_and_values_beyond_the_bound_are_divergence() {
        for bad in [f64::NAN, 7.5, f64::INFINITY] {
            let stop = EarlyStop {
                divergence: Some(7.0),
                ..patient(9)
            };
            assert_eq!(
                stops(stop, &[7.0, bad]),
                Some((1, format!("val/loss is {bad}")))
            );
        }
        assert_eq!(stops(patient(9), &[f64::INFINITY, 3.0]), None);
        let lenient = EarlyStop {
            stop_on_nan: false,
            ..patient(2)
        };
        assert_eq!(
            stops(lenient, &[f64::NAN, 3.0, f64::NAN, 2.0, f64::NAN]),
            None
        );
    }
}
