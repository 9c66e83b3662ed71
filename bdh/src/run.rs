//! The file `run.json`, which describes a run and its outcome.

use crate::clock::RunLength;
use crate::error::ConfigError;
use crate::feedback::Feedback;
use crate::files::{self, sha256, write_atomically};
use crate::number;
use crate::outcome::{Outcome, Warning};
use crate::overhead::Overhead;
use crate::record::Record;
use serde::Serialize;
use serde_json::{Map, Value};
use std::io;
use std::path::{Path, PathBuf};

/// Name of the file in a run directory that describes the run.
pub const FILE: &str = "run.json";

/// Largest size, in bytes, of a git file that is read. Large repositories have a megabyte of packed refs.
const MAX_REFS: u64 = 64 << 20;

/// Description of a run that is known before the run begins. Sinks receive it, and `run.json` holds it.
#[derive(Debug, Clone, Serialize)]
pub struct RunInfo {
    /// Name of the run: the name of its directory, or `unnamed`.
    pub name: String,
    /// The run directory, if the run has one.
    #[serde(skip)]
    pub dir: Option<PathBuf>,
    /// Number of steps of the run; 0 if it is limited by time.
    pub steps: u64,
    /// Length of the run, in steps or as a time.
    #[serde(skip)]
    pub length: RunLength,
    /// The seed of everything random.
    pub seed: u64,
    /// All settings that affect the run; the user's own are under `user`.
    pub config: Value,
    /// Names of the eval sets, in order, such as `val`; they begin the keys of their metrics.
    pub eval_sets: Vec<String>,
    /// The step that the run resumes from; `None` in a new run.
    pub resumed_at: Option<u64>,
    /// The record of the resumed step; `None` if nothing was logged. After a crash a sink may lack it.
    #[serde(skip)]
    pub resumed_record: Option<Record>,
    /// Settings without effect in this run, from the [plan](crate::Plan).
    pub notes: Vec<String>,
    /// Start of the run, in seconds since 1970.
    pub started_at: f64,
    /// Channel from a sink to the run, for warnings, notices and requests to stop.
    #[serde(skip)]
    pub feedback: Feedback,
}

/// The content of `run.json`, written at the start and at the end of a run.
#[derive(Serialize)]
struct RunFile<'a> {
    #[serde(flatten)]
    info: &'a RunInfo,
    /// Checksum of `config`: equal in runs with equal settings.
    config_sha256: String,
    bdh_version: &'static str,
    git_commit: Option<String>,
    status: &'a str,
    outcome: Option<&'a Outcome>,
    final_metrics: Option<Map<String, Value>>,
    #[serde(rename = "problems")]
    warnings: &'a [Warning],
    overhead: Option<&'a Overhead>,
}

/// Writes `run.json` at the start of a run.
pub(crate) fn write_start(info: &RunInfo) -> Result<(), ConfigError> {
    let Some(dir) = &info.dir else {
        return Ok(());
    };
    write(dir, &RunFile::new(info)).map_err(|source| ConfigError::RunDir {
        path: dir.clone(),
        source,
    })
}

/// Writes `run.json` at the end of a run.
pub(crate) fn write_end(
    info: &RunInfo,
    outcome: &Outcome,
    last: Option<&Record>,
    warnings: &[Warning],
    overhead: &Overhead,
) -> io::Result<()> {
    let Some(dir) = &info.dir else {
        return Ok(());
    };
    let status = match outcome {
        Outcome::Completed => "completed",
        Outcome::Stopped(_) => "stopped",
        Outcome::Failed(_) => "failed",
    };
    let file = RunFile {
        status,
        outcome: Some(outcome),
        final_metrics: last.map(scalars_to_json),
        warnings,
        overhead: Some(overhead),
        ..RunFile::new(info)
    };
    write(dir, &file)
}

fn scalars_to_json(record: &Record) -> Map<String, Value> {
    let mut scalars = Map::new();
    for (key, scalar) in record.scalars() {
        scalars.insert(key.to_owned(), number::to_json(scalar));
    }
    scalars
}

impl<'a> RunFile<'a> {
    /// Returns the file of a run that is running.
    fn new(info: &'a RunInfo) -> Self {
        Self {
            info,
            config_sha256: sha256(info.config.to_string().as_bytes()),
            bdh_version: env!("CARGO_PKG_VERSION"),
            git_commit: git_commit(),
            status: "running",
            outcome: None,
            final_metrics: None,
            warnings: &[],
            overhead: None,
        }
    }
}

fn write(dir: &Path, file: &RunFile<'_>) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(file)?;
    write_atomically(&dir.join(FILE), &text)
}

/// Returns the git commit of the working directory, read from the files of git; the `git` program is not needed.
fn git_commit() -> Option<String> {
    commit_of(&std::env::current_dir().ok()?)
}

fn commit_of(here: &Path) -> Option<String> {
    let mut candidates = here.ancestors().map(|dir| dir.join(".git"));
    let git = candidates.find(|git| git.is_dir())?;
    let head = git_text(&git, "HEAD")?;
    let Some(branch) = head.trim().strip_prefix("ref: ") else {
        return commit(&head);
    };
    match git_text(&git, branch) {
        Some(text) => commit(&text),
        None => packed_commit(&git, branch),
    }
}

/// Returns the commit of a branch that git has moved from its own file to the packed refs.
fn packed_commit(git: &Path, branch: &str) -> Option<String> {
    for line in git_text(git, "packed-refs")?.lines() {
        let mut words = line.split(' ');
        let hash = words.next()?;
        if words.next() == Some(branch) {
            return commit(hash);
        }
    }
    None
}

/// Reads a small git file. The checkout may come from elsewhere, so links and files outside of it are not read.
fn git_text(git: &Path, name: &str) -> Option<String> {
    String::from_utf8(files::read(git, name, MAX_REFS).ok()?).ok()
}

/// Returns a commit hash, and no other text: the checkout may come from elsewhere.
fn commit(text: &str) -> Option<String> {
    let text = text.trim();
    let is_hash = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash && matches!(text.len(), 40 | 64) {
        Some(text.to_owned())
    } else {
        None
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_foreign_checkout_gives_its_commit_and_no_other_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let git = dir.path().join(".git");
        fs::create_dir_all(git.join("refs/heads")).expect("a folder");
        let secret = dir.path().join("secret");
        let hash = "c0ffee5ec2e7".repeat(4)[..40].to_owned();
        fs::write(&secret, &hash).expect("a file");
        let found = |head: &str| {
            fs::write(git.join("HEAD"), head).expect("a file");
            commit_of(dir.path())
        };
        assert_eq!(found(&hash), Some(hash.clone()));
        assert_eq!(found("ref: ../secret"), None);
        assert_eq!(found("password of mine"), None);
        symlink(&secret, git.join("refs/heads/link")).expect("a link");
        assert_eq!(found("ref: refs/heads/link"), None);
        fs::write(git.join("refs/heads/main"), format!("{hash}\n")).expect("a file");
        assert_eq!(found("ref: refs/heads/main\n"), Some(hash));
        fs::remove_file(git.join("HEAD")).expect("the file");
        symlink(&secret, git.join("HEAD")).expect("a link");
        assert_eq!(commit_of(dir.path()), None);
        fs::remove_file(git.join("HEAD")).expect("the link");
        symlink("/dev/zero", git.join("HEAD")).expect("a link");
        assert_eq!(commit_of(dir.path()), None);
    }
}
