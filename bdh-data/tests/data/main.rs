//! Tests of `bdh-data` through its public interface.

mod corpora;
mod documents;
mod downloads;
mod homes;
mod mistakes;
mod nanochat_loader;
mod packing;
mod prepare;
mod shards;
mod tiktoken;
mod tokenizers;
