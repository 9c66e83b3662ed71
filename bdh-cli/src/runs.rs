//! Runs on the command line: which, by what metric, and read from their folders.

use crate::page::{remark, say};
use bdh::BoxError;
use bdh_forecast::Importance;
use bdh_sweep::Goal;
use bdh_sweep::runs::{self, Keys, Run};
use bdh_wandb as wandb;
use std::fs;
use std::path::PathBuf;

/// Runs, and the metric that they are judged by.
#[derive(Debug, clap::Args)]
pub struct RunsArgs {
    /// Folders with runs or sweeps; for a forecast also one file that its --save has written
    #[arg(required = true, value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
    /// Metric that the runs are judged by
    #[arg(long, value_name = "KEY", default_value = "val/loss")]
    pub metric: String,
    /// More of it is better, and not less
    #[arg(long)]
    pub maximize: bool,
}

impl RunsArgs {
    /// The names under which the runs have recorded.
    pub(crate) fn keys(&self) -> Keys {
        let mut keys = Keys::new(&self.metric);
        keys.goal = if self.maximize {
            Goal::Maximize
        } else {
            Goal::Minimize
        };
        keys
    }

    /// The folders, for a title or a sentence.
    pub(crate) fn names(&self) -> String {
        let names = self.dirs.iter().map(|dir| dir.display().to_string());
        names.collect::<Vec<_>>().join(", ")
    }
}

/// Every run below some folders, of ours and from W&B's logs.
pub(crate) fn read(of: &RunsArgs, keys: &Keys) -> Result<Vec<Run>, BoxError> {
    let dirs = &of.dirs;
    let mut found = runs::read_all(dirs, keys);
    for error in &found.errors {
        remark("warning", bdh::with_causes(error));
    }
    for dir in dirs {
        let (mut logs, errors) = wandb::read_runs(dir, keys);
        if dirs.len() > 1 {
            for run in &mut logs {
                run.name = dir.join(&run.name).display().to_string();
            }
        }
        found.runs.append(&mut logs);
        for (log, error) in errors {
            remark("warning", format_args!("`{}`: {error}", log.display()));
        }
    }
    if found.runs.is_empty() {
        let what = "a run has a run.json, or a log of W&B's";
        return Err(format!("there are no runs in {}: {what}", of.names()).into());
    }
    Ok(found.runs)
}

/// Writes a file, and says so.
pub(crate) fn write(path: &PathBuf, text: &str) -> Result<(), BoxError> {
    fs::write(path, text)
        .map_err(|error| format!("`{}` cannot be written: {error}", path.display()))?;
    say(format_args!("wrote {}", path.display()));
    Ok(())
}

/// Which settings matter, if there are enough runs to say so.
pub(crate) fn print_importance(importance: &[Importance]) {
    if importance.is_empty() {
        return;
    }
    say("importance of a setting: how much worse its absence makes what the settings foretell");
    for of in importance {
        let (value, low, high) = (of.value, of.between.low, of.between.high);
        say(format_args!(
            "  {:<24} {value:>8.4}  [{low:.4}, {high:.4}]",
            of.name
        ));
    }
}
