//! A source of batches that calls a bench before each batch, which is the beginning of a step.

use bdh::{BatchSize, BoxError, Source};
use serde_json::Value;

/// Work of a bench before each batch.
pub(crate) trait BeforeBatch: Send + 'static {
    fn before_batch(&mut self) -> Result<(), BoxError>;
}

/// Source that runs some work before each batch.
pub(crate) struct Interrupted<S, B> {
    pub(crate) source: S,
    pub(crate) before: B,
}

impl<S: Source, B: BeforeBatch> Source for Interrupted<S, B> {
    type Batch = S::Batch;

    fn next_batch(&mut self) -> Result<S::Batch, BoxError> {
        self.before.before_batch()?;
        self.source.next_batch()
    }

    fn batch_size(&self) -> Option<BatchSize> {
        self.source.batch_size()
    }

    fn position(&self) -> Value {
        self.source.position()
    }

    fn seek(&mut self, position: &Value) -> Result<(), BoxError> {
        self.source.seek(position)
    }
}
