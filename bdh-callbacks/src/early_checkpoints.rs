//! Checkpoints from the beginning of training, kept for good.
//!
//! Training moves fastest at the start, and the state of a run at steps 250, 500 and 1000 predicts much of its end.
//! Each checkpoint is a directory `checkpoints/ckpt_early_step_<step>` in the run directory, with model, optimizer,
//! step and effective configuration. Rotation does not delete it.
//!
//! Records no keys.

use crate::settings;
use bdh::cadence::{Span, at};
use bdh::checkpoint::CheckpointRequest;
use bdh::hooks::StepEnd;
use bdh::{BoxError, Cadence, Callback, HookResult, Outlook, callback};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};

/// Saves the run at chosen early steps.
///
/// Steps beyond the end of the run are skipped; the plan lists the rest.
///
/// # Examples
///
/// ```
/// use bdh::Callback;
/// use bdh::cadence::fraction;
/// use bdh_callbacks::EarlyCheckpoints;
///
/// let early = EarlyCheckpoints::default(); // 250, 500 and 1000
/// assert_eq!(early.files(600).last().unwrap(), "checkpoints/ckpt_early_step_500");
///
/// let scaled = EarlyCheckpoints::at([fraction(0.1), fraction(0.5)]);
/// assert_eq!(scaled.files(80)[0], "checkpoints/ckpt_early_step_8");
/// ```
#[derive(Debug, Clone, Setters, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyCheckpoints {
    /// Steps on which to save. Defaults to 250, 500 and 1000.
    #[setters(into)]
    #[serde(default = "default_steps")]
    on: Cadence,
}

impl EarlyCheckpoints {
    /// Saves at the given steps, or at the given fractions of the run.
    #[must_use]
    pub fn at<S: Into<Span>>(steps: impl IntoIterator<Item = S>) -> Self {
        Self { on: at(steps) }
    }
}

impl Default for EarlyCheckpoints {
    fn default() -> Self {
        Self {
            on: default_steps(),
        }
    }
}

fn default_steps() -> Cadence {
    at([250, 500, 1000])
}

fn name(step: u64) -> String {
    format!("ckpt_early_step_{step}")
}

#[callback("early_checkpoints", on)]
impl Callback for EarlyCheckpoints {
    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        if !run.has_run_dir() {
            run.note("saves nothing: this run has no `run_dir`");
        }
        Ok(())
    }

    fn files(&self, steps: u64) -> Vec<String> {
        let path = |step| format!("checkpoints/{}", name(step));
        settings::files(&self.on, steps, path)
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        ctx.checkpoint(CheckpointRequest {
            name: name(ctx.step()),
            pinned: true,
        });
        Ok(())
    }
}
