//! How often and how hard gradients are clipped.
//!
//! A run that is clipped on nearly every step has in truth a smaller learning rate than the one it was given;
//! one that is clipped on a few steps only is being saved from bad batches.
//!
//! | key                      | unit                       | recorded                                  |
//! |--------------------------|----------------------------|-------------------------------------------|
//! | `train/clip_coefficient` | factor, at most 1          | on every due step, where clipping is on   |
//! | `train/clip_fraction`    | share of the steps, 0 to 1 | on every due step, where clipping is on   |
//!
//! The fraction is of the steps since the last due one. The norms are those of [`Norms`](crate::Norms).

use bdh::number::Number;
use bdh::{
    BeforeOptimizerStep, BoxError, Cadence, Callback, Deferred, HookResult, Outlook, callback,
    every, last,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Records the share of steps on which gradients were clipped, and by what factor.
///
/// It looks at every step, which costs one addition; the number that a step has clipped or not is read along with
/// whatever else is read.
///
/// # Examples
///
/// ```
/// use bdh::every;
/// use bdh_callbacks::Clipping;
///
/// let every_ten_steps = Clipping::recorded(every(10));
/// ```
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clipping {
    /// Steps on which to record. Defaults to every 100 steps and the last.
    record: Cadence,
    #[serde(skip)]
    since: Since,
}

/// What happened since the last record.
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

impl Default for Clipping {
    fn default() -> Self {
        Self::recorded(every(100) | last())
    }
}

impl Clipping {
    /// Records on these steps what happened since the one before.
    #[must_use]
    pub fn recorded(on: impl Into<Cadence>) -> Self {
        Self {
            record: on.into(),
            since: Since::default(),
        }
    }
}

#[callback("clipping")]
impl Callback for Clipping {
    fn config(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

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

    fn before_optimizer_step(&mut self, at: &BeforeOptimizerStep<'_>) -> HookResult {
        let Some(coefficient) = at.clip_coefficient else {
            return Ok(());
        };
        let is_clipped = coefficient.map(|coefficient| f64::from(u8::from(coefficient < 1.0)));
        let Since { steps, clipped } = std::mem::take(&mut self.since);
        let since = Since {
            steps: steps + 1,
            clipped: clipped + is_clipped,
        };
        if at.is_due(&self.record) {
            at.log("train/clip_coefficient", coefficient.clone());
            at.log("train/clip_fraction", since.clipped / since.steps as f64);
        } else {
            at.read_along(&since.clipped);
            self.since = since;
        }
        Ok(())
    }

    fn state(&self) -> Value {
        json!({ "steps": self.since.steps, "clipped": self.since.clipped.value().map(Number) })
    }

    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        let (steps, clipped) =
            serde_json::from_value::<(u64, Number)>(json!([state["steps"], state["clipped"]]))?;
        self.since = Since {
            steps,
            clipped: Deferred::from(clipped.0),
        };
        Ok(())
    }
}
