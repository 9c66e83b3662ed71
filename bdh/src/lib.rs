//! A training framework on [burn]: a loop one can read in a sitting, hooks one can write in a minute.

mod cadence;
mod clock;
mod probe;
mod source;

pub mod lm;

pub use burn;
pub use cadence::{
    Cadence, CadenceError, at, between, every, first, last, log_spaced, never, start,
};
pub use clock::{Clock, Span, fraction, minutes, samples, secs, steps, tokens};
pub use lm::{CausalLm, TokenBatch};
pub use probe::{Probe, Tap};
pub use source::Source;

/// An error of somebody else's making, with its cause.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
