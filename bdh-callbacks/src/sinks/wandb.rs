//! Weights & Biases.

mod log;
mod proto;
mod repair;

pub use log::LogError;
pub use repair::{Repaired, repair};
