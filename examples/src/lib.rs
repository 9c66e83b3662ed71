//! Reference models, data, and the programs people run.

pub mod nanochat;
