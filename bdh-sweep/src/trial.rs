//! One trial of a sweep, as in its file.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// One trial: its values, its progress, its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Trial {
    /// Number in the sweep, from 1.
    pub number: u64,
    /// Values of the parameters, by name.
    pub values: Map<String, Value>,
    /// Position in the unit cube; empty for a point of a grid.
    pub point: Vec<f64>,
    /// Status.
    pub status: Status,
    /// Last recorded value of the metric, if it was finite.
    pub value: Option<f64>,
    /// Reason why the trial failed or was ended.
    pub why: Option<String>,
    /// Machine that ran the trial last.
    pub host: String,
    /// Process on that machine; `None` before its start and after its end.
    #[serde(default)]
    pub pid: Option<u32>,
    /// Time of the first start, in seconds since 1970.
    pub began_at: f64,
    /// Run time in seconds, without interruptions.
    pub seconds: f64,
}

/// Status of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Status {
    /// Running; a sweep resumes the trial if its process died.
    Running,
    /// Interrupted with the sweep, which resumes it.
    Interrupted,
    /// Finished.
    Completed,
    /// Finished, with a last value that is not finite.
    Diverged,
    /// Ended because its next steps were not worth their cost.
    EndedEarly,
    /// Crashed, timed out, or recorded no value of the metric.
    Failed,
}

impl Status {
    /// Whether the trial will not run again.
    #[must_use]
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Running | Self::Interrupted)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Completed => "completed",
            Self::Diverged => "diverged",
            Self::EndedEarly => "ended early",
            Self::Failed => "failed",
        })
    }
}
