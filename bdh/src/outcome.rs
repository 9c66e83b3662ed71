//! How a run ended, and what went wrong on the way.

use crate::overhead::Overhead;
use crate::record::Record;
use serde::Serialize;
use std::fmt;

/// Why `fit` came to an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// Every step was taken.
    Completed,
    /// Somebody asked the run to stop; the last step is complete.
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

/// Who asked the run to stop, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopReason {
    /// A callback called `stop`.
    Asked {
        /// The callback's name.
        by: String,
        /// What it gave as its reason.
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

/// Something that failed without ending the run. Each is told once, when it happens, and in the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The callback or sink that failed.
    pub who: String,
    /// What it was doing, such as `on_step` or `write`.
    pub during: String,
    /// The step under way.
    pub step: u64,
    /// What it said, causes included.
    pub error: String,
    /// What that means for the rest of the run.
    pub consequence: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            who,
            during,
            step,
            error,
            consequence,
        } = self;
        write!(
            f,
            "`{who}` failed in `{during}` at step {step}: {error}; {consequence}"
        )
    }
}

/// What `fit` gives back.
#[derive(Debug)]
pub struct Fitted<M> {
    /// The model after the last step.
    pub model: M,
    /// Why the run ended.
    pub outcome: Outcome,
    /// The last step's record.
    pub last: Option<Record>,
    /// What each callback cost.
    pub overhead: Overhead,
    /// What failed without ending the run.
    pub problems: Vec<Problem>,
}
