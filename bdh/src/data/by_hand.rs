//! Training data of loops that pass their batches to the run.

use super::TrainData;
use crate::failure::BoxError;
use serde_json::{Value, json};
use std::fmt;
use std::marker::PhantomData;

/// Training data without batches of its own, made by [`by_hand`].
pub struct ByHand<B> {
    batch: PhantomData<fn() -> B>,
}

/// Returns training data for a loop that makes its batches itself and passes them to
/// [`Run::step_on`](crate::Run::step_on).
///
/// Batches can depend on the model then, such as the rollouts of reinforcement learning. A resumed run is exact if the
/// batches depend on nothing but the model, the step and the seed.
///
/// # Examples
///
/// ```
/// use bdh::data::{TrainData, by_hand};
///
/// let mut data = by_hand::<Vec<f32>>();
/// let error = data.next_batch().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "`by_hand` has no batches of its own: pass them to `Run::step_on`, or give the trainer other `train_data`"
/// );
/// ```
#[must_use]
pub fn by_hand<B>() -> ByHand<B> {
    ByHand { batch: PhantomData }
}

impl<B: Send + 'static> TrainData for ByHand<B> {
    type Batch = B;

    fn next_batch(&mut self) -> Result<B, BoxError> {
        Err("`by_hand` has no batches of its own: pass them to `Run::step_on`, or give the trainer other `train_data`".into())
    }

    /// Returns `{}`: the data has no position, so a run can always be resumed.
    fn state(&self) -> Value {
        json!({})
    }

    fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
        if *state == json!({}) {
            return Ok(());
        }
        let text = format!(
            "the saved position is {state}, and `by_hand` has none: resume with the data of the first run"
        );
        Err(text.into())
    }
}

impl<B> fmt::Debug for ByHand<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByHand").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_by_hand_resume_from_their_own_state_only() {
        let mut data = by_hand::<u8>();
        let state = data.state();
        assert!(!state.is_null(), "null means that a run cannot be resumed");
        assert!(data.load_state(&state).is_ok());

        let error = data
            .load_state(&json!({ "batch": 3 }))
            .expect_err("another state");
        assert_eq!(
            error.to_string(),
            "the saved position is {\"batch\":3}, and `by_hand` has none: resume with the data of the first run"
        );
    }
}
