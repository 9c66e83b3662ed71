//! How fast the run is, without asking the device anything.
//!
//! | key                  | unit                        | recorded                              |
//! |----------------------|-----------------------------|---------------------------------------|
//! | `train/tok_per_sec`  | tokens per second           | on every due step after the warm-up   |
//! | `train/step_time`    | seconds                     | on every due step after the warm-up   |
//! | `train/data_wait`    | share of the time, 0 to 1   | on every due step after the warm-up   |
//! | `train/tokens`       | tokens since the beginning  | on every due step                     |
//! | `train/flops`        | operations since the beginning | where the task knows its cost      |
//! | `train/mfu`          | share of the peak, 0 to 1   | where cost and peak are known         |
//!
//! Figures are means over the steps since the last due one. Eval and checkpoints are not in them. On a
//! GPU the wait for the device is in whichever step reads what was logged, so that means are right where
//! a single step's time is not.

mod peak;

pub use peak::DevicePeak;

use crate::settings::within;
use bdh::{
    BoxError, Cadence, Callback, ConfigError, FitStart, HookResult, Outlook, StepEnd, Timing, at,
    callback,
};
use derive_builder::Builder;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Records tokens per second, step time, waiting for data, and MFU.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::{DevicePeak, Throughput};
///
/// let on_an_h100 = Throughput::builder().device_peak(DevicePeak::H100Bf16).build()?;
/// let on_something_new = Throughput::builder().peak_flops(3.5e15).build()?;
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
pub struct Throughput {
    /// Steps on which to record the mean since the last time. Defaults to every step.
    every: Cadence,
    /// Steps left out at the beginning, while kernels are compiled and tuned. Defaults to 1.
    #[builder(setter(into = false))]
    warmup_steps: u64,
    /// The device, for MFU: its peak is taken from a table. By name in a file: `device_peak = "h100-bf16"`.
    #[builder(setter(strip_option))]
    device_peak: Option<DevicePeak>,
    /// Operations per second that one device could do at best, for MFU, where the table does not know it or knows
    /// it wrongly; goes before `device_peak`.
    #[builder(setter(strip_option))]
    peak_flops: Option<f64>,
    /// Where the steps begin that have not been recorded yet.
    #[builder(setter(skip))]
    #[serde(skip)]
    from: Mark,
    /// The last step of the warm-up.
    #[builder(setter(skip))]
    #[serde(skip)]
    warm_at: u64,
}

impl Default for Throughput {
    fn default() -> Self {
        let (every, from) = (Cadence::EVERY_STEP, Mark::default());
        Self {
            every,
            warmup_steps: 1,
            device_peak: None,
            peak_flops: None,
            from,
            warm_at: 0,
        }
    }
}

/// How far the run was at some moment.
#[derive(Debug, Clone, Default)]
struct Mark {
    step: u64,
    tokens: u64,
    timing: Timing,
}

impl Throughput {
    /// Begins with the defaults.
    pub fn builder() -> ThroughputBuilder {
        ThroughputBuilder::default()
    }

    fn record(&self, at: &StepEnd<'_>, now: &Mark) {
        let (before, after) = (self.from.timing, now.timing);
        let seconds = after
            .step
            .saturating_sub(before.step)
            .as_secs_f64()
            .max(f64::MIN_POSITIVE);
        let rate = (now.tokens - self.from.tokens) as f64 / seconds;
        at.log("train/tok_per_sec", rate);
        at.log(
            "train/step_time",
            seconds / (now.step - self.from.step) as f64,
        );
        let waiting = after.data.saturating_sub(before.data).as_secs_f64();
        at.log("train/data_wait", waiting / seconds);
        let peak = self.peak_flops.or(self.device_peak.map(DevicePeak::flops));
        if let (Some(cost), Some(peak)) = (at.flops_per_token, peak) {
            at.log("train/mfu", rate * cost / (peak * at.num_devices() as f64));
        }
    }
}

#[callback("throughput")]
impl Callback for Throughput {
    fn cadence(&self) -> Cadence {
        self.every.clone() | at([self.warmup_steps]) // from there on it counts
    }

    fn config(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        let peak = self.peak_flops.unwrap_or(1.0);
        within(
            "peak_flops",
            peak,
            f64::MIN_POSITIVE..=f64::MAX,
            "use a finite number above 0",
        )?;
        if self.warmup_steps >= run.plan().steps {
            run.note(format!(
                "records no rates: `warmup_steps` is {}, and the run takes {}",
                self.warmup_steps,
                run.plan().steps
            ));
        }
        Ok(())
    }

    fn keys(&self) -> Vec<String> {
        let keys = [
            "tok_per_sec",
            "step_time",
            "data_wait",
            "tokens",
            "flops",
            "mfu",
        ];
        keys.iter().map(|key| format!("train/{key}")).collect()
    }

    fn on_fit_start(&mut self, at: &FitStart<'_>) -> HookResult {
        let (step, tokens) = (at.step(), at.clock().tokens);
        self.from = Mark {
            step,
            tokens,
            timing: Timing::default(),
        };
        self.warm_at = step.saturating_add(self.warmup_steps); // a resumed run compiles its kernels again
        Ok(())
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        let tokens = at.clock().tokens;
        let now = Mark {
            step: at.step(),
            tokens,
            timing: at.timing_total,
        };
        let is_due = at.is_due(&self.every);
        if is_due {
            at.log("train/tokens", tokens as f64);
            if let Some(cost) = at.flops_per_token {
                at.log("train/flops", tokens as f64 * cost);
            }
        }
        let is_warm = now.step > self.warm_at;
        // A mean that the warm-up is part of is better than none at the end of a run.
        let is_clean = self.from.step >= self.warm_at || now.step == at.steps();
        let has_run = now.timing.step > self.from.timing.step; // a replay takes no steps
        if is_warm && is_clean && is_due && has_run {
            self.record(at, &now);
        }
        if is_due || !is_warm {
            self.from = now;
        }
        Ok(())
    }
}
