//! The end of a step: eval, requests, checkpoints, and the step's record.

use super::engine::StepOutput;
use super::{Trainer, checkpoint_name};
use crate::cadence::Cadence;
use crate::checkpoint::CheckpointRequest;
use crate::deferred::Deferred;
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
        self.save_before_eval(output)?;
        self.finish_saved_step(output)
    }

    /// Does what is left of a step after the checkpoint that may come before its evals.
    pub(super) fn finish_saved_step(
        &mut self,
        output: &StepOutput,
    ) -> Result<Option<StopReason>, TrainError> {
        self.eval_if_requested(output)?;
        let stop = self.save_if_requested(output)?;
        // After the checkpoint, which holds the record of a run that continues: a resume removes these values again. It
        // does not know the names of the task's numbers, so those stay out.
        let is_extra = stop.is_some() && !self.is_due(&self.settings.record, output);
        if is_extra && self.settings.log != Cadence::Never {
            self.log_values(output, &[]);
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

    /// Evaluates the eval sets that are due or requested.
    fn eval_if_requested(&mut self, output: &StepOutput) -> Result<(), TrainError> {
        let began = Instant::now();
        for index in self.sets_to_evaluate(output) {
            let report = self.engine.eval(index, output.previous.as_ref())?;
            self.intervene_on_eval(&report)?;
        }
        self.engine.laps.away += began.elapsed();
        Ok(())
    }

    /// Returns the indices of the eval sets that are due. A request of a callback is for the sets without a cadence of
    /// their own.
    pub(super) fn sets_to_evaluate(&self, output: &StepOutput) -> Vec<usize> {
        let is_requested = self.engine.observers.log.requests.borrow().evaluate;
        let mut sets = Vec::new();
        for (index, set) in self.engine.compute.eval_sets.iter().enumerate() {
            let is_due = match &set.cadence {
                Some(cadence) => self.is_due(cadence, output),
                None => is_requested || self.is_due(&self.settings.eval, output),
            };
            if is_due {
                sets.push(index);
            }
        }
        sets
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
            self.log_values(output, &output.logged);
        }
    }

    /// Logs loss, learning rates, and the numbers that the task logged.
    fn log_values(&self, output: &StepOutput, logged: &[(String, Deferred)]) {
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
        for (key, value) in logged {
            own.push((key.clone(), Logged::from(value.clone())));
        }
        if output.skipped {
            own.push(("train/skipped".to_owned(), Logged::from(1.0)));
        }
        self.engine.observers.log.log_first(own);
    }

    fn is_due(&self, cadence: &Cadence, output: &StepOutput) -> bool {
        let previous = output.previous.as_ref();
        cadence.is_due(previous, &self.engine.clock, self.settings.length)
    }
}
