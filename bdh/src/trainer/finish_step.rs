//! The end of a step: eval, requests, checkpoints, and the step's record.

use super::engine::StepOutput;
use super::{Trainer, checkpoint_name};
use crate::cadence::Cadence;
use crate::checkpoint::CheckpointRequest;
use crate::error::TrainError;
use crate::outcome::StopReason;
use crate::record::Logged;
use crate::step_log::Requests;
use crate::task::Task;
use std::time::Instant;

impl<T: Task> Trainer<T> {
    /// Evaluates, acts on requests, saves, and records. Returns the reason to stop, if there is one.
    pub(super) fn finish_step(
        &mut self,
        output: &StepOutput,
    ) -> Result<Option<StopReason>, TrainError> {
        self.eval_if_requested(output)?;
        let stop = self.save_if_requested(output)?;
        // After the checkpoint, which holds the record of a run that continues: a resume removes these values again.
        let is_extra = stop.is_some() && !self.is_due(&self.settings.record, output);
        if is_extra && self.settings.log != Cadence::Never {
            self.log_values(output);
        }
        self.engine.io.report_saved();
        self.engine.record()?;
        self.engine.io.drain(); // also on steps without a record
        self.engine.report_warnings();
        if let Some(reason) = &stop {
            self.engine.io.stop_requested(reason);
        }
        Ok(stop)
    }

    /// Evaluates if an eval is due or requested.
    fn eval_if_requested(&mut self, output: &StepOutput) -> Result<(), TrainError> {
        let is_requested = self.engine.observers.log.requests.borrow().evaluate;
        if is_requested || self.is_due(&self.settings.eval, output) {
            let began = Instant::now();
            self.engine.eval(output.previous.as_ref())?;
            self.engine.laps.away += began.elapsed();
        }
        Ok(())
    }

    /// Saves checkpoints that are due or requested. Returns the reason to stop, if there is one.
    fn save_if_requested(&mut self, output: &StepOutput) -> Result<Option<StopReason>, TrainError> {
        // Read once: a signal that arrives later belongs to the next step, and gets that step's checkpoint.
        let is_signalled = self.engine.io.is_signalled();
        let requests = self.take_requests(output, is_signalled);
        let stop = match requests.stop {
            Some((by, why)) => Some(StopReason::Asked { by, why }),
            None if is_signalled => Some(StopReason::Signal),
            None => self.engine.io.take_stop(),
        };
        if !requests.checkpoints.is_empty() {
            let began = Instant::now();
            self.save(output, requests.checkpoints)?;
            self.engine.laps.away += began.elapsed();
        }
        Ok(stop)
    }

    /// Takes the requests of the callbacks, and adds the trainer's own checkpoint if it is due or the run is to stop.
    fn take_requests(&self, output: &StepOutput, is_signalled: bool) -> Requests {
        let engine = &self.engine;
        let mut requests = engine.observers.log.requests.take();
        let is_due = self.is_due(&self.settings.checkpoint, output);
        let stops = is_signalled || engine.io.sink_asks_to_stop();
        if is_due || (stops && engine.io.info.dir.is_some()) {
            let own = CheckpointRequest {
                name: checkpoint_name(engine.clock.step),
                pinned: false,
            };
            requests.ask_for_checkpoint("checkpoint".to_owned(), own);
        }
        requests
    }

    /// Logs the trainer's own keys on the steps of the `log` cadence and on the last step.
    pub(super) fn log_own(&self, output: &StepOutput) {
        if self.is_due(&self.settings.record, output) {
            self.log_values(output);
        }
    }

    fn log_values(&self, output: &StepOutput) {
        let Some(loss) = &output.loss else { return };
        let mut own = vec![("train/loss".to_owned(), Logged::from(loss.clone()))];
        if let Some((_, lr)) = output.lrs.first() {
            own.push(("lr".to_owned(), Logged::from(*lr)));
        }
        if output.lrs.len() > 1 {
            for (name, lr) in &output.lrs {
                own.push((format!("lr/{name}"), Logged::from(*lr)));
            }
        }
        if output.skipped {
            own.push(("train/skipped".to_owned(), Logged::from(1.0)));
        }
        self.engine.observers.log.log_first(own);
    }

    fn is_due(&self, cadence: &Cadence, output: &StepOutput) -> bool {
        let previous = output.previous.as_ref();
        cadence.is_due(previous, &self.engine.clock, self.settings.steps)
    }
}
