//! Where records go. Every sink has a thread of its own; none can slow down or end a run.

mod jsonl;
mod memory;
mod writer;

pub use jsonl::Jsonl;
pub(crate) use jsonl::{number, to_json};
pub use memory::MemorySink;
pub(crate) use writer::{Writers, panic_text};

use crate::outcome::{Outcome, Problem};
use crate::{BoxError, Record, RunInfo};

/// Takes the records of a run, in order, one for each step.
///
/// A sink runs on its own thread behind a bounded queue. If it fails or panics it is closed, the failure
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

    /// Makes everything taken so far durable; called before a checkpoint claims it.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from writing; the sink is then closed.
    fn flush(&mut self) -> Result<(), BoxError> {
        Ok(())
    }

    /// Called once after the last record, and told how the run ended.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from writing.
    fn close(&mut self, _outcome: &Outcome) -> Result<(), BoxError> {
        Ok(())
    }
}
