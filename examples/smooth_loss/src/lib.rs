//! Smoothed training loss: a callback for `bdh`.

use bdh::cadence::{every, last};
use bdh::hooks::StepEnd;
use bdh::number::Number;
use bdh::{BoxError, Cadence, Callback, Deferred, HookResult, callback};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Records `train/loss_smooth`, a moving average of the loss, which shows the trend of a noisy curve.
#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmoothLoss {
    /// Steps on which to record. Defaults to every 10 steps and the last.
    pub on: Cadence,
    /// Share of the average that a step keeps. Defaults to 0.98, an average over about 50 steps.
    pub decay: f64,
    #[serde(skip)]
    average: Option<Deferred>,
}

impl SmoothLoss {
    /// Sets the steps on which to record.
    #[must_use]
    pub fn on(mut self, cadence: impl Into<Cadence>) -> Self {
        self.on = cadence.into();
        self
    }
}

impl Default for SmoothLoss {
    fn default() -> Self {
        Self {
            on: every(10) | last(),
            decay: 0.98,
            average: None,
        }
    }
}

#[callback("smooth_loss")]
impl Callback for SmoothLoss {
    fn keys(&self) -> Vec<String> {
        vec!["train/loss_smooth".to_owned()]
    }

    fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult {
        let average = match self.average.take() {
            None => ctx.loss.clone(),
            Some(average) => average * self.decay + ctx.loss.clone() * (1.0 - self.decay),
        };
        if ctx.is_due(&self.on) {
            ctx.log("train/loss_smooth", average.clone());
        } else {
            ctx.read_along(&average); // so that `state` has the number at the next checkpoint
        }
        self.average = Some(average);
        Ok(())
    }

    fn state(&self) -> Value {
        json!(self.average.as_ref().and_then(Deferred::value).map(Number))
    }

    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        let average: Option<Number> = serde_json::from_value(state)?;
        self.average = average.map(|Number(average)| average.into());
        Ok(())
    }
}
