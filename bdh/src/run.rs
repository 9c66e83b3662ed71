//! The run directory: who the run is, in a file that any program can read.

use crate::checkpoint::sha256;
use crate::files::write_atomically;
use crate::outcome::{Outcome, Problem};
use crate::record::number;
use crate::{ConfigError, Feedback, Overhead, Record};
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

mod lock;

pub(crate) use lock::RunLock;

/// The file of a run directory that says whose it is.
pub(crate) const FILE: &str = "run.json";

/// What a sink, and `run.json`, know of a run before it begins.
#[derive(Debug, Clone, Serialize)]
pub struct RunInfo {
    /// The run's name: that of its directory, or `unnamed`.
    pub name: String,
    /// The run directory, if the run has one.
    #[serde(skip)]
    pub dir: Option<PathBuf>,
    /// How many steps the run takes.
    pub steps: u64,
    /// The seed of everything random.
    pub seed: u64,
    /// Every setting that decides what the run does, the user's own under `user`.
    pub config: Value,
    /// The step that the run continues from, if it does.
    pub resumed_at: Option<u64>,
    /// That step's record, unless nothing was logged: whoever kept the records up to a crash may lack it.
    #[serde(skip)]
    pub resumed_record: Option<Record>,
    /// Settings without effect in this run, from the [plan](crate::Plan).
    pub notes: Vec<String>,
    /// When it began, in seconds since 1970.
    pub started_at: f64,
    /// The way back to the run, for what goes wrong or asks to stop between two records.
    #[serde(skip)]
    pub feedback: Feedback,
}

/// `run.json` as it stands at the beginning and at the end of a run.
#[derive(Serialize)]
struct RunFile<'a> {
    #[serde(flatten)]
    info: &'a RunInfo,
    /// Of `config`: runs of the same settings have the same.
    config_sha256: String,
    bdh_version: &'static str,
    git_commit: Option<String>,
    status: &'a str,
    outcome: Option<&'a Outcome>,
    final_metrics: Option<serde_json::Map<String, Value>>,
    problems: &'a [Problem],
    overhead: Option<&'a Overhead>,
}

/// Makes the run directory; one that holds a run already is refused, unless that run is resumed.
pub(crate) fn create_dir(dir: &Path, resumes: bool) -> Result<(), ConfigError> {
    let failed = |source| ConfigError::RunDir { path: dir.to_owned(), source };
    if !resumes && dir.join(FILE).exists() {
        return Err(ConfigError::RunExists { path: dir.to_owned() });
    }
    fs::create_dir_all(dir).map_err(failed)
}

/// What the directory's `run.json` says of its run: `running`, though it may have died since; how it ended;
/// `unknown` if it cannot be read; or `None` if there is none.
pub(crate) fn status(dir: &Path) -> Option<String> {
    let text = fs::read(dir.join(FILE)).ok()?;
    let file: Option<Value> = serde_json::from_slice(&text).ok();
    let status = file.and_then(|file| Some(file.get("status")?.as_str()?.to_owned()));
    Some(status.unwrap_or_else(|| "unknown".to_owned()))
}

/// Gives a directory the first name that is free after its own: `a` becomes `a.died-1`.
pub(crate) fn move_aside(dir: &Path) -> Result<PathBuf, ConfigError> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let free =
        (1..=9_999).map(|n| dir.with_file_name(format!("{name}.died-{n}"))).find(|p| !p.exists());
    let aside = free.unwrap_or_else(|| dir.with_file_name(format!("{name}.died")));
    fs::rename(dir, &aside)
        .map_err(|source| ConfigError::RunDir { path: dir.to_owned(), source })?;
    Ok(aside)
}

/// Writes `run.json` of a run that begins.
pub(crate) fn write_start(info: &RunInfo) -> Result<(), ConfigError> {
    let path = info.dir.clone().unwrap_or_default();
    write(info, "running", None, None, &[], None)
        .map_err(|source| ConfigError::RunDir { path, source })
}

/// Writes `run.json` of a run that is over.
pub(crate) fn write_end(
    info: &RunInfo,
    outcome: &Outcome,
    last: Option<&crate::Record>,
    problems: &[Problem],
    overhead: &Overhead,
) -> io::Result<()> {
    let status = match outcome {
        Outcome::Completed => "completed",
        Outcome::Stopped(_) => "stopped",
        Outcome::Failed(_) => "failed",
    };
    let metrics = last.map(|record| {
        record.scalars().map(|(key, scalar)| (key.to_owned(), number(scalar))).collect()
    });
    write(info, status, Some(outcome), metrics, problems, Some(overhead))
}

fn write(
    info: &RunInfo,
    status: &str,
    outcome: Option<&Outcome>,
    final_metrics: Option<serde_json::Map<String, Value>>,
    problems: &[Problem],
    overhead: Option<&Overhead>,
) -> io::Result<()> {
    let Some(dir) = &info.dir else { return Ok(()) };
    let file = RunFile {
        info,
        config_sha256: sha256(info.config.to_string().as_bytes()),
        bdh_version: env!("CARGO_PKG_VERSION"),
        git_commit: git_commit(),
        status,
        outcome,
        final_metrics,
        problems,
        overhead,
    };
    let text = serde_json::to_vec_pretty(&file)?;
    write_atomically(&dir.join(FILE), &text)
}

/// The commit of the checkout that the program runs in, read from its files: no `git` is needed.
fn git_commit() -> Option<String> {
    let here = std::env::current_dir().ok()?;
    let git = here.ancestors().map(|dir| dir.join(".git")).find(|git| git.is_dir())?;
    let head = fs::read_to_string(git.join("HEAD")).ok()?;
    let head = head.trim();
    let Some(branch) = head.strip_prefix("ref: ") else { return Some(head.to_owned()) };
    if let Ok(commit) = fs::read_to_string(git.join(branch)) {
        return Some(commit.trim().to_owned());
    }
    let packed = fs::read_to_string(git.join("packed-refs")).ok()?;
    let line = packed.lines().find(|line| line.ends_with(branch))?;
    line.split_whitespace().next().map(str::to_owned)
}

/// Seconds since 1970.
pub(crate) fn now() -> f64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
