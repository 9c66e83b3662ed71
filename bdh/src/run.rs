//! The run directory: who the run is, in a file that any program can read.

use crate::error::ConfigError;
use crate::feedback::Feedback;
use crate::files::{self, sha256, write_atomically};
use crate::number;
use crate::outcome::{Outcome, Problem};
use crate::overhead::Overhead;
use crate::record::Record;
use serde::Serialize;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};

/// The file of a run directory that says whose it is.
pub const FILE: &str = "run.json";

/// Largest size, in bytes, of a file of git's that is read. Large repositories have a megabyte of packed names.
const MAX_REFS: u64 = 64 << 20;

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
    last: Option<&crate::record::Record>,
    problems: &[Problem],
    overhead: &Overhead,
) -> io::Result<()> {
    let status = match outcome {
        Outcome::Completed => "completed",
        Outcome::Stopped(_) => "stopped",
        Outcome::Failed(_) => "failed",
    };
    let metrics = last.map(|record| {
        record
            .scalars()
            .map(|(key, scalar)| (key.to_owned(), number::to_json(scalar)))
            .collect()
    });
    write(
        info,
        status,
        Some(outcome),
        metrics,
        problems,
        Some(overhead),
    )
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
    commit_of(&std::env::current_dir().ok()?)
}

fn commit_of(here: &Path) -> Option<String> {
    let git = here
        .ancestors()
        .map(|dir| dir.join(".git"))
        .find(|git| git.is_dir())?;
    let head = git_text(&git, "HEAD")?;
    let Some(branch) = head.trim().strip_prefix("ref: ") else {
        return commit(&head);
    };
    if let Some(text) = git_text(&git, branch) {
        return commit(&text);
    }
    let packed = git_text(&git, "packed-refs")?;
    let line = packed
        .lines()
        .find(|line| line.split(' ').nth(1) == Some(branch))?;
    commit(line.split(' ').next()?)
}

/// A small file of git's own; the checkout may be from elsewhere, so nothing is read through a link or from outside.
fn git_text(git: &Path, name: &str) -> Option<String> {
    String::from_utf8(files::read(git, name, MAX_REFS).ok()?).ok()
}

/// A commit's number. No other text is noted: the checkout may be from elsewhere.
fn commit(text: &str) -> Option<String> {
    let text = text.trim();
    let is_one = matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then(|| text.to_owned())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_checkout_from_elsewhere_gives_its_commit_and_no_other_file() {
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
