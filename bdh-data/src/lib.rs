//! Training text, tokenizers and batches.
//!
//! ```text
//! DataSpec ──load──> Corpus ──passages──> ids ──Packed──────> TokenBatch, endless, resumable
//! (--data)           train, val   ↑             └─val_batches─> TokenBatch, the same every time
//!                      │       Tokenizer
//!                      └─NgramBaselines::of──> losses of n-gram models, in bits per byte
//! ```
//!
//! Nothing has to be downloaded or prepared: without `--data`, the text is the Rust source of burn, which cargo has
//! already downloaded to build the program.

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
pub use ngram::NgramBaselines;
pub use packing::{Packed, val_batches};
pub use passages::passages;
pub use remote::{Remote, SHAKESPEARE};
pub use spec::DataSpec;
pub use stream::{PlainBytes, fixed_crops, stream};
pub use tokenizer::{Bpe, Tokenizer};
