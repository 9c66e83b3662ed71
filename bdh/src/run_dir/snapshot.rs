//! Clean-up after a run that fails to start: nothing new stays in its directory.
//!
//! Checkpoints and records that a resume has already deleted are not restored.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Contents of a run directory before the run started.
pub(crate) struct DirSnapshot {
    dir: PathBuf,
    /// Names of the files and folders; `None` if they could not be read.
    names: Option<HashSet<OsString>>,
    /// The directory and its parents, as far as they did not exist, the innermost first.
    missing: Vec<PathBuf>,
}

impl DirSnapshot {
    /// Lists the contents of a directory.
    pub(crate) fn take(dir: &Path) -> Self {
        let mut missing = Vec::new();
        for path in dir.ancestors() {
            if path.exists() {
                break;
            }
            if !path.as_os_str().is_empty() {
                missing.push(path.to_owned());
            }
        }
        Self {
            dir: dir.to_owned(),
            names: names(dir).ok(),
            missing,
        }
    }

    /// Deletes files and folders that are new. The caller holds the lock of the directory, so all of them are its own.
    pub(crate) fn restore(&self) {
        // Errors are ignored, because the caller reports the error that ended the run.
        if let (Some(before), Ok(now)) = (&self.names, names(&self.dir)) {
            for path in now.difference(before).map(|name| self.dir.join(name)) {
                let is_dir = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
                let _ = if is_dir {
                    fs::remove_dir_all(path)
                } else {
                    fs::remove_file(path)
                };
            }
        }
        for dir in &self.missing {
            let _ = fs::remove_dir(dir); // unless something else is in it
        }
    }
}

/// Lists the names in a directory; empty if it does not exist.
fn names(dir: &Path) -> io::Result<HashSet<OsString>> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HashSet::new()),
        entries => entries?.map(|entry| Ok(entry?.file_name())).collect(),
    }
}
