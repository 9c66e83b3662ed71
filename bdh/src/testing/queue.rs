//! Queues between a run and its sinks, for benches and stress tests.

use crate::failure::BoxError;
use crate::feedback::Feedback;
use crate::outcome::{Outcome, Warning};
use crate::record::Record;
use crate::run::RunInfo;
use crate::sink::{Sink, Writers};
use std::sync::Arc;

/// Sinks on their threads, as a trainer runs them, without the trainer.
///
/// Serves to measure the cost of sending a record. If it is dropped without [`close`](Self::close), the sinks are
/// left as by a killed run.
pub struct Queue {
    writers: Writers,
    warnings: Vec<Warning>,
    step: u64,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

impl Queue {
    /// Opens the sinks and starts a thread for each.
    ///
    /// # Errors
    ///
    /// The error of the first sink that cannot be opened.
    pub fn open(mut sinks: Vec<Box<dyn Sink>>, mut run: RunInfo) -> Result<Self, BoxError> {
        let (feedback, messages) = Feedback::channel();
        run.feedback = feedback.clone();
        sinks.iter_mut().try_for_each(|sink| sink.open(&run))?;
        let writers = Writers::start(sinks, &feedback, messages);
        Ok(Self {
            writers,
            warnings: Vec::new(),
            step: 0,
        })
    }

    /// Sends a record to every sink without waiting, as the training thread does after each step.
    pub fn write(&mut self, record: &Arc<Record>) {
        self.step = record.clock.step;
        self.writers.write(record);
        self.writers.drain(&mut self.warnings);
    }

    /// Waits until every sink has made its records durable.
    pub fn flush(&mut self) {
        let late = self.writers.flush().wait();
        self.writers.give_up_late(&late, self.step);
        self.writers.drain(&mut self.warnings);
    }

    /// Ends the run and waits for the sinks. Returns the warnings about failures.
    #[must_use]
    pub fn close(mut self, outcome: &Outcome) -> Vec<Warning> {
        self.writers
            .close(outcome, self.step, &mut self.warnings, None, |_| None);
        self.warnings
    }
}
