//! Data of a run: training data without an end, evaluation data with one, and adapters for what you already have.
//!
//! | you have                                   | use                                                  |
//! |--------------------------------------------|------------------------------------------------------|
//! | batches in memory                          | [`cycle`]; for an eval the `Vec` itself              |
//! | a function that makes an iterator          | [`epochs`]; for an eval [`stream`]                   |
//! | a `Dataset` and a `Batcher` of burn        | `DatasetLoader` (feature `dataset`)                  |
//! | a `DataLoader` of burn                     | `burn_loader` (feature `dataset`)                    |
//! | a token stream                             | [`RandomCrops`](crate::lm::RandomCrops), [`windows`](crate::lm::windows) |
//! | slow data                                  | any of these in [`Prefetch`]                         |
//! | batches that depend on the model           | [`by_hand`], and [`Run::step_on`](crate::Run::step_on) |

mod by_hand;
mod cycle;
mod epochs;
#[cfg(feature = "dataset")]
mod loader;
mod prefetch;
mod stream;
mod worker;

pub use by_hand::{ByHand, by_hand};
pub use cycle::{Cycle, cycle};
pub use epochs::{Epochs, epochs};
#[cfg(feature = "dataset")]
pub use loader::{BurnLoader, DatasetLoader, burn_loader};
pub use prefetch::Prefetch;
pub use stream::{Stream, stream};

use crate::failure::BoxError;
use crate::task::BatchSize;
use serde_json::Value;
use std::any::Any;

/// An endless, resumable stream of training micro-batches, which the trainer owns and draws from on its own thread.
///
/// Data stays on the host; the task moves a batch to the device. A run resumes exactly if its data does: after
/// [`load_state`](Self::load_state) it must yield the batches that followed the matching [`state`](Self::state).
///
/// # Examples
///
/// ```
/// use bdh::BoxError;
/// use bdh::data::TrainData;
/// use serde_json::{Value, json};
///
/// /// Counts: 0, 1, 2, …
/// struct Count(u64);
///
/// impl TrainData for Count {
///     type Batch = u64;
///
///     fn next_batch(&mut self) -> Result<u64, BoxError> {
///         self.0 += 1;
///         Ok(self.0 - 1)
///     }
///
///     fn state(&self) -> Value {
///         json!(self.0)
///     }
///
///     fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
///         self.0 = state.as_u64().ok_or("the position is not a number")?;
///         Ok(())
///     }
/// }
/// ```
pub trait TrainData: Any + Send {
    /// Input of one forward and backward pass.
    type Batch: Send;

    /// Returns the next micro-batch; at the end of the data it starts over.
    ///
    /// # Errors
    ///
    /// If the data cannot be read. The run then fails with this text.
    fn next_batch(&mut self) -> Result<Self::Batch, BoxError>;

    /// Returns the size of every batch, if all are equal and the size is known before the run. Defaults to `None`.
    ///
    /// Durations in tokens or samples need it, and the plan needs it to predict cadences that count them.
    fn batch_size(&self) -> Option<BatchSize> {
        None
    }

    /// Returns the number of micro-batches in one pass over the data, if it is known. Defaults to `None`.
    ///
    /// Cadences and durations in epochs need it.
    fn batches_per_epoch(&self) -> Option<u64> {
        None
    }

    /// Returns the position after the last batch that was returned, a small JSON value that every checkpoint holds.
    ///
    /// With the default, `null`, the position is unknown and the run cannot be resumed. Data whose batches are all
    /// equal can return any other value, such as `json!({})`.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Moves to a position that [`state`](Self::state) returned.
    ///
    /// # Errors
    ///
    /// If the position does not belong to this data.
    fn load_state(&mut self, _state: &Value) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<B: Send + 'static> TrainData for Box<dyn TrainData<Batch = B>> {
    type Batch = B;

    fn next_batch(&mut self) -> Result<B, BoxError> {
        (**self).next_batch()
    }

    fn batch_size(&self) -> Option<BatchSize> {
        (**self).batch_size()
    }

    fn batches_per_epoch(&self) -> Option<u64> {
        (**self).batches_per_epoch()
    }

    fn state(&self) -> Value {
        (**self).state()
    }

    fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
        (**self).load_state(state)
    }
}

/// Batches of an eval: finite, and the same at every eval. A `Vec` of batches is the simplest.
///
/// Batches are evaluated as they come, so one is in memory at a time (one for each device that evaluates).
///
/// # Examples
///
/// ```
/// use bdh::data::{EvalData, stream};
///
/// let in_memory = vec![1, 2, 3];
/// assert_eq!(in_memory.batches().count(), 3);
///
/// let streamed = stream(|| (0..1_000_000).map(|batch| batch * 2));
/// assert_eq!(streamed.batches().count(), 1_000_000);
/// ```
pub trait EvalData: Send {
    /// Input of one forward pass.
    type Batch: Send;

    /// Returns the batches from the first to the last.
    ///
    /// An item is an error if the data cannot be read. The run then fails with this text.
    fn batches(&self) -> Box<dyn Iterator<Item = Result<Self::Batch, BoxError>> + '_>;

    /// Returns the number of batches, if it is known without reading them. Defaults to `None`.
    fn num_batches(&self) -> Option<usize> {
        None
    }

    /// Returns all batches, if they are in memory. Defaults to none.
    ///
    /// The trainer checks these before the run; of other data it checks the first batch before the run, and each
    /// further one as it comes.
    fn in_memory(&self) -> &[Self::Batch] {
        &[]
    }
}

impl<B: Clone + Send + 'static> EvalData for Vec<B> {
    type Batch = B;

    fn batches(&self) -> Box<dyn Iterator<Item = Result<B, BoxError>> + '_> {
        Box::new(self.iter().cloned().map(Ok))
    }

    fn num_batches(&self) -> Option<usize> {
        Some(self.len())
    }

    fn in_memory(&self) -> &[B] {
        self
    }
}

impl<B: Send + 'static> EvalData for Box<dyn EvalData<Batch = B>> {
    type Batch = B;

    fn batches(&self) -> Box<dyn Iterator<Item = Result<B, BoxError>> + '_> {
        (**self).batches()
    }

    fn num_batches(&self) -> Option<usize> {
        (**self).num_batches()
    }

    fn in_memory(&self) -> &[B] {
        (**self).in_memory()
    }
}
