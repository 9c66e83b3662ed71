//! Flags with a choice of names, and the spellings in which flags are saved.

use super::values::Every;
use clap::ValueEnum;
use serde::{Serialize, Serializer};

/// Lines of a run on the console.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStyle {
    /// Progress bar or plain lines of [`Console`](bdh_callbacks::Console).
    #[default]
    Plain,
    /// Lines of [`NanochatLog`](crate::nanochat_log::NanochatLog).
    Nanochat,
}

/// Names of metrics in W&B and TensorBoard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricNames {
    /// Names of this project.
    #[default]
    Bdh,
    /// Names of nanochat, as [`nanochat_names`](crate::metric_names::nanochat_names) gives them.
    Nanochat,
}

/// Saves a count; the largest is saved as -1, for all.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
pub(super) fn for_all<S: Serializer>(count: &usize, serializer: S) -> Result<S::Ok, S::Error> {
    match *count {
        usize::MAX => serializer.serialize_i64(-1),
        count => serializer.serialize_u64(count as u64),
    }
}

// Flags that arguments of earlier versions lack are saved only if they are set, so that those runs can be resumed.

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
pub(super) fn is_never(every: &Every) -> bool {
    *every == Every::Never
}
