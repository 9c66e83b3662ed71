//! Frequency and strength of gradient clipping.
//!
//! A run that is clipped on nearly every step trains with a smaller learning rate than the configured one. A run that
//! is clipped on a few steps is protected from bad batches.
//!
//! | key                      | unit                       | recorded                                  |
//! |--------------------------|----------------------------|-------------------------------------------|
//! | `train/clip_coefficient` | factor, at most 1          | on every due step, where clipping is on   |
//! | `train/clip_fraction`    | share of the steps, 0 to 1 | on every due step, where clipping is on   |
//!
//! The fraction covers the steps since the last due one. [`Norms`](crate::Norms) records the norms.

use bdh::cadence::{every, last};
use bdh::hooks::BeforeOptimizerStep;
use bdh::number::Number;
use bdh::{BoxError, Cadence, Callback, Deferred, HookResult, Outlook, callback};
use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Records the share of steps on which gradients were clipped, and the clipping factor.
///
/// Counts every step, at the cost of one addition. The counts are fetched with the next device read, so there is no
/// device read of its own.
///
/// # Examples
///
/// ```
/// use bdh::cadence::every;
/// use bdh_callbacks::Clipping;
///
/// let every_ten_steps = Clipping::default().on(every(10));
/// ```
#[derive(Debug, Clone, Setters, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clipping {
    /// Steps on which to record. Defaults to every 100 steps and the last; every step is counted.
    #[setters(into)]
    on: Cadence,
    #[setters(skip)]
    #[serde(skip)]
    since: Since,
}

/// Steps since the last record, and how many of them were clipped.
#[derive(Debug, Clone)]
struct Since {
    steps: u64,
    clipped: Deferred,
}

impl Default for Since {
    fn default() -> Self {
        Self {
            steps: 0,
            clipped: Deferred::from(0.0),
        }
    }
}

impl Since {
    /// Adds a step with this clipping factor.
    fn add(&mut self, coefficient: &Deferred) {
        let is_clipped = coefficient.map(|coefficient| f64::from(u8::from(coefficient < 1.0)));
        self.steps += 1;
        self.clipped = self.clipped.clone() + is_clipped;
    }
}

impl Default for Clipping {
    fn default() -> Self {
        Self {
            on: every(100) | last(),
            since: Since::default(),
        }
    }
}

#[callback("clipping")]
impl Callback for Clipping {
    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        if run.plan().clip_grad_norm.is_none() {
            run.note("records nothing: gradients are not clipped (`clip_grad_norm`)");
        }
        Ok(())
    }

    fn keys(&self) -> Vec<String> {
        ["train/clip_coefficient", "train/clip_fraction"]
            .map(str::to_owned)
            .to_vec()
    }

    fn before_optimizer_step(&mut self, ctx: &BeforeOptimizerStep<'_>) -> HookResult {
        let Some(coefficient) = ctx.clip_coefficient else {
            return Ok(());
        };
        self.since.add(coefficient);
        if ctx.is_due(&self.on) {
            let Since { steps, clipped } = std::mem::take(&mut self.since);
            ctx.log("train/clip_coefficient", coefficient.clone());
            ctx.log("train/clip_fraction", clipped / steps as f64);
        } else {
            ctx.read_along(&self.since.clipped); // so that `state` has it at the next checkpoint
        }
        Ok(())
    }

    fn state(&self) -> Value {
        json!({ "steps": self.since.steps, "clipped": self.since.clipped.value().map(Number) })
    }

    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        let fields = json!([state["steps"], state["clipped"]]);
        let (steps, Number(clipped)): (u64, Number) = serde_json::from_value(fields)?;
        self.since = Since {
            steps,
            clipped: Deferred::from(clipped),
        };
        Ok(())
    }
}
