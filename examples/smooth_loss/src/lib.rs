//! The training loss, smoothed, for `bdh`.

use bdh::number::Number;
use bdh::{BoxError, Cadence, Callback, Deferred, HookResult, StepEnd, callback, every, last};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Records `train/loss_smooth`, a moving average of the loss, which shows the trend of a noisy curve.
#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmoothLoss {
    /// The steps on which it is recorded.
    pub record: Cadence,
    /// How much of the average a step keeps; 0.98 is an average of some 50 steps.
    pub decay: f64,
    #[serde(skip)]
    average: Option<Deferred>,
}

impl SmoothLoss {
    /// Records on these steps an average of some 50.
    pub fn recorded(on: impl Into<Cadence>) -> Self {
        Self {
            record: on.into(),
            decay: 0.98,
            average: None,
        }
    }
}

impl Default for SmoothLoss {
    fn default() -> Self {
        Self::recorded(every(10) | last())
    }
}

#[callback("smooth_loss")]
impl Callback for SmoothLoss {
    fn config(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn keys(&self) -> Vec<String> {
        vec!["train/loss_smooth".to_owned()]
    }

    fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult {
        let average = match self.average.take() {
            None => at.loss.clone(),
            Some(average) => average * self.decay + at.loss.clone() * (1.0 - self.decay),
        };
        if at.is_due(&self.record) {
            at.log("train/loss_smooth", average.clone());
        } else {
            at.read_along(&average); // so that `state` knows it
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
