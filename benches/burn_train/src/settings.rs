//! Settings of the run, the same for both sides.

pub const TRAIN: usize = 4_096;
pub const VAL: usize = 1_024;
pub const BATCH: usize = 64;
pub const EPOCHS: usize = 3;
pub const WORKERS: usize = 2;
