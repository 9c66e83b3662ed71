//! An exponential moving average of the weights, evaluated beside them.
//!
//! | key                | value                                             | recorded                        |
//! |--------------------|---------------------------------------------------|---------------------------------|
//! | `<set>/ema_<name>` | each metric of the eval, for the averaged model, such as `val/ema_loss` | at every eval of every set |
//!
//! Checkpoints contain the average as `weights_ema.safetensors`, under the model's parameter names.

use crate::settings::within;
use bdh::burn::tensor::Tensor;
use bdh::hooks::{EvalEnd, StepEnd};
use bdh::{BoxError, Callback, HookResult, Outlook, callback};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};

/// Keeps `average = decay · average + (1 − decay) · weights`, updated after every step.
///
/// The averaged model is often better than the last weights of a noisy run. Training does not use it. The decay of
/// update `t` is at most `(1 + t) / (10 + t)`, as in TensorFlow and timm, so that the random initial weights fade
/// quickly.
///
/// Costs one copy of the parameters on the device, two passes over it a step, and one more eval, with one device read,
/// at each eval of a set.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::Ema;
///
/// let usual = Ema::default(); // 0.999
/// let long = Ema::default().decay(0.9999);
/// ```
#[derive(Debug, Clone, Setters, Deserialize, Serialize)]
#[setters(into)]
#[serde(default, deny_unknown_fields)]
pub struct Ema {
    /// Share of the average that an update keeps, from 0 to below 1. Defaults to 0.999.
    decay: f64,
    #[setters(skip)]
    #[serde(skip)]
    updates: u64,
    /// `[elements]` each, in the order of the parameter table; empty before the first update.
    #[setters(skip)]
    #[serde(skip)]
    average: Vec<Tensor<1>>,
}

impl Default for Ema {
    fn default() -> Self {
        Self {
            decay: 0.999,
            updates: 0,
            average: Vec::new(),
        }
    }
}

impl Ema {
    /// The decay of the next update.
    fn next_decay(&self) -> f64 {
        let t = self.updates as f64;
        self.decay.min((1.0 + t) / (10.0 + t))
    }
}

#[callback("ema")]
impl Callback for Ema {
    fn check(&self, _: &Outlook<'_>) -> Result<(), BoxError> {
        within(
            "decay",
            self.decay,
            0.0..1.0,
            "use 0 to below 1, such as 0.999",
        )
    }

    fn keys(&self) -> Vec<String> {
        vec!["*/ema_*".to_owned()]
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        let decay = self.next_decay();
        let weights = ctx.weights.iter().map(|param| param.values());
        let old = std::mem::take(&mut self.average);
        if old.is_empty() {
            self.average = weights.collect();
        } else {
            // The old average is moved, not cloned, so that the backend can reuse its memory.
            let pairs = old.into_iter().zip(weights);
            self.average = pairs
                .map(|(old, new)| old * decay + new * (1.0 - decay))
                .collect();
        }
        self.updates += 1;
        Ok(())
    }

    fn on_eval(&mut self, ctx: &EvalEnd<'_>) -> HookResult {
        let metrics = if self.average.is_empty() {
            // Before the first update the average equals the weights, which this eval has measured.
            ctx.report.metrics.clone()
        } else {
            ctx.eval_of(&self.average)?
        };
        let set = &ctx.report.set;
        for (metric, value) in metrics {
            ctx.log(format!("{set}/ema_{metric}"), value);
        }
        Ok(())
    }

    fn state(&self) -> serde_json::Value {
        self.updates.into()
    }

    fn load_state(&mut self, state: serde_json::Value) -> Result<(), BoxError> {
        self.updates = state
            .as_u64()
            .ok_or("the number of updates is not a whole number")?;
        Ok(())
    }

    fn weights(&self) -> Option<Vec<Tensor<1>>> {
        (!self.average.is_empty()).then(|| self.average.clone())
    }

    fn load_weights(&mut self, weights: Vec<Tensor<1>>) -> Result<(), BoxError> {
        self.average = weights;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdh::testing::tiny_run;

    #[test]
    fn early_updates_keep_less_of_the_average() {
        let mut ema = Ema::default();
        let mut decays = [0, 10, 100_000].map(|updates| {
            ema.updates = updates;
            ema.next_decay()
        });
        decays[1] = (decays[1] * 20.0).round();
        assert_eq!(decays, [0.1, 11.0, 0.999]);
    }

    #[test]
    fn decay_of_1_is_refused_with_a_decay_that_works() {
        let run = tiny_run(2).callback(Ema::default().decay(1.0));
        let error = run.build().expect_err("the first weights would stay");
        assert_eq!(
            error.to_string(),
            "the settings of callback `ema` are wrong: \
             `decay` is 1; use 0 to below 1, such as 0.999"
        );
    }
}
