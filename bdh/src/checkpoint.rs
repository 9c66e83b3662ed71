//! Checkpoints: directories that appear whole, open in Python, and say whether they are intact.
//!
//! ```text
//! checkpoints/step_00001000/
//!   model.safetensors       parameters and buffers under PyTorch's names and in its layouts
//!   optimizer.safetensors   what the optimizers remember, `<parameter>.<field>`
//!   weights_ema.safetensors a copy of the parameters that a callback keeps, here `ema`; like the model
//!   state.json              clock, seed, data position, callback states, the record, the configuration
//!   manifest.json           size and SHA-256 of each file; written last
//! ```
//!
//! A checkpoint is written under another name and renamed when everything in it is on the disk, so a
//! directory with the right name is complete.

mod folder;
mod saver;
mod tensors;

use crate::error::CheckpointError;
pub use folder::{delete_checkpoint, latest_checkpoint, list_checkpoints};
pub(crate) use folder::{find, forget_after, has_any, recover, rotate, unreadable};
pub(crate) use saver::{Job, Saved, Saver};
pub(crate) use tensors::read as read_tensors;

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

/// A checkpoint that a callback asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRequest {
    /// The directory's name, such as `ckpt_early_step_250`; no path.
    pub name: String,
    /// Whether rotation must leave it alone.
    pub pinned: bool,
}

/// The folder of a run directory that holds its checkpoints.
pub(crate) const FOLDER: &str = "checkpoints";

/// The file with the parameters and buffers.
pub(crate) const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";

/// Everything that a run needs in order to go on, on the host.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Parameters and buffers by PyTorch's names, in PyTorch's layouts.
    pub model: Tensors,
    /// What the optimizers remember.
    pub optimizer: Tensors,
    /// Copies of the parameters that callbacks keep, by the callback's name; each like the model's.
    pub copies: BTreeMap<String, Tensors>,
    /// Everything that is not a tensor.
    pub state: State,
}

/// The part of a checkpoint that is not a tensor: `state.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The work completed.
    pub clock: Clock,
    /// The seed of everything random; with the clock it is all that randomness needs.
    pub seed: u64,
    /// Where the training data stands, as the task tells it.
    pub data: Value,
    /// Counters of the optimizers, `<parameter>.<field>`.
    pub optimizer: BTreeMap<String, Value>,
    /// The state of each callback, by name.
    pub callbacks: BTreeMap<String, Value>,
    /// The state of each intervention, by name.
    pub interventions: BTreeMap<String, Value>,
    /// The names under which this state was saved, and which of them are pinned. A process may die between two of
    /// them; a resume makes those that are missing.
    pub saved_as: BTreeMap<String, bool>,
    /// This step's line of `metrics.jsonl`, which gets there only after the checkpoint. A resume adds it
    /// if the run was killed in between.
    pub record: Value,
    /// The effective configuration of the run, overrides included.
    pub config: Value,
}

impl Checkpoint {
    /// Writes the checkpoint to `dir`, which appears when everything in it is on the disk.
    ///
    /// A checkpoint that stands there already is replaced. `pinned` ones are left alone by rotation. On
    /// the host this takes no more memory than the checkpoint itself has.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`] if the file system refuses; nothing appears then.
    pub fn write(&self, dir: &Path, pinned: bool) -> Result<(), CheckpointError> {
        self.write_in_run(dir, pinned, None)
    }

    /// Writes the checkpoint of a run that has the lock, for as long as the run directory is still there.
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
        folder.add(STATE, |path| {
            let failed = |source| CheckpointError::Io {
                path: path.to_owned(),
                source,
            };
            let state = serde_json::to_vec_pretty(&self.state).map_err(|e| failed(e.into()))?;
            std::fs::write(path, state).map_err(failed)
        })?;
        folder.finish(self.state.clock.step, pinned)
    }

    /// Reads a checkpoint, after checking every file against the manifest.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`] if a file is missing, [`CheckpointError::Damaged`] if one is not what the
    /// manifest says.
    pub fn read(dir: &Path) -> Result<Self, CheckpointError> {
        let files = folder::checked_files(dir)?;
        let copies = files
            .iter()
            .filter_map(|name| Some((callback_of_copy(name)?, name)));
        let read = |name: &str| tensors::read_from(folder::open(dir, name)?, &dir.join(name));
        let state: State = serde_json::from_slice(&folder::read(dir, STATE)?)
            .map_err(|error| damaged(&dir.join(STATE), &error.into()))?;
        let step = folder::step(dir)?;
        // A resume deletes checkpoints of later steps by what their manifests say, and would delete its own.
        if step != state.clock.step {
            let what = format!(
                "it is of step {}, and its manifest says {step}",
                state.clock.step
            );
            return Err(damaged(&dir.join(STATE), &what.into()));
        }
        Ok(Self {
            model: read(MODEL)?,
            optimizer: read(OPTIMIZER)?,
            copies: copies
                .map(|(callback, name)| Ok((callback.to_owned(), read(name)?)))
                .collect::<Result<_, CheckpointError>>()?,
            state,
        })
    }

    /// Puts another copy of the checkpoint `from` at `to`.
    pub(crate) fn copy(
        from: &Path,
        to: &Path,
        pinned: bool,
        lock: Option<&RunLock>,
    ) -> Result<(), CheckpointError> {
        let (files, step) = (folder::checked_files(from)?, folder::step(from)?);
        let mut folder = Folder::begin(to, lock)?;
        for name in files {
            folder.add(&name, |path| {
                let failed = |source| CheckpointError::Io {
                    path: path.to_owned(),
                    source,
                };
                let mut source = folder::open(from, &name)?;
                let mut copy = File::create_new(path).map_err(failed)?;
                io::copy(&mut source, &mut copy).map(drop).map_err(failed)
            })?;
        }
        folder.finish(step, pinned)
    }

    /// The copy of the parameters that a callback had saved, if it had.
    pub(crate) fn take_copy(&mut self, callback: &str) -> Option<Tensors> {
        self.copies.remove(&name_in_file(callback))
    }
}

/// The name of a callback as part of a file's name. Names may hold anything; file names may not.
pub(crate) fn name_in_file(callback: &str) -> String {
    let plain = |letter: char| {
        if letter.is_alphanumeric() {
            letter
        } else {
            '_'
        }
    };
    callback.chars().map(plain).collect()
}

/// The file that holds a callback's copy of the parameters.
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
    fn what_was_written_is_read_back_to_the_bit() {
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
            "no scratch remains"
        );
    }

    #[test]
    fn a_flipped_bit_in_any_file_is_noticed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("step_1");
        for name in [MODEL, OPTIMIZER, STATE] {
            checkpoint(1).write(&path, false).expect("written");
            let mut bytes = fs::read(path.join(name)).expect("a file");
            *bytes.last_mut().expect("not empty") ^= 1;
            fs::write(path.join(name), bytes).expect("damaged");
            let error = Checkpoint::read(&path).expect_err("the damage is noticed");
            assert!(matches!(error, CheckpointError::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn the_newest_complete_one_wins_and_rotation_spares_it_and_the_pinned() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| dir.path().join(name);
        checkpoint(1).write(&at("early"), true).expect("written");
        for step in 2..=4 {
            checkpoint(step)
                .write(&at(&format!("step_{step}")), false)
                .expect("written");
        }
        fs::create_dir(at("step_5")).expect("one that is not complete");
        assert_eq!(latest_checkpoint(dir.path()), Some(at("step_4")));

        folder::rotate(dir.path(), 0, None).expect("rotated");
        assert_eq!(latest_checkpoint(dir.path()), Some(at("step_4")));
        assert!(at("early").exists() && !at("step_2").exists() && !at("step_3").exists());
    }

    #[test]
    #[cfg(unix)]
    fn a_run_that_lost_its_directory_renames_and_deletes_nothing_there() {
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

        mine.add(OPTIMIZER, |_| panic!("it would be theirs"))
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
        assert_eq!(list_checkpoints(&dir).len(), 2);
    }
}
