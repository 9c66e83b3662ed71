//! Tests of `bdh-data` through its public interface.

mod corpora;
mod downloads;
mod mistakes;
mod packing;
mod shards;
mod tokenizers;
