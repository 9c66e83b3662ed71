//! Resuming a run from a checkpoint.

use super::Trainer;
use super::callbacks::Stateful;
use super::engine::Engine;
use crate::checkpoint::{self, Checkpoint, State};
use crate::clock::Clock;
use crate::config_change::{self, ConfigChange};
use crate::error::CheckpointError;
use crate::error::ConfigError;
use crate::failure::with_causes;
use crate::files;
use crate::optim::OptimizerState;
use crate::outcome::Warning;
use crate::params::{self, Mismatch};
use crate::record::{Logged, Record, Value};
use crate::run_dir;
use crate::run_lock::RunLock;
use crate::step_log::Requests;
use crate::task::Task;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The checkpoint that a run resumes from.
///
/// # Examples
///
/// ```
/// use bdh::Resume;
///
/// assert_eq!(Resume::from("auto"), Resume::Auto);
/// let path = "runs/a/checkpoints/step_00000100";
/// assert_eq!(Resume::from(path), Resume::From(path.into()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// The newest intact checkpoint in the run directory.
    ///
    /// With it, one command starts a run and resumes it after any crash. If the run directory does not exist or holds
    /// no run, a new run starts. A run that died before its first checkpoint was complete is moved aside (to
    /// `<run_dir>.died-1`) and started again, and so is one without a checkpoint whose `run.json` is lost or damaged.
    Auto,
    /// The checkpoint at a path.
    From(PathBuf),
}

impl From<PathBuf> for Resume {
    fn from(path: PathBuf) -> Self {
        if path == Path::new("auto") {
            Self::Auto
        } else {
            Self::From(path)
        }
    }
}

impl From<&Path> for Resume {
    fn from(path: &Path) -> Self {
        path.to_owned().into()
    }
}

impl From<&str> for Resume {
    fn from(path: &str) -> Self {
        PathBuf::from(path).into()
    }
}

impl From<String> for Resume {
    fn from(path: String) -> Self {
        PathBuf::from(path).into()
    }
}

/// Whether a checkpoint is damaged for good: reading it again would fail again.
fn is_permanent(error: &CheckpointError) -> bool {
    match error {
        CheckpointError::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
        _ => true,
    }
}

/// Reads a record of a checkpoint, for a run in a directory. `None` if nothing was logged.
fn record_of(saved: &serde_json::Value, dir: &Path) -> Option<Record> {
    let record = without_foreign_files(Record::from_json(saved)?, dir);
    (!record.values.is_empty()).then_some(record)
}

/// Removes the files outside of the run directory from a record.
///
/// A checkpoint may come from elsewhere. It must not make a sink read, and perhaps upload, any file that it names or
/// that a link in the directory points to.
fn without_foreign_files(mut record: Record, dir: &Path) -> Record {
    record.values.retain(|(_, value)| match value {
        Value::File { path, .. } => is_file_of(dir, path),
        _ => true,
    });
    record
}

/// Whether a path is in a run directory, not behind a link.
fn is_file_of(dir: &Path, path: &Path) -> bool {
    let Ok(path) = path.strip_prefix(dir) else {
        return false;
    };
    // The folder of the checkpoints itself may be a link to another disk.
    match path.strip_prefix(checkpoint::FOLDER) {
        Ok(below) => files::is_plain(&dir.join(checkpoint::FOLDER), below),
        Err(_) => files::is_plain(dir, path),
    }
}

impl<T: Task> Trainer<T> {
    /// Restores the checkpoint to resume from, if there is one.
    pub(super) fn resume(&mut self, from: Resume, allowed: &[String]) -> Result<(), ConfigError> {
        let dir = self.engine.io.info.dir.clone();
        if let Some(dir) = &dir {
            self.lock_run(dir)?;
        }
        match from {
            Resume::From(path) => self.restore(&path, Checkpoint::read(&path)?, allowed),
            Resume::Auto => {
                let dir = dir.ok_or(ConfigError::Missing { field: "run_dir" })?;
                match self.newest_intact(&dir)? {
                    Some((path, saved)) => self.restore(&path, saved, allowed),
                    None => self.start_again(&dir),
                }
            }
        }
    }

    /// Locks a run directory that holds a run, and cleans up after a process that died there.
    fn lock_run(&mut self, dir: &Path) -> Result<(), ConfigError> {
        // A directory without a run is locked when the run begins, like a directory that does not exist yet.
        if !run_dir::holds_run(dir) {
            return Ok(());
        }
        self.engine.io.lock = Some(RunLock::take(dir)?);
        let folder = dir.join(checkpoint::FOLDER);
        checkpoint::recover(&folder).map_err(|source| ConfigError::RunDir {
            path: dir.to_owned(),
            source,
        })
    }

    /// Reads the newest intact checkpoint. Damaged newer ones become warnings of the run.
    ///
    /// # Errors
    ///
    /// If all checkpoints are damaged, or if a newer one cannot be read now but may be intact: a person should decide.
    fn newest_intact(&mut self, dir: &Path) -> Result<Option<(PathBuf, Checkpoint)>, ConfigError> {
        let folder = dir.join(checkpoint::FOLDER);
        let mut damaged = checkpoint::unreadable(&folder);
        let mut newest = None;
        for path in checkpoint::list(&folder) {
            match Checkpoint::read(&path) {
                Ok(saved) => {
                    newest = Some((path, saved));
                    break;
                }
                Err(error) => damaged.push((path, error)),
            }
        }
        for (path, error) in damaged {
            if newest.is_none() || !is_permanent(&error) {
                return Err(error.into());
            }
            self.engine.io.warnings.push(skipped(&path, &error));
        }
        Ok(newest)
    }

    /// Prepares a run whose directory has no checkpoint to resume from.
    fn start_again(&mut self, dir: &Path) -> Result<(), ConfigError> {
        if !run_dir::holds_run(dir) {
            self.engine.io.lock = None; // another process may just have moved the run aside
            return Ok(());
        }
        match run_dir::status(dir).as_deref() {
            // The run died, or its `run.json` was lost or damaged. Its files are kept aside: it may even have
            // completed.
            Some("running" | "unknown") | None => {
                self.engine.io.starts_again = true;
                Ok(())
            }
            Some(_) => Err(ConfigError::NothingToResume {
                path: dir.to_owned(),
            }),
        }
    }

    /// Restores a checkpoint: model, optimizer, data position, clock, callbacks, interventions.
    fn restore(
        &mut self,
        path: &Path,
        mut saved: Checkpoint,
        allowed: &[String],
    ) -> Result<(), ConfigError> {
        let config = &self.engine.io.info.config;
        let changes = config_change::between(&saved.state.config, config, allowed);
        if !changes.is_empty() {
            return Err(ConfigError::Changed {
                path: path.to_owned(),
                changes,
            });
        }
        let notes = self
            .load(&mut saved, allowed)
            .map_err(|error| CheckpointError::Mismatch {
                path: path.to_owned(),
                what: error.to_string(),
            })?;
        self.engine.plan.notes.extend(notes);
        self.resume_before_evals(&saved.state);
        self.resume_after(path, saved.state);
        Ok(())
    }

    /// Loads a checkpoint, except its clock. Returns notes on what starts anew.
    fn load(
        &mut self,
        saved: &mut Checkpoint,
        allowed: &[String],
    ) -> Result<Vec<String>, Mismatch> {
        let position = self.engine.compute.data.state();
        if let Some(what) = missing_position(&saved.state.data, &position) {
            return Err(Mismatch::new(what));
        }
        let mut notes = self.load_callbacks(saved, allowed)?;
        self.load_model(saved)?;
        notes.extend(self.load_optimizers(saved)?);
        self.load_position(&saved.state.data)?;
        let states = std::mem::take(&mut saved.state.interventions);
        notes.extend(self.load_interventions(states, allowed)?);
        Ok(notes)
    }

    fn load_model(&mut self, saved: &mut Checkpoint) -> Result<(), Mismatch> {
        let compute = &mut self.engine.compute;
        let (table, model) = (&compute.saved, std::mem::take(&mut saved.model));
        compute
            .model
            .try_change(|fresh| params::restore(fresh, table, model))
    }

    fn load_position(&mut self, position: &serde_json::Value) -> Result<(), Mismatch> {
        let data = &mut self.engine.compute.data;
        data.load_state(position).map_err(|error| {
            Mismatch::new(format!("its data position cannot be restored: {error}"))
        })
    }

    /// Loads the state of the optimizers. Returns a note if they start anew because the user has changed one.
    fn load_optimizers(&mut self, saved: &mut Checkpoint) -> Result<Option<String>, Mismatch> {
        let has_others = self.has_other_optimizers(&saved.state.config);
        let state = take_optimizer(saved);
        let compute = &mut self.engine.compute;
        let device = compute.device.clone().inner();
        let (table, model) = (&compute.table, &*compute.model);
        match compute.optimizers.load(state, table, model, &device) {
            Ok(()) => Ok(None),
            Err(_) if has_others => {
                compute.optimizers.forget();
                let note = "the optimizer starts anew: it is not the checkpoint's";
                Ok(Some(note.to_owned()))
            }
            Err(error) => Err(error),
        }
    }

    /// Prepares for the evals of the checkpoint's step, if it was written before them.
    fn resume_before_evals(&mut self, state: &State) {
        let Some(pending) = &state.pending_evals else {
            return;
        };
        // A file does not have the length of an epoch, without which every cadence in epochs would be due.
        let batches_per_epoch = self.engine.clock.batches_per_epoch;
        self.eval_pending_since = Some(Clock {
            batches_per_epoch,
            ..pending.since
        });
        self.engine.observers.log.requests = Requests::of_saved(&pending.requests).into();
    }

    /// Sets the clock to the checkpoint's, and describes the resume to the sinks.
    fn resume_after(&mut self, path: &Path, state: State) {
        let Engine {
            io,
            observers,
            clock,
            elapsed_before,
            ..
        } = &mut self.engine;
        io.resumed_from = Some((path.to_owned(), state.saved_as));
        *elapsed_before = state.clock.elapsed;
        *clock = Clock {
            batches_per_epoch: clock.batches_per_epoch,
            ..state.clock
        };
        io.resumed_step = Some(state.clock.step);
        let dir = io.info.dir.clone().unwrap_or_default();
        let own = record_of(&state.record, &dir);
        match state.pending_evals {
            None => {
                io.info.resumed_at = Some(state.clock.step);
                io.info.resumed_record = own;
            }
            // The step is not finished: the sinks continue after the one before it, and these values join those of the
            // evals in one record.
            Some(pending) => {
                io.info.resumed_at = Some(pending.since.step);
                io.info.resumed_record = record_of(&pending.record, &dir);
                observers.log.log_first(own.map(logged).unwrap_or_default());
            }
        }
    }

    /// Restores the states of the callbacks and their copies of the parameters. Returns notes on those that start anew.
    fn load_callbacks(
        &mut self,
        saved: &mut Checkpoint,
        allowed: &[String],
    ) -> Result<Vec<String>, Mismatch> {
        let Engine {
            compute, observers, ..
        } = &mut self.engine;
        let callbacks = observers.callbacks.get_mut();
        let states = std::mem::take(&mut saved.state.callbacks);
        let notes = callbacks.load_states(states, allowed)?;
        let device = compute.device.clone().inner();
        callbacks.load_copies(saved, (&compute.table, &device), allowed)?;
        Ok(notes)
    }

    /// Whether a group has another optimizer than in the checkpoint. The user has allowed it, or the resume would be
    /// refused.
    fn has_other_optimizers(&self, then: &serde_json::Value) -> bool {
        let changes = config_change::between(then, &self.engine.io.info.config, &[]);
        changes.iter().any(|ConfigChange { key, was, is }| {
            key.starts_with("groups.")
                && (key.ends_with(".optimizer") || was.is_none() || is.is_none())
        })
    }

    /// Restores the states of the interventions. Returns notes on those that start anew.
    fn load_interventions(
        &mut self,
        mut states: BTreeMap<String, serde_json::Value>,
        allowed: &[String],
    ) -> Result<Vec<String>, Mismatch> {
        let kind = Stateful {
            kind: "intervention",
            group: "interventions",
            allowed,
        };
        let mut notes = Vec::new();
        for intervention in &mut self.interventions {
            let name = intervention.name();
            match states.remove(&name) {
                Some(state) => {
                    intervention
                        .load_state(state)
                        .map_err(|error| kind.unfit(&name, &*error))?;
                }
                None if intervention.state().is_null() => {}
                None => notes.push(kind.is_new(&name)?),
            }
        }
        notes.extend(kind.are_gone(states)?);
        Ok(notes)
    }
}

/// Returns the values of a record, to be logged again.
fn logged(record: Record) -> Vec<(String, Logged)> {
    let mut logged = Vec::new();
    for (key, value) in record.values {
        logged.push((key, Logged::from(value)));
    }
    logged
}

fn take_optimizer(saved: &mut Checkpoint) -> OptimizerState {
    OptimizerState {
        tensors: std::mem::take(&mut saved.optimizer).into_iter().collect(),
        scalars: std::mem::take(&mut saved.state.optimizer),
    }
}

/// Returns the warning about a damaged checkpoint that a resume skips.
fn skipped(path: &Path, error: &CheckpointError) -> Warning {
    let name = path.file_name().unwrap_or_default();
    Warning {
        source: name.to_string_lossy().into_owned(),
        phase: "resume".to_owned(),
        step: 0,
        cause: with_causes(error),
        consequence: "the run resumes from an older one".to_owned(),
    }
}

/// Returns the error text if the checkpoint or this run's training data has no position.
fn missing_position(saved: &serde_json::Value, now: &serde_json::Value) -> Option<&'static str> {
    match (saved.is_null(), now.is_null()) {
        (false, false) => None,
        (true, true) => Some(
            "it holds no data position, so the training data would start anew; the data must implement `state` and \
             `load_state` (any value but null will do if all batches are alike); burn's \
             loaders with workers have no fixed order: use `DatasetLoader`",
        ),
        (true, false) => Some(
            "it holds no data position, so the training data would start anew: the data had no `state` when it was \
             saved; start a new run",
        ),
        (false, true) => Some(
            "it holds a data position, but this run's data reports none, so the training data would start anew; the \
             data must implement `state` and `load_state` (any value but null will do if all batches are alike); burn's \
             loaders with workers have no fixed order: use `DatasetLoader`",
        ),
    }
}
