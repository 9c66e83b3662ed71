//! Run directories: the status of a run, and whether a process uses its directory.
//!
//! For programs that read run directories, such as sweeps and tables of runs.
//!
//! | file | contents |
//! |---|---|
//! | [`FILE`], `run.json` | settings, steps, status and outcome of the run |
//! | [`Jsonl::FILE`], `metrics.jsonl` | records, one line per step |
//! | `checkpoints/` | checkpoints to resume from: [`list`](crate::checkpoint::list) |

mod snapshot;

pub use crate::run::FILE;
pub(crate) use snapshot::DirSnapshot;

use crate::checkpoint;
use crate::error::ConfigError;
use crate::files;
use crate::run_lock::RunLock;
use crate::sink::Jsonl;
use serde_json::{Map, Value};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Returns whether a directory has files of a run that a new run would overwrite: `run.json`, records or checkpoints.
///
/// A run that failed to start, or was killed early, may have left its directory without any of these.
///
/// # Examples
///
/// ```
/// assert!(!bdh::run_dir::holds_run("runs/none"));
/// ```
#[must_use]
pub fn holds_run(dir: impl AsRef<Path>) -> bool {
    let dir = dir.as_ref();
    let has_records = fs::symlink_metadata(dir.join(Jsonl::FILE)).is_ok_and(|file| file.len() > 0);
    fs::symlink_metadata(dir.join(FILE)).is_ok() || has_records || checkpoint::has_any(dir)
}

/// Creates the run directory if necessary, and locks it for a new run.
pub(crate) fn claim(dir: &Path) -> Result<RunLock, ConfigError> {
    fs::create_dir_all(dir).map_err(|source| ConfigError::RunDir {
        path: dir.to_owned(),
        source,
    })?;
    let lock = RunLock::take(dir)?;
    // After locking: another process may have started a run here since the caller's check.
    if holds_run(dir) {
        return Err(ConfigError::RunExists {
            path: dir.to_owned(),
        });
    }
    Ok(lock)
}

/// Returns the `status` in the directory's `run.json`: `running`, `completed`, `stopped` or `failed`.
///
/// A run that was killed is still `running` there: see [`is_in_use`]. Returns `unknown` if the file cannot be read, and
/// `None` if there is none.
#[must_use]
pub fn status(dir: &Path) -> Option<String> {
    match files::read(dir, FILE, files::MAX_JSON) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(_) => {}
        Ok(text) => {
            let file: Value = serde_json::from_slice(&text).unwrap_or_default();
            if let Some(status) = file.get("status").and_then(Value::as_str) {
                return Some(status.to_owned());
            }
        }
    }
    Some("unknown".to_owned())
}

/// Writes a program's summary of a finished run to the directory's `run.json`, under the key `summary`.
///
/// A summary that is there already is replaced. The file is replaced as a whole, so a reader finds the old one or the
/// new one.
///
/// # Errors
///
/// [`ConfigError::RunInUse`] if a run uses the directory, and [`ConfigError::RunDir`] if the file cannot be read or
/// written, or is no JSON object.
///
/// # Examples
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let run = dir.path();
/// std::fs::write(run.join("run.json"), r#"{ "status": "completed" }"#)?;
/// bdh::run_dir::write_summary(run, &serde_json::json!({ "num_steps": 40 }))?;
/// assert_eq!(bdh::run_dir::status(run).as_deref(), Some("completed"));
/// # Ok::<(), bdh::BoxError>(())
/// ```
pub fn write_summary(dir: &Path, summary: &Value) -> Result<(), ConfigError> {
    // Another process may have resumed the run meanwhile, and owns the file then.
    let _lock = RunLock::take(dir)?;
    replace_summary(dir, summary).map_err(|source| ConfigError::RunDir {
        path: dir.to_owned(),
        source,
    })
}

fn replace_summary(dir: &Path, summary: &Value) -> io::Result<()> {
    let text = files::read(dir, FILE, files::MAX_JSON)?;
    let mut file: Map<String, Value> = serde_json::from_slice(&text)?;
    file.insert("summary".to_owned(), summary.clone());
    files::write_atomically(&dir.join(FILE), &serde_json::to_vec_pretty(&file)?)
}

/// Returns whether a running process uses the directory.
///
/// Always `false` where directories cannot be locked: on Windows and some network file systems.
#[must_use]
pub fn is_in_use(dir: &Path) -> bool {
    RunLock::is_held(dir)
}

/// Renames a directory that the caller has locked: `a` becomes `a.died-1`, or the next free number.
pub(crate) fn move_aside(dir: &Path) -> Result<PathBuf, ConfigError> {
    let aside = free_name(dir);
    fs::rename(dir, &aside).map_err(|source| ConfigError::RunDir {
        path: dir.to_owned(),
        source,
    })?;
    Ok(aside)
}

fn free_name(dir: &Path) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    for number in 1..=9_999 {
        let path = dir.with_file_name(format!("{name}.died-{number}"));
        if fs::symlink_metadata(&path).is_err() {
            return path;
        }
    }
    dir.with_file_name(format!("{name}.died")) // all are taken: the rename succeeds or reports why not
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(dir: &Path) -> Value {
        let text = fs::read(dir.join(FILE)).expect("the file");
        serde_json::from_slice(&text).expect("JSON")
    }

    #[test]
    fn a_summary_joins_the_file_and_replaces_an_older_one() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(
            dir.path().join(FILE),
            r#"{"status": "stopped", "steps": 40}"#,
        )
        .expect("a file");
        for summary in [
            json!({ "val_bpb": 4.5, "mfu": 1.0 }),
            json!({ "val_bpb": 4.25 }),
        ] {
            write_summary(dir.path(), &summary).expect("the directory is free");
            assert_eq!(
                read(dir.path()),
                json!({ "status": "stopped", "steps": 40, "summary": summary })
            );
        }
        let files = fs::read_dir(dir.path()).expect("the directory").count();
        assert_eq!(files, 1, "no scratch file is left");
    }

    #[test]
    fn a_summary_is_refused_where_no_finished_run_is() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let refused = |dir: &Path| write_summary(dir, &json!({})).expect_err("no run");
        assert!(matches!(refused(dir.path()), ConfigError::RunDir { .. }));
        fs::write(dir.path().join(FILE), "[1]").expect("a file");
        assert!(matches!(refused(dir.path()), ConfigError::RunDir { .. }));
        assert_eq!(
            fs::read(dir.path().join(FILE)).expect("the file"),
            b"[1]",
            "nothing is changed"
        );
    }

    #[test]
    #[cfg(unix)]
    fn a_summary_is_refused_while_a_run_uses_the_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join(FILE), r#"{"status": "running"}"#).expect("a file");
        let lock = RunLock::take(dir.path()).expect("free");
        let refused = write_summary(dir.path(), &json!({})).expect_err("in use");
        assert!(matches!(refused, ConfigError::RunInUse { .. }), "{refused}");
        drop(lock);
        write_summary(dir.path(), &json!({})).expect("free again");
    }
}
