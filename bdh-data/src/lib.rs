//! Text to train on, and how it becomes batches.
//!
//! ```text
//! DataSpec ──load──> Corpus ──passages──> ids ──Packed──────> TokenBatch, endless, resumable
//! (--data)           train, val   ↑             └─val_batches─> TokenBatch, the same every time
//!                      │       Tokenizer
//!                      └─Levels::of──> what counting alone achieves, in bits per byte
//! ```
//!
//! Nothing has to be downloaded or prepared: without `--data`, the text is the Rust source of burn itself,
//! which cargo unpacked on the way to building this program.

#![forbid(unsafe_code)]

mod best_fit;
mod corpus;
mod error;
mod left_out;
mod ngram;
mod order;
mod packing;
mod passages;
mod remote;
mod rust_sources;
mod spec;
mod stream;
mod synthetic;
mod tokenizer;

pub use corpus::Corpus;
pub use error::DataError;
pub use left_out::LeftOut;
pub use ngram::Levels;
pub use packing::{Packed, val_batches};
pub use passages::passages;
pub use remote::{Remote, SHAKESPEARE};
pub use spec::DataSpec;
pub use stream::{PlainBytes, fixed_crops, stream};
pub use tokenizer::{Bpe, Tokenizer};
