//! How noisy gradients are, and with it how large a batch is worth its price.
//!
//! | key                  | unit            | recorded                                                     |
//! |----------------------|-----------------|--------------------------------------------------------------|
//! | `noise/scale`        | samples         | the simple noise scale, on every due step                    |
//! | `noise/scale_tokens` | tokens          | the same in tokens                                           |
//! | `noise/grad_sq`      | squared L2      | of the true gradient, estimated and smoothed                 |
//! | `noise/trace`        | squared L2      | trace of the covariance of one sample's gradient, likewise   |
//!
//! Batches far below the scale average little noise away, ones far above it repeat themselves.
//!
//! Source: McCandlish et al., 2018, *An Empirical Model of Large-Batch Training* (arXiv:1812.06162), appendix A.1:
//! the squared norms of a small and a large batch's gradient, `|g|² = |G|² + tr(Σ) / batch`, give two equations
//! with two unknowns. The small batches are here the micro-batches of a step, the large one is all of them. Both
//! unknowns are estimated without bias and smoothed before their ratio is taken, which has one otherwise.

use crate::settings::within;
use bdh::{
    AfterBackward, BoxError, Cadence, Callback, ConfigError, Deferred, HookResult, MicroBatch,
    Outlook, callback,
};
use derive_builder::Builder;
use serde::{Deserialize, Serialize};

/// Records the gradient noise scale, from the gradients of a step's micro-batches.
///
/// Needs `grad_accum_steps` of 2 or more; with 1 it says so and records nothing. Costs a pass over the gradients
/// for each micro-batch, and no device read of its own. The first figures, before the smoothing has something
/// to smooth, can be negative: estimates of one step are about as large as their errors.
///
/// # Examples
///
/// ```
/// use bdh::every;
/// use bdh_callbacks::GradientNoise;
///
/// let noise = GradientNoise::builder().cadence(every(10)).decay(0.95).build()?;
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
pub struct GradientNoise {
    /// Steps on which to measure. Defaults to every step.
    cadence: Cadence,
    /// What remains of the average of earlier estimates at each new one. Defaults to 0.99.
    decay: f64,
    /// The micro-batches of this step so far.
    #[builder(setter(skip))]
    #[serde(skip)]
    step: Small,
    #[builder(setter(skip))]
    #[serde(skip)]
    average: Average,
    /// The average with the last due step, once it has been read.
    #[builder(setter(skip))]
    #[serde(skip)]
    pending: Option<Pending>,
}

/// Sums over the micro-batches of a step.
#[derive(Debug, Clone, Default)]
struct Small {
    /// Those seen: on several devices those of the first.
    count: usize,
    /// Those of the step.
    all: usize,
    /// Squared norms of the gradients of their mean losses.
    squares: Option<Deferred>,
    /// One over their samples.
    inverse_sizes: f64,
    samples: usize,
    tokens: usize,
}

/// Exponential sums of both estimates, and of the weights in them: an average of few is not drawn to 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Average {
    #[serde(with = "bdh::number")]
    grad_sq: f64,
    #[serde(with = "bdh::number")]
    trace: f64,
    #[serde(with = "bdh::number")]
    weight: f64,
}

/// The same with a step that may still be on the device.
#[derive(Debug, Clone)]
struct Pending {
    grad_sq: Deferred,
    trace: Deferred,
    weight: f64,
}

impl Default for GradientNoise {
    fn default() -> Self {
        Self {
            cadence: Cadence::EVERY_STEP,
            decay: 0.99,
            step: Small::default(),
            average: Average::default(),
            pending: None,
        }
    }
}

/// Unbiased estimates of the squared norm of the true gradient and of the trace of a sample's covariance.
///
/// `small` is the mean squared norm of `n` gradients of independent batches, `big` that of their mean, and
/// `inverse_size` the mean of one over the batches' sizes, which may differ.
fn estimate(small: Deferred, big: Deferred, n: f64, inverse_size: f64) -> (Deferred, Deferred) {
    let grad_sq = (big.clone() * n - small.clone()) / (n - 1.0);
    let trace = (small - big) / (inverse_size * (1.0 - 1.0 / n));
    (grad_sq, trace)
}

impl GradientNoise {
    /// Begins with the defaults.
    pub fn builder() -> GradientNoiseBuilder {
        GradientNoiseBuilder::default()
    }

    /// The average up to the last due step; one that was not finite is left out.
    fn known(&self) -> Average {
        let of = |pending: &Pending| {
            let (grad_sq, trace) = (pending.grad_sq.value()?, pending.trace.value()?);
            let is_finite = grad_sq.is_finite() && trace.is_finite();
            is_finite.then_some(Average {
                grad_sq,
                trace,
                weight: pending.weight,
            })
        };
        self.pending.as_ref().and_then(of).unwrap_or(self.average)
    }

    /// The average with one more estimate.
    fn smooth(&self, grad_sq: Deferred, trace: Deferred) -> Pending {
        let (old, new) = (self.decay, 1.0 - self.decay);
        Pending {
            grad_sq: grad_sq * new + self.average.grad_sq * old,
            trace: trace * new + self.average.trace * old,
            weight: new + self.average.weight * old,
        }
    }
}

fn square(norm: &Deferred) -> Deferred {
    norm.map(|norm| norm * norm)
}

#[callback("gradient_noise")]
impl Callback for GradientNoise {
    fn config(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn cadence(&self) -> Cadence {
        self.cadence.clone()
    }

    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        within(
            "decay",
            self.decay,
            0.0..1.0,
            "use a number from 0 to below 1, such as 0.99",
        )?;
        if run.plan().grad_accum_steps < 2 {
            run.note(
                "measures nothing: that takes 2 micro-batches a step or more (`grad_accum_steps`)",
            );
        }
        Ok(())
    }

    fn keys(&self) -> Vec<String> {
        ["scale", "scale_tokens", "grad_sq", "trace"]
            .map(|key| format!("noise/{key}"))
            .into()
    }

    fn on_micro_batch(&mut self, at: &MicroBatch<'_>) -> HookResult {
        if at.index == 0 {
            self.step = Small::default();
        }
        if at.count < 2 {
            return Ok(()); // one batch has no smaller one to be compared with
        }
        let own = square(&(at.gradients.l2() * at.count as f64)); // it was given as a share of the mean
        let squares = self.step.squares.take();
        self.step.squares = Some(squares.map_or(own.clone(), |sum| sum + own));
        self.step.count += 1;
        self.step.all = at.count;
        self.step.inverse_sizes += 1.0 / at.size.samples.max(1) as f64;
        self.step.samples += at.size.samples;
        self.step.tokens += at.size.tokens;
        Ok(())
    }

    fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult {
        self.average = self.known();
        let Small {
            count,
            all,
            squares,
            inverse_sizes,
            samples,
            tokens,
        } = std::mem::take(&mut self.step);
        let Some(squares) = squares else {
            return Ok(());
        };
        let n = count as f64;
        let big = square(&at.gradients.l2());
        let (grad_sq, trace) = estimate(squares / n, big, all as f64, inverse_sizes / n);
        let average = self.smooth(grad_sq, trace);
        let scale = average.trace.clone() / average.grad_sq.clone();
        at.log("noise/scale", scale.clone());
        at.log(
            "noise/scale_tokens",
            scale * (tokens as f64 / samples.max(1) as f64),
        );
        at.log("noise/grad_sq", average.grad_sq.clone() / average.weight);
        at.log("noise/trace", average.trace.clone() / average.weight);
        self.pending = Some(average);
        Ok(())
    }

    fn state(&self) -> serde_json::Value {
        serde_json::to_value(self.known()).unwrap_or_default()
    }

    fn load_state(&mut self, state: serde_json::Value) -> Result<(), BoxError> {
        self.average = serde_json::from_value(state)?;
        self.pending = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random, about normal with variance 1: twelve uniform ones, less their mean.
    fn normal(state: &mut u64) -> f64 {
        let mut uniform = || {
            *state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (*state >> 11) as f64 / (1_u64 << 53) as f64
        };
        (0..12).map(|_| uniform()).sum::<f64>() - 6.0
    }

    fn mean_square_and_mean(gradients: &[Vec<f64>]) -> (f64, Vec<f64>) {
        let n = gradients.len() as f64;
        let square = |gradient: &Vec<f64>| gradient.iter().map(|value| value * value).sum::<f64>();
        let mean = (0..gradients[0].len()).map(|i| gradients.iter().map(|g| g[i]).sum::<f64>() / n);
        (
            gradients.iter().map(square).sum::<f64>() / n,
            mean.collect(),
        )
    }

    #[test]
    fn synthetic_gradients_give_back_the_noise_that_was_put_in() {
        // 50 dimensions, a true gradient of squared norm 4.5, noise of trace 50 · 2² = 200 a sample; batches of
        // 3 and 5 samples by turns.
        let (dimensions, deviation, steps) = (50, 2.0, 4_000);
        let mut state = 7;
        let (mut grad_sq, mut trace) = (0.0, 0.0);
        for _ in 0..steps {
            let sizes = [3.0_f64, 5.0, 3.0, 5.0];
            let gradient = |size: &f64| -> Vec<f64> {
                (0..dimensions)
                    .map(|_| 0.3 + deviation / size.sqrt() * normal(&mut state))
                    .collect()
            };
            let gradients: Vec<_> = sizes.iter().map(gradient).collect();
            let (small, mean) = mean_square_and_mean(&gradients);
            let big: f64 = mean.iter().map(|value| value * value).sum();
            let inverse = sizes.iter().map(|size| 1.0 / size).sum::<f64>() / 4.0;
            let (g, s) = estimate(small.into(), big.into(), 4.0, inverse);
            grad_sq += g.value().expect("known") / f64::from(steps);
            trace += s.value().expect("known") / f64::from(steps);
        }
        assert!((grad_sq / 4.5 - 1.0).abs() < 0.03, "{grad_sq}");
        assert!((trace / 200.0 - 1.0).abs() < 0.01, "{trace}");
    }

    #[test]
    fn averages_have_no_pull_to_zero_and_leave_out_what_is_not_finite() {
        let mut noise = GradientNoise::default();
        for (grad_sq, trace) in [
            (2.0, 8.0),
            (f64::NAN, 8.0),
            (2.0, 8.0),
            (2.0, f64::INFINITY),
        ] {
            noise.average = noise.known();
            noise.pending = Some(noise.smooth(grad_sq.into(), trace.into()));
        }
        let Average {
            grad_sq,
            trace,
            weight,
        } = noise.known();
        assert!((grad_sq / weight - 2.0).abs() < 1e-12 && (trace / weight - 8.0).abs() < 1e-12);
        assert!((weight - (0.01 + 0.99 * 0.01)).abs() < 1e-12);
    }
}
