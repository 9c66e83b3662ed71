//! Checkpoints: directories that appear whole, open in Python, and say whether they are intact.
//!
//! ```text
//! checkpoints/step_00001000/
//!   model.safetensors       parameters under PyTorch's names and in its layouts
//!   optimizer.safetensors   what the optimizers remember, `<parameter>.<field>`
//!   state.json              clock, seed, data position, callback states, the record, the configuration
//!   manifest.json           size and SHA-256 of each file; written last
//! ```
//!
//! A checkpoint is written under another name and renamed when everything in it is on the disk, so a
//! directory with the right name is complete.

mod tensors;

use crate::run::write_atomically;
use crate::{BoxError, Clock};
use burn::tensor::TensorData;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The folder of a run directory that holds its checkpoints.
pub(crate) const FOLDER: &str = "checkpoints";

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file system refused.
    #[error("`{}`", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what the manifest says, or not what its name says.
    #[error("`{}` is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The checkpoint is whole, but of another model, task or set of callbacks.
    #[error("`{}` does not fit this run: {what}", path.display())]
    Mismatch {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// The device failed while the parameters were read.
    #[error("the device failed: {0}")]
    Device(String),
}

/// Everything that a run needs in order to go on, on the host.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Parameters by PyTorch's names, in PyTorch's layouts.
    pub model: BTreeMap<String, TensorData>,
    /// What the optimizers remember.
    pub optimizer: BTreeMap<String, TensorData>,
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
    /// This step's line of `metrics.jsonl`, which gets there only after the checkpoint. A resume adds it
    /// if the run was killed in between.
    pub record: Value,
    /// The effective configuration of the run, overrides included.
    pub config: Value,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: u32,
    step: u64,
    pinned: bool,
    files: BTreeMap<String, FileEntry>,
}

#[derive(Serialize, Deserialize)]
struct FileEntry {
    bytes: u64,
    sha256: String,
}

/// The version of the layout above.
const FORMAT: u32 = 1;

impl Checkpoint {
    /// Writes the checkpoint to `dir`, which appears when everything in it is on the disk.
    ///
    /// A checkpoint that stands there already is replaced. `pinned` ones are left alone by rotation.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`] if the file system refuses; nothing appears then.
    pub fn write(&self, dir: &Path, pinned: bool) -> Result<(), CheckpointError> {
        let scratch = scratch_path(dir);
        let io_error = |source| CheckpointError::Io { path: dir.to_owned(), source };
        let state = serde_json::to_vec_pretty(&self.state)
            .map_err(|error| io_error(io::Error::other(error)))?;
        let model = tensors::encode(&self.model)?;
        let optimizer = tensors::encode(&self.optimizer)?;
        let files = [(MODEL, model), (OPTIMIZER, optimizer), (STATE, state)];
        write_files(&scratch, &files, self.state.clock.step, pinned).map_err(io_error)?;
        replace_dir(&scratch, dir).map_err(io_error)
    }

    /// Reads a checkpoint, after checking every file against the manifest.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`] if a file is missing, [`CheckpointError::Damaged`] if one is not what the
    /// manifest says.
    pub fn read(dir: &Path) -> Result<Self, CheckpointError> {
        let manifest = read_manifest(dir)?;
        let load = |name: &str| checked(dir, name, &manifest);
        let (model, optimizer) = (load(MODEL)?, load(OPTIMIZER)?);
        let state = load(STATE)?;
        Ok(Self {
            model: tensors::decode(&dir.join(MODEL), &model)?,
            optimizer: tensors::decode(&dir.join(OPTIMIZER), &optimizer)?,
            state: serde_json::from_slice(&state)
                .map_err(|e| damaged(&dir.join(STATE), &e.into()))?,
        })
    }
}

/// Finds the newest complete checkpoint below `dir`, by its step.
///
/// Directories without a readable manifest, such as one that was being written when the machine died,
/// are passed over.
#[must_use]
pub fn latest_checkpoint(dir: &Path) -> Option<PathBuf> {
    list(dir).into_iter().max_by_key(|(_, manifest)| manifest.step).map(|(path, _)| path)
}

/// The checkpoints at `path`, each with its step: itself, or those of a run directory or of its folder for them.
pub(crate) fn find(path: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    if path.join(MANIFEST).exists() {
        return Ok(vec![(read_manifest(path)?.step, path.to_owned())]);
    }
    let folder = path.join(FOLDER);
    let found = list(if folder.is_dir() { &folder } else { path }).into_iter();
    Ok(found.map(|(path, manifest)| (manifest.step, path)).collect())
}

/// Deletes all but the newest `keep` of the checkpoints that are not pinned.
pub(crate) fn rotate(dir: &Path, keep: usize) -> io::Result<()> {
    let mut old: Vec<_> = list(dir).into_iter().filter(|(_, manifest)| !manifest.pinned).collect();
    old.sort_by_key(|(_, manifest)| std::cmp::Reverse(manifest.step));
    old.iter().skip(keep.max(1)).try_for_each(|(path, _)| fs::remove_dir_all(path))
}

/// Deletes the checkpoints of later steps, which belong to a future that a resume gives up.
pub(crate) fn forget_after(dir: &Path, step: u64) -> io::Result<()> {
    let mut later = list(dir).into_iter().filter(|(_, manifest)| manifest.step > step);
    later.try_for_each(|(path, _)| fs::remove_dir_all(path))
}

fn list(dir: &Path) -> Vec<(PathBuf, Manifest)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let hidden = path.file_name()?.to_string_lossy().starts_with('.');
            let manifest = read_manifest(&path).ok()?;
            (!hidden).then_some((path, manifest))
        })
        .collect()
}

/// Beside the target, so that the rename stays on one file system; hidden, so that nobody takes it.
fn scratch_path(dir: &Path) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    dir.with_file_name(format!(".{name}.tmp"))
}

fn write_files(dir: &Path, files: &[(&str, Vec<u8>)], step: u64, pinned: bool) -> io::Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?; // left by a process that died
    }
    fs::create_dir_all(dir)?;
    let mut entries = BTreeMap::new();
    for (name, bytes) in files {
        write_atomically(&dir.join(name), bytes)?;
        let entry = FileEntry { bytes: bytes.len() as u64, sha256: sha256(bytes) };
        entries.insert((*name).to_owned(), entry);
    }
    let manifest = Manifest { format: FORMAT, step, pinned, files: entries };
    write_atomically(&dir.join(MANIFEST), &serde_json::to_vec_pretty(&manifest)?)?;
    sync_dir(dir)
}

/// Renames `from` to `to`; what stood at `to` is moved aside first, and deleted last.
fn replace_dir(from: &Path, to: &Path) -> io::Result<()> {
    let aside = scratch_path(to).with_extension("old");
    if to.exists() {
        if aside.exists() {
            fs::remove_dir_all(&aside)?;
        }
        fs::rename(to, &aside)?;
    }
    fs::rename(from, to)?;
    if let Some(parent) = to.parent() {
        sync_dir(parent)?; // the rename itself must survive a power cut
    }
    if aside.exists() { fs::remove_dir_all(&aside) } else { Ok(()) }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    // Windows cannot open a directory as a file, and makes renames durable by itself.
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

fn read_manifest(dir: &Path) -> Result<Manifest, CheckpointError> {
    let path = dir.join(MANIFEST);
    let bytes = read_file(&path)?;
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|error| damaged(&path, &error.into()))?;
    if manifest.format == FORMAT {
        Ok(manifest)
    } else {
        let what = format!("its format is {}, this program reads {FORMAT}", manifest.format);
        Err(CheckpointError::Mismatch { path, what })
    }
}

fn checked(dir: &Path, name: &str, manifest: &Manifest) -> Result<Vec<u8>, CheckpointError> {
    let path = dir.join(name);
    let bytes = read_file(&path)?;
    let entry = manifest.files.get(name).ok_or_else(|| CheckpointError::Damaged {
        path: dir.join(MANIFEST),
        what: format!("it does not list {name}"),
    })?;
    if bytes.len() as u64 != entry.bytes || sha256(&bytes) != entry.sha256 {
        let what =
            format!("it has {} bytes, or other ones, instead of {}", bytes.len(), entry.bytes);
        return Err(CheckpointError::Damaged { path, what });
    }
    Ok(bytes)
}

fn read_file(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    fs::read(path).map_err(|source| CheckpointError::Io { path: path.to_owned(), source })
}

fn damaged(path: &Path, error: &BoxError) -> CheckpointError {
    CheckpointError::Damaged { path: path.to_owned(), what: error.to_string() }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes whatever is written to it");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(step: u64) -> Checkpoint {
        let weight = TensorData::new(vec![1.0_f32, f32::NAN, -0.0], [3]);
        Checkpoint {
            model: BTreeMap::from([("weight".to_owned(), weight.clone())]),
            optimizer: BTreeMap::from([("weight.moment".to_owned(), weight)]),
            state: State {
                clock: Clock { step, ..Clock::default() },
                seed: 7,
                data: Value::Null,
                optimizer: BTreeMap::new(),
                callbacks: BTreeMap::new(),
                interventions: BTreeMap::new(),
                record: serde_json::json!({ "step": step, "train/loss": 0.1 }),
                config: Value::Null,
            },
        }
    }

    fn bytes(checkpoint: &Checkpoint) -> Vec<&[u8]> {
        checkpoint.model.values().map(TensorData::as_bytes).collect()
    }

    #[test]
    fn what_was_written_is_read_back_to_the_bit() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (path, written) = (dir.path().join("step_1"), checkpoint(1));
        written.write(&path, false).expect("written");
        written.write(&path, false).expect("written over");
        let read = Checkpoint::read(&path).expect("read");
        assert_eq!((bytes(&read), &read.state), (bytes(&written), &written.state));
        assert_eq!(fs::read_dir(dir.path()).expect("a listing").count(), 1, "no scratch remains");
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
            checkpoint(step).write(&at(&format!("step_{step}")), false).expect("written");
        }
        fs::create_dir(at("step_5")).expect("one that is not complete");
        assert_eq!(latest_checkpoint(dir.path()), Some(at("step_4")));

        rotate(dir.path(), 0).expect("rotated");
        assert_eq!(latest_checkpoint(dir.path()), Some(at("step_4")));
        assert!(at("early").exists() && !at("step_2").exists() && !at("step_3").exists());
    }
}
