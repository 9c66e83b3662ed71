//! The directory of a run: whether it is taken, and what became of its run.
//!
//! For programs that read run directories, such as sweeps and tables of runs.
//!
//! | file | has |
//! |---|---|
//! | [`FILE`], `run.json` | the run: settings, steps, status, outcome |
//! | [`Jsonl::FILE`], `metrics.jsonl` | its records, a line a step |
//! | `checkpoints/` | what it continues from: [`list_checkpoints`](crate::list_checkpoints) |

mod traces;

pub use crate::run::FILE;
pub(crate) use traces::Before;

use crate::checkpoint;
use crate::error::ConfigError;
use crate::files;
use crate::run_lock::RunLock;
use crate::sink::Jsonl;
use serde_json::Value;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Whether a directory has anything of a run that a new one would spoil: `run.json`, records or checkpoints.
///
/// A run that was killed as it began, or refused, may have left its directory, without any of these.
///
/// # Examples
///
/// ```
/// assert!(!bdh::holds_run("runs/none"));
/// ```
#[must_use]
pub fn holds_run(dir: impl AsRef<Path>) -> bool {
    let dir = dir.as_ref();
    let has_records = fs::symlink_metadata(dir.join(Jsonl::FILE)).is_ok_and(|file| file.len() > 0);
    fs::symlink_metadata(dir.join(FILE)).is_ok() || has_records || checkpoint::has_any(dir)
}

/// Makes the run directory unless it is there, and takes it for a run that begins.
pub(crate) fn claim(dir: &Path) -> Result<RunLock, ConfigError> {
    fs::create_dir_all(dir).map_err(|source| ConfigError::RunDir {
        path: dir.to_owned(),
        source,
    })?;
    let lock = RunLock::take(dir)?;
    // Now that no other process can: one may have begun a run there since somebody looked.
    if holds_run(dir) {
        return Err(ConfigError::RunExists {
            path: dir.to_owned(),
        });
    }
    Ok(lock)
}

/// Returns the `status` in the directory's `run.json`: `running`, `completed`, `stopped` or `failed`.
///
/// A run that died is still `running` there: see [`is_in_use`]. It is `unknown` if the file cannot be read, and `None` if
/// there is none.
#[must_use]
pub fn status(dir: &Path) -> Option<String> {
    let file: Option<Value> = match files::read(dir, FILE, files::MAX_JSON) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        text => text
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok()),
    };
    let status = file.and_then(|file| Some(file.get("status")?.as_str()?.to_owned()));
    Some(status.unwrap_or_else(|| "unknown".to_owned()))
}

/// Returns whether a process holds the directory for its run.
///
/// Always `false` where directories cannot be locked: on Windows and some network file systems.
#[must_use]
pub fn is_in_use(dir: &Path) -> bool {
    RunLock::is_held(dir)
}

/// Gives a directory, which the caller has locked, the first name that is free after its own: `a` becomes `a.died-1`.
pub(crate) fn move_aside(dir: &Path) -> Result<PathBuf, ConfigError> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let mut names = (1..=9_999).map(|n| dir.with_file_name(format!("{name}.died-{n}")));
    let free = names.find(|path| fs::symlink_metadata(path).is_err());
    let aside = free.unwrap_or_else(|| dir.with_file_name(format!("{name}.died")));
    fs::rename(dir, &aside).map_err(|source| ConfigError::RunDir {
        path: dir.to_owned(),
        source,
    })?;
    Ok(aside)
}
