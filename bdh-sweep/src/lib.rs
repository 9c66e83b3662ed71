//! Sweeps: the search that a W&B `sweep.yaml` describes, without a server.
//!
//! | item | represents |
//! |---|---|
//! | [`Sweep`] | the file: method, metric, parameters, command; read strictly, with the line of each mistake |
//! | [`Distribution`] | the values of one parameter |
//! | [`Space`] | all parameters: points of a grid, random points |
//! | [`Bayes`] | the search for points that should improve on finished trials |
//! | [`Hyperband`] | the decision to stop unpromising runs early |
//! | [`TrialStore`], [`Trial`] | the folder of a sweep: its trials, their workers and results |
//! | [`Runner`], [`Watcher`] | trials as processes |
//! | [`runs`] | recorded runs: one row and one trajectory each, as a table, as CSV, as a page |
//!
//! The values of a trial depend only on the sweep's seed and the trial's number, and for bayes on the results of
//! earlier trials. A grid or random sweep that was killed therefore continues with the same trials.
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
mod metric;
mod parameter;
mod process;
mod python;
mod reason;
mod runner;
mod schema;
mod space;
mod trial;
mod trial_store;
mod yaml;

pub mod runs;

pub use bayes::Bayes;
pub use distribution::{Distribution, Law};
pub use error::SweepError;
pub use goal::Goal;
pub use hyperband::{Hyperband, Progress};
pub use process::trial_dir;
pub use runner::{Runner, Running, SweepOutcome, Watcher};
pub use schema::{Method, Metric, Sweep};
pub use space::{GridError, Space};
pub use trial::{Status, Trial};
pub use trial_store::TrialStore;

/// The code of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
