//! Callbacks and sinks for [`bdh`]: one file each, each with a table of the keys it records.
//!
//! | callback | registered as | what it watches |
//! |---|---|---|
//! | [`Norms`] | `norms` | L2 of weights, gradients and updates: global, of groups, per parameter |
//! | [`Clipping`] | `clipping` | how often and how hard gradients are clipped |
//! | [`Ratios`] | `ratios` | gradients and updates beside their weights; a line on the terminal |
//! | [`Histograms`] | `histograms` | distributions of weights, gradients, updates, activations |
//! | [`Overlay`] | `overlay` | pictures of many distributions on one axis (feature `plots`) |
//! | [`Activations`] | `activations` | mean, spread, RMS, zeros and dead units of what the model shows |
//! | [`Throughput`] | `throughput` | tokens per second, step time, data wait, MFU |
//! | [`EarlyCheckpoints`] | `early_checkpoints` | saves at chosen early steps, for good |
//! | [`Artifacts`] | `artifacts` | hands checkpoints to the sinks, as `latest`, `early-250`, `best` |
//!
//! | sink | by name | where | feature |
//! |---|---|---|---|
//! | [`Console`] | `console` | the terminal | |
//! | [`TensorBoard`] | `tensorboard` | event files in the run directory | `tensorboard` |
//! | [`Wandb`] | `wandb` | Weights & Biases: its log on disk, and online | `wandb`, `wandb-online` |
//! | [`bdh::Jsonl`] | `jsonl` | `metrics.jsonl`, which every run directory has | |
//!
//! [`sinks`] makes them by name.

mod activations;
mod artifacts;
mod clipping;
mod early_checkpoints;
mod histograms;
mod norms;
#[cfg(feature = "plots")]
mod overlay;
mod param_filter;
mod ratios;
mod sinks;
mod throughput;

pub use activations::{Activations, ActivationsBuilder};
pub use artifacts::Artifacts;
pub use clipping::Clipping;
pub use early_checkpoints::EarlyCheckpoints;
pub use histograms::{Histograms, HistogramsBuilder};
pub use norms::{Norms, NormsBuilder};
#[cfg(feature = "plots")]
pub use overlay::{Overlay, OverlayBuilder};
pub use param_filter::ParamFilter;
pub use ratios::{Ratios, RatiosBuilder};
#[cfg(feature = "wandb")]
pub use sinks::wandb::{self, Wandb};
pub use sinks::{Console, sinks};
#[cfg(feature = "tensorboard")]
pub use sinks::{Layout, TensorBoard};
pub use throughput::{Throughput, ThroughputBuilder};

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
