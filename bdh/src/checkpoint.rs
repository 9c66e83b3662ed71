//! Checkpoints: directories that appear complete, open in Python, and can be checked for damage.
//!
//! ```text
//! checkpoints/step_00001000/
//!   model.safetensors       parameters and buffers under PyTorch's names and in its layouts
//!   optimizer.safetensors   state tensors of the optimizers, `<parameter>.<field>`
//!   weights_ema.safetensors a copy of the parameters that a callback keeps, here `ema`; like the model
//!   state.json              clock, seed, data position, callback states, the record, the configuration
//!   manifest.json           size and SHA-256 of each file; written last
//! ```
//!
//! A checkpoint is written under a temporary name and renamed when all of it is on the disk, so a directory with the
//! right name is complete.

mod folder;
mod saver;
mod start;
mod tensors;
#[cfg(feature = "pytorch")]
mod torch;

use crate::error::CheckpointError;
pub(crate) use folder::{
    checked_model, delete_after, find, has_any, is_in, recover, rotate, unreadable,
};
pub use folder::{delete, latest, list};
pub(crate) use saver::{Job, Saved, Saver};
pub use start::Start;
pub(crate) use tensors::{TensorFile, read as read_tensors, write as write_tensors};
#[cfg(feature = "pytorch")]
pub use torch::TorchFile;
#[cfg(feature = "pytorch")]
pub(crate) use torch::{read_tensor as read_torch_tensor, unreadable as unreadable_torch};

use crate::clock::Clock;
use crate::failure::BoxError;
use crate::params::Tensors;
use crate::run_lock::RunLock;
use folder::Folder;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

/// A request of a callback for a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRequest {
    /// The directory's name, such as `ckpt_early_step_250`; no path.
    pub name: String,
    /// Whether rotation must keep the checkpoint.
    pub pinned: bool,
}

/// The folder of a run directory that holds its checkpoints.
pub(crate) const FOLDER: &str = "checkpoints";

/// The file with the parameters and buffers.
pub(crate) const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";

/// The state that a run needs to resume, in host memory.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Parameters and buffers by PyTorch's names, in PyTorch's layouts.
    pub model: Tensors,
    /// State tensors of the optimizers, named `<parameter>.<field>`.
    pub optimizer: Tensors,
    /// Copies of the parameters that callbacks keep, by callback name; names and layouts are the model's.
    pub copies: BTreeMap<String, Tensors>,
    /// Everything that is not a tensor.
    pub state: State,
}

/// The part of a checkpoint that is not a tensor: `state.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The work completed.
    pub clock: Clock,
    /// The seed of everything random. With the clock it determines all random numbers.
    pub seed: u64,
    /// The position of the training data, as the data reports it.
    pub data: Value,
    /// Rest of the step, if the checkpoint was written before the evals of its step. A resume begins with these evals
    /// then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_evals: Option<PendingEvals>,
    /// Counters of the optimizers, `<parameter>.<field>`.
    pub optimizer: BTreeMap<String, Value>,
    /// The state of each callback, by name.
    pub callbacks: BTreeMap<String, Value>,
    /// The state of each intervention, by name.
    pub interventions: BTreeMap<String, Value>,
    /// The names under which this state was saved, and whether each is pinned. If the process died before it had
    /// written all of them, a resume writes the rest.
    pub saved_as: BTreeMap<String, bool>,
    /// This step's line of `metrics.jsonl`, which is written after the checkpoint. If the run was killed in between, a
    /// resume adds it.
    pub record: Value,
    /// The effective configuration of the run, overrides included.
    pub config: Value,
}

/// Rest of a step whose checkpoint was written before its evals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PendingEvals {
    /// The clock before the step.
    pub since: Clock,
    /// The record of the step before, which is the last complete one; null if that step has none.
    pub record: Value,
    /// Requests of callbacks that the step meets after the evals.
    pub requests: Value,
}

impl Checkpoint {
    /// Writes the checkpoint to `dir`, which appears when all of it is on the disk.
    ///
    /// An existing checkpoint at `dir` is replaced. A `pinned` one is kept by rotation. Writing makes no second copy of
    /// the state in host memory.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`] if the file system fails; `dir` does not appear then.
    pub fn write(&self, dir: &Path, pinned: bool) -> Result<(), CheckpointError> {
        self.write_in_run(dir, pinned, None)
    }

    /// Writes the checkpoint of a run. It fails if the lock shows that the run directory is gone.
    pub(crate) fn write_in_run(
        &self,
        dir: &Path,
        pinned: bool,
        lock: Option<&RunLock>,
    ) -> Result<(), CheckpointError> {
        let mut folder = Folder::begin(dir, lock)?;
        folder.add(MODEL, |path| tensors::write(path, &self.model))?;
        folder.add(OPTIMIZER, |path| tensors::write(path, &self.optimizer))?;
        for (callback, copy) in &self.copies {
            folder.add(&name_of_copy(callback), |path| tensors::write(path, copy))?;
        }
        folder.add(STATE, |path| write_state(path, &self.state))?;
        folder.finish(self.state.clock.step, pinned)
    }

    /// Reads a checkpoint, after checking every file against the manifest.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`] if a file is missing, [`CheckpointError::Damaged`] if a file differs from the manifest.
    pub fn read(dir: &Path) -> Result<Self, CheckpointError> {
        let files = folder::checked_files(dir)?;
        let state = read_state(dir)?;
        let read = |name: &str| tensors::read_from(folder::open(dir, name)?, &dir.join(name));
        let mut copies = BTreeMap::new();
        for name in &files {
            if let Some(callback) = callback_of_copy(name) {
                copies.insert(callback.to_owned(), read(name)?);
            }
        }
        Ok(Self {
            model: read(MODEL)?,
            optimizer: read(OPTIMIZER)?,
            copies,
            state,
        })
    }

    /// Copies the checkpoint `from` to `to`.
    pub(crate) fn copy(
        from: &Path,
        to: &Path,
        pinned: bool,
        lock: Option<&RunLock>,
    ) -> Result<(), CheckpointError> {
        let (files, step) = (folder::checked_files(from)?, folder::step(from)?);
        let mut folder = Folder::begin(to, lock)?;
        for name in files {
            folder.add(&name, |path| copy_file(from, &name, path))?;
        }
        folder.finish(step, pinned)
    }

    /// Takes the copy of the parameters that a callback had saved, if there is one.
    pub(crate) fn take_copy(&mut self, callback: &str) -> Option<Tensors> {
        self.copies.remove(&name_in_file(callback))
    }
}

fn copy_file(from: &Path, name: &str, to: &Path) -> Result<(), CheckpointError> {
    let mut source = folder::open(from, name)?;
    match File::create_new(to).and_then(|mut copy| io::copy(&mut source, &mut copy)) {
        Ok(_) => Ok(()),
        Err(source) => Err(CheckpointError::Io {
            path: to.to_owned(),
            source,
        }),
    }
}

fn write_state(path: &Path, state: &State) -> Result<(), CheckpointError> {
    let written = match serde_json::to_vec_pretty(state) {
        Ok(text) => std::fs::write(path, text),
        Err(error) => Err(error.into()),
    };
    written.map_err(|source| CheckpointError::Io {
        path: path.to_owned(),
        source,
    })
}

fn read_state(dir: &Path) -> Result<State, CheckpointError> {
    let path = dir.join(STATE);
    let state: State = serde_json::from_slice(&folder::read(dir, STATE)?)
        .map_err(|error| damaged(&path, &error.into()))?;
    let step = folder::step(dir)?;
    // A resume deletes checkpoints of later steps by the steps in their manifests. With a wrong one it would delete the
    // checkpoint it resumes from.
    if step != state.clock.step {
        let what = format!("its step is {}, the manifest's is {step}", state.clock.step);
        return Err(damaged(&path, &what.into()));
    }
    Ok(state)
}

/// Converts a callback's name to a part of a file name: all characters except letters and digits become `_`.
pub(crate) fn name_in_file(callback: &str) -> String {
    callback.replace(|letter: char| !letter.is_alphanumeric(), "_")
}

/// Returns the name of the file that holds a callback's copy of the parameters.
fn name_of_copy(callback: &str) -> String {
    format!("weights_{}.safetensors", name_in_file(callback))
}

fn callback_of_copy(file: &str) -> Option<&str> {
    file.strip_prefix("weights_")?.strip_suffix(".safetensors")
}

fn damaged(path: &Path, error: &BoxError) -> CheckpointError {
    CheckpointError::Damaged {
        path: path.to_owned(),
        what: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;
    use std::fs;

    fn checkpoint(step: u64) -> Checkpoint {
        let weight = TensorData::new(vec![1.0_f32, f32::NAN, -0.0], [3]);
        Checkpoint {
            model: BTreeMap::from([("weight".to_owned(), weight.clone())]),
            optimizer: BTreeMap::from([("weight.moment".to_owned(), weight)]),
            copies: BTreeMap::new(),
            state: State {
                clock: Clock {
                    step,
                    ..Clock::default()
                },
                pending_evals: None,
                seed: 7,
                data: Value::Null,
                optimizer: BTreeMap::new(),
                callbacks: BTreeMap::new(),
                interventions: BTreeMap::new(),
                saved_as: BTreeMap::new(),
                record: serde_json::json!({ "step": step, "train/loss": 0.1 }),
                config: Value::Null,
            },
        }
    }

    fn bytes(checkpoint: &Checkpoint) -> Vec<&[u8]> {
        checkpoint
            .model
            .values()
            .map(TensorData::as_bytes)
            .collect()
    }

    #[test]
    fn a_checkpoint_is_read_back_bit_for_bit() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (path, written) = (dir.path().join("step_1"), checkpoint(1));
        written.write(&path, false).expect("written");
        written.write(&path, false).expect("written over");
        let read = Checkpoint::read(&path).expect("read");
        assert_eq!(
            (bytes(&read), &read.state),
            (bytes(&written), &written.state)
        );
        assert_eq!(
            fs::read_dir(dir.path()).expect("a listing").count(),
            1,
            "no scratch directory remains"
        );
    }

    #[test]
    fn a_flipped_bit_in_any_file_is_detected() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("step_1");
        for name in [MODEL, OPTIMIZER, STATE] {
            checkpoint(1).write(&path, false).expect("written");
            let mut bytes = fs::read(path.join(name)).expect("a file");
            *bytes.last_mut().expect("not empty") ^= 1;
            fs::write(path.join(name), bytes).expect("damaged");
            let error = Checkpoint::read(&path).expect_err("the damage is detected");
            assert!(matches!(error, CheckpointError::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn rotation_keeps_the_newest_and_pinned_checkpoints() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| dir.path().join(name);
        checkpoint(1).write(&at("early"), true).expect("written");
        for step in 2..=4 {
            checkpoint(step)
                .write(&at(&format!("step_{step}")), false)
                .expect("written");
        }
        fs::create_dir(at("step_5")).expect("one that is not complete");
        assert_eq!(latest(dir.path()), Some(at("step_4")));

        folder::rotate(dir.path(), 0, None).expect("rotated");
        assert_eq!(latest(dir.path()), Some(at("step_4")));
        assert!(at("early").exists() && !at("step_2").exists() && !at("step_3").exists());
    }

    #[test]
    #[cfg(unix)]
    fn a_run_without_its_directory_changes_nothing_at_that_path() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let dir = scratch.path().join("run");
        fs::create_dir(&dir).expect("a directory");
        let lock = RunLock::take(&dir).expect("free");
        let target = dir.join("step_1");
        let mut mine = Folder::begin(&target, Some(&lock)).expect("begun");
        fs::rename(&dir, scratch.path().join("moved")).expect("moved");
        let theirs = dir.join(".step_1.tmp");
        fs::create_dir_all(&theirs).expect("another run that is at the same step");
        fs::write(theirs.join(MODEL), "theirs").expect("a file");

        mine.add(OPTIMIZER, |_| panic!("it would overwrite the other run's"))
            .expect_err("lost");
        let error = mine.finish(1, false).expect_err("lost");
        let cause = std::error::Error::source(&error)
            .expect("a cause")
            .to_string();
        assert!(cause.ends_with("was replaced by another one"), "{cause}");
        assert_eq!(fs::read(theirs.join(MODEL)).expect("a file"), b"theirs");
        assert!(!theirs.join("manifest.json").exists());
        checkpoint(1)
            .write(&dir.join("old"), false)
            .expect("theirs");
        checkpoint(2)
            .write(&dir.join("new"), false)
            .expect("theirs");
        folder::rotate(&dir, 1, Some(&lock)).expect_err("lost");
        assert_eq!(list(&dir).len(), 2);
    }
}
