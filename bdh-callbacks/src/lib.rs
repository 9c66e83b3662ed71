//! Callbacks and sinks for [`bdh`]: one file each, each with a table of the keys it records.
//!
//! | callback | registered as | what it watches |
//! |---|---|---|
//! | [`Norms`] | `norms` | L2 of weights and gradients, global and per parameter |
//! | [`Throughput`] | `throughput` | tokens per second, step time, data wait, MFU |
//! | [`EarlyCheckpoints`] | `early_checkpoints` | saves at chosen early steps, for good |
//! | [`Samples`] | `samples` | continues prompts: the text, and how repetitive it is |
//! | [`EarlyStop`] | `early_stop` | ends a run that gets no better, is good enough, or has diverged |
//! | [`Finite`] | `finite` | NaN and infinities in loss and gradients: reports or stops; [`SkipNonFinite`] skips |
//! | [`Spikes`] | `spikes` | how far loss and gradient norm jump, and on which batch |
//! | [`Checkpoints`] | `checkpoints` | keeps the best checkpoints by a metric |
//! | [`Memory`] | `memory` | memory of the process and the device, and leaks |
//! | [`System`] | `system` | how busy the processors are |
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

mod artifacts;
mod checkpoints;
mod early_checkpoints;
mod early_stop;
mod finite;
mod gradient_noise;
mod memory;
mod norms;
mod profile;
mod samples;
mod sinks;
mod spikes;
mod system;
mod throughput;

pub use artifacts::Artifacts;
pub use checkpoints::{Checkpoints, CheckpointsBuilder};
pub use early_checkpoints::EarlyCheckpoints;
pub use early_stop::{EarlyStop, EarlyStopBuilder, Mode};
pub use finite::{Finite, FiniteBuilder, OnNonFinite, SkipNonFinite};
pub use gradient_noise::{GradientNoise, GradientNoiseBuilder};
pub use memory::{Memory, MemoryBuilder};
pub use norms::{Norms, NormsBuilder};
pub use profile::{Profile, ProfileBuilder};
pub use samples::{Samples, SamplesBuilder};
#[cfg(feature = "wandb")]
pub use sinks::wandb::{self, Wandb};
pub use sinks::{Console, sinks};
#[cfg(feature = "tensorboard")]
pub use sinks::{Layout, TensorBoard};
pub use spikes::{Spikes, SpikesBuilder};
pub use system::{System, SystemBuilder};
pub use throughput::{DevicePeak, Throughput, ThroughputBuilder};

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
