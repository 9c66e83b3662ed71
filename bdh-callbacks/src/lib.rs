//! Callbacks and sinks for [`bdh`]: one file each, each with a table of the keys it records.
//!
//! | callback | registered as | what it watches |
//! |---|---|---|
//! | [`Norms`] | `norms` | L2 of weights, gradients and updates: global, of groups, per parameter |
//! | [`Clipping`] | `clipping` | how often and how hard gradients are clipped |
//! | [`Ratios`] | `ratios` | gradients and updates beside their weights; a line on the terminal |
//! | [`Histograms`] | `histograms` | distributions of weights, gradients, updates, activations |
//! | [`Overlay`] | `overlay` | pictures of many distributions on one axis (feature `plots`) |
//! | [`Ridges`] | `ridges` | a picture of each parameter's distribution over the run (feature `plots`) |
//! | [`Activations`] | `activations` | mean, spread, RMS, zeros and dead units of what the model shows |
//! | [`Throughput`] | `throughput` | tokens per second, step time, data wait, MFU |
//! | [`EarlyCheckpoints`] | `early_checkpoints` | saves at chosen early steps, for good |
//! | [`Samples`] | `samples` | continues prompts: the text, and how repetitive it is |
//! | [`EarlyStop`] | `early_stop` | ends a run that gets no better, is good enough, or has diverged |
//! | [`Finite`] | `finite` | NaN and infinities in loss and gradients: reports or stops; [`SkipNonFinite`] skips |
//! | [`ForecastEnd`] | `forecast` | where the run will end, learned from past runs |
//! | [`Spikes`] | `spikes` | how far loss and gradient norm jump, and on which batch |
//! | [`Ema`] | `ema` | a moving average of the weights, evaluated beside them |
//! | [`Checkpoints`] | `checkpoints` | keeps the best checkpoints by a metric |
//! | [`Memory`] | `memory` | memory of the process and the device, and leaks |
//! | [`System`] | `system` | how busy the CPU and the GPUs are |
//! | [`GradientNoise`] | `gradient_noise` | the noise scale, from micro-batches: how large a batch is worth it |
//! | [`Profile`] | `profile` | where the time of a step goes |
//! | [`Artifacts`] | `artifacts` | hands checkpoints to the sinks, as `latest`, `early-250`, `best` |
//!
//! The trainer itself records `train/loss` and the learning rates (`lr`, and `lr/<group>` where there are several
//! groups), keeps the newest checkpoints, and writes one at any cadence, by time too.
//!
//! | sink | by name | where | feature |
//! |---|---|---|---|
//! | [`Console`] | `console` | the terminal | |
//! | [`TensorBoard`] | `tensorboard` | event files in the run directory | `tensorboard` |
//! | [`Wandb`] | `wandb` | Weights & Biases: its log on disk, and online | `wandb`, `wandb-online` |
//! | [`bdh::Jsonl`] | `jsonl` | `metrics.jsonl`, which every run directory has | |
//!
//! [`sinks`] makes them by name.
//!
//! # Features
//!
//! | feature | brings | default |
//! |---|---|---|
//! | `plots` | pictures of distributions: [`Overlay`], [`Ridges`] | yes |
//! | `tensorboard` | the sink [`TensorBoard`] | yes |
//! | `wandb` | the sink [`Wandb`], offline | yes |
//! | `wandb-online` | and its upload | |
//! | `flex` | the CPU, in pure Rust | yes |
//! | `wgpu`, `vulkan`, `metal`, `cuda` | GPUs, as in [`bdh`] | |

#![forbid(unsafe_code)]

mod activations;
mod artifacts;
mod checkpoints;
mod clipping;
mod early_checkpoints;
mod early_stop;
mod ema;
mod finite;
mod forecast;
mod gradient_noise;
mod histograms;
mod host;
mod memory;
mod norms;
#[cfg(feature = "plots")]
mod overlay;
mod param_filter;
#[cfg(feature = "plots")]
mod plot;
mod profile;
mod ratios;
#[cfg(feature = "plots")]
mod ridges;
mod samples;
mod settings;
mod sinks;
mod spikes;
mod system;
mod throughput;

#[cfg(feature = "tensorboard")]
pub use bdh_tensorboard::{Layout, TensorBoard};
#[cfg(feature = "wandb")]
pub use bdh_wandb::{self as wandb, Wandb};

pub use activations::{Activations, ActivationsBuilder};
pub use artifacts::Artifacts;
pub use checkpoints::{Checkpoints, CheckpointsBuilder};
pub use clipping::Clipping;
pub use early_checkpoints::EarlyCheckpoints;
pub use early_stop::{EarlyStop, EarlyStopBuilder, Mode};
pub use ema::{Ema, EmaBuilder};
pub use finite::{Finite, FiniteBuilder, OnNonFinite, SkipNonFinite};
pub use forecast::ForecastEnd;
pub use gradient_noise::{GradientNoise, GradientNoiseBuilder};
pub use histograms::{Histograms, HistogramsBuilder};
pub use memory::{Memory, MemoryBuilder};
pub use norms::{Norms, NormsBuilder};
#[cfg(feature = "plots")]
pub use overlay::{Overlay, OverlayBuilder};
pub use param_filter::ParamFilter;
pub use profile::{Profile, ProfileBuilder};
pub use ratios::{Ratios, RatiosBuilder, scientific};
#[cfg(feature = "plots")]
pub use ridges::{Ridges, RidgesBuilder};
pub use samples::{Samples, SamplesBuilder};
pub use sinks::{Console, sinks};
pub use spikes::{Spikes, SpikesBuilder};
pub use system::{System, SystemBuilder};
pub use throughput::{DevicePeak, Throughput, ThroughputBuilder};

/// The code of both READMEs compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../README.md")]
struct Readme;
