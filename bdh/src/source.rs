//! Sources of training batches.

use crate::failure::BoxError;
use crate::task::BatchSize;
use serde_json::Value;

/// An endless, resumable stream of training micro-batches, such as [`RandomCrops`](crate::lm::RandomCrops).
///
/// A source keeps its data on the host; the task moves a batch to the device.
///
/// A run resumes exactly if a source does: after [`seek`](Self::seek) it must yield the batches that followed the
/// matching [`position`](Self::position).
pub trait Source: Send + 'static {
    /// Input of one forward and backward pass.
    type Batch: Send;

    /// Returns the next micro-batch; at the end of the data it starts over.
    ///
    /// # Errors
    ///
    /// If the data cannot be read. The run then fails.
    fn next_batch(&mut self) -> Result<Self::Batch, BoxError>;

    /// Returns the size of every batch, if all are equal and the size is known before the run. Defaults to `None`.
    ///
    /// See [`Task::batch_size`](crate::Task::batch_size).
    fn batch_size(&self) -> Option<BatchSize> {
        None
    }

    /// Returns the position in the stream, a small JSON value that every checkpoint holds.
    ///
    /// `null` means that the position is unknown; a run on such a source cannot be resumed.
    fn position(&self) -> Value;

    /// Moves to a position that [`position`](Self::position) returned.
    ///
    /// # Errors
    ///
    /// If the position does not belong to this data.
    fn seek(&mut self, position: &Value) -> Result<(), BoxError>;
}
