//! Weights & Biases.

mod log;
mod proto;
mod repair;
#[allow(dead_code, reason = "the sink that uses it is not there yet")]
mod settings;

pub use log::LogError;
pub use repair::{Repaired, repair};
pub use settings::{Mode, Resume, SettingsError};
