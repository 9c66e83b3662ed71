//! Where records go, beside `metrics.jsonl`.

mod console;
#[cfg(feature = "tensorboard")]
mod tensorboard;

pub use console::Console;
#[cfg(feature = "tensorboard")]
pub use tensorboard::{Layout, TensorBoard};
