//! One process a run directory, and one directory a run.

use crate::error::{ConfigError, DirLoss};
use same_file::Handle;
use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Attempts to take the lock: a process that only looks at the directory has it for an instant.
const PATIENCE: u32 = 10;

/// Holds a run directory, until the last clone is dropped or the process dies, however that happens.
///
/// The lock is on the directory that was opened, and files are written by its path. A person, or a program, may delete or
/// move the directory meanwhile; [`verify`](Self::verify) finds that out before something is written to what stands there.
#[derive(Debug, Clone)]
pub(crate) struct RunLock(Arc<Held>);

#[derive(Debug)]
struct Held {
    path: PathBuf,
    /// The open directory. The system lets go of the lock when it is closed.
    dir: Handle,
}

/// A run directory that is no longer where the run writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the run directory `{}` {how}", path.display())]
pub(crate) struct LostDir {
    pub(crate) path: PathBuf,
    pub(crate) how: DirLoss,
    /// Where it is now, if the system says so.
    pub(crate) now_at: Option<PathBuf>,
}

impl RunLock {
    /// Takes the directory. Where directories cannot be locked (Windows, some network file systems) two runs can.
    ///
    /// # Errors
    ///
    /// [`ConfigError::RunInUse`] if another process, or another run of this one, has it; [`ConfigError::RunDir`] if
    /// it cannot be opened.
    pub(crate) fn take(path: &Path) -> Result<Self, ConfigError> {
        for _ in 0..PATIENCE {
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

    /// Takes the directory unless another process has it, or is about to move it aside and begin anew.
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
        // It may have been moved between the two.
        Ok(lock.verify().is_ok().then_some(lock))
    }

    /// Whether a process has the directory.
    pub(crate) fn is_held(dir: &Path) -> bool {
        let shared = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        File::open(dir).is_ok_and(shared)
    }

    /// Checks that the path still names the directory that was locked. Costs one call of the system.
    ///
    /// # Errors
    ///
    /// [`LostDir`], which says what became of the directory.
    pub(crate) fn verify(&self) -> Result<(), LostDir> {
        let Held { path, dir } = &*self.0;
        let how = match fs::metadata(path) {
            Ok(found) if is_same(dir, path, &found) => return Ok(()),
            Ok(_) => DirLoss::Replaced,
            Err(error) if is_absence(&error) && is_deleted(dir) => DirLoss::Deleted,
            Err(error) if is_absence(&error) => DirLoss::Moved,
            // A folder above it is closed, or its disk fails: nothing can be written there either.
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

/// Compares numbers: opening what stands there could need a permission that the run no longer has, or wait for a FIFO.
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

/// The path of an open directory, which Linux knows.
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
    fn the_second_is_refused_until_the_first_lets_go() {
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
    fn a_directory_that_is_moved_replaced_or_deleted_is_lost() {
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
