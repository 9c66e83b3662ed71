//! An exponential moving average of the weights, evaluated beside them.
//!
//! | key              | value                                                   | recorded         |
//! |------------------|---------------------------------------------------------|------------------|
//! | `val/ema_<name>` | each metric of the eval, of the averaged model          | at every eval    |
//!
//! Checkpoints hold the average as `weights_ema.safetensors`, under the model's own names.

use bdh::burn::tensor::Tensor;
use bdh::{BoxError, Callback, ConfigError, Deferred, EvalEnd, HookResult, StepEnd, callback};
use derive_builder::Builder;
use serde::{Deserialize, Serialize};

/// Keeps `average = decay · average + (1 − decay) · weights`, updated after every step.
///
/// The average of a noisy walk is often better than its last point; the last of a long schedule rarely is.
/// Training itself does not see it. So that the first weights, which are random, do not linger, the decay of
/// update `t` is at most `(1 + t) / (10 + t)`, as in TensorFlow's and timm's averages.
///
/// Costs one copy of the parameters on the device, two passes over it a step, and one more eval at each eval.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::Ema;
///
/// let usual = Ema::default(); // 0.999
/// let long = Ema::builder().decay(0.9999).build()?;
/// # Ok::<(), bdh::ConfigError>(())
/// ```
#[derive(Debug, Clone, Builder, Deserialize, Serialize)]
#[builder(
    pattern = "owned",
    default,
    build_fn(error = "ConfigError", validate = "Self::check")
)]
#[builder_struct_attr(must_use = "a builder does nothing until `build` is called")]
#[serde(default, deny_unknown_fields)]
pub struct Ema {
    /// How much of the average an update keeps, from 0 to below 1. Defaults to 0.999.
    #[serde(deserialize_with = "decay")]
    decay: f64,
    #[builder(setter(skip))]
    #[serde(skip)]
    updates: u64,
    /// `[elements]` each, in the order of the parameter table; empty before the first update.
    #[builder(setter(skip))]
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
    /// Begins with the defaults.
    pub fn builder() -> EmaBuilder {
        EmaBuilder::default()
    }

    /// The decay of the next update.
    fn next_decay(&self) -> f64 {
        let t = self.updates as f64;
        self.decay.min((1.0 + t) / (10.0 + t))
    }
}

impl EmaBuilder {
    fn check(&self) -> Result<(), ConfigError> {
        let is_possible = self.decay.is_none_or(|decay| (0.0..1.0).contains(&decay));
        let decay = self.decay.unwrap_or_default().to_string();
        let expected = "which is to be from 0 to below 1, such as 0.999".to_owned();
        if is_possible {
            Ok(())
        } else {
            Err(ConfigError::Invalid {
                field: "decay",
                value: decay,
                expected,
            })
        }
    }
}

fn decay<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let decay = f64::deserialize(deserializer)?;
    let built = Ema::builder().decay(decay).build();
    built.map(|ema| ema.decay).map_err(serde::de::Error::custom)
}

#[callback("ema")]
impl Callback for Ema {
    fn config(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn keys(&self) -> Vec<String> {
        vec!["val/ema_*".to_owned()]
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        let weights = at.weights.iter().map(|param| param.values());
        self.average = if self.average.is_empty() {
            weights.collect()
        } else {
            let decay = self.next_decay();
            let average = std::mem::take(&mut self.average).into_iter();
            average
                .zip(weights)
                .map(|(old, new)| old * decay + new * (1.0 - decay))
                .collect()
        };
        self.updates += 1;
        Ok(())
    }

    fn on_eval(&mut self, at: &EvalEnd<'_>) -> HookResult {
        // Before the first update the average is the weights as they are, which the eval has measured.
        let metrics = if self.average.is_empty() {
            let known = at.report.metrics.iter();
            known
                .map(|(metric, value)| (metric.clone(), Deferred::from(*value)))
                .collect()
        } else {
            at.eval_of(&self.average)
        };
        for (metric, value) in metrics {
            at.log(format!("val/ema_{metric}"), value);
        }
        Ok(())
    }

    fn state(&self) -> serde_json::Value {
        self.updates.into()
    }

    fn load_state(&mut self, state: serde_json::Value) -> Result<(), BoxError> {
        self.updates = state
            .as_u64()
            .ok_or("a number of updates is a whole number")?;
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
    fn a_decay_that_cannot_work_is_refused_with_one_that_does() {
        let error = Ema::builder()
            .decay(1.0)
            .build()
            .expect_err("1 keeps the first for ever");
        assert_eq!(
            error.to_string(),
            "`decay` is 1, which is to be from 0 to below 1, such as 0.999"
        );
    }
}
