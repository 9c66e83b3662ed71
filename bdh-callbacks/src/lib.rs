//! Callbacks and sinks for [`bdh`]: one file each, each with a table of the keys it records.
//!
//! | callback | registered as | what it watches |
//! |---|---|---|
//! | [`Norms`] | `norms` | L2 of weights and gradients, global and per parameter |
//! | [`Throughput`] | `throughput` | tokens per second, step time, data wait, MFU |
//! | [`EarlyCheckpoints`] | `early_checkpoints` | saves at chosen early steps, for good |
//!
//! | sink | where |
//! |---|---|
//! | [`Console`] | the terminal |
//! | [`TensorBoard`] | event files in the run directory (feature `tensorboard`, default) |

mod early_checkpoints;
mod norms;
mod sinks;
mod throughput;

pub use early_checkpoints::EarlyCheckpoints;
pub use norms::{Norms, NormsBuilder};
pub use sinks::Console;
#[cfg(feature = "wandb")]
pub use sinks::wandb::{self, Wandb};
#[cfg(feature = "tensorboard")]
pub use sinks::{Layout, TensorBoard};
pub use throughput::{Throughput, ThroughputBuilder};

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
