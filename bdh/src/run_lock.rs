//! Locks of run directories: one process per directory.

use crate::error::{ConfigError, DirLoss};
use same_file::Handle;
use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Number of attempts to lock, 10 ms apart: a process that only checks the status holds the lock for an instant.
const ATTEMPTS: u32 = 10;

/// Lock of a run directory, held until the last clone is dropped or the process ends.
///
/// The lock belongs to the directory that was opened, but files are written by path. A user or a program may delete or move the
/// directory meanwhile; [`verify`](Self::verify) detects that before anything is written to another directory.
#[derive(Debug, Clone)]
pub(crate) struct RunLock(Arc<Held>);

#[derive(Debug)]
struct Held {
    path: PathBuf,
    /// Open directory; closing it releases the lock.
    dir: Handle,
}

/// Error for a run directory that is no longer at its path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the run directory `{}` {how}", path.display())]
pub(crate) struct LostDir {
    pub(crate) path: PathBuf,
    pub(crate) how: DirLoss,
    /// New path of the directory, if the system knows it.
    pub(crate) now_at: Option<PathBuf>,
}

impl RunLock {
    /// Locks the directory.
    ///
    /// Where directories cannot be locked (Windows, some network file systems), two runs can use the same one.
    ///
    /// # Errors
    ///
    /// [`ConfigError::RunInUse`] if another run, of any process, holds the lock; [`ConfigError::RunDir`] if the directory
    /// cannot be opened.
    pub(crate) fn take(path: &Path) -> Result<Self, ConfigError> {
        for _ in 0..ATTEMPTS {
            match Self::try_take(path) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                Err(source) => {
                    return Err(ConfigError::RunDir {
                        path: path.to_owned(),
                        source,
                    });
                }
            }
        }
        Err(ConfigError::RunInUse {
            path: path.to_owned(),
        })
    }

    /// Locks the directory; `None` if another run holds the lock or has just moved the directory away.
    fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let dir = match Handle::from_path(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            dir => dir?,
        };
        if matches!(dir.as_file().try_lock(), Err(TryLockError::WouldBlock)) {
            return Ok(None);
        }
        let lock = Self(Arc::new(Held {
            path: path.to_owned(),
            dir,
        }));
        // Another process may have moved it between opening and locking.
        Ok(lock.verify().is_ok().then_some(lock))
    }

    /// Returns whether a run holds the lock.
    pub(crate) fn is_held(dir: &Path) -> bool {
        let shared = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        File::open(dir).is_ok_and(shared)
    }

    /// Checks that the path still leads to the locked directory. Costs one system call.
    ///
    /// # Errors
    ///
    /// [`LostDir`] if the directory was deleted, moved or replaced.
    pub(crate) fn verify(&self) -> Result<(), LostDir> {
        let Held { path, dir } = &*self.0;
        let how = match fs::metadata(path) {
            Ok(found) if is_same(dir, path, &found) => return Ok(()),
            Ok(_) => DirLoss::Replaced,
            Err(error) if is_absence(&error) && is_deleted(dir) => DirLoss::Deleted,
            Err(error) if is_absence(&error) => DirLoss::Moved,
            // No permission for a parent, or a failing disk: writing will fail too, with its own error.
            Err(_) => return Ok(()),
        };
        Err(LostDir {
            path: path.clone(),
            how,
            now_at: now_at(dir),
        })
    }
}

impl From<LostDir> for io::Error {
    fn from(lost: LostDir) -> Self {
        Self::new(io::ErrorKind::NotFound, lost)
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Compares device and inode numbers: opening the path may need a permission that the run has lost, or block on a FIFO.
#[cfg(unix)]
fn is_same(dir: &Handle, _: &Path, found: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (dir.dev(), dir.ino()) == (found.dev(), found.ino())
}

#[cfg(not(unix))]
fn is_same(dir: &Handle, path: &Path, _: &Metadata) -> bool {
    Handle::from_path(path).is_ok_and(|found| found == *dir)
}

#[cfg(unix)]
fn is_deleted(dir: &Handle) -> bool {
    use std::os::unix::fs::MetadataExt;
    dir.as_file().metadata().is_ok_and(|dir| dir.nlink() == 0)
}

#[cfg(not(unix))]
fn is_deleted(_: &Handle) -> bool {
    false // an open directory cannot be deleted there
}

/// Returns the current path of an open directory, which Linux knows.
#[cfg(target_os = "linux")]
fn now_at(dir: &Handle) -> Option<PathBuf> {
    use std::os::fd::AsRawFd;
    let path = fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd())).ok()?;
    let found = fs::metadata(&path).ok()?;
    is_same(dir, &path, &found).then_some(path)
}

#[cfg(not(target_os = "linux"))]
fn now_at(_: &Handle) -> Option<PathBuf> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn lost(lock: &RunLock) -> LostDir {
        lock.verify().expect_err("it is no longer there")
    }

    #[test]
    fn a_second_lock_fails_until_the_first_is_released() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = RunLock::take(dir.path()).expect("free");
        let error = RunLock::take(dir.path()).expect_err("taken").to_string();
        assert!(error.contains("in use by another run"), "{error}");
        assert!(RunLock::is_held(dir.path()));
        drop(first);
        assert!(!RunLock::is_held(dir.path()));
        drop(RunLock::take(dir.path()).expect("free again"));
    }

    #[test]
    fn moved_replaced_and_deleted_directories_are_detected() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let (path, other) = (scratch.path().join("run"), scratch.path().join("other"));
        fs::create_dir(&path).expect("a directory");
        let lock = RunLock::take(&path).expect("free");
        lock.verify().expect("it is there");

        fs::rename(&path, &other).expect("moved");
        assert_eq!(lost(&lock).how, DirLoss::Moved);
        if cfg!(target_os = "linux") {
            assert_eq!(
                lost(&lock).now_at,
                Some(other.canonicalize().expect("a path"))
            );
        }
        fs::create_dir(&path).expect("another directory");
        assert_eq!(lost(&lock).how, DirLoss::Replaced);
        fs::remove_dir(&path).expect("deleted");
        std::os::unix::fs::symlink(&other, &path).expect("a link");
        lock.verify().expect("its path leads to it");
        fs::remove_file(&path).expect("deleted");
        fs::remove_dir(&other).expect("deleted");
        assert_eq!(
            (lost(&lock).how, lost(&lock).now_at),
            (DirLoss::Deleted, None)
        );
    }
}
