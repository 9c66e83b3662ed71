//! Where training batches come from.

use crate::failure::BoxError;
use crate::task::BatchSize;
use serde_json::Value;

/// An endless, resumable stream of training micro-batches.
///
/// A source holds host data; moving a batch to the device is the task's work. What it yields after
/// [`seek`](Self::seek) is what it would have yielded after the matching [`position`](Self::position):
/// an exact resume rests on that.
pub trait Source: Send + 'static {
    /// What one forward and backward pass sees.
    type Batch: Send;

    /// Yields the next micro-batch; begins again where the data ends.
    ///
    /// # Errors
    ///
    /// Whatever keeps the data from being read; the run then stops.
    fn next_batch(&mut self) -> Result<Self::Batch, BoxError>;

    /// How much every batch holds, where they are all alike and that is known beforehand; see
    /// [`Task::batch_size`](crate::Task::batch_size).
    fn batch_size(&self) -> Option<BatchSize> {
        None
    }

    /// Tells where the stream stands, small enough to be saved with every checkpoint.
    fn position(&self) -> Value;

    /// Continues from a position that [`position`](Self::position) gave.
    ///
    /// # Errors
    ///
    /// If the position does not belong to this data.
    fn seek(&mut self, position: &Value) -> Result<(), BoxError>;
}
