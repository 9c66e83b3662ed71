//! Between two steps: eval, requests, checkpoints, and the one record.

use super::engine::StepOutput;
use super::{Trainer, checkpoint_name};
use crate::cadence::Cadence;
use crate::checkpoint::CheckpointRequest;
use crate::error::TrainError;
use crate::outcome::StopReason;
use crate::record::Logged;
use crate::task::Task;
use std::time::Instant;

impl<T: Task> Trainer<T> {
    /// Evaluates, acts on requests, saves, and records. Returns the reason to stop, if there is one.
    pub(super) fn settle(&mut self, done: &StepOutput) -> Result<Option<StopReason>, TrainError> {
        let asked_to_evaluate = self.engine.observers.log.requests.borrow().evaluate;
        if asked_to_evaluate || self.is_due(&self.settings.eval, done) {
            let began = Instant::now();
            self.engine.eval(done.previous.as_ref())?;
            self.engine.laps.away += began.elapsed();
        }
        let stop = self.save_if_asked(done)?;
        // After the checkpoint, whose record is that of a run which goes on: a resume takes these values back.
        let is_extra = stop.is_some() && !self.is_due(&self.settings.record, done);
        if is_extra && self.settings.log != Cadence::Never {
            self.log_values(done);
        }
        self.engine.io.report_saved();
        self.engine.record()?;
        self.engine.io.hear(); // also where nothing was recorded
        self.engine.report_problems();
        Ok(stop)
    }

    /// Takes a checkpoint if one is due or asked for. Returns the reason to stop, if there is one.
    fn save_if_asked(&mut self, done: &StepOutput) -> Result<Option<StopReason>, TrainError> {
        let is_due = self.is_due(&self.settings.checkpoint, done);
        let engine = &mut self.engine;
        // Read once: a signal that comes later is for the next step, whose checkpoint it gets.
        let signalled = engine.io.is_signalled();
        let from_outside = signalled || engine.io.sink_asks_to_stop();
        let mut requests = engine.observers.log.requests.take();
        if is_due || (from_outside && engine.io.info.dir.is_some()) {
            let own = CheckpointRequest {
                name: checkpoint_name(engine.clock.step),
                pinned: false,
            };
            requests.ask_for_checkpoint("checkpoint".to_owned(), own);
        }
        let stop = match requests.stop {
            Some((by, why)) => Some(StopReason::Asked { by, why }),
            None if signalled => Some(StopReason::Signal),
            None => engine.io.take_stop(),
        };
        if !requests.checkpoints.is_empty() {
            let began = Instant::now();
            self.save(done, requests.checkpoints)?;
            self.engine.laps.away += began.elapsed();
        }
        Ok(stop)
    }

    /// Logs the trainer's own keys, on the steps of the `log` cadence and on the last.
    pub(super) fn log_own(&self, done: &StepOutput) {
        if self.is_due(&self.settings.record, done) {
            self.log_values(done);
        }
    }

    fn log_values(&self, done: &StepOutput) {
        let Some(loss) = &done.loss else { return };
        let mut own = vec![("train/loss".to_owned(), Logged::from(loss.clone()))];
        if let Some((_, lr)) = done.lrs.first() {
            own.push(("lr".to_owned(), Logged::from(*lr)));
        }
        if done.lrs.len() > 1 {
            own.extend(
                done.lrs
                    .iter()
                    .map(|(name, lr)| (format!("lr/{name}"), Logged::from(*lr))),
            );
        }
        if done.skipped {
            own.push(("train/skipped".to_owned(), Logged::from(1.0)));
        }
        self.engine.observers.log.log_first(own);
    }

    fn is_due(&self, cadence: &Cadence, done: &StepOutput) -> bool {
        cadence.is_due(
            done.previous.as_ref(),
            &self.engine.clock,
            self.settings.steps,
        )
    }
}
