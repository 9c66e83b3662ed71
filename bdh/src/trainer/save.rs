//! Saving a run so that it can go on: captured between two steps, written while training goes on.

use super::{Done, MODEL_IS_IN, Trainer};
use crate::checkpoint::{self, Checkpoint, CheckpointRequest, Job, Saved, State};
use crate::error::TrainError;
use crate::event::{Checkpointed, Cx};
use crate::failure::with_causes;
use crate::hook::Hook;
use crate::optim::OptimizerState;
use crate::outcome::Problem;
use crate::params;
use crate::task::Task;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

impl<T: Task> Trainer<T> {
    /// Takes the checkpoints that are due or were asked for; all of them hold the same state.
    ///
    /// One that cannot be written is a problem, not an error: a full disk ends no run, unless it was the last one. A
    /// callback with the hook `on_checkpoint` is to find the files, so with such a callback the run waits for the disk.
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
        self.check_dir()?;
        self.wait_for_saver(); // before the next copy of the state is made
        let saved_as = requests.iter().map(|(_, r)| (r.name.clone(), r.pinned)).collect();
        let job = Job {
            dir,
            requests,
            checkpoint: self.capture(saved_as)?,
            keep: self.settings.keep_checkpoints,
            flushing: self.progress.writers.flush(),
            lock: self.lock.clone(),
        };
        self.progress.saver.begin(job);
        if self.callbacks.want(Hook::OnCheckpoint) {
            for (path, pinned) in self.wait_for_saver() {
                self.on_checkpoint(done, &path, pinned)?;
            }
        }
        self.progress.overhead.checkpoints += began.elapsed();
        Ok(())
    }

    /// Waits until what is being written is on the disk, and reports what failed. Returns the checkpoints that are
    /// complete now, and whether they are pinned.
    pub(super) fn wait_for_saver(&mut self) -> Vec<(PathBuf, bool)> {
        let Some(saved) = self.progress.saver.wait() else { return Vec::new() };
        let Saved { step, written, failed, late } = saved;
        self.progress.writers.lose_patience(&late, step);
        for (who, error) in &failed {
            self.tell(Problem {
                who: who.clone(),
                during: "checkpoint".to_owned(),
                step,
                error: with_causes(error),
                consequence: "older checkpoints stay".to_owned(),
            });
        }
        let lost = failed.into_iter().next().filter(|_| written.is_empty());
        // A later one that is complete makes up for it.
        self.progress.unsaved = lost.map(|(_, source)| TrainError::Unsaved { step, source });
        written
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
    fn capture(&mut self, saved_as: BTreeMap<String, bool>) -> Result<Checkpoint, TrainError> {
        let step = self.clock.step;
        let record = self.record_so_far()?.to_json();
        let model = self.model.as_ref().expect(MODEL_IS_IN);
        let model = params::capture(model, &self.saved)
            .map_err(|reason| TrainError::Device { step, reason })?;
        let copies = self.callbacks.copies(&self.table);
        let copies = copies.map_err(|reason| TrainError::Device { step, reason })?;
        let moments = self.optimizers.state(&self.table);
        let OptimizerState { tensors: moments, scalars } =
            moments.map_err(|reason| TrainError::Device { step, reason })?;
        let interventions = self.interventions.iter().map(|i| (i.name(), i.state()));
        Ok(Checkpoint {
            model,
            optimizer: moments.into_iter().collect(),
            copies,
            state: State {
                clock: self.clock,
                seed: self.settings.seed,
                data: self.task.position(),
                optimizer: scalars,
                callbacks: self.callbacks.states(),
                interventions: interventions.filter(|(_, state)| !state.is_null()).collect(),
                saved_as,
                record,
                config: self.info.config.clone(),
            },
        })
    }

    fn on_checkpoint(&mut self, done: &Done, path: &Path, pinned: bool) -> Result<(), TrainError> {
        let model = self.model.as_ref().expect(MODEL_IS_IN);
        let cx = cx!(self, &self.clock, done.previous.as_ref(), model);
        let event = Checkpointed { cx, path, pinned };
        self.callbacks.fire(&event)
    }
}
