//! A training framework on [burn]: a loop one can read in a sitting, hooks one can write in a minute.

mod probe;
mod source;

pub mod lm;

pub use burn;
pub use lm::{CausalLm, TokenBatch};
pub use probe::{Probe, Tap};
pub use source::Source;

/// An error of somebody else's making, with its cause.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
