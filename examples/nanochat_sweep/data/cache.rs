//! Directory for what runs share: trained tokenizers and prepared data.

use crate::progress::Progress;
use bdh::BoxError;
use bdh_data::DataError;
use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// File in a directory that is locked, the same as that of prepared data.
const LOCK: &str = ".lock";

/// Returns the directory of this kind of files: `$XDG_CACHE_HOME/bdh/<kind>` or `~/.cache/bdh/<kind>`.
pub(crate) fn dir(kind: &str) -> Result<PathBuf, BoxError> {
    let xdg = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let xdg = xdg.filter(|dir| dir.is_absolute()); // the XDG specification ignores relative paths
    let cache = match xdg {
        Some(dir) => dir,
        None => env::home_dir().ok_or(DataError::NoCache)?.join(".cache"),
    };
    Ok(cache.join("bdh").join(kind))
}

/// Creates a directory and locks it against other processes, until the returned file is closed.
///
/// Where files cannot be locked, two processes may do the same work.
pub(crate) fn lock(dir: &Path, progress: &Progress) -> Result<File, BoxError> {
    let path = dir.join(LOCK);
    let file = fs::create_dir_all(dir).and_then(|()| File::create(&path));
    let file = file.map_err(|source| DataError::Unwritable { path, source })?;
    if is_locked(&file) {
        note_wait(progress);
        drop(file.lock());
    }
    Ok(file)
}

/// Returns whether another process has locked a directory, and prints a note then: the caller is about to wait for it.
pub(crate) fn is_made_elsewhere(dir: &Path, progress: &Progress) -> bool {
    let is_made = File::open(dir.join(LOCK)).is_ok_and(|file| is_locked(&file));
    if is_made {
        note_wait(progress);
    }
    is_made
}

/// Returns whether another process has locked a file; if not, it is locked until it is closed.
fn is_locked(file: &File) -> bool {
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

fn note_wait(progress: &Progress) {
    progress.note("made by another process, which this one waits for");
}
