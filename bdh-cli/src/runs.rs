//! Arguments that select runs and their metric, and the runs read from their folders.

use crate::page::{remark, say};
use bdh::BoxError;
use bdh_forecast::Importance;
use bdh_sweep::Goal;
use bdh_sweep::runs::{self, Keys, Run};
use bdh_wandb as wandb;
use std::fs;
use std::path::{Path, PathBuf};

/// Arguments that select runs, and the metric to compare them by.
#[derive(Debug, clap::Args)]
pub struct RunsArgs {
    /// Reads the runs below these folders; `forecast` also accepts one file written by its --save
    #[arg(required = true, value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
    /// Compares the runs by this metric
    #[arg(long, value_name = "KEY", default_value = "val/loss")]
    pub metric: String,
    /// Treats a larger metric as better [default: a smaller one is]
    #[arg(long)]
    pub maximize: bool,
}

impl RunsArgs {
    /// Returns the keys to read from the runs.
    pub(crate) fn keys(&self) -> Keys {
        let mut keys = Keys::new(&self.metric);
        keys.goal = if self.maximize {
            Goal::Maximize
        } else {
            Goal::Minimize
        };
        keys
    }

    /// Returns the folders with commas between them.
    pub(crate) fn names(&self) -> String {
        let mut names = Vec::new();
        for dir in &self.dirs {
            names.push(dir.display().to_string());
        }
        names.join(", ")
    }
}

/// Reads every run below some folders: those with a `run.json`, and those of W&B logs.
pub(crate) fn read(of: &RunsArgs, keys: &Keys) -> Result<Vec<Run>, BoxError> {
    let dirs = &of.dirs;
    let mut found = runs::read_all(dirs, keys);
    for error in &found.errors {
        remark("warning", bdh::error::with_causes(error));
    }
    for dir in dirs {
        let mut logs = read_logs(dir, keys);
        // Logs of two folders may have the same name, which a forecast refuses.
        if dirs.len() > 1 {
            add_folder(&mut logs, dir);
        }
        found.runs.append(&mut logs);
    }
    if found.runs.is_empty() {
        let names = of.names();
        return Err(
            format!("there are no runs in {names}: a run has a run.json, or a W&B log").into(),
        );
    }
    Ok(found.runs)
}

/// Puts a folder in front of the names of its runs.
fn add_folder(runs: &mut [Run], dir: &Path) {
    for run in runs {
        run.name = dir.join(&run.name).display().to_string();
    }
}

/// Reads the W&B logs below a folder, and prints a warning for each unreadable one.
fn read_logs(dir: &Path, keys: &Keys) -> Vec<Run> {
    let (runs, errors) = wandb::read_runs(dir, keys);
    for (log, error) in errors {
        remark("warning", format_args!("`{}`: {error}", log.display()));
    }
    runs
}

/// Writes a file, and prints its path.
pub(crate) fn write(path: &PathBuf, text: &str) -> Result<(), BoxError> {
    fs::write(path, text)
        .map_err(|error| format!("`{}` cannot be written: {error}", path.display()))?;
    say(format_args!("wrote {}", path.display()));
    Ok(())
}

/// Prints which settings matter; nothing if the runs are too few to estimate it.
pub(crate) fn print_importance(importance: &[Importance]) {
    if importance.is_empty() {
        return;
    }
    say("importance of a setting: how much worse predictions from settings become without it");
    for of in importance {
        let (value, low, high) = (of.value, of.between.low, of.between.high);
        say(format_args!(
            "  {:<24} {value:>8.4}  [{low:.4}, {high:.4}]",
            of.name
        ));
    }
}
