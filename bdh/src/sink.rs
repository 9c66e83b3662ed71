//! Destinations of records. Each sink writes on its own thread, so it slows down no step, and its failure ends no run.

mod jsonl;
mod memory;
mod writer;

pub use jsonl::Jsonl;
pub use memory::MemorySink;
pub(crate) use writer::Writers;

pub use crate::feedback::Feedback;

use crate::failure::BoxError;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::record::Record;
use crate::run::RunInfo;
use std::time::Duration;

/// A destination of a run's records. It receives one record, in order, for each step on which something was logged.
///
/// A sink works on its own thread. Records are queued for it without waiting: the run gives up a sink that is more than
/// 256 MiB of records behind. The training thread may wait for [`flush`](Self::flush) and [`close`](Self::close), for
/// [`flush_timeout`](Self::flush_timeout) at most. A sink that fails or panics is dropped. The failure is reported once,
/// and the run continues without the sink.
pub trait Sink: Send {
    /// Returns the name of the sink in the plan and in errors.
    fn name(&self) -> String;

    /// Returns the files that the sink writes, relative to the run directory, for the plan.
    fn files(&self) -> Vec<String> {
        Vec::new()
    }

    /// Opens the sink. Called once before the first record, on the thread that runs `fit`, so that a sink which cannot
    /// work fails before the run begins.
    ///
    /// # Errors
    ///
    /// Any error that keeps the sink from working; the run does not begin then.
    fn open(&mut self, run: &RunInfo) -> Result<(), BoxError>;

    /// Writes one record. Steps always increase.
    ///
    /// # Errors
    ///
    /// Any error that keeps the sink from writing; the run then continues without it.
    fn write(&mut self, record: &Record) -> Result<(), BoxError>;

    /// Receives a message for people: a notice, a warning, a request to stop. Ignored by default.
    ///
    /// One message may come before [`open`](Self::open), which then does not follow: that the run was complete before it
    /// was started again.
    fn message(&mut self, _message: &Message) {}

    /// Makes all records so far durable. Called before a checkpoint of their steps appears.
    ///
    /// # Errors
    ///
    /// Any error that keeps the sink from writing; the run then continues without it.
    fn flush(&mut self) -> Result<(), BoxError> {
        Ok(())
    }

    /// Closes the sink. Called once after the last record, with the outcome of the run. [Lossy](Self::is_lossy) sinks
    /// are closed last, so that a terminal can show failures of the others.
    ///
    /// # Errors
    ///
    /// Any error that keeps the sink from writing; it becomes a warning of the run.
    fn close(&mut self, _outcome: &Outcome) -> Result<(), BoxError> {
        Ok(())
    }

    /// Returns the longest time that the run waits for the sink to flush or to close; then it continues without the
    /// sink.
    fn flush_timeout(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// Whether records may be dropped while the sink is more than 1 MiB of records behind, as on a slow terminal.
    fn is_lossy(&self) -> bool {
        false
    }
}
