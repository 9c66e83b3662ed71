//! The queue between a run and its sinks, for benches and stress tests.

use crate::failure::BoxError;
use crate::feedback::Feedback;
use crate::outcome::{Outcome, Problem};
use crate::record::Record;
use crate::run::RunInfo;
use crate::sink::{Sink, Writers};
use std::sync::Arc;

/// Sinks on their threads, as a trainer has them, without the trainer.
///
/// It is here to measure what handing over a record costs. Dropped without [`close`](Self::close), it leaves the
/// sinks as a killed run does.
pub struct Queue {
    writers: Writers,
    problems: Vec<Problem>,
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
    /// Opens the sinks and gives each its thread.
    ///
    /// # Errors
    ///
    /// That of the first sink that cannot be opened.
    pub fn open(mut sinks: Vec<Box<dyn Sink>>, mut run: RunInfo) -> Result<Self, BoxError> {
        let (feedback, said) = Feedback::channel();
        run.feedback = feedback.clone();
        sinks.iter_mut().try_for_each(|sink| sink.open(&run))?;
        let writers = Writers::start(sinks, &feedback, said);
        Ok(Self {
            writers,
            problems: Vec::new(),
            step: 0,
        })
    }

    /// Hands a record to every sink and waits for none, as the training thread does after each step.
    pub fn write(&mut self, record: &Arc<Record>) {
        self.step = record.clock.step;
        self.writers.write(record);
        self.writers.hear(&mut self.problems);
    }

    /// Waits until every sink has made durable what it was given.
    pub fn flush(&mut self) {
        let late = self.writers.flush().wait();
        self.writers.lose_patience(&late, self.step);
        self.writers.hear(&mut self.problems);
    }

    /// Ends the run and waits for the sinks. Tells what failed.
    #[must_use]
    pub fn close(mut self, outcome: &Outcome) -> Vec<Problem> {
        self.writers
            .close(outcome, self.step, &mut self.problems, None, |_| None);
        self.problems
    }
}
