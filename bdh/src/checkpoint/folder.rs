//! The directories of checkpoints: how one appears whole, and which there are.

use super::{FOLDER, MODEL, OPTIMIZER, STATE, damaged};
use crate::error::CheckpointError;
use crate::files::{self, hex, sha256, write_atomically};
use crate::names::is_plain_name;
use crate::run_lock::RunLock;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const MANIFEST: &str = "manifest.json";

/// The version of the layout.
const FORMAT: u32 = 3;

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: u32,
    step: u64,
    pinned: bool,
    files: BTreeMap<String, FileEntry>,
    /// Of all the rest: the step decides which checkpoint is the newest, and which are deleted.
    sha256: String,
}

impl Manifest {
    fn new(step: u64, pinned: bool, files: BTreeMap<String, FileEntry>) -> Self {
        let mut manifest = Self {
            format: FORMAT,
            step,
            pinned,
            files,
            sha256: String::new(),
        };
        manifest.sha256 = manifest.checksum();
        manifest
    }

    fn checksum(&self) -> String {
        let Self {
            format,
            step,
            pinned,
            files,
            ..
        } = self;
        let rest = serde_json::to_vec(&(format, step, pinned, files));
        sha256(&rest.unwrap_or_default())
    }
}

#[derive(Serialize, Deserialize)]
struct FileEntry {
    bytes: u64,
    sha256: String,
}

// ── Writing ──────────────────────────────────────────────────────────────────────────────────────────

/// A checkpoint's directory under its scratch name, until it is finished.
pub(super) struct Folder<'a> {
    target: &'a Path,
    scratch: PathBuf,
    files: BTreeMap<String, FileEntry>,
    /// Whose directory it is in; `None` where no run is under way.
    lock: Option<&'a RunLock>,
}

impl<'a> Folder<'a> {
    /// Makes an empty directory beside the target, so that the rename stays on one file system.
    pub(super) fn begin(
        target: &'a Path,
        lock: Option<&'a RunLock>,
    ) -> Result<Self, CheckpointError> {
        let scratch = hidden(target, "tmp");
        verify(lock)
            .and_then(|()| remove(&scratch)) // left by a process that died
            .and_then(|()| make_dir(&scratch, lock))
            .map_err(|source| CheckpointError::Io {
                path: target.to_owned(),
                source,
            })?;
        Ok(Self {
            target,
            scratch,
            files: BTreeMap::new(),
            lock,
        })
    }

    /// Lets `write` make a file, puts it on the disk, and notes its size and checksum.
    pub(super) fn add(
        &mut self,
        name: &str,
        write: impl FnOnce(&Path) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let path = self.scratch.join(name);
        verify(self.lock).map_err(|source| CheckpointError::Io {
            path: self.target.to_owned(),
            source,
        })?;
        write(&path)?;
        let entry = File::open(&path).and_then(|mut file| {
            file.sync_all()?;
            FileEntry::of(&mut file)
        });
        let entry = entry.map_err(|source| CheckpointError::Io { path, source })?;
        if self.files.insert(name.to_owned(), entry).is_some() {
            let what = format!("two files of it would be called `{name}`");
            return Err(CheckpointError::Mismatch {
                path: self.target.to_owned(),
                what,
            });
        }
        Ok(())
    }

    /// Writes the manifest, and gives the directory its name.
    pub(super) fn finish(mut self, step: u64, pinned: bool) -> Result<(), CheckpointError> {
        let files = std::mem::take(&mut self.files);
        let manifest = Manifest::new(step, pinned, files);
        let finish = || {
            verify(self.lock)?;
            let manifest = serde_json::to_vec_pretty(&manifest)?;
            write_atomically(&self.scratch.join(MANIFEST), &manifest)?;
            sync_dir(&self.scratch)?;
            verify(self.lock)?; // it took a while: by now another run's checkpoint may stand there
            replace_dir(&self.scratch, self.target)
        };
        finish().map_err(|source| CheckpointError::Io {
            path: self.target.to_owned(),
            source,
        })
    }
}

impl Drop for Folder<'_> {
    /// What was not finished gives its room back; on a full disk somebody needs it.
    fn drop(&mut self) {
        let _ = verify(self.lock).and_then(|()| remove(&self.scratch));
    }
}

/// Makes an empty directory. A run directory that was deleted in this instant is not made again.
fn make_dir(dir: &Path, lock: Option<&RunLock>) -> io::Result<()> {
    if lock.is_none() {
        return fs::create_dir_all(dir);
    }
    files::ensure_dir(dir.parent().unwrap_or(Path::new("")))?;
    fs::create_dir(dir)
}

/// Checks that a run that is under way still has its directory.
fn verify(lock: Option<&RunLock>) -> io::Result<()> {
    lock.map_or(Ok(()), |lock| Ok(lock.verify()?))
}

impl FileEntry {
    /// Reads a file to its end, without keeping it in memory.
    fn of(file: &mut File) -> io::Result<Self> {
        let (mut digest, mut bytes) = (Sha256::new(), 0);
        let mut part = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut part)?;
            if read == 0 {
                break;
            }
            digest.update(&part[..read]);
            bytes += read as u64;
        }
        Ok(Self {
            bytes,
            sha256: hex(digest.finalize()),
        })
    }
}

/// Renames `from` to `to`; what stood at `to` is moved aside first, and deleted last.
fn replace_dir(from: &Path, to: &Path) -> io::Result<()> {
    let aside = hidden(to, "old");
    if to.exists() {
        remove(&aside)?;
        fs::rename(to, &aside)?;
    }
    fs::rename(from, to)?;
    if let Some(parent) = to.parent() {
        sync_dir(parent)?; // the rename itself must survive a power cut
    }
    remove(&aside)
}

/// The name of a directory that is not a checkpoint yet (`tmp`), or no longer (`old`, which may come back, and `gone`).
fn hidden(dir: &Path, what: &str) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    dir.with_file_name(format!(".{name}.{what}"))
}

/// Deletes a checkpoint, if it is there. A process that dies in the middle leaves nothing that looks like one, and the next
/// to resume the run clears it up.
///
/// # Errors
///
/// If the file system refuses.
pub fn delete_checkpoint(dir: &Path) -> io::Result<()> {
    let gone = hidden(dir, "gone");
    remove(&gone)?;
    match fs::rename(dir, &gone) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => remove(&gone),
    }
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    // Windows cannot open a directory as a file, and makes renames durable by itself.
    if cfg!(unix) {
        File::open(dir)?.sync_all()
    } else {
        Ok(())
    }
}

// ── Reading ──────────────────────────────────────────────────────────────────────────────────────────

/// The step of a checkpoint.
pub(super) fn step(dir: &Path) -> Result<u64, CheckpointError> {
    Ok(read_manifest(dir)?.step)
}

/// The names of a checkpoint's files, each of them checked.
pub(super) fn checked_files(dir: &Path) -> Result<Vec<String>, CheckpointError> {
    let manifest = read_manifest(dir)?;
    for name in [MODEL, OPTIMIZER, STATE] {
        if !manifest.files.contains_key(name) {
            let what = format!("it does not list {name}");
            return Err(CheckpointError::Damaged {
                path: dir.join(MANIFEST),
                what,
            });
        }
    }
    for (name, expected) in &manifest.files {
        let path = dir.join(name);
        // A manifest is somebody's file: it must not make us read whatever it names.
        if !is_plain_name(name) || path.is_symlink() {
            let what = format!("`{name}` is not a file of it");
            return Err(CheckpointError::Damaged {
                path: dir.join(MANIFEST),
                what,
            });
        }
        let found = FileEntry::of(&mut open(dir, name)?).map_err(|source| CheckpointError::Io {
            path: path.clone(),
            source,
        })?;
        if found.bytes != expected.bytes {
            let what = format!("it has {} bytes instead of {}", found.bytes, expected.bytes);
            return Err(CheckpointError::Damaged { path, what });
        }
        if found.sha256 != expected.sha256 {
            let what = "its checksum is not the one in the manifest".to_owned();
            return Err(CheckpointError::Damaged { path, what });
        }
    }
    Ok(manifest.files.into_keys().collect())
}

fn read_manifest(dir: &Path) -> Result<Manifest, CheckpointError> {
    let path = dir.join(MANIFEST);
    let manifest: Manifest = serde_json::from_slice(&read(dir, MANIFEST)?)
        .map_err(|error| damaged(&path, &error.into()))?;
    if manifest.format != FORMAT {
        let what = format!(
            "its format is {}, this program reads {FORMAT}",
            manifest.format
        );
        return Err(CheckpointError::Mismatch { path, what });
    }
    if manifest.sha256 != manifest.checksum() {
        let what = "its checksum is not that of what it says".to_owned();
        return Err(CheckpointError::Damaged { path, what });
    }
    Ok(manifest)
}

/// Opens a file of a checkpoint.
pub(super) fn open(dir: &Path, name: &str) -> Result<File, CheckpointError> {
    files::open(dir, name).map_err(|error| unreadable_file(dir, name, error))
}

/// Reads a file of a checkpoint that is parsed as a whole.
pub(super) fn read(dir: &Path, name: &str) -> Result<Vec<u8>, CheckpointError> {
    files::read(dir, name, files::MAX_JSON).map_err(|error| unreadable_file(dir, name, error))
}

/// A file that is not there, or cannot be read now, may be whole again; a link, a FIFO or a device is no file of ours.
fn unreadable_file(dir: &Path, name: &str, source: io::Error) -> CheckpointError {
    let path = dir.join(name);
    match source.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge => CheckpointError::Damaged {
            path,
            what: source.to_string(),
        },
        _ => CheckpointError::Io { path, source },
    }
}

// ── Those that there are ─────────────────────────────────────────────────────────────────────────────

/// Finds the newest complete checkpoint below `dir`, by its step.
///
/// Directories without a readable manifest are passed over; a resume tells of them. Whether its files are intact shows when it is [read](super::Checkpoint::read).
#[must_use]
pub fn latest_checkpoint(dir: &Path) -> Option<PathBuf> {
    list_checkpoints(dir).into_iter().next()
}

/// The complete checkpoints below `dir`, newest first.
#[must_use]
pub fn list_checkpoints(dir: &Path) -> Vec<PathBuf> {
    list(dir).into_iter().map(|(path, _)| path).collect()
}

/// The checkpoints at `path`, each with its step: itself, or those of a run directory or of its folder for them.
pub(crate) fn find(path: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    if path.join(MANIFEST).exists() {
        return Ok(vec![(read_manifest(path)?.step, path.to_owned())]);
    }
    let folder = path.join(FOLDER);
    let found = list(if folder.is_dir() { &folder } else { path }).into_iter();
    Ok(found
        .map(|(path, manifest)| (manifest.step, path))
        .collect())
}

/// Deletes all but the newest `keep` of the checkpoints that are not pinned.
pub(crate) fn rotate(dir: &Path, keep: usize, lock: Option<&RunLock>) -> io::Result<()> {
    let old = list(dir)
        .into_iter()
        .filter(|(_, manifest)| !manifest.pinned)
        .skip(keep.max(1));
    delete(old.map(|(path, _)| path), lock)
}

/// Deletes the checkpoints of later steps, which belong to a future that a resume gives up.
pub(crate) fn forget_after(dir: &Path, step: u64, lock: Option<&RunLock>) -> io::Result<()> {
    let later = list(dir)
        .into_iter()
        .filter(|(_, manifest)| manifest.step > step);
    delete(later.map(|(path, _)| path), lock)
}

fn delete(mut paths: impl Iterator<Item = PathBuf>, lock: Option<&RunLock>) -> io::Result<()> {
    paths.try_for_each(|path| {
        verify(lock)?;
        delete_checkpoint(&path)
    })
}

/// Clears up after a process that died while it wrote: a checkpoint that was moved aside comes back if
/// nothing took its place, and what was never finished goes.
pub(crate) fn recover(dir: &Path) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let hidden = name
            .strip_prefix('.')
            .and_then(|name| name.rsplit_once('.'));
        match hidden {
            Some((name, "old")) if !dir.join(name).exists() => fs::rename(&path, dir.join(name))?,
            Some((_, "old" | "tmp" | "gone")) => remove(&path)?,
            _ => {}
        }
    }
    Ok(())
}

/// Newest first; of one step, in the order of their names.
fn list(dir: &Path) -> Vec<(PathBuf, Manifest)> {
    let mut found: Vec<_> = manifests(dir)
        .filter_map(|(path, manifest)| Some((path, manifest.ok()?)))
        .collect();
    found.sort_by(|(a, left), (b, right)| right.step.cmp(&left.step).then_with(|| a.cmp(b)));
    found
}

/// The directories below `dir` that should be checkpoints, and whose manifests cannot be read.
pub(crate) fn unreadable(dir: &Path) -> Vec<(PathBuf, CheckpointError)> {
    let mut found: Vec<_> = manifests(dir)
        .filter_map(|(path, manifest)| Some((path, manifest.err()?)))
        .collect();
    found.sort_by(|(a, _), (b, _)| b.cmp(a));
    found
}

/// Directories that have a manifest; people may keep others there. A link to somewhere else is not followed, and is an
/// error here: a run that has nothing but such links must not begin anew.
fn manifests(dir: &Path) -> impl Iterator<Item = (PathBuf, Result<Manifest, CheckpointError>)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let paths = entries
        .map(|entry| entry.path())
        .filter(|path| path.join(MANIFEST).exists());
    let is_hidden = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'))
    };
    paths
        .filter(move |path| !is_hidden(path) && !names_a_sibling(path))
        .map(|path| {
            let manifest = if path.is_symlink() {
                let what = "it is a link; put the folder itself there".to_owned();
                Err(CheckpointError::Damaged {
                    path: path.clone(),
                    what,
                })
            } else {
                read_manifest(&path)
            };
            (path, manifest)
        })
}

/// Whether it is a link to another entry of its folder, such as a person's `best`: that one is listed by itself.
fn names_a_sibling(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target.parent() == Some(Path::new("")))
}

/// Whether a run directory has checkpoints: whole ones, damaged ones, and one that was moved aside and comes back.
pub(crate) fn has_any(run_dir: &Path) -> bool {
    let entries = fs::read_dir(run_dir.join(FOLDER))
        .into_iter()
        .flatten()
        .flatten();
    // Other hidden names are those begun, or half deleted, by a process that died.
    let is_rest = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with('.') && path.extension().is_none_or(|end| end != "old")
    };
    let has_manifest = |path: &Path| fs::symlink_metadata(path.join(MANIFEST)).is_ok();
    entries
        .map(|entry| entry.path())
        .any(|path| !is_rest(&path) && has_manifest(&path))
}
