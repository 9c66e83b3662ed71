//! One trial of a sweep, as its file tells it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// One trial: what was tried, how far it came, how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Trial {
    /// Its number in the sweep, from 1.
    pub number: u64,
    /// What is searched, by name.
    pub values: Map<String, Value>,
    /// Where that is in the unit cube; empty for a point of a grid.
    pub point: Vec<f64>,
    /// How it stands.
    pub status: Status,
    /// The metric as last recorded, if that was a finite number.
    pub value: Option<f64>,
    /// Why it failed or was ended.
    pub why: Option<String>,
    /// The machine that it ran on.
    pub host: String,
    /// Its process there, once it has one.
    #[serde(default)]
    pub pid: Option<u32>,
    /// When it began, in seconds since 1970.
    pub began_at: f64,
    /// How long it ran, in seconds, interruptions left out.
    pub seconds: f64,
}

/// How a trial stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Status {
    /// It runs; or whoever ran it died, and it is taken up again.
    Running,
    /// The sweep was interrupted; it is taken up again.
    Interrupted,
    /// It ran to its end.
    Completed,
    /// It ran to its end, and what it recorded last is no finite number.
    Diverged,
    /// It was not worth its next steps.
    EndedEarly,
    /// It crashed, hung, or recorded nothing to judge it by.
    Failed,
}

impl Status {
    /// Whether nothing more is to come.
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
