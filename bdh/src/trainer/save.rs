//! Checkpoints of a run: the state is captured between two steps and written while training continues.

use super::engine::StepOutput;
use super::{Trainer, checkpoint_name};
use crate::checkpoint::{self, Checkpoint, CheckpointRequest, PendingEvals, State};
use crate::device_read::DeviceError;
use crate::error::TrainError;
use crate::event::Checkpointed;
use crate::hook::Hook;
use crate::optim::OptimizerState;
use crate::params;
use crate::record::Record;
use crate::task::Task;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

impl<T: Task> Trainer<T> {
    /// Saves the requested checkpoints, which all hold the same state.
    ///
    /// A failed write is a warning: a full disk does not end the run. Only a failure of the last checkpoint is an
    /// error. Callbacks with `on_checkpoint` expect the files to exist, so with such a callback the run waits for the
    /// disk.
    pub(super) fn save(
        &mut self,
        output: &StepOutput,
        requests: Vec<(String, CheckpointRequest)>,
    ) -> Result<(), TrainError> {
        let step = self.engine.clock.step;
        let Some(run_dir) = &self.engine.io.info.dir else {
            self.engine.io.warn_of_no_dir(&requests, step);
            return Ok(());
        };
        let dir = run_dir.join(checkpoint::FOLDER);
        let _span = tracing::info_span!("checkpoint", step).entered();
        let began = Instant::now();
        self.start_saving(dir, requests)?;
        if self.engine.observers.want(Hook::OnCheckpoint) {
            self.on_checkpoint(output)?;
        }
        self.engine.observers.overhead.checkpoints += began.elapsed();
        Ok(())
    }

    /// Saves the step before its evals, if that is wanted and an eval is due: an eval that kills the process then costs
    /// nothing.
    ///
    /// Waits for the disk. Callbacks see the checkpoint that is written after the evals, which replaces this one if the
    /// `checkpoint` cadence is due.
    pub(super) fn save_before_eval(&mut self, output: &StepOutput) -> Result<(), TrainError> {
        let (Some(previous), Some(run_dir)) = (output.previous, &self.engine.io.info.dir) else {
            return Ok(());
        };
        if !self.settings.checkpoint_before_eval || self.sets_to_evaluate(output).is_empty() {
            return Ok(());
        }
        let folder = run_dir.join(checkpoint::FOLDER);
        let request = CheckpointRequest {
            name: checkpoint_name(self.engine.clock.step),
            pinned: false,
        };
        let began = Instant::now();
        self.eval_pending_since = Some(previous);
        let saving = self.start_saving(folder, vec![("checkpoint".to_owned(), request)]);
        self.eval_pending_since = None;
        saving?;
        self.engine.io.wait_for_saver();
        self.engine.observers.overhead.checkpoints += began.elapsed();
        self.engine.laps.away += began.elapsed();
        Ok(())
    }

    /// Captures the state, and starts to write it to the folder of checkpoints.
    fn start_saving(
        &mut self,
        folder: PathBuf,
        requests: Vec<(String, CheckpointRequest)>,
    ) -> Result<(), TrainError> {
        self.engine.io.check_dir(self.engine.clock.step)?;
        self.engine.io.wait_for_saver(); // first, so that at most one copy of the state is in memory
        let checkpoint = self
            .capture(&requests)
            .map_err(|error| self.engine.device_failed(error))?;
        self.engine.io.save(folder, checkpoint, requests);
        Ok(())
    }

    /// Waits for the checkpoints to be written, and calls `on_checkpoint` for each.
    fn on_checkpoint(&mut self, output: &StepOutput) -> Result<(), TrainError> {
        for (path, pinned) in self.engine.io.wait_for_saver() {
            self.engine.observers.fire(&Checkpointed {
                ctx: self.engine.ctx(output.previous.as_ref()),
                path: &path,
                pinned,
            })?;
        }
        Ok(())
    }

    /// Captures the state that a resume needs. The parameters cost one device read.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] if the device fails.
    fn capture(&self, requests: &[(String, CheckpointRequest)]) -> Result<Checkpoint, DeviceError> {
        let engine = &self.engine;
        let compute = &engine.compute;
        let record = self.record_so_far()?;
        let model = params::capture(&*compute.model, &compute.saved)?;
        let copies = engine.observers.callbacks.borrow().copies(&compute.table)?;
        let OptimizerState { tensors, scalars } = compute.optimizers.state(&compute.table)?;
        Ok(Checkpoint {
            model,
            optimizer: tensors.into_iter().collect(),
            copies,
            state: self.state(scalars, &record, requests),
        })
    }

    /// Returns the part of the checkpoint that is not a tensor; `optimizer` has the counters of the optimizers.
    fn state(
        &self,
        optimizer: BTreeMap<String, Value>,
        record: &Record,
        requests: &[(String, CheckpointRequest)],
    ) -> State {
        let engine = &self.engine;
        State {
            clock: engine.clock,
            seed: engine.seed,
            data: engine.compute.data.state(),
            pending_evals: self.pending_evals(),
            optimizer,
            callbacks: engine.observers.callbacks.borrow().states(),
            interventions: self.intervention_states(),
            saved_as: names_of(requests),
            record: record.to_json(),
            config: engine.io.info.config.clone(),
        }
    }

    /// Returns the rest of the step, before its evals.
    fn pending_evals(&self) -> Option<PendingEvals> {
        let since = self.eval_pending_since?;
        let record = self.engine.io.record_of(since.step);
        Some(PendingEvals {
            since,
            record: record.map_or(Value::Null, Record::to_json),
            requests: json!(*self.engine.observers.log.requests.borrow()),
        })
    }

    /// Returns the record of the step as far as it has been logged. Its numbers are read from the device.
    fn record_so_far(&self) -> Result<Record, DeviceError> {
        Ok(Record {
            clock: self.engine.clock,
            values: self.engine.observers.log.so_far()?,
        })
    }

    fn intervention_states(&self) -> BTreeMap<String, Value> {
        let mut states = BTreeMap::new();
        for intervention in &self.interventions {
            let state = intervention.state();
            if !state.is_null() {
                states.insert(intervention.name(), state);
            }
        }
        states
    }
}

/// Returns the names of the requested checkpoints, and whether each is pinned.
fn names_of(requests: &[(String, CheckpointRequest)]) -> BTreeMap<String, bool> {
    let mut names = BTreeMap::new();
    for (_, request) in requests {
        names.insert(request.name.clone(), request.pinned);
    }
    names
}
