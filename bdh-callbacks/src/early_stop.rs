//! Ends a run that no longer gets better, is good enough, or has diverged.
//!
//! Records no keys: why a run was stopped is in its outcome, in `run.json` and in every sink.
//!
//! | stops when                                               | looked at               | setting      |
//! |----------------------------------------------------------|-------------------------|--------------|
//! | the metric did not improve for so many evals             | after each eval         | `patience`   |
//! | the metric is as good as wanted                          | after each eval         | `threshold`  |
//! | the metric is NaN, or worse than a bound                 | after each eval         | `stop_on_nan`, `divergence` |
//! | the training loss is NaN, or above the same bound        | one step late           | `stop_on_nan`, `divergence` |

use crate::settings::within;
use bdh::number::Number;
use bdh::{
    BoxError, Callback, ConfigError, Deferred, EvalEnd, HookResult, OnError, Outlook, StepEnd,
    callback,
};
use derive_builder::Builder;
use serde::{Deserialize, Serialize};

/// Which way a metric is to go.
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
    /// How much better `new` is than `old`; below 0, worse.
    pub(crate) fn gain(self, new: f64, old: f64) -> f64 {
        match self {
            Self::Min => old - new,
            Self::Max => new - old,
        }
    }
}

/// Asks the run to stop when an eval says that going on is pointless.
///
/// The training loss is watched without a device read of its own: that of a step is looked at on the next one,
/// if the trainer recorded it (its `log` cadence; by default it does). A resumed run goes on counting where
/// the checkpoint was written.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::{EarlyStop, Mode};
///
/// let by_loss = EarlyStop::default(); // after 5 evals without a lower val/loss, or a NaN
/// let by_accuracy = EarlyStop::builder()
///     .metric("accuracy")
///     .mode(Mode::Max)
///     .patience(3)
///     .min_delta(0.001)
///     .threshold(0.95)
///     .build()?;
/// # Ok::<(), bdh::ConfigError>(())
/// ```
#[derive(Debug, Clone, Builder, Deserialize, Serialize)]
#[builder(
    pattern = "owned",
    default,
    setter(into),
    build_fn(error = "ConfigError")
)]
#[builder_struct_attr(must_use = "a builder does nothing until `build` is called")]
#[serde(default, deny_unknown_fields)]
pub struct EarlyStop {
    /// The metric of the eval, without its `val/`: one of the task's, or one that a callback added before records, such
    /// as `ema_loss`. Defaults to `loss`.
    metric: String,
    /// Whether less or more of it is better. Defaults to less.
    mode: Mode,
    /// Evals without improvement after which to stop. Defaults to 5.
    #[builder(setter(into = false))]
    patience: u32,
    /// By how much the metric must be better than the best for it to count. Defaults to 0: by anything.
    min_delta: f64,
    /// As good as is wanted: a metric that gets there ends the run. Defaults to none.
    #[builder(setter(strip_option))]
    threshold: Option<f64>,
    /// The bound beyond which metric and training loss mean divergence. Defaults to none.
    #[builder(setter(strip_option))]
    divergence: Option<f64>,
    /// Whether NaN, of metric or training loss, ends the run. Defaults to yes.
    stop_on_nan: bool,
    #[builder(setter(skip))]
    #[serde(skip)]
    seen: Seen,
    /// The loss of the step before, read by now if it was recorded.
    #[builder(setter(skip))]
    #[serde(skip)]
    pending: Option<(u64, Deferred)>,
}

/// What the run had so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    /// The best metric.
    best: Option<Number>,
    /// Evals since then.
    waited: u32,
}

/// What a checkpoint holds.
#[derive(Serialize, Deserialize)]
struct State {
    seen: Seen,
    /// The loss of the step, which the next one judges.
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
    /// Begins with the defaults.
    pub fn builder() -> EarlyStopBuilder {
        EarlyStopBuilder::default()
    }

    /// Why to stop after this value of the metric, if it is a reason to.
    fn judge(&mut self, value: f64) -> Option<String> {
        let name = format!("val/{}", self.metric);
        if self.has_diverged(value) {
            return Some(format!("{name} is {value}"));
        }
        if self
            .threshold
            .is_some_and(|wanted| self.mode.gain(value, wanted) >= 0.0)
        {
            return Some(format!("{name} is {value}, which is good enough"));
        }
        let is_better = |Number(best)| self.mode.gain(value, best) > self.min_delta;
        if !value.is_nan() && self.seen.best.is_none_or(is_better) {
            self.seen = Seen {
                best: Some(Number(value)),
                waited: 0,
            };
            return None;
        }
        self.seen.waited += 1;
        let (waited, best) = (
            self.seen.waited,
            self.seen.best.map_or(f64::NAN, |best| best.0),
        );
        (waited >= self.patience)
            .then(|| format!("{name} did not get better than {best} for {waited} evals"))
    }

    fn has_diverged(&self, value: f64) -> bool {
        let is_worse = |bound| self.mode.gain(value, bound) < 0.0;
        value.is_nan() && self.stop_on_nan || self.divergence.is_some_and(is_worse)
    }

    /// The same of a training loss; a bound on an accuracy says nothing about that.
    fn is_lost(&self, loss: f64) -> bool {
        match self.mode {
            Mode::Min => self.has_diverged(loss),
            Mode::Max => loss.is_nan() && self.stop_on_nan,
        }
    }
}

#[callback("early_stop")]
impl Callback for EarlyStop {
    fn config(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        within("patience", self.patience, 1.., "use 1 or more")?;
        within("min_delta", self.min_delta, 0.0.., "use 0 or more")?;
        for (field, bound) in [
            ("threshold", self.threshold),
            ("divergence", self.divergence),
        ] {
            within(
                field,
                bound.unwrap_or(0.0),
                f64::NEG_INFINITY..,
                "use a number",
            )?;
        }
        match run.evals() {
            Some(0) => {
                run.note("watches the training loss only: this run evaluates nothing");
                return Ok(());
            }
            Some(evals) if evals as u64 <= u64::from(self.patience) => run.note(format!(
                "cannot run out of patience: it waits for {} evals without a gain, and this run has {evals}",
                self.patience
            )),
            _ => {}
        }
        run.check_metric(&self.metric)
    }

    /// A run that it was to stop, and could not, would go on as if all were well.
    fn on_error(&self) -> OnError {
        OnError::Abort
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        let pending = self.pending.replace((at.step(), at.loss.clone()));
        let known = pending.and_then(|(step, loss)| Some((step, loss.value()?)));
        if let Some((step, loss)) = known.filter(|(_, loss)| self.is_lost(*loss)) {
            at.stop(format!("train/loss was {loss} at step {step}"));
        }
        Ok(())
    }

    fn on_eval(&mut self, at: &EvalEnd<'_>) -> HookResult {
        let value = at.metric(&self.metric)?;
        if let Some(why) = self.judge(value) {
            at.stop(why);
        }
        Ok(())
    }

    fn state(&self) -> serde_json::Value {
        let known = |(step, loss): &(u64, Deferred)| Some((*step, Number(loss.value()?)));
        let pending = self.pending.as_ref().and_then(known);
        serde_json::to_value(State {
            seen: self.seen.clone(),
            pending,
        })
        .unwrap_or_default()
    }

    fn load_state(&mut self, state: serde_json::Value) -> Result<(), BoxError> {
        let State { seen, pending } = serde_json::from_value(state)?;
        self.seen = seen;
        self.pending = pending.map(|(step, loss)| (step, loss.0.into()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these values stops the run, and why.
    fn stops(mut stop: EarlyStop, values: &[f64]) -> Option<(usize, String)> {
        values
            .iter()
            .enumerate()
            .find_map(|(index, value)| Some((index, stop.judge(*value)?)))
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
            Some((5, "val/loss did not get better than 1.5 for 2 evals".into()))
        );
        assert_eq!(stops(patient(2), &[3.0, 2.0, 2.5, 1.5, 1.6]), None);
    }

    #[test]
    fn a_gain_below_the_least_is_none() {
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
    fn what_is_better_depends_on_the_mode() {
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
    fn nan_and_what_is_beyond_the_bound_are_divergence() {
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
