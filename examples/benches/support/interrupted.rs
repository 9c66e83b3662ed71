//! Training data that calls a bench before each batch, which is the beginning of a step.

use bdh::data::TrainData;
use bdh::{BatchSize, BoxError};
use serde_json::Value;

/// Work of a bench before each batch.
pub(crate) trait BeforeBatch: Send + 'static {
    fn before_batch(&mut self) -> Result<(), BoxError>;
}

/// Training data that runs some work before each batch.
pub(crate) struct Interrupted<D, B> {
    pub(crate) data: D,
    pub(crate) before: B,
}

impl<D: TrainData, B: BeforeBatch> TrainData for Interrupted<D, B> {
    type Batch = D::Batch;

    fn next_batch(&mut self) -> Result<D::Batch, BoxError> {
        self.before.before_batch()?;
        self.data.next_batch()
    }

    fn batch_size(&self) -> Option<BatchSize> {
        self.data.batch_size()
    }

    fn state(&self) -> Value {
        self.data.state()
    }

    fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
        self.data.load_state(state)
    }
}
