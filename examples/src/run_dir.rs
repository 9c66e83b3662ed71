//! Where a run writes, and what is there already. Looks, and makes nothing.

use bdh::{BoxError, latest_checkpoint};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The directory of a run.
pub struct RunDir {
    /// Where it is.
    pub path: PathBuf,
    /// Whether a run there is to go on.
    pub resumes: bool,
    /// The newest checkpoint to go on from; `None` also if the run died before its first.
    pub checkpoint: Option<PathBuf>,
}

impl RunDir {
    /// The directory for a run below `runs`: one of its own, or that of the run to go on with.
    ///
    /// # Errors
    ///
    /// If a `name` that was `given` is taken, or `runs` cannot be made.
    pub fn choose(runs: &Path, name: &str, given: bool, resume: bool) -> Result<Self, BoxError> {
        let path = runs.join(name);
        if resume {
            let checkpoint = latest_checkpoint(&path.join("checkpoints"));
            return Ok(Self { path, resumes: true, checkpoint });
        }
        check_runs(runs)?;
        if given && path.exists() {
            return Err(format!(
                "`{}` exists already: add --resume to go on with it, or give another --name",
                path.display()
            )
            .into());
        }
        let numbered = (2..).map(|number| runs.join(format!("{name}-{number}")));
        let free = std::iter::once(path).chain(numbered).find(|dir| !dir.exists());
        let path = free.unwrap_or_else(|| runs.join(name));
        Ok(Self { path, resumes: false, checkpoint: None })
    }

    /// The directory of a trial, which a sweep has chosen: a run that was begun there goes on.
    #[must_use]
    pub fn of_trial(path: PathBuf) -> Self {
        let checkpoint = latest_checkpoint(&path.join("checkpoints"));
        Self { resumes: path.join("run.json").exists(), path, checkpoint }
    }

    /// Whether there is anything left to do in a run of so many steps, which `flag` asks for.
    ///
    /// # Errors
    ///
    /// If there is not.
    pub fn check_steps(&self, steps: u64, flag: &str) -> Result<(), BoxError> {
        let Some(checkpoint) = &self.checkpoint else { return Ok(()) };
        let manifest: Value = serde_json::from_slice(&fs::read(checkpoint.join("manifest.json"))?)?;
        // A run that died after its last checkpoint has still to record its last step, and how it ended.
        let run: Value = serde_json::from_slice(&fs::read(self.path.join("run.json"))?)?;
        if run["status"] != "completed" {
            return Ok(());
        }
        match manifest["step"].as_u64() {
            Some(step) if step >= steps => Err(format!(
                "`{}` is complete, at step {step} of {steps}: ask for more with {flag}",
                self.path.display()
            )
            .into()),
            _ => Ok(()),
        }
    }
}

/// The flags that a run was started with.
///
/// # Errors
///
/// If there is no such run.
pub fn saved_args(run: &Path) -> Result<Value, BoxError> {
    let Ok(text) = fs::read(run.join("run.json")) else {
        return Err(format!(
            "there is no run `{}` to resume: leave --resume out, or give its --runs and --name",
            run.display()
        )
        .into());
    };
    let mut json: Value = serde_json::from_slice(&text)
        .map_err(|error| format!("`{}/run.json` cannot be read: {error}", run.display()))?;
    Ok(json["config"]["user"]["args"].take())
}

/// Whether runs can have directories there, as far as can be told without making one.
///
/// # Errors
///
/// If they cannot.
pub fn check_runs(runs: &Path) -> Result<(), BoxError> {
    match runs.ancestors().find(|path| path.exists()) {
        Some(path) if !path.is_dir() => Err(format!(
            "--runs {} cannot be written: `{}` is a file; give a directory",
            runs.display(),
            path.display()
        )
        .into()),
        _ => Ok(()),
    }
}
