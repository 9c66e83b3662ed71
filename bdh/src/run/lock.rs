//! One process a run directory.

use crate::ConfigError;
use std::fs::{File, TryLockError};
use std::path::Path;

/// Holds a run directory, until it is dropped or its process dies, however that happens.
#[derive(Debug)]
pub(crate) struct RunLock {
    /// The directory itself, which needs no file for it. The system lets go of the lock when it is closed.
    _dir: File,
}

impl RunLock {
    /// Takes the directory; `None` where directories cannot be locked (Windows, some network file systems).
    ///
    /// # Errors
    ///
    /// [`ConfigError::RunInUse`] if another process, or another run of this one, has it.
    pub(crate) fn take(dir: &Path) -> Result<Option<Self>, ConfigError> {
        let Ok(file) = File::open(dir) else { return Ok(None) };
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _dir: file })),
            Err(TryLockError::WouldBlock) => Err(ConfigError::RunInUse { path: dir.to_owned() }),
            Err(TryLockError::Error(_)) => Ok(None),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_lets_go() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = RunLock::take(dir.path()).expect("free").expect("a file system with locks");
        let error = RunLock::take(dir.path()).expect_err("taken").to_string();
        assert!(error.contains("in use by another run"), "{error}");
        drop(first);
        assert!(RunLock::take(dir.path()).expect("free again").is_some());
    }
}
