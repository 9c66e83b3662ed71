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
//! GPU a step's time is the time to queue its work; means over many steps are right, because each
//! recorded step waits for the device once.

use bdh::{BoxError, Cadence, Callback, ConfigError, HookResult, StepEnd, callback};
use derive_builder::Builder;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Records tokens per second, step time, waiting for data, and MFU.
///
/// # Examples
///
/// ```
/// use bdh_callbacks::Throughput;
///
/// let on_an_h100 = Throughput::builder().peak_flops(989.4e12).build()?;
/// # Ok::<(), bdh::ConfigError>(())
/// ```
#[derive(Debug, Clone, Builder, Deserialize)]
#[builder(pattern = "owned", default, setter(into), build_fn(error = "ConfigError"))]
#[builder_struct_attr(must_use = "a builder does nothing until `build` is called")]
#[serde(default, deny_unknown_fields)]
pub struct Throughput {
    /// Steps on which to record the mean since the last time. Defaults to every step.
    every: Cadence,
    /// Steps left out at the beginning, while kernels are compiled and tuned. Defaults to 1.
    warmup_steps: u64,
    /// Operations per second that the device could do at best, for MFU. 989.4e12 for an H100 in bf16.
    #[builder(setter(strip_option))]
    peak_flops: Option<f64>,
    #[builder(setter(skip))]
    #[serde(skip)]
    window: Window,
}

impl Default for Throughput {
    fn default() -> Self {
        let (every, window) = (Cadence::EVERY_STEP, Window::default());
        Self { every, warmup_steps: 1, peak_flops: None, window }
    }
}

/// What has gone by since the last record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Window {
    steps: u64,
    tokens: u64,
    time: Duration,
    data: Duration,
    /// The clock's tokens at the last step seen.
    tokens_before: u64,
}

impl Throughput {
    /// Begins with the defaults.
    pub fn builder() -> ThroughputBuilder {
        ThroughputBuilder::default()
    }

    fn record(&self, at: &StepEnd<'_>) {
        let Window { steps, tokens, time, data, .. } = self.window;
        let seconds = time.as_secs_f64().max(f64::MIN_POSITIVE);
        let rate = tokens as f64 / seconds;
        at.log("train/tok_per_sec", rate);
        at.log("train/step_time", seconds / steps as f64);
        at.log("train/data_wait", data.as_secs_f64() / seconds);
        if let (Some(cost), Some(peak)) = (at.flops_per_token, self.peak_flops) {
            at.log("train/mfu", rate * cost / peak);
        }
    }
}

#[callback("throughput")]
impl Callback for Throughput {
    // It acts on every step, to add it up; `every` says when the sum is recorded.

    fn keys(&self) -> Vec<String> {
        let keys = ["tok_per_sec", "step_time", "data_wait", "tokens", "flops", "mfu"];
        keys.iter().map(|key| format!("train/{key}")).collect()
    }

    fn state(&self) -> serde_json::Value {
        serde_json::json!({ "tokens": self.window.tokens_before })
    }

    fn load_state(&mut self, state: serde_json::Value) -> Result<(), BoxError> {
        let tokens = state["tokens"].as_u64().ok_or("throughput's state has no tokens")?;
        self.window = Window { tokens_before: tokens, ..Window::default() };
        Ok(())
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        let total = at.clock().tokens;
        let tokens = total - self.window.tokens_before;
        self.window.tokens_before = total;
        if at.step() > self.warmup_steps {
            self.window.steps += 1;
            self.window.tokens += tokens;
            self.window.time += at.timing.step;
            self.window.data += at.timing.data;
        }
        if !at.is_due(&self.every) {
            return Ok(());
        }
        at.log("train/tokens", total as f64);
        if let Some(cost) = at.flops_per_token {
            at.log("train/flops", total as f64 * cost);
        }
        if self.window.steps > 0 {
            self.record(at);
            self.window = Window { tokens_before: total, ..Window::default() };
        }
        Ok(())
    }
}
