//! Speed of the run: tokens or samples per second, step time, wait for data, and MFU.
//!
//! | key                     | unit                           | recorded                                       |
//! |-------------------------|--------------------------------|------------------------------------------------|
//! | `train/tok_per_sec`     | tokens per second              | on every due step after the warm-up            |
//! | `train/samples_per_sec` | samples per second             | in its place, if the data is not text          |
//! | `train/step_time`       | seconds                        | on every due step after the warm-up            |
//! | `train/data_wait`       | share of the step time, 0 to 1 | on every due step after the warm-up            |
//! | `train/tokens`          | tokens since the beginning     | on every due step, if the data is text         |
//! | `train/flops`           | operations since the beginning | on every due step, if the task knows its cost  |
//! | `train/mfu`             | share of the peak, 0 to 1      | after the warm-up, if cost and peak are known  |
//!
//! `train/data_wait` is the share of the time in which training waits for its batches. If it is far from 0,
//! [`Prefetch`](bdh::data::Prefetch) or more workers make the run faster.
//!
//! Rates are means over the steps since the last due one, without evals and checkpoints. On a GPU the step that reads the
//! logged values also waits for the device, so only means over several steps are accurate.

mod by_name;
mod peak;

pub use peak::DevicePeak;

use crate::settings::within;
use bdh::cadence::at;
use bdh::hooks::{FitStart, StepEnd, Timing};
use bdh::{BoxError, Cadence, Callback, Clock, HookResult, Outlook, callback};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Records tokens or samples per second, step time, wait for data, and MFU.
///
/// Costs no device read.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::{DevicePeak, Throughput};
///
/// let on_an_h100 = Throughput::default().device_peak(DevicePeak::H100Bf16);
/// let on_something_new = Throughput::default().peak_flops(3.5e15);
/// ```
#[derive(Debug, Clone, Setters, Deserialize, Serialize)]
#[setters(into)]
#[serde(default, deny_unknown_fields)]
pub struct Throughput {
    /// Steps on which to record means since the last due step. Defaults to every step.
    on: Cadence,
    /// Steps to leave out at the beginning, while kernels are compiled and tuned. Defaults to 1.
    #[setters(into = false)]
    warmup_steps: u64,
    /// Device whose peak is the reference for MFU. In a file it is a name, such as `device_peak = "h100-bf16"`. Defaults
    /// to none.
    #[setters(strip_option)]
    device_peak: Option<DevicePeak>,
    /// Peak of one device in operations per second, for MFU. Takes precedence over `device_peak`. Defaults to none.
    #[setters(strip_option)]
    peak_flops: Option<f64>,
    /// Start of the steps that have not been recorded.
    #[setters(skip)]
    #[serde(skip)]
    from: Mark,
    /// Last step of the warm-up.
    #[setters(skip)]
    #[serde(skip)]
    warm_at: u64,
}

impl Default for Throughput {
    fn default() -> Self {
        Self {
            on: Cadence::EVERY_STEP,
            warmup_steps: 1,
            device_peak: None,
            peak_flops: None,
            from: Mark::default(),
            warm_at: 0,
        }
    }
}

/// Progress of the run after some step.
#[derive(Debug, Clone, Default)]
struct Mark {
    step: u64,
    tokens: u64,
    samples: u64,
    timing: Timing,
}

impl Mark {
    fn new(clock: &Clock, timing: Timing) -> Self {
        Self {
            step: clock.step,
            tokens: clock.tokens,
            samples: clock.samples,
            timing,
        }
    }
}

impl Throughput {
    /// Records the total tokens and operations, if the data is text.
    fn log_totals(ctx: &StepEnd<'_>) {
        let tokens = ctx.clock().tokens as f64;
        if tokens == 0.0 {
            return;
        }
        ctx.log("train/tokens", tokens);
        if let Some(cost) = ctx.flops_per_token {
            ctx.log("train/flops", tokens * cost);
        }
    }

    /// Records the means over the steps from `self.from` to `now`.
    fn log_means(&self, ctx: &StepEnd<'_>, now: &Mark) {
        let from = &self.from;
        let seconds = seconds_between(from.timing.step, now.timing.step).max(f64::MIN_POSITIVE);
        let waited = seconds_between(from.timing.data, now.timing.data);
        let rate = (now.tokens - from.tokens) as f64 / seconds;
        let steps = (now.step - from.step) as f64;
        if now.tokens == 0 {
            let rate = (now.samples - from.samples) as f64 / seconds;
            ctx.log("train/samples_per_sec", rate);
        } else {
            ctx.log("train/tok_per_sec", rate);
        }
        ctx.log("train/step_time", seconds / steps);
        ctx.log("train/data_wait", waited / seconds);
        if let (Some(cost), Some(peak), 1..) = (ctx.flops_per_token, self.peak(), now.tokens) {
            ctx.log("train/mfu", rate * cost / (peak * ctx.num_devices() as f64));
        }
    }

    /// Returns the peak of one device in operations per second.
    fn peak(&self) -> Option<f64> {
        self.peak_flops.or(self.device_peak.map(DevicePeak::flops))
    }
}

fn seconds_between(from: Duration, to: Duration) -> f64 {
    to.saturating_sub(from).as_secs_f64()
}

#[callback("throughput")]
impl Callback for Throughput {
    fn cadence(&self) -> Cadence {
        self.on.clone() | at([self.warmup_steps]) // due there too, since the first mean begins there
    }

    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        let peak = self.peak_flops.unwrap_or(1.0);
        let positive = f64::MIN_POSITIVE..=f64::MAX;
        within("peak_flops", peak, positive, "use a finite number above 0")?;
        let (warmup, steps) = (self.warmup_steps, run.plan().steps);
        // A run that is limited by time has no number of steps.
        if steps > 0 && warmup >= steps {
            run.note(format!(
                "records no rates: `warmup_steps` is {warmup}, and the run takes {steps} steps"
            ));
        }
        Ok(())
    }

    fn keys(&self) -> Vec<String> {
        [
            "train/*_per_sec", // tokens, or samples if the data is not text
            "train/step_time",
            "train/data_wait",
            "train/tokens",
            "train/flops",
            "train/mfu",
        ]
        .map(str::to_owned)
        .into()
    }

    fn on_fit_start(&mut self, ctx: &FitStart<'_>) -> HookResult {
        let step = ctx.step();
        self.from = Mark::new(ctx.clock(), Timing::default());
        self.warm_at = step.saturating_add(self.warmup_steps); // a resumed run compiles its kernels again
        Ok(())
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        let now = Mark::new(ctx.clock(), ctx.timing_total);
        let is_due = ctx.is_due(&self.on);
        let is_warm = now.step > self.warm_at;
        if is_due {
            Self::log_totals(ctx);
            // At the end of a run a mean that includes the warm-up is better than none.
            let is_last = ctx.length().is_reached(ctx.clock());
            let excludes_warmup = self.from.step >= self.warm_at || is_last;
            let has_run = now.timing.step > self.from.timing.step; // a replay takes no steps
            if is_warm && excludes_warmup && has_run {
                self.log_means(ctx, &now);
            }
        }
        if is_due || !is_warm {
            self.from = now;
        }
        Ok(())
    }
}
