//! Sends or repairs the W&B log of a run, without any program of W&B's.

use bdh::BoxError;
use bdh_callbacks::wandb;
use bdh_examples::page::say;
use clap::{Parser, Subcommand};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A step's tensors take the memory that the last step's have freed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sends or repairs the W&B log of a run
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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

fn main() -> ExitCode {
    let Err(error) = run(Args::parse().command) else { return ExitCode::SUCCESS };
    bdh_examples::page::error(&*error);
    ExitCode::FAILURE
}

/// The error with the path that it is about, and its causes.
fn at(path: &Path, error: &dyn Error) -> String {
    let mut text = format!("`{}`: {error}", path.display());
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

fn run(command: Command) -> Result<(), BoxError> {
    match command {
        Command::Sync { run } => {
            let synced = wandb::sync(&run).map_err(|error| at(&run, &error))?;
            synced.remarks.iter().for_each(say);
            let url = synced.url.unwrap_or_default();
            say(format_args!(
                "{} rows and {} files or artifacts are at {url}",
                synced.rows, synced.files
            ));
        }
        Command::Repair { log } => {
            let repaired = wandb::repair(&log).map_err(|error| at(&log, &error))?;
            say(format_args!(
                "{} records kept; damaged places: {}, with {} bytes lost",
                repaired.kept, repaired.damaged, repaired.lost
            ));
            if repaired.damaged > 0 {
                say(format_args!(
                    "the log as it was: {}",
                    log.with_extension("wandb.damaged").display()
                ));
            }
        }
    }
    Ok(())
}
