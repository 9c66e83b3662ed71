//! Messages of a run for people: notices, warnings, requests to stop.

use crate::outcome::{StopReason, Warning};
use std::fmt;

/// A message of a run, which every sink receives and `tracing` mirrors.
///
/// Callbacks send messages through [`Context::notice`](crate::Context::notice), sinks through
/// [`Feedback`](crate::sink::Feedback). Failures of callbacks and sinks become warnings by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// A line that a person may want to know, such as the address of the run's page.
    Notice(String),
    /// A failure that does not end the run. It is also in [`TrainResult::warnings`](crate::TrainResult::warnings).
    Warning(Warning),
    /// The run stops after the step under way, for this reason.
    StopRequested(StopReason),
}

impl Message {
    /// Mirrors the message as a `tracing` event: warnings at the level WARN, all others at INFO.
    pub(crate) fn trace(&self) {
        match self {
            Self::Notice(text) => tracing::info!("{text}"),
            Self::Warning(warning) => {
                let Warning {
                    source,
                    phase,
                    step,
                    cause,
                    consequence,
                } = warning;
                tracing::warn!(source, phase, step, cause, consequence, "{warning}");
            }
            Self::StopRequested(reason) => tracing::info!("stop requested: {reason}"),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Notice(text) => f.write_str(text),
            Self::Warning(warning) => write!(f, "warning: {warning}"),
            Self::StopRequested(reason) => write!(f, "stop requested: {reason}"),
        }
    }
}
