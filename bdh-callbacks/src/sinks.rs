//! Where records go, beside `metrics.jsonl`.

mod console;
mod lines;
#[cfg(feature = "wandb")]
pub mod wandb;

pub use console::Console;
