//! How a run ended, what went wrong on the way, and what each callback cost.

use crate::Record;
use crate::clock::save_seconds;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

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
        let Self { who, during, step, error, consequence } = self;
        write!(f, "`{who}` failed in `{during}` at step {step}: {error}; {consequence}")
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

/// Where the time of a run went. Printed, it is a table.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Overhead {
    /// Wall time of the run, in everything.
    #[serde(serialize_with = "save_seconds")]
    pub total: Duration,
    /// Data, forward, backward, optimizer, hooks and records.
    #[serde(serialize_with = "save_seconds")]
    pub steps: Duration,
    /// Evaluation.
    #[serde(serialize_with = "save_seconds")]
    pub eval: Duration,
    /// Writing checkpoints.
    #[serde(serialize_with = "save_seconds")]
    pub checkpoints: Duration,
    /// Device reads for everything that was logged: at most one a step.
    pub reads: u64,
    /// A row for each callback.
    pub rows: Vec<OverheadRow>,
}

/// What one callback cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct OverheadRow {
    /// The callback's name.
    pub name: String,
    /// How many times a hook of it was called.
    pub calls: u64,
    /// Time on the training thread, in all its hooks.
    #[serde(serialize_with = "save_seconds")]
    pub host: Duration,
    /// Device reads of its own, each of them a stall; 0 for a callback that only logs.
    pub reads: u64,
    /// How many of its calls failed.
    pub errors: u64,
}

impl fmt::Display for Overhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total.as_secs_f64().max(f64::MIN_POSITIVE);
        let share = |part: Duration| 100.0 * part.as_secs_f64() / total;
        writeln!(
            f,
            "{:<24} {:>9} {:>10} {:>7} {:>6} {:>6}",
            "where the time went", "calls", "ms", "% run", "reads", "errors"
        )?;
        for (name, part) in
            [("steps", self.steps), ("eval", self.eval), ("checkpoints", self.checkpoints)]
        {
            let ms = part.as_secs_f64() * 1e3;
            writeln!(
                f,
                "{name:<24} {:>9} {ms:>10.1} {:>7.2} {:>6} {:>6}",
                "",
                share(part),
                "",
                ""
            )?;
        }
        for row in &self.rows {
            let ms = row.host.as_secs_f64() * 1e3;
            writeln!(
                f,
                "{:<24} {:>9} {ms:>10.1} {:>7.2} {:>6} {:>6}",
                row.name,
                row.calls,
                share(row.host),
                row.reads,
                row.errors
            )?;
        }
        write!(f, "device reads for all that was logged: {}", self.reads)
    }
}

/// The text of an error with all its causes, for records of what happened.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
