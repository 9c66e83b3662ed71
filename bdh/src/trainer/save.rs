//! Saving a run so that it can be continued: captured between two steps, written while training goes on.

use super::Trainer;
use super::engine::StepOutput;
use crate::checkpoint::{self, Checkpoint, CheckpointRequest, State};
use crate::error::TrainError;
use crate::event::Checkpointed;
use crate::hook::Hook;
use crate::optim::OptimizerState;
use crate::params;
use crate::record::Record;
use crate::task::Task;
use std::collections::BTreeMap;
use std::time::Instant;

impl<T: Task> Trainer<T> {
    /// Takes the checkpoints that are due or were asked for; all of them hold the same state.
    ///
    /// One that cannot be written is a problem, not an error: a full disk ends no run, unless it was the last one. A
    /// callback with the hook `on_checkpoint` expects the files, so with such a callback the run waits for the disk.
    pub(super) fn save(
        &mut self,
        done: &StepOutput,
        requests: Vec<(String, CheckpointRequest)>,
    ) -> Result<(), TrainError> {
        let step = self.engine.clock.step;
        let Some(dir) = self
            .engine
            .io
            .info
            .dir
            .as_ref()
            .map(|dir| dir.join(checkpoint::FOLDER))
        else {
            self.engine.io.warn_of_no_dir(&requests, step);
            return Ok(());
        };
        let began = Instant::now();
        self.engine.io.check_dir(step)?;
        self.engine.io.wait_for_saver(); // before the next copy of the state is made
        let saved_as = requests
            .iter()
            .map(|(_, r)| (r.name.clone(), r.pinned))
            .collect();
        let checkpoint = self
            .capture(saved_as)
            .map_err(|reason| TrainError::Device { step, reason })?;
        self.engine.io.save(dir, checkpoint, requests);
        if self.engine.observers.want(Hook::OnCheckpoint) {
            for (path, pinned) in self.engine.io.wait_for_saver() {
                let cx = self.engine.cx(done.previous.as_ref());
                self.engine.observers.fire(&Checkpointed {
                    cx,
                    path: &path,
                    pinned,
                })?;
            }
        }
        self.engine.observers.overhead.checkpoints += began.elapsed();
        Ok(())
    }

    /// Everything that the run needs in order to continue from here; the parameters in one device read.
    ///
    /// # Errors
    ///
    /// The device's, if it failed.
    fn capture(&self, saved_as: BTreeMap<String, bool>) -> Result<Checkpoint, String> {
        let engine = &self.engine;
        let compute = &engine.compute;
        let record = Record {
            clock: engine.clock,
            values: engine.observers.log.so_far()?,
        };
        let model = params::capture(&*compute.model, &compute.saved)?;
        let callbacks = engine.observers.callbacks.borrow();
        let copies = callbacks.copies(&compute.table)?;
        let OptimizerState { tensors, scalars } = compute.optimizers.state(&compute.table)?;
        let interventions = self.interventions.iter().map(|i| (i.name(), i.state()));
        Ok(Checkpoint {
            model,
            optimizer: tensors.into_iter().collect(),
            copies,
            state: State {
                clock: engine.clock,
                seed: engine.seed,
                data: compute.task.position(),
                optimizer: scalars,
                callbacks: callbacks.states(),
                interventions: interventions
                    .filter(|(_, state)| !state.is_null())
                    .collect(),
                saved_as,
                record: record.to_json(),
                config: engine.io.info.config.clone(),
            },
        })
    }
}
