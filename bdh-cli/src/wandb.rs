//! `wandb sync` and `wandb repair`: the W&B log of a run, without any program of W&B's.

use crate::page::say;
use bdh::BoxError;
use bdh::with_causes;
use bdh_wandb as wandb;
use clap::Subcommand;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Task for a W&B log.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sends a run's log to the server; what is there already is not sent again
    Sync {
        /// The run's folder, such as runs/first/wandb/latest-run
        run: PathBuf,
    },
    /// Rewrites a damaged log with every record that can still be read
    Repair {
        /// The log, such as runs/first/wandb/latest-run/run-ab12cd34.wandb
        log: PathBuf,
    },
}

impl Command {
    /// Does it, and prints what came of it.
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
    let synced = wandb::sync(run).map_err(|error| at(run, &error))?;
    synced.remarks.iter().for_each(say);
    let url = synced.url.unwrap_or_default();
    say(format_args!(
        "{} rows and {} files or artifacts are at {url}",
        synced.rows, synced.files
    ));
    Ok(())
}

fn repair(log: &Path) -> Result<(), BoxError> {
    let repaired = wandb::repair(log).map_err(|error| at(log, &error))?;
    say(format_args!(
        "{} records kept; damaged places: {}, with {} bytes lost",
        repaired.kept, repaired.damaged, repaired.lost
    ));
    if repaired.damaged > 0 {
        let damaged = log.with_extension("wandb.damaged");
        say(format_args!("the log as it was: {}", damaged.display()));
    }
    Ok(())
}

/// The error with the path that it is about, and its causes.
fn at(path: &Path, error: &(dyn Error + 'static)) -> String {
    format!("`{}`: {}", path.display(), with_causes(error))
}
