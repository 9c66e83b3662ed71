//! `wandb sync` and `wandb repair`: W&B logs uploaded and repaired, without W&B's own client.

use crate::page::say;
use bdh::BoxError;
use bdh::error::with_causes;
use bdh_wandb as wandb;
use clap::Subcommand;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Command on a W&B log.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Uploads a run's log to the server, without sending again what the server already has
    Sync {
        /// Folder of the run, such as runs/first/wandb/latest-run
        run: PathBuf,
    },
    /// Rewrites a damaged log with every record that is still readable, and keeps the old file
    Repair {
        /// Log to repair, such as runs/first/wandb/latest-run/run-ab12cd34.wandb
        log: PathBuf,
    },
}

impl Command {
    /// Runs the command, and prints the result.
    ///
    /// # Errors
    ///
    /// With the path, if the log cannot be read, the server refuses it, or the repaired log cannot be written.
    pub fn run(self) -> Result<ExitCode, BoxError> {
        match self {
            Self::Sync { run } => sync(&run)?,
            Self::Repair { log } => repair(&log)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn sync(run: &Path) -> Result<(), BoxError> {
    let synced = wandb::sync(run).map_err(|error| in_file(run, &error))?;
    for notice in &synced.notices {
        say(notice);
    }
    let url = synced.url.unwrap_or_default();
    say(format_args!(
        "uploaded to {url}: {} rows, {} files or artifacts",
        synced.rows, synced.files
    ));
    Ok(())
}

fn repair(log: &Path) -> Result<(), BoxError> {
    let repaired = wandb::repair(log).map_err(|error| in_file(log, &error))?;
    say(format_args!(
        "kept {} records; lost {} bytes in {} damaged places",
        repaired.kept, repaired.lost, repaired.damaged
    ));
    if repaired.damaged > 0 {
        let damaged = log.with_extension("wandb.damaged");
        say(format_args!("the old log is {}", damaged.display()));
    }
    Ok(())
}

/// Returns the message of an error and its causes, after the path.
fn in_file(path: &Path, error: &(dyn Error + 'static)) -> String {
    format!("`{}`: {}", path.display(), with_causes(error))
}
