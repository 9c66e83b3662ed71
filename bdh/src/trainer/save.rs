//! Saving a run so that it can go on, and going on.

use super::{Done, MODEL_IS_IN, Trainer};
use crate::callback::{Callback, Hook};
use crate::checkpoint::{self, Checkpoint, CheckpointError, State};
use crate::event::{CheckpointRequest, Checkpointed, Cx};
use crate::lm::Sampling;
use crate::optim::OptimizerState;
use crate::outcome::{Problem, chain};
use crate::params;
use crate::task::Task;
use crate::{ConfigError, Record, TrainError};
use burn::module::Module;
use burn::tensor::TensorData;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

impl<T: Task> Trainer<T> {
    /// Writes the checkpoints that are due or were asked for; all of them hold the same state.
    ///
    /// One that cannot be written is a problem, not an error: a full disk ends no run.
    pub(super) fn save(
        &mut self,
        done: &Done,
        requests: Vec<(String, CheckpointRequest)>,
    ) -> Result<(), TrainError> {
        let Some(dir) = self.info.dir.as_ref().map(|dir| dir.join(checkpoint::FOLDER)) else {
            self.tell_of_nowhere(&requests);
            return Ok(());
        };
        let began = Instant::now();
        let step = self.clock.step;
        let checkpoint = self.capture()?;
        // What the checkpoint claims to have recorded must be on the disk before it appears.
        self.progress.writers.flush(step, &mut self.progress.problems);
        for (by, CheckpointRequest { name, pinned }) in requests {
            let path = dir.join(name);
            match checkpoint.write(&path, pinned) {
                Ok(()) => self.on_checkpoint(done, &path, pinned)?,
                Err(error) => self.tell_of_unsaved(by, &error),
            }
        }
        if let Err(source) = checkpoint::rotate(&dir, self.settings.keep_checkpoints) {
            let error = CheckpointError::Io { path: dir, source };
            self.tell_of_unsaved("rotation".to_owned(), &error);
        }
        self.progress.overhead.checkpoints += began.elapsed();
        Ok(())
    }

    fn tell_of_unsaved(&mut self, who: String, error: &CheckpointError) {
        self.tell(Problem {
            who,
            during: "checkpoint".to_owned(),
            step: self.clock.step,
            error: chain(error),
            consequence: "the run goes on".to_owned(),
        });
    }

    /// Tells, the first time, that checkpoints were asked for in a run that writes nothing.
    fn tell_of_nowhere(&mut self, requests: &[(String, CheckpointRequest)]) {
        if std::mem::replace(&mut self.progress.told_of_nowhere, true) {
            return;
        }
        for (by, CheckpointRequest { name, .. }) in requests {
            self.tell(Problem {
                who: by.clone(),
                during: "checkpoint".to_owned(),
                step: self.clock.step,
                error: format!("`{name}` has no place: the run has no `run_dir`"),
                consequence: "the run saves nothing".to_owned(),
            });
        }
    }

    /// Everything that the run needs in order to go on from here; the parameters in one device read.
    fn capture(&mut self) -> Result<Checkpoint, TrainError> {
        let step = self.clock.step;
        let record = self.record_so_far()?.to_json();
        let model = self.model.as_ref().expect(MODEL_IS_IN);
        let tensors = params::capture(model, &self.table)
            .map_err(|reason| TrainError::Device { step, reason })?;
        let table = Arc::clone(&self.table);
        let names = table.iter().map(|param| param.name.clone());
        let OptimizerState { tensors: moments, scalars } = self.optimizers.state(&self.table);
        let interventions = self.interventions.iter().map(|i| (i.name(), i.state()));
        Ok(Checkpoint {
            model: names.zip(tensors).collect(),
            optimizer: moments.into_iter().collect(),
            state: State {
                clock: self.clock,
                seed: self.settings.seed,
                data: self.task.position(),
                optimizer: scalars,
                callbacks: self.callbacks.states(),
                interventions: interventions.filter(|(_, state)| !state.is_null()).collect(),
                record,
                config: self.info.config.clone(),
            },
        })
    }

    fn on_checkpoint(&mut self, done: &Done, path: &Path, pinned: bool) -> Result<(), TrainError> {
        let model = self.model.as_ref().expect(MODEL_IS_IN);
        let generate = generator!(self, model);
        let cx = cx!(self, &self.clock, done.previous.as_ref(), model, generate);
        let event = Checkpointed { cx, path, pinned };
        let call = |c: &mut dyn Callback| c.on_checkpoint(&event);
        self.callbacks.fire(Hook::OnCheckpoint, &self.bus, self.clock.step, call)
    }

    /// Puts a checkpoint into the trainer: model, optimizer, data, clock, callbacks.
    pub(super) fn restore(&mut self, path: &Path, saved: Checkpoint) -> Result<(), ConfigError> {
        let mismatch = |what| CheckpointError::Mismatch { path: path.to_owned(), what };
        let Checkpoint { model, optimizer, state } = saved;
        self.check_shapes(&model).map_err(mismatch)?;
        let fresh = self.model.take().expect(MODEL_IS_IN);
        self.model = Some(params::restore(fresh, &self.table, model));

        let moments =
            OptimizerState { tensors: optimizer.into_iter().collect(), scalars: state.optimizer };
        self.optimizers
            .load(moments, &self.table, &self.device.clone().inner())
            .map_err(mismatch)?;
        self.task
            .seek(&state.data)
            .map_err(|error| mismatch(format!("the data position: {error}")))?;
        self.callbacks.load_states(path, state.callbacks)?;
        self.load_interventions(state.interventions).map_err(mismatch)?;
        if state.seed != self.settings.seed {
            let what = format!("its seed is {}, this run's {}", state.seed, self.settings.seed);
            return Err(mismatch(what).into());
        }
        self.elapsed_before = state.clock.elapsed;
        self.info.resumed_at = Some(state.clock.step);
        self.info.resumed_record =
            Record::from_json(&state.record).filter(|record| !record.values.is_empty());
        self.clock = state.clock;
        Ok(())
    }

    /// Gives the interventions their states back; strict, as with callbacks.
    fn load_interventions(&mut self, mut states: BTreeMap<String, Value>) -> Result<(), String> {
        for intervention in &mut self.interventions {
            let name = intervention.name();
            match states.remove(&name) {
                Some(state) => intervention
                    .load_state(state)
                    .map_err(|error| format!("the state of intervention `{name}`: {error}"))?,
                None if intervention.state().is_null() => {}
                None => return Err(format!("it has no state for intervention `{name}`")),
            }
        }
        match states.into_keys().next() {
            Some(name) => Err(format!("this run has no intervention `{name}`")),
            None => Ok(()),
        }
    }

    /// Compares names and shapes of a saved model with this one's; the text lists what differs.
    pub(super) fn check_shapes(&self, saved: &BTreeMap<String, TensorData>) -> Result<(), String> {
        for param in &*self.table {
            let name = &param.name;
            let mut shape = param.shape.clone();
            if param.transposed {
                shape.reverse();
            }
            match saved.get(name) {
                None => return Err(format!("it has no parameter `{name}`")),
                Some(data) if data.shape().to_vec() != shape => {
                    let found = data.shape().to_vec();
                    return Err(format!("`{name}` is {found:?} there and {shape:?} here"));
                }
                Some(_) => {}
            }
        }
        match saved.keys().find(|name| self.table.iter().all(|param| param.name != **name)) {
            Some(name) => Err(format!("this model has no parameter `{name}`")),
            None => Ok(()),
        }
    }
}
