//! A source of batches that a bench hears of before each: a step begins with its batch.

use bdh::{BatchSize, BoxError, Source};
use serde_json::Value;

/// What a bench does before each batch that a run asks for.
pub(crate) trait BeforeBatch: Send + 'static {
    fn before_batch(&mut self) -> Result<(), BoxError>;
}

/// A source that has something done before each of its batches.
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
