//! `compare`: runs side by side.

use crate::forecast::print_importance;
use crate::page::{remark, say};
use bdh::BoxError;
use bdh_forecast::Importance;
use bdh_sweep::Goal;
use bdh_sweep::runs::{self, Keys, Run, Table, to_forecast};
use bdh_wandb as wandb;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs, and the metric that they are judged by.
#[derive(Debug, clap::Args)]
pub struct RunsArgs {
    /// Folders with runs or sweeps; for a forecast also one file that its --save has written
    #[arg(required = true, value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
    /// What the runs are judged by
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
        keys.goal = if self.maximize { Goal::Maximize } else { Goal::Minimize };
        keys
    }

    /// The folders, for a title or a sentence.
    pub(crate) fn names(&self) -> String {
        let names = self.dirs.iter().map(|dir| dir.display().to_string());
        names.collect::<Vec<_>>().join(", ")
    }
}

/// Puts the runs below some folders side by side: on the terminal, as CSV, as a page for a browser.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct Args {
    #[command(flatten)]
    of: RunsArgs,
    /// Column of the CSV to sort by [default: the metric, the best first]
    #[arg(long, value_name = "COLUMN")]
    sort: Option<String>,
    /// Writes everything as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Writes a page with table, curves and parallel coordinates, which opens without a network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Args {
    /// Reads the runs, and prints and writes what the arguments ask for.
    ///
    /// # Errors
    ///
    /// If there are no runs, the column to sort by is none, or a file cannot be written.
    pub fn run(self) -> Result<ExitCode, BoxError> {
        let keys = self.of.keys();
        let runs = read(&self.of, &keys)?;
        let mut table = Table::of(&runs, &keys);
        if let Some(column) = &self.sort {
            table.sort_by(column)?;
        }
        say(&table);
        if table.rows.iter().all(|row| row.end.metric.is_none()) {
            remark(
                "note",
                format_args!(
                    "none of them has recorded `{}`; --metric takes another key",
                    keys.metric
                ),
            );
        }
        print_importance(&Importance::of(&to_forecast(&runs, &keys)).unwrap_or_default());
        if let Some(path) = &self.csv {
            write(path, &table.csv())?;
        }
        if let Some(path) = &self.html {
            write(path, &table.html(&self.of.names(), &runs, &keys))?;
        }
        Ok(ExitCode::SUCCESS)
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
