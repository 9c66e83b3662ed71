//! Shared parts of the example programs: command line, output, run directories.

#![forbid(unsafe_code)]

pub mod args;
pub mod digits;
pub mod metric_names;
pub mod nanochat_home;
pub mod nanochat_log;
pub mod page;
pub mod program;
pub mod run_dir;
pub mod summary;

/// The code of docs/callbacks.md compiles, and its tests pass.
#[cfg(doctest)]
#[doc = include_str!("../../docs/callbacks.md")]
struct CallbacksPage;

/// The code of docs/from-burn-train.md compiles.
#[cfg(doctest)]
#[doc = include_str!("../../docs/from-burn-train.md")]
struct FromBurnTrainPage;

/// The code of docs/training.md compiles. Here and not in `bdh`, which has no callbacks, and burn's data loaders only with
/// a feature.
#[cfg(doctest)]
#[doc = include_str!("../../docs/training.md")]
struct TrainingPage;
