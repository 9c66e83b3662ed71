//! One process a run directory.

use crate::ConfigError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Holds a run directory, until it is dropped or its process dies, however that happens.
#[derive(Debug)]
pub(crate) struct RunLock {
    /// The system lets go of the lock when the file is closed.
    _file: File,
}

impl RunLock {
    const FILE: &str = ".lock";

    /// Takes the directory; `None` on a file system that knows no locks.
    ///
    /// # Errors
    ///
    /// [`ConfigError::RunInUse`] if another process has it.
    pub(crate) fn take(dir: &Path) -> Result<Option<Self>, ConfigError> {
        let failed = |source| ConfigError::RunDir { path: dir.to_owned(), source };
        let path = dir.join(Self::FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false) // it may be another's
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                // For whoever is refused; that it is held is what counts.
                let _ = file.set_len(0).and_then(|()| file.rewind());
                let _ = write!(file, "process {}", std::process::id());
                Ok(Some(Self { _file: file }))
            }
            Err(TryLockError::WouldBlock) => {
                let mut by = String::new();
                let _ = file.read_to_string(&mut by);
                let by = if by.is_empty() { "another process".to_owned() } else { by };
                Err(ConfigError::RunInUse { path: dir.to_owned(), by })
            }
            Err(TryLockError::Error(_)) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_lets_go() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = RunLock::take(dir.path()).expect("free").expect("a file system with locks");
        let error = RunLock::take(dir.path()).expect_err("taken").to_string();
        assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
        drop(first);
        assert!(RunLock::take(dir.path()).expect("free again").is_some());
    }
}
