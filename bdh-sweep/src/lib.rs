//! Sweeps: the search that a `sweep.yaml` of W&B describes, without a server.
//!
//! | file | has |
//! |---|---|
//! | [`Sweep`] | the file: method, metric, parameters, command; read strictly, with the line of each mistake |
//! | [`Distribution`] | where the values of one parameter come from |
//! | [`Space`] | all parameters: the points of a grid, the points at random |
//! | [`Bayes`] | points where an improvement is to be expected, from those that are done |
//! | [`Hyperband`] | which runs are not worth their next steps |
//! | [`Ledger`], [`Trial`] | the folder of a sweep: its trials, who runs them, how they ended |
//! | [`Runner`], [`Watcher`] | each trial as a process of its own |
//! | [`runs`] | runs read back: one row and one trajectory each, as a table, as CSV, as a page |
//!
//! What is drawn depends on the sweep's seed and on the number of the trial, and for bayes on what the trials so far have
//! reached: a grid or a random sweep that was killed goes on with the same trials.
//!
//! ```
//! use bdh_sweep::Sweep;
//!
//! let sweep: Sweep = "
//! method: random
//! metric: { name: val_bpb, goal: minimize }
//! parameters:
//!   depth: { values: [8, 12, 16] }
//!   lr: { distribution: log_uniform_values, min: 0.0001, max: 0.01 }
//! ".parse()?;
//! let trial = sweep.space().random(42, 0);
//! assert!(trial["lr"].as_f64() > Some(0.0001));
//! # Ok::<(), bdh_sweep::SweepError>(())
//! ```

#![forbid(unsafe_code)]

mod bayes;
mod checked;
mod command;
mod distribution;
mod error;
mod goal;
mod hyperband;
mod ledger;
mod metric;
mod process;
mod python;
mod reason;
mod runner;
mod schema;
mod space;
mod trial;
mod yaml;

pub mod runs;

pub use bayes::Bayes;
pub use distribution::{Distribution, Law};
pub use error::SweepError;
pub use goal::Goal;
pub use hyperband::{Hyperband, Progress};
pub use ledger::Ledger;
pub use process::trial_dir;
pub use runner::{Runner, Running, SweepOutcome, Watcher};
pub use schema::{Method, Metric, Sweep};
pub use space::{GridError, Space};
pub use trial::{Status, Trial};

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
