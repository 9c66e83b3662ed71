//! Checkpoints from the beginning of training, kept for good.
//!
//! Training moves fastest at the start; what a run is like at steps 250, 500 and 1000 tells much about
//! how it will end. Each checkpoint is a directory `checkpoints/ckpt_early_step_<step>` in the run
//! directory, with model, optimizer, step and effective configuration, and rotation leaves it alone.
//!
//! Records no keys.

use crate::settings;
use bdh::{
    BoxError, Cadence, Callback, CheckpointRequest, HookResult, Outlook, Span, StepEnd, at,
    callback,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Saves the run at chosen early steps.
///
/// Steps beyond the end of a run are passed over; the plan lists those that remain.
///
/// # Examples
///
/// ```
/// use bdh::{Callback, fraction};
/// use bdh_callbacks::EarlyCheckpoints;
///
/// let early = EarlyCheckpoints::default(); // 250, 500 and 1000
/// assert_eq!(early.files(600).last().unwrap(), "checkpoints/ckpt_early_step_500");
///
/// let scaled = EarlyCheckpoints::at([fraction(0.1), fraction(0.5)]);
/// assert_eq!(scaled.files(80)[0], "checkpoints/ckpt_early_step_8");
/// ```
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyCheckpoints {
    /// When to save.
    #[serde(default = "default_steps")]
    at: Cadence,
}

impl EarlyCheckpoints {
    /// Saves at these steps, or at these fractions of the run.
    #[must_use]
    pub fn at<S: Into<Span>>(steps: impl IntoIterator<Item = S>) -> Self {
        Self { at: at(steps) }
    }

    /// Saves whenever `cadence` is due.
    #[must_use]
    pub fn when(cadence: Cadence) -> Self {
        Self { at: cadence }
    }
}

impl Default for EarlyCheckpoints {
    fn default() -> Self {
        Self {
            at: default_steps(),
        }
    }
}

fn default_steps() -> Cadence {
    at([250, 500, 1000])
}

fn name(step: u64) -> String {
    format!("ckpt_early_step_{step}")
}

#[callback("early_checkpoints")]
impl Callback for EarlyCheckpoints {
    fn cadence(&self) -> Cadence {
        self.at.clone()
    }

    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        if !run.has_run_dir() {
            run.note("saves nothing: this run has no `run_dir`");
        }
        Ok(())
    }

    fn config(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn files(&self, steps: u64) -> Vec<String> {
        settings::files(&self.at, steps, |step| {
            format!("checkpoints/{}", name(step))
        })
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        at.checkpoint(CheckpointRequest {
            name: name(at.step()),
            pinned: true,
        });
        Ok(())
    }
}
