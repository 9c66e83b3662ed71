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

/// Tokenizer in the directory of a run that is about to start.
pub(crate) struct SavedTokenizer {
    /// File, unless it was there before.
    file: Option<PathBuf>,
    /// Directories that did not exist before, the innermost first.
    created: Vec<PathBuf>,
}

impl SavedTokenizer {
    /// Saves the tokenizer. A resumed run has it already, unless an earlier version of the program started it.
    pub(crate) fn new(dir: &RunDir, tokenizer: &Tokenizer) -> Result<Self, BoxError> {
        let mut saved = Self {
            file: None,
            created: Vec::new(),
        };
        let is_saved = dir.path.join(Tokenizer::FILE).exists();
        // Another process may have started a run of this name since the directory was chosen.
        if holds_run(&dir.path) && (is_saved || !dir.resumes) {
            return Ok(saved);
        }
        let missing = dir.path.ancestors().take_while(|path| !path.exists());
        saved.created = missing.map(Path::to_owned).collect();
        fs::create_dir_all(&dir.path)
            .map_err(|error| format!("`{}` cannot be created: {error}", dir.path.display()))?;
        saved.file = Some(tokenizer.save(&dir.path)?);
        Ok(saved)
    }

    /// Removes the tokenizer of a run that could not start, with the directories that were created for it.
    pub(crate) fn remove_if_unused(&self, dir: &Path) {
        let Some(file) = self.file.as_ref().filter(|_| !holds_run(dir)) else {
            return;
        };
        // Errors are ignored, because the caller reports the error of the run.
        let _ = fs::remove_file(file);
        for dir in &self.created {
            let _ = fs::remove_dir(dir); // fails if something else is in it
        }
    }
}
