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
mod documents;
mod error;
mod left_out;
mod nanochat_loader;
mod ngram;
mod order;
mod packing;
mod passages;
mod prepare;
mod remote;
mod rust_sources;
mod shards;
mod spec;
mod stream;
mod synthetic;
mod tokenizer;

pub use corpus::Corpus;
pub use documents::{DocumentError, DocumentKind, Documents, Group, GroupPosition, Groups, Split};
pub use error::DataError;
pub use left_out::LeftOut;
pub use nanochat_loader::{NanochatEval, NanochatLoader, NanochatPosition};
pub use ngram::NgramBaselines;
pub use packing::{Packed, val_batches};
pub use passages::passages;
pub use prepare::{
    Manifest, Packing, Prepare, PrepareError, PrepareProgress, Prepared, ShardEntry,
    UnknownPacking, synthetic_shards,
};
pub use remote::{Remote, SHAKESPEARE};
pub use shards::{
    RowHeader, RowWriter, ShardBatches, ShardError, ShardEval, ShardFormat, ShardSplit, TokenShards,
};
pub use spec::DataSpec;
pub use stream::{PlainBytes, fixed_crops, stream};
pub use tokenizer::{Bpe, HuggingFace, Tokenizer, TokenizerError, Training, read_token_bytes};
