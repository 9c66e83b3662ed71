//! Directory of a run, and the tokenizer that is saved in it.

use crate::checkpoint::find_ours;
use crate::run_dir::RunDir;
use bdh::run_dir::holds_run;
use bdh::{BoxError, checkpoint};
use bdh_data::Tokenizer;
use bdh_examples::args::Args;
use std::fs;
use std::path::{Path, PathBuf};

/// Returns whether the flags ask to go on with a run of this program.
pub(crate) fn is_resumed(args: &Args) -> bool {
    args.resume || (args.resume_from_step.is_some() && holds_run(path(args)))
}

/// Returns the directory of the run with the name of the flags, without a number.
fn path(args: &Args) -> PathBuf {
    args.runs.join(args.run_name())
}

/// Returns whether a run that the flags resume has a checkpoint, with the weights.
pub(crate) fn has_checkpoint(args: &Args) -> bool {
    is_resumed(args) && checkpoint::latest(&path(args).join("checkpoints")).is_some()
}

/// Chooses the directory of the run. A sweep chooses the directories of its trials.
pub(crate) fn choose(args: &Args) -> Result<RunDir, BoxError> {
    if let Some(path) = bdh_sweep::trial_dir() {
        return Ok(RunDir::of_trial(path));
    }
    let (name, is_given) = (args.run_name(), args.name.is_some());
    let mut dir = RunDir::choose(&args.runs, &name, is_given, is_resumed(args))?;
    if dir.resumes && args.resume_from_step.is_some() {
        dir.checkpoint = Some(find_ours(&dir.path, args.resume_from_step)?);
    }
    Ok(dir)
}

/// Saves the tokenizer of a run that is about to start. A resumed run has it already.
pub(crate) fn save_tokenizer(dir: &RunDir, tokenizer: &Tokenizer) -> Result<(), BoxError> {
    let is_saved = dir.path.join(Tokenizer::FILE).exists();
    // Another process may have started a run of this name since the directory was chosen.
    if holds_run(&dir.path) && (is_saved || !dir.resumes) {
        return Ok(());
    }
    fs::create_dir_all(&dir.path)
        .map_err(|error| format!("`{}` cannot be created: {error}", dir.path.display()))?;
    tokenizer.save(&dir.path)?;
    Ok(())
}

/// Removes the saved tokenizer of a run that could not start, and the directory if nothing else is in it.
pub(crate) fn forget_tokenizer(dir: &Path) {
    if !holds_run(dir) {
        // Errors are ignored, because the caller reports the error of the run.
        let _ = fs::remove_file(dir.join(Tokenizer::FILE));
        let _ = fs::remove_dir(dir);
    }
}
