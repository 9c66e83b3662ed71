//! Checkpoints of this program's runs.

use super::{AnyCheckpoint, Origin};
use bdh::checkpoint::{self, Checkpoint, State};
use bdh::{BoxError, files};
use bdh_examples::args::{self, Args};
use bdh_models::nanochat::GptConfig;
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Finds the newest checkpoint of a run, or that of a step. `path` may also be a checkpoint.
pub(crate) fn find(path: &Path, step: Option<u64>) -> Result<PathBuf, BoxError> {
    let is_checkpoint = path.join("state.json").exists();
    let listed = if is_checkpoint {
        vec![path.to_owned()]
    } else {
        checkpoint::list(&path.join("checkpoints"))
    };
    let found = match step {
        None if is_checkpoint => Some(path.to_owned()),
        None => checkpoint::latest(&path.join("checkpoints")),
        Some(step) => at_step(&listed, step),
    };
    found.ok_or_else(|| none(path, step, &listed))
}

/// Returns the checkpoint of a step.
fn at_step(listed: &[PathBuf], step: u64) -> Option<PathBuf> {
    let mut listed = listed.iter();
    listed.find(|path| step_of(path) == Some(step)).cloned()
}

/// Returns the step of a checkpoint; `None` if it cannot be read.
fn step_of(checkpoint: &Path) -> Option<u64> {
    let state = files::read(checkpoint, "state.json", files::MAX_JSON).ok()?;
    let state: Value = serde_json::from_slice(&state).ok()?;
    state["clock"]["step"].as_u64()
}

/// Returns the error of a run that lacks the checkpoint.
fn none(path: &Path, step: Option<u64>, listed: &[PathBuf]) -> BoxError {
    if !path.exists() {
        return format!(
            "there is no `{}`: give the directory of a run or of a checkpoint",
            path.display()
        )
        .into();
    }
    let path = path.display();
    let mut steps: Vec<_> = listed.iter().filter_map(|path| step_of(path)).collect();
    steps.sort_unstable();
    steps.dedup();
    let Some(step) = step.filter(|_| !steps.is_empty()) else {
        return format!("`{path}` has no complete checkpoint: give the directory of a run, or of a model of nanochat such as base_checkpoints/d12").into();
    };
    let steps: Vec<_> = steps.iter().map(u64::to_string).collect();
    let steps = steps.join(", ");
    format!("`{path}` has no checkpoint of step {step}: it has {steps}").into()
}

/// Reads the settings of a checkpoint, after checking all of its files.
pub(super) fn open(path: &Path) -> Result<AnyCheckpoint, BoxError> {
    let state = Checkpoint::read(path)?.state;
    let recipe = &state.config["user"]["recipe"];
    let (Ok(config), Some(micro_batch)) = (
        GptConfig::deserialize(&recipe["config"]),
        recipe["micro_batch"].as_u64(),
    ) else {
        let path = path.display();
        return Err(format!("`{path}` is not a checkpoint of nanochat_sweep").into());
    };
    Ok(AnyCheckpoint {
        path: path.to_owned(),
        step: state.clock.step,
        config,
        micro_batch: micro_batch as usize,
        origin: Origin::Ours(Box::new(state)),
    })
}

/// Returns the arguments of the run.
pub(super) fn args(state: &State) -> Result<Args, BoxError> {
    Ok(args::from_saved(&state.config["user"]["args"])?)
}

/// Returns the directory of the run that a checkpoint belongs to: `a` for `a/checkpoints/step_00000100`.
pub(super) fn run_dir(checkpoint: &Path) -> Option<&Path> {
    let folder = checkpoint.parent()?;
    let is_in_run = folder.file_name()? == "checkpoints";
    folder.parent().filter(|_| is_in_run)
}
