//! Gradient noise scale: the batch size beyond which a larger batch hardly helps.
//!
//! | key                  | unit            | recorded                                                     |
//! |----------------------|-----------------|--------------------------------------------------------------|
//! | `noise/scale`        | samples         | on every due step; the simple noise scale                    |
//! | `noise/scale_tokens` | tokens          | on every due step, if the data is text; the simple noise scale |
//! | `noise/grad_sq`      | squared L2      | on every due step; smoothed, for the true gradient           |
//! | `noise/trace`        | squared L2      | on every due step; smoothed, covariance of one sample's gradient |
//!
//! A batch far below the scale averages little noise away. A batch far above it is mostly redundant.
//!
//! Source: McCandlish et al., 2018, *An Empirical Model of Large-Batch Training* (arXiv:1812.06162), appendix A.1.
//! The squared gradient norms of a small and a large batch, `|g|² = |G|² + tr(Σ) / batch`, give two equations with
//! two unknowns. Here the small batches are the micro-batches of a step, and the large one is the whole step. Both
//! estimates are unbiased, and smoothed before their ratio is taken: the ratio of single estimates is biased.

use crate::settings::within;
use bdh::hooks::{AfterBackward, MicroBatch};
use bdh::{BoxError, Cadence, Callback, Deferred, HookResult, Outlook, Stats, callback};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};

/// Records the gradient noise scale, from the gradients of a step's micro-batches.
///
/// Needs `grad_accum_steps` of 2 or more; with 1 it records nothing, and the plan has a note. Costs a pass over the
/// gradients for each micro-batch, and no device read of its own. The first values can be negative, since the estimates
/// of one step are about as large as their errors.
///
/// # Examples
///
/// ```
/// use bdh::cadence::every;
/// use bdh_callbacks::GradientNoise;
///
/// let noise = GradientNoise::default().on(every(10)).decay(0.95);
/// ```
#[derive(Debug, Clone, Setters, Deserialize, Serialize)]
#[setters(into)]
#[serde(default, deny_unknown_fields)]
pub struct GradientNoise {
    /// Steps on which to measure. Defaults to every step.
    on: Cadence,
    /// Share of the average of earlier estimates that each new one keeps, from 0 to below 1. Defaults to 0.99.
    decay: f64,
    /// Micro-batches of this step so far.
    #[setters(skip)]
    #[serde(skip)]
    step: MicroBatches,
    #[setters(skip)]
    #[serde(skip)]
    average: Average,
    /// Average up to the last due step, on the device until the step's read.
    #[setters(skip)]
    #[serde(skip)]
    pending: Option<Pending>,
}

/// Sums over the micro-batches of a step.
#[derive(Debug, Clone, Default)]
struct MicroBatches {
    /// Number of micro-batches seen. With several devices, those of the first device.
    count: usize,
    /// Number of micro-batches of the step, on all devices.
    all: usize,
    /// Sum of the squared norms of the gradients of the mean losses.
    squares: Option<Deferred>,
    /// Sum of `1 / samples`.
    inverse_sizes: f64,
    samples: usize,
    tokens: usize,
}

impl MicroBatches {
    fn add(&mut self, ctx: &MicroBatch<'_>) {
        // The gradients are the micro-batch's share of the step's mean, that is, divided by `count`.
        let own = square(&(ctx.gradients.l2() * ctx.count as f64));
        self.squares = Some(match self.squares.take() {
            Some(sum) => sum + own,
            None => own,
        });
        self.count += 1;
        self.all = ctx.count;
        self.inverse_sizes += 1.0 / ctx.size.samples.max(1) as f64;
        self.samples += ctx.size.samples;
        self.tokens += ctx.size.tokens;
    }

    /// Estimates the squared norm of the true gradient and the covariance trace, from the gradients of the whole step.
    /// `None` without micro-batches.
    fn estimate(&self, gradients: &Stats<'_>) -> Option<(Deferred, Deferred)> {
        let n = self.count as f64;
        let small = self.squares.clone()? / n;
        let big = square(&gradients.l2());
        Some(estimate(
            small,
            big,
            self.all as f64,
            self.inverse_sizes / n,
        ))
    }

    /// Returns the tokens of a sample; `None` if the data is not text.
    fn tokens_per_sample(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.tokens as f64 / self.samples.max(1) as f64)
    }
}

/// Exponential sums of both estimates and of their weights. Dividing by the weight removes the pull towards 0 of a
/// young average.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Average {
    #[serde(with = "bdh::number")]
    grad_sq: f64,
    #[serde(with = "bdh::number")]
    trace: f64,
    #[serde(with = "bdh::number")]
    weight: f64,
}

/// [`Average`] including a step whose estimates may still be on the device.
#[derive(Debug, Clone)]
struct Pending {
    grad_sq: Deferred,
    trace: Deferred,
    weight: f64,
}

impl Default for GradientNoise {
    fn default() -> Self {
        Self {
            on: Cadence::EVERY_STEP,
            decay: 0.99,
            step: MicroBatches::default(),
            average: Average::default(),
            pending: None,
        }
    }
}

impl Pending {
    fn log(&self, ctx: &AfterBackward<'_>, tokens_per_sample: Option<f64>) {
        let scale = self.trace.clone() / self.grad_sq.clone();
        ctx.log("noise/scale", scale.clone());
        if let Some(tokens) = tokens_per_sample {
            ctx.log("noise/scale_tokens", scale * tokens);
        }
        ctx.log("noise/grad_sq", self.grad_sq.clone() / self.weight);
        ctx.log("noise/trace", self.trace.clone() / self.weight);
    }

    /// Returns the average if it has been read and is finite.
    fn known(&self) -> Option<Average> {
        let average = Average {
            grad_sq: self.grad_sq.value()?,
            trace: self.trace.value()?,
            weight: self.weight,
        };
        let is_finite = average.grad_sq.is_finite() && average.trace.is_finite();
        is_finite.then_some(average)
    }
}

/// Returns unbiased estimates of the squared norm of the true gradient and of the covariance trace of one sample.
///
/// `small` is the mean squared norm of `n` gradients of independent batches, `big` the squared norm of their mean, and
/// `inverse_size` the mean of `1 / size` over the batches, whose sizes may differ.
fn estimate(small: Deferred, big: Deferred, n: f64, inverse_size: f64) -> (Deferred, Deferred) {
    let grad_sq = (big.clone() * n - small.clone()) / (n - 1.0);
    let trace = (small - big) / (inverse_size * (1.0 - 1.0 / n));
    (grad_sq, trace)
}

impl GradientNoise {
    /// Returns the average up to the last due step, without that step if its estimates were not finite.
    fn known(&self) -> Average {
        let pending = self.pending.as_ref().and_then(Pending::known);
        pending.unwrap_or(self.average)
    }

    /// Returns the average with one more estimate.
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

#[callback("gradient_noise", on)]
impl Callback for GradientNoise {
    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        within(
            "decay",
            self.decay,
            0.0..1.0,
            "use a number from 0 to below 1, such as 0.99",
        )?;
        if run.plan().grad_accum_steps < 2 {
            run.note("records nothing: it needs `grad_accum_steps` of 2 or more");
        }
        Ok(())
    }

    fn keys(&self) -> Vec<String> {
        ["scale", "scale_tokens", "grad_sq", "trace"]
            .map(|key| format!("noise/{key}"))
            .into()
    }

    fn on_micro_batch(&mut self, ctx: &MicroBatch<'_>) -> HookResult {
        if ctx.index == 0 {
            self.step = MicroBatches::default();
        }
        // A single micro-batch has no smaller batch to compare with.
        if ctx.count >= 2 {
            self.step.add(ctx);
        }
        Ok(())
    }

    fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult {
        self.average = self.known();
        let step = std::mem::take(&mut self.step);
        if let Some((grad_sq, trace)) = step.estimate(ctx.gradients) {
            let average = self.smooth(grad_sq, trace);
            average.log(ctx, step.tokens_per_sample());
            self.pending = Some(average);
        }
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

    /// Returns a pseudo-random number, about normal with variance 1: the sum of twelve uniform numbers, less its mean.
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
    fn estimates_recover_the_noise_of_synthetic_gradients() {
        // 50 dimensions, a true gradient of squared norm 4.5, noise of trace 50 · 2² = 200 a sample, and batches of
        // 3 and 5 samples in turn.
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
    fn averages_have_no_pull_to_zero_and_skip_nan() {
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
