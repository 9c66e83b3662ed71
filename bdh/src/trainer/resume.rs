//! Going on from a checkpoint.

use super::Trainer;
use super::callbacks::Stateful;
use super::engine::Engine;
use crate::checkpoint::{self, Checkpoint, list_checkpoints};
use crate::config_change::{self, ConfigChange};
use crate::error::CheckpointError;
use crate::error::ConfigError;
use crate::failure::with_causes;
use crate::files;
use crate::optim::OptimizerState;
use crate::outcome::Problem;
use crate::params;
use crate::record::{Record, Value};
use crate::run_dir;
use crate::run_lock::RunLock;
use crate::task::Task;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Where a run goes on from.
///
/// # Examples
///
/// ```
/// use bdh::Resume;
///
/// assert_eq!(Resume::from("auto"), Resume::Auto);
/// assert_eq!(Resume::from("runs/a/checkpoints/step_00000100"), Resume::From("runs/a/checkpoints/step_00000100".into()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// The newest checkpoint in the run directory that is whole.
    ///
    /// The same command begins a run and, after any crash, goes on with it: where there is no run
    /// directory yet, or nothing of a run in it, it begins, and a run that died before its first checkpoint was complete is moved
    /// aside (to `<run_dir>.died-1`) and begun again. So is one without a checkpoint whose `run.json` was lost or damaged.
    Auto,
    /// This checkpoint.
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

/// Whether a checkpoint will not be whole the next time either.
fn is_lasting(error: &CheckpointError) -> bool {
    match error {
        CheckpointError::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
        _ => true,
    }
}

/// A record without the files that lie outside of the run directory: a checkpoint is somebody's file, and must
/// not make a sink read, and perhaps upload, whatever it names, or whatever a link in the directory leads to.
fn without_others_files(mut record: Record, dir: &Path) -> Record {
    let is_ours = |path: &Path| {
        let Ok(path) = path.strip_prefix(dir) else {
            return false;
        };
        // The folder of the checkpoints may be a link to another disk.
        match path.strip_prefix(checkpoint::FOLDER) {
            Ok(below) => files::is_plain(&dir.join(checkpoint::FOLDER), below),
            Err(_) => files::is_plain(dir, path),
        }
    };
    record.values.retain(|(_, value)| match value {
        Value::File { path, .. } => is_ours(path),
        _ => true,
    });
    record
}

impl<T: Task> Trainer<T> {
    /// Puts a checkpoint into the trainer, if there is one to go on from.
    pub(super) fn resume(&mut self, from: Resume, allowed: &[String]) -> Result<(), ConfigError> {
        let dir = self.engine.io.info.dir.clone();
        // A directory without a run is taken when the run begins, as one that has still to be made.
        if let Some(dir) = dir.as_ref().filter(|dir| run_dir::holds_run(dir)) {
            self.engine.io.lock = Some(RunLock::take(dir)?);
            checkpoint::recover(&dir.join(checkpoint::FOLDER)).map_err(|source| {
                ConfigError::RunDir {
                    path: dir.clone(),
                    source,
                }
            })?;
        }
        match from {
            Resume::From(path) => self.restore(&path, Checkpoint::read(&path)?, allowed),
            Resume::Auto => {
                let dir = dir.ok_or(ConfigError::Missing { field: "run_dir" })?;
                match self.newest_whole(&dir)? {
                    Some((path, saved)) => self.restore(&path, saved, allowed),
                    None => self.begin_again(&dir),
                }
            }
        }
    }

    /// Reads the newest checkpoint that is whole; those that are damaged become problems of the run. If all are, or if
    /// the newest may be whole and cannot be read now, the run is not begun: somebody should look.
    fn newest_whole(&mut self, dir: &Path) -> Result<Option<(PathBuf, Checkpoint)>, ConfigError> {
        let folder = dir.join(checkpoint::FOLDER);
        let mut damaged = checkpoint::unreadable(&folder);
        let mut whole = None;
        for path in list_checkpoints(&folder) {
            match Checkpoint::read(&path) {
                Ok(saved) => {
                    whole = Some((path, saved));
                    break;
                }
                Err(error) => damaged.push((path, error)),
            }
        }
        if let Some(at) = damaged
            .iter()
            .position(|(_, error)| whole.is_none() || !is_lasting(error))
        {
            return Err(damaged.swap_remove(at).1.into());
        }
        self.engine
            .io
            .problems
            .extend(damaged.iter().map(|(path, error)| {
                Problem {
                    who: path
                        .file_name()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into_owned(),
                    during: "resume".to_owned(),
                    step: 0,
                    error: with_causes(error),
                    consequence: "the run goes on from an older one".to_owned(),
                }
            }));
        Ok(whole)
    }

    /// Prepares for a run whose directory has nothing to go on from.
    fn begin_again(&mut self, dir: &Path) -> Result<(), ConfigError> {
        if !run_dir::holds_run(dir) {
            self.engine.io.lock = None; // another process may have moved the run aside in this instant
            return Ok(());
        }
        match run_dir::status(dir).as_deref() {
            // It died, or its `run.json` was lost or damaged. What there is of it is kept aside: it may have ended.
            Some("running" | "unknown") | None => {
                self.engine.io.is_begun_again = true;
                Ok(())
            }
            Some(_) => Err(ConfigError::NothingToResume {
                path: dir.to_owned(),
            }),
        }
    }

    /// Puts a checkpoint into the trainer: model, optimizer, data, clock, callbacks.
    fn restore(
        &mut self,
        path: &Path,
        mut saved: Checkpoint,
        allowed: &[String],
    ) -> Result<(), ConfigError> {
        let mismatch = |what| CheckpointError::Mismatch {
            path: path.to_owned(),
            what,
        };
        let config = &self.engine.io.info.config;
        let changes = config_change::between(&saved.state.config, config, allowed);
        if !changes.is_empty() {
            return Err(ConfigError::Changed {
                path: path.to_owned(),
                changes,
            });
        }
        let position = self.engine.compute.task.position();
        if let Some(what) = missing_position(&saved.state.data, &position) {
            return Err(mismatch(what.to_owned()).into());
        }
        let mut notes = self.load_callbacks(&mut saved, allowed).map_err(mismatch)?;
        let is_other_optimizer = self.has_other_optimizers(&saved.state.config);
        let Checkpoint {
            model,
            optimizer,
            state,
            ..
        } = saved;
        let compute = &mut self.engine.compute;
        let device = compute.device.clone().inner();
        let whole = &compute.saved;
        compute
            .model
            .try_change(|fresh| params::restore(fresh, whole, model))
            .map_err(mismatch)?;

        let moments = OptimizerState {
            tensors: optimizer.into_iter().collect(),
            scalars: state.optimizer,
        };
        match compute
            .optimizers
            .load(moments, &compute.table, &*compute.model, &device)
        {
            Err(_) if is_other_optimizer => {
                compute.optimizers.forget();
                notes.push("the optimizer starts anew: it is another one".to_owned());
            }
            loaded => loaded.map_err(mismatch)?,
        }
        compute
            .task_mut()
            .seek(&state.data)
            .map_err(|error| mismatch(format!("the data position: {error}")))?;
        notes.extend(
            self.load_interventions(state.interventions, allowed)
                .map_err(mismatch)?,
        );

        let Engine {
            io,
            plan,
            clock,
            elapsed_before,
            ..
        } = &mut self.engine;
        plan.notes.extend(notes);
        io.resumed_from = Some((path.to_owned(), state.saved_as));
        *elapsed_before = state.clock.elapsed;
        *clock = state.clock;
        io.info.resumed_at = Some(state.clock.step);
        let dir = io.info.dir.as_deref().unwrap_or(Path::new(""));
        io.info.resumed_record = Record::from_json(&state.record)
            .map(|record| without_others_files(record, dir))
            .filter(|record| !record.values.is_empty());
        Ok(())
    }

    /// Gives the callbacks their states and copies of the parameters back; returns notes on what starts anew.
    fn load_callbacks(
        &mut self,
        saved: &mut Checkpoint,
        allowed: &[String],
    ) -> Result<Vec<String>, String> {
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

    /// Whether an optimizer was exchanged since the checkpoint; that it is allowed has been checked.
    fn has_other_optimizers(&self, then: &serde_json::Value) -> bool {
        let changes = config_change::between(then, &self.engine.io.info.config, &[]);
        changes.iter().any(|ConfigChange { key, was, is }| {
            key.starts_with("groups.")
                && (key.ends_with(".optimizer") || was.is_none() || is.is_none())
        })
    }

    /// Gives the interventions their states back, as with callbacks.
    fn load_interventions(
        &mut self,
        mut states: BTreeMap<String, serde_json::Value>,
        allowed: &[String],
    ) -> Result<Vec<String>, String> {
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
        for name in states.into_keys() {
            notes.push(kind.is_gone(&name)?);
        }
        Ok(notes)
    }
}

/// Why a run is not resumed when the checkpoint, or the task as it is now, does not say where the training data stands.
fn missing_position(saved: &serde_json::Value, now: &serde_json::Value) -> Option<&'static str> {
    match (saved.is_null(), now.is_null()) {
        (false, false) => None,
        (true, true) => Some(
            "it does not say where the training data stood, which would begin anew; let the task implement `position` \
             and `seek` (any value but null will do where all batches are alike)",
        ),
        (true, false) => Some(
            "it does not say where the training data stood, which would begin anew: the task had no `position` when it \
             was saved; begin a new run",
        ),
        (false, true) => Some(
            "it says where the training data stood, and this run's task does not: the data would begin anew; let the \
             task implement `position` and `seek` (any value but null will do where all batches are alike)",
        ),
    }
}
