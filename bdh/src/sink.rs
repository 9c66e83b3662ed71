//! Where records go. Every sink has a thread of its own; none can slow down or end a run.

mod jsonl;
mod memory;
mod writer;

pub use jsonl::Jsonl;
pub use memory::MemorySink;
pub(crate) use writer::Writers;

use crate::failure::BoxError;
use crate::outcome::{Outcome, Problem};
use crate::record::Record;
use crate::run::RunInfo;
use std::time::Duration;

/// Takes the records of a run, in order, one for each step on which something was logged.
///
/// A sink works on its own thread. Records are queued for it, and the training thread waits for none:
/// a sink that falls 256 MiB of records behind is given up. If it fails or panics it is closed, the failure
/// is told once, and the run goes on without it.
pub trait Sink: Send {
    /// Its name in the plan and in errors.
    fn name(&self) -> String;

    /// The files it writes, relative to the run directory, for the plan.
    fn files(&self) -> Vec<String> {
        Vec::new()
    }

    /// Called once before the first record, on the thread that builds the trainer: what cannot work
    /// fails before the run begins.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from writing.
    fn open(&mut self, run: &RunInfo) -> Result<(), BoxError>;

    /// Takes one record. Steps never repeat and never go back.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from writing; the sink is then closed.
    fn write(&mut self, record: &Record) -> Result<(), BoxError>;

    /// Hears of a callback or another sink that failed.
    fn problem(&mut self, _problem: &Problem) {}

    /// Hears what a callback or another sink has to say to a person.
    fn remark(&mut self, _text: &str) {}

    /// Makes everything taken so far durable; called before a checkpoint claims it.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from writing; the sink is then closed.
    fn flush(&mut self) -> Result<(), BoxError> {
        Ok(())
    }

    /// Called once after the last record, and told how the run ended. Sinks that [may thin](Self::may_thin)
    /// come last, so that the terminal can show how the others ended.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from writing.
    fn close(&mut self, _outcome: &Outcome) -> Result<(), BoxError> {
        Ok(())
    }

    /// How long the run waits for it to flush or to close, before it goes on without it.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// Whether records may be left out when it falls behind by more than 1 MiB of them, as on a terminal
    /// that scrolls slowly.
    fn may_thin(&self) -> bool {
        false
    }
}
