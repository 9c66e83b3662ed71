//! Text to train on, and how it becomes batches.
//!
//! Nothing has to be downloaded or prepared: without `--data`, the text is the Rust source of burn itself,
//! which cargo unpacked on the way to building this program.

mod corpus;
mod error;
mod ngram;
mod order;
mod passages;
mod remote;
mod rust_sources;
mod spec;
mod synthetic;
mod tokenizer;

pub use corpus::Corpus;
pub use error::DataError;
pub use ngram::Levels;
pub use passages::passages;
pub use remote::{Remote, SHAKESPEARE};
pub use spec::DataSpec;
pub use synthetic::Markov;
pub use tokenizer::{Bpe, Tokenizer};
