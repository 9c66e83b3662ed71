//! Directories of checkpoints: written so that they appear complete, checked, listed and rotated.

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

/// Version of the directory layout.
const FORMAT: u32 = 3;

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: u32,
    step: u64,
    pinned: bool,
    files: BTreeMap<String, FileEntry>,
    /// Checksum of all other fields. The step matters most: it decides which checkpoint is newest, and which are
    /// deleted.
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

/// A checkpoint's directory under its temporary name, while it is written.
pub(super) struct Folder<'a> {
    target: &'a Path,
    scratch: PathBuf,
    files: BTreeMap<String, FileEntry>,
    /// Lock of the run that writes; `None` outside of a run.
    lock: Option<&'a RunLock>,
}

impl<'a> Folder<'a> {
    /// Creates an empty directory beside the target, so that the rename stays on one file system.
    pub(super) fn begin(
        target: &'a Path,
        lock: Option<&'a RunLock>,
    ) -> Result<Self, CheckpointError> {
        let scratch = hidden(target, "tmp");
        verify(lock)
            .and_then(|()| remove(&scratch)) // may be left over from a process that died
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

    /// Adds a file that `write` creates: syncs it to the disk, and notes its size and checksum.
    pub(super) fn add(
        &mut self,
        name: &str,
        write: impl FnOnce(&Path) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let path = self.scratch.join(name);
        verify(self.lock).map_err(|source| self.io_error(source))?;
        write(&path)?;
        let entry =
            FileEntry::synced(&path).map_err(|source| CheckpointError::Io { path, source })?;
        if self.files.insert(name.to_owned(), entry).is_some() {
            let what =
                format!("two files would have the name `{name}`; rename one of the callbacks");
            return Err(CheckpointError::Mismatch {
                path: self.target.to_owned(),
                what,
            });
        }
        Ok(())
    }

    /// Writes the manifest, and gives the directory its final name.
    pub(super) fn finish(mut self, step: u64, pinned: bool) -> Result<(), CheckpointError> {
        let files = std::mem::take(&mut self.files);
        let manifest = Manifest::new(step, pinned, files);
        self.publish(&manifest)
            .map_err(|source| self.io_error(source))
    }

    fn io_error(&self, source: io::Error) -> CheckpointError {
        CheckpointError::Io {
            path: self.target.to_owned(),
            source,
        }
    }

    fn publish(&self, manifest: &Manifest) -> io::Result<()> {
        verify(self.lock)?;
        let manifest = serde_json::to_vec_pretty(manifest)?;
        write_atomically(&self.scratch.join(MANIFEST), &manifest)?;
        sync_dir(&self.scratch)?; // before the rename, or a power cut could leave an incomplete checkpoint
        verify(self.lock)?; // again, as syncing takes time: another run's checkpoint may be at the target by now
        replace_dir(&self.scratch, self.target)
    }
}

impl Drop for Folder<'_> {
    /// Deletes an unfinished checkpoint, to free its space: the disk may be full.
    fn drop(&mut self) {
        let _ = verify(self.lock).and_then(|()| remove(&self.scratch));
    }
}

/// Creates an empty directory. Under a lock, a run directory that was just deleted is not created again.
fn make_dir(dir: &Path, lock: Option<&RunLock>) -> io::Result<()> {
    if lock.is_none() {
        return fs::create_dir_all(dir);
    }
    files::ensure_dir(dir.parent().unwrap_or(Path::new("")))?;
    fs::create_dir(dir)
}

/// Checks that a run still has its directory.
fn verify(lock: Option<&RunLock>) -> io::Result<()> {
    lock.map_or(Ok(()), |lock| Ok(lock.verify()?))
}

impl FileEntry {
    /// Syncs a file to the disk, then computes its size and checksum.
    fn synced(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.sync_all()?;
        Self::of(&mut file)
    }

    /// Describes the difference of a file from this entry, if there is one.
    fn difference(&self, found: &Self) -> Option<String> {
        if found.bytes != self.bytes {
            return Some(format!(
                "it has {} bytes instead of {}",
                found.bytes, self.bytes
            ));
        }
        if found.sha256 != self.sha256 {
            return Some("its checksum differs from the one in the manifest".to_owned());
        }
        None
    }

    /// Computes size and checksum of a file, 1 MiB at a time.
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

/// Renames `from` to `to`. An existing `to` is moved aside first and deleted last, so that one of them always exists.
fn replace_dir(from: &Path, to: &Path) -> io::Result<()> {
    let aside = hidden(to, "old");
    if to.exists() {
        remove(&aside)?;
        fs::rename(to, &aside)?;
    }
    fs::rename(from, to)?;
    if let Some(parent) = to.parent() {
        sync_dir(parent)?; // so that the rename survives a power cut
    }
    remove(&aside)
}

/// Returns the hidden name of an unfinished (`tmp`), replaced (`old`) or deleted (`gone`) checkpoint. [`recover`]
/// renames an `old` one back if nothing has replaced it.
fn hidden(dir: &Path, what: &str) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    dir.with_file_name(format!(".{name}.{what}"))
}

/// Deletes a checkpoint, if it exists.
///
/// The directory is renamed first. If the process dies half-way, the rest does not look like a checkpoint, and the next
/// resume of the run deletes it.
///
/// # Errors
///
/// The error of the file system.
pub fn delete(dir: &Path) -> io::Result<()> {
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
    // Windows cannot open a directory as a file, and its renames are durable without a sync.
    if cfg!(unix) {
        File::open(dir)?.sync_all()
    } else {
        Ok(())
    }
}

// ── Reading ──────────────────────────────────────────────────────────────────────────────────────────

/// Reads the step of a checkpoint from its manifest.
pub(super) fn step(dir: &Path) -> Result<u64, CheckpointError> {
    Ok(read_manifest(dir)?.step)
}

/// Checks every file of a checkpoint against the manifest. Returns their names.
pub(super) fn checked_files(dir: &Path) -> Result<Vec<String>, CheckpointError> {
    let manifest = read_manifest(dir)?;
    for name in [MODEL, OPTIMIZER, STATE] {
        if !manifest.files.contains_key(name) {
            return Err(not_listed(dir, name));
        }
    }
    for (name, expected) in &manifest.files {
        check_file(dir, name, expected)?;
    }
    Ok(manifest.files.into_keys().collect())
}

/// Whether a checkpoint is in a folder, whatever links and relative paths lead to both.
pub(crate) fn is_in(folder: &Path, checkpoint: &Path) -> bool {
    match (folder.canonicalize(), checkpoint.canonicalize()) {
        (Ok(folder), Ok(checkpoint)) => checkpoint.parent() == Some(folder.as_path()),
        _ => false,
    }
}

/// Returns the path of a checkpoint's weights, after checking that file against the manifest. A directory without a
/// manifest, such as one of another program, is not checked.
pub(crate) fn checked_model(dir: &Path) -> Result<PathBuf, CheckpointError> {
    if dir.join(MANIFEST).exists() {
        match read_manifest(dir)?.files.get(MODEL) {
            Some(expected) => check_file(dir, MODEL, expected)?,
            None => return Err(not_listed(dir, MODEL)),
        }
    }
    Ok(dir.join(MODEL))
}

fn not_listed(dir: &Path, name: &str) -> CheckpointError {
    CheckpointError::Damaged {
        path: dir.join(MANIFEST),
        what: format!("it does not list {name}"),
    }
}

fn check_file(dir: &Path, name: &str, expected: &FileEntry) -> Result<(), CheckpointError> {
    let path = dir.join(name);
    // A manifest may come from elsewhere. It must not make a program read any file that it names.
    if !is_plain_name(name) || path.is_symlink() {
        return Err(CheckpointError::Damaged {
            path: dir.join(MANIFEST),
            what: format!("`{name}` is not a regular file in the checkpoint"),
        });
    }
    let found = match FileEntry::of(&mut open(dir, name)?) {
        Ok(found) => found,
        Err(source) => return Err(CheckpointError::Io { path, source }),
    };
    match expected.difference(&found) {
        Some(what) => Err(CheckpointError::Damaged { path, what }),
        None => Ok(()),
    }
}

fn read_manifest(dir: &Path) -> Result<Manifest, CheckpointError> {
    let path = dir.join(MANIFEST);
    let manifest: Manifest = serde_json::from_slice(&read(dir, MANIFEST)?)
        .map_err(|error| damaged(&path, &error.into()))?;
    if manifest.format != FORMAT {
        let what = format!(
            "its format is version {}, this program reads version {FORMAT}",
            manifest.format
        );
        return Err(CheckpointError::Mismatch { path, what });
    }
    if manifest.sha256 != manifest.checksum() {
        let what = "its content does not match its own checksum".to_owned();
        return Err(CheckpointError::Damaged { path, what });
    }
    Ok(manifest)
}

/// Opens a file of a checkpoint.
pub(super) fn open(dir: &Path, name: &str) -> Result<File, CheckpointError> {
    files::open(dir, name).map_err(|error| unreadable_file(dir, name, error))
}

/// Reads a whole file of a checkpoint, of limited size.
pub(super) fn read(dir: &Path, name: &str) -> Result<Vec<u8>, CheckpointError> {
    files::read(dir, name, files::MAX_JSON).map_err(|error| unreadable_file(dir, name, error))
}

/// Converts an error of reading a file. A missing or unreadable file may be readable later; a link, a FIFO or a device
/// is damage.
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

// ── Listing ──────────────────────────────────────────────────────────────────────────────────────────

/// Returns the newest complete checkpoint below `dir`, by step.
///
/// Directories without a readable manifest are skipped; a resume reports them. Damaged files are found only when the
/// checkpoint is [read](super::Checkpoint::read).
#[must_use]
pub fn latest(dir: &Path) -> Option<PathBuf> {
    list(dir).into_iter().next()
}

/// Returns the complete checkpoints below `dir`, newest first.
#[must_use]
pub fn list(dir: &Path) -> Vec<PathBuf> {
    newest_first(dir)
        .into_iter()
        .map(|(path, _)| path)
        .collect()
}

/// Finds the checkpoints at `path`, each with its step. The path is a checkpoint, a run directory, or its folder of
/// checkpoints.
pub(crate) fn find(path: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    if path.join(MANIFEST).exists() {
        return Ok(vec![(read_manifest(path)?.step, path.to_owned())]);
    }
    let folder = path.join(FOLDER);
    let dir = if folder.is_dir() { &folder } else { path };
    let mut found = Vec::new();
    for (path, manifest) in newest_first(dir) {
        found.push((manifest.step, path));
    }
    Ok(found)
}

/// Deletes the checkpoints that are not pinned, except the newest `keep`, and at least one.
pub(crate) fn rotate(dir: &Path, keep: usize, lock: Option<&RunLock>) -> io::Result<()> {
    let mut num_kept = 0;
    for (path, manifest) in newest_first(dir) {
        if manifest.pinned {
            continue;
        }
        if num_kept < keep.max(1) {
            num_kept += 1;
        } else {
            delete_in_run(&path, lock)?;
        }
    }
    Ok(())
}

/// Deletes the checkpoints of later steps: a resume from `step` discards them.
pub(crate) fn delete_after(dir: &Path, step: u64, lock: Option<&RunLock>) -> io::Result<()> {
    for (path, manifest) in newest_first(dir) {
        if manifest.step > step {
            delete_in_run(&path, lock)?;
        }
    }
    Ok(())
}

fn delete_in_run(path: &Path, lock: Option<&RunLock>) -> io::Result<()> {
    verify(lock)?; // each time: the directory may be another run's by now
    delete(path)
}

/// Cleans up after a process that died while it wrote: renames a replaced checkpoint back if its replacement is
/// missing, and deletes unfinished and half-deleted ones.
pub(crate) fn recover(dir: &Path) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Some(hidden) = name.strip_prefix('.') else {
            continue;
        };
        match hidden.rsplit_once('.') {
            Some((name, "old")) if !dir.join(name).exists() => fs::rename(&path, dir.join(name))?,
            Some((_, "old" | "tmp" | "gone")) => remove(&path)?,
            _ => {}
        }
    }
    Ok(())
}

/// Returns the complete checkpoints of a directory, newest first; those of one step are in the order of their names.
fn newest_first(dir: &Path) -> Vec<(PathBuf, Manifest)> {
    let mut found = Vec::new();
    for (path, manifest) in manifests(dir) {
        if let Ok(manifest) = manifest {
            found.push((path, manifest));
        }
    }
    found.sort_by(|(a, left), (b, right)| right.step.cmp(&left.step).then_with(|| a.cmp(b)));
    found
}

/// Returns the directories below `dir` that have a manifest which cannot be read.
pub(crate) fn unreadable(dir: &Path) -> Vec<(PathBuf, CheckpointError)> {
    let mut found = Vec::new();
    for (path, manifest) in manifests(dir) {
        if let Err(error) = manifest {
            found.push((path, error));
        }
    }
    found.sort_by(|(a, _), (b, _)| b.cmp(a));
    found
}

/// Reads the manifests of the directories that have one; people may keep other directories there.
///
/// A link to another place is not followed. It is an error, not skipped: a run that has only such links must not start
/// anew.
fn manifests(dir: &Path) -> Vec<(PathBuf, Result<Manifest, CheckpointError>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        if is_hidden || !path.join(MANIFEST).exists() || names_a_sibling(&path) {
            continue;
        }
        let manifest = read_unlinked(&path);
        found.push((path, manifest));
    }
    found
}

/// Reads the manifest of a directory that is no link.
fn read_unlinked(dir: &Path) -> Result<Manifest, CheckpointError> {
    if dir.is_symlink() {
        return Err(CheckpointError::Damaged {
            path: dir.to_owned(),
            what: "it is a link; put the folder itself there".to_owned(),
        });
    }
    read_manifest(dir)
}

/// Whether a path is a link to another entry of its folder, such as a user's `best`. That entry is listed by itself.
fn names_a_sibling(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target.parent() == Some(Path::new("")))
}

/// Whether a run directory has checkpoints: complete, damaged, or replaced ones that [`recover`] can rename back.
pub(crate) fn has_any(run_dir: &Path) -> bool {
    let entries = fs::read_dir(run_dir.join(FOLDER));
    for entry in entries.into_iter().flatten().flatten() {
        let path = entry.path();
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        // All other hidden names are unfinished or half-deleted checkpoints of a process that died.
        let is_replaced = path.extension().is_some_and(|end| end == "old");
        let has_manifest = fs::symlink_metadata(path.join(MANIFEST)).is_ok();
        if has_manifest && (!is_hidden || is_replaced) {
            return true;
        }
    }
    false
}
