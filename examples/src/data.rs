//! Text to train on, and how it becomes batches.
//!
//! Nothing has to be downloaded or prepared: without `--data`, the text is the Rust source of burn itself,
//! which cargo unpacked on the way to building this program.

mod corpus;
mod error;
mod ngram;
mod order;
mod remote;
mod rust_sources;
mod spec;
mod synthetic;

pub use corpus::Corpus;
pub use error::DataError;
pub use ngram::Levels;
pub use remote::{Remote, SHAKESPEARE};
pub use spec::DataSpec;
pub use synthetic::Markov;
