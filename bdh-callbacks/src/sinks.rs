//! Where records go, beside `metrics.jsonl`.

mod console;
#[cfg(feature = "wandb")]
pub mod wandb;

pub use console::Console;
