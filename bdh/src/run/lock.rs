//! One process a run directory.

use crate::ConfigError;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Times that the lock is tried: whoever only looks at the directory has it for an instant.
const PATIENCE: u32 = 10;

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
        for _ in 0..PATIENCE {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self { _dir: file })),
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
                Err(TryLockError::Error(_)) => return Ok(None),
            }
        }
        Err(ConfigError::RunInUse { path: dir.to_owned() })
    }

    /// Whether somebody has the directory.
    pub(crate) fn is_held(dir: &Path) -> bool {
        let shared = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        File::open(dir).is_ok_and(shared)
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
        assert!(RunLock::is_held(dir.path()));
        drop(first);
        assert!(!RunLock::is_held(dir.path()));
        assert!(RunLock::take(dir.path()).expect("free again").is_some());
    }
}
