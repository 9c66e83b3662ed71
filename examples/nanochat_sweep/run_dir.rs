//! Where a run writes, and what is there already. Looks, and makes nothing.

use bdh::{BoxError, latest_checkpoint};
use bdh_examples::args::Args;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The directory of a run.
pub(crate) struct RunDir {
    pub(crate) path: PathBuf,
    /// The checkpoint to go on from, if the run is resumed.
    pub(crate) checkpoint: Option<PathBuf>,
}

impl RunDir {
    /// The directory for a run: one of its own, or that of the run to go on with.
    pub(crate) fn choose(args: &Args) -> Result<Self, BoxError> {
        let name = args.run_name();
        let path = args.runs.join(&name);
        if args.resume {
            let Some(newest) = latest_checkpoint(&path.join("checkpoints")) else {
                return Err(format!(
                    "`{}` has no checkpoint to resume from: begin again under another --name",
                    path.display()
                )
                .into());
            };
            return Ok(Self { path, checkpoint: Some(newest) });
        }
        check_runs(&args.runs)?;
        if args.name.is_some() && path.exists() {
            return Err(format!(
                "`{}` exists already: add --resume to go on with it, or give another --name",
                path.display()
            )
            .into());
        }
        let numbered = (2..).map(|number| args.runs.join(format!("{name}-{number}")));
        let free = std::iter::once(path).chain(numbered).find(|dir| !dir.exists());
        Ok(Self { path: free.expect("there is always a number that is free"), checkpoint: None })
    }

    /// Whether there is anything left to do in a run of so many steps.
    pub(crate) fn check_steps(&self, steps: u64) -> Result<(), BoxError> {
        let Some(checkpoint) = &self.checkpoint else { return Ok(()) };
        let manifest: Value = serde_json::from_slice(&fs::read(checkpoint.join("manifest.json"))?)?;
        match manifest["step"].as_u64() {
            Some(step) if step >= steps => Err(format!(
                "`{}` is complete, at step {step} of {steps}: ask for more with --num-iterations",
                self.path.display()
            )
            .into()),
            _ => Ok(()),
        }
    }
}

/// The flags that a run was started with.
pub(crate) fn saved_args(run: &Path) -> Result<Value, BoxError> {
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
pub(crate) fn check_runs(runs: &Path) -> Result<(), BoxError> {
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
