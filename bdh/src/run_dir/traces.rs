//! A run that is refused leaves nothing new in its directory.
//!
//! A resume has dropped the checkpoints and records after its step by then; they do not come back.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The contents of a run directory before its run began.
pub(crate) struct Before {
    dir: PathBuf,
    /// The names in it; `None` if they could not be read.
    names: Option<HashSet<OsString>>,
    /// The directory and the folders above it that were not there, from below to above.
    missing: Vec<PathBuf>,
}

impl Before {
    /// Looks at a directory.
    pub(crate) fn of(dir: &Path) -> Self {
        let missing = dir.ancestors().filter(|path| !path.as_os_str().is_empty());
        Self {
            dir: dir.to_owned(),
            names: names(dir).ok(),
            missing: missing
                .take_while(|path| !path.exists())
                .map(Path::to_owned)
                .collect(),
        }
    }

    /// Deletes what has come since then. To be called only while the directory is locked: all of it is the caller's.
    pub(crate) fn restore(&self) {
        // What cannot be deleted stays: the error that the run was refused with is the one to tell.
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

/// The names in a directory; none of one that is not there.
fn names(dir: &Path) -> io::Result<HashSet<OsString>> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HashSet::new()),
        entries => entries?.map(|entry| Ok(entry?.file_name())).collect(),
    }
}
