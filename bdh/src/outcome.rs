//! The result of a run: its outcome, and failures that did not end it.

use crate::overhead::Overhead;
use crate::record::Record;
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// The way in which a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// All steps were taken.
    Completed,
    /// A callback, a sink or a signal asked the run to stop; the last step is complete.
    Stopped(StopReason),
    /// An error ended the run; its text, causes included.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("completed"),
            Self::Stopped(reason) => write!(f, "stopped: {reason}"),
            Self::Failed(error) => write!(f, "failed: {error}"),
        }
    }
}

/// The reason why a run stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopReason {
    /// A callback or a sink called `stop`.
    Asked {
        /// The name of the callback or sink.
        by: String,
        /// The reason that it gave.
        why: String,
    },
    /// SIGINT (Ctrl-C) or SIGTERM.
    Signal,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked { by, why } => write!(f, "{by}: {why}"),
            Self::Signal => f.write_str("by a signal"),
        }
    }
}

/// A failure that does not end the run. Each is reported once, when it happens, and is in the result of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The callback, sink or file that failed.
    #[serde(rename = "who")]
    pub source: String,
    /// The hook or operation that failed, such as `on_step` or `write`.
    #[serde(rename = "during")]
    pub phase: String,
    /// The step under way.
    pub step: u64,
    /// The error, with its causes.
    #[serde(rename = "error")]
    pub cause: String,
    /// The effect on the rest of the run.
    pub consequence: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            phase,
            step,
            cause,
            consequence,
        } = self;
        write!(
            f,
            "`{source}` failed in `{phase}` at step {step}: {cause}; {consequence}"
        )
    }
}

/// The result of a run: the trained model, and how the run went.
#[derive(Debug)]
pub struct TrainResult<M> {
    /// The model after the last step.
    pub model: M,
    /// Why the run ended.
    pub outcome: Outcome,
    /// The last step's record.
    pub last: Option<Record>,
    /// The best checkpoint, if a callback keeps one and reported it, as `Checkpoints` of bdh-callbacks does.
    pub best_checkpoint: Option<PathBuf>,
    /// The cost of each callback.
    pub overhead: Overhead,
    /// Failures that did not end the run.
    pub warnings: Vec<Warning>,
}
