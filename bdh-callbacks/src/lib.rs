//! Callbacks and sinks for [`bdh`], one file each, each with a table of the keys that it records.
//!
//! | callback | registered as | does |
//! |---|---|---|
//! | [`Norms`] | `norms` | records L2 norms of weights, gradients and updates: global, of groups, per parameter |
//! | [`Clipping`] | `clipping` | records how often and how strongly gradients are clipped |
//! | [`UpdateRatios`] | `ratios` | records ratios of gradients and updates to their weights, also as a console line |
//! | [`Histograms`] | `histograms` | records distributions of weights, gradients, updates, activations |
//! | [`Overlay`] | `overlay` | draws many distributions on one axis (feature `plots`) |
//! | [`Ridges`] | `ridges` | draws each parameter's distribution over the run (feature `plots`) |
//! | [`ConfusionMatrix`] | `confusion` | draws the confusion matrices of evals (feature `plots`) |
//! | [`Activations`] | `activations` | records mean, spread, RMS, zeros and dead units of the model's activations |
//! | [`Throughput`] | `throughput` | records tokens per second, step time, data wait, MFU |
//! | [`EarlyCheckpoints`] | `early_checkpoints` | saves at chosen early steps; these checkpoints are never deleted |
//! | [`Samples`] | `samples` | continues prompts, and measures how repetitive the text is |
//! | [`EarlyStop`] | `early_stop` | stops a run that no longer improves, is good enough, or has diverged |
//! | [`NonFiniteGuard`] | `finite` | reports NaN and infinities in loss and gradients, or stops; [`SkipNonFinite`] skips the update |
//! | [`ForecastEnd`] | `forecast` | predicts where the run will end, from past runs |
//! | [`LossSpikes`] | `spikes` | records jumps of loss and gradient norm, and their batch |
//! | [`Ema`] | `ema` | keeps a moving average of the weights, and evaluates it |
//! | [`Checkpoints`] | `checkpoints` | keeps the best checkpoints by a metric |
//! | [`MemoryMonitor`] | `memory` | records memory of the process and the device, and finds leaks |
//! | [`SystemMonitor`] | `system` | records the load of the CPU and the GPUs |
//! | [`GradientNoise`] | `gradient_noise` | records the gradient noise scale, from micro-batches: the largest useful batch |
//! | [`StepProfiler`] | `profile` | records the time of each part of a step |
//! | [`Artifacts`] | `artifacts` | passes checkpoints to the sinks, as `latest`, `early-250`, `best` |
//!
//! | intervention | does |
//! |---|---|
//! | [`ReduceOnPlateau`] | multiplies learning rates by a factor when a metric no longer improves |
//! | [`SkipNonFinite`] | skips updates with NaN or infinite gradients |
//!
//! The trainer itself records `train/loss` and the learning rates (`lr`, and `lr/<group>` if there are several groups). It
//! writes checkpoints at any cadence, including time, and keeps the newest.
//!
//! | sink | registered as | writes to | feature |
//! |---|---|---|---|
//! | [`Console`] | `console` | the terminal | |
//! | [`TensorBoard`] | `tensorboard` | event files in the run directory | `tensorboard` |
//! | [`Wandb`] | `wandb` | Weights & Biases: a log on disk, and online | `wandb`, `wandb-online` |
//! | [`bdh::Jsonl`] | `jsonl` | `metrics.jsonl`, in every run directory | |
//!
//! [`sinks`] builds them by name.
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `plots` | pictures: [`Overlay`], [`Ridges`], [`ConfusionMatrix`] | yes |
//! | `tensorboard` | the sink [`TensorBoard`] | yes |
//! | `wandb` | the sink [`Wandb`], offline | yes |
//! | `wandb-online` | the upload to W&B | |
//! | `flex` | the CPU, in pure Rust | yes |
//! | `wgpu`, `vulkan`, `metal`, `cuda` | GPUs, as in [`bdh`] | |

#![forbid(unsafe_code)]

mod activations;
mod artifacts;
mod checkpoints;
mod clipping;
#[cfg(feature = "plots")]
mod confusion;
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
mod plateau;
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

pub use activations::Activations;
pub use artifacts::Artifacts;
pub use checkpoints::Checkpoints;
pub use clipping::Clipping;
#[cfg(feature = "plots")]
pub use confusion::ConfusionMatrix;
pub use early_checkpoints::EarlyCheckpoints;
pub use early_stop::{EarlyStop, Mode};
pub use ema::Ema;
pub use finite::{NonFiniteGuard, OnNonFinite, SkipNonFinite};
pub use forecast::ForecastEnd;
pub use gradient_noise::GradientNoise;
pub use histograms::Histograms;
pub use memory::MemoryMonitor;
pub use norms::Norms;
#[cfg(feature = "plots")]
pub use overlay::Overlay;
pub use param_filter::ParamFilter;
pub use plateau::ReduceOnPlateau;
pub use profile::StepProfiler;
pub use ratios::{UpdateRatios, scientific};
#[cfg(feature = "plots")]
pub use ridges::Ridges;
pub use samples::Samples;
pub use sinks::{Console, sinks};
pub use spikes::LossSpikes;
pub use system::SystemMonitor;
pub use throughput::{DevicePeak, Throughput};

/// Compiles the code of both READMEs.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../README.md")]
struct Readme;
