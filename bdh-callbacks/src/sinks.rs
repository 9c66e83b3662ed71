//! Where records go, beside `metrics.jsonl`.

mod console;
mod lines;
#[cfg(feature = "tensorboard")]
mod tensorboard;
#[cfg(feature = "wandb")]
pub mod wandb;

pub use console::Console;
#[cfg(feature = "tensorboard")]
pub use tensorboard::{Layout, TensorBoard};
