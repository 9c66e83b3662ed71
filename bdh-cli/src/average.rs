//! `average`: one file of weights from several checkpoints.

use crate::page::say;
use bdh::{BoxError, average_weights};
use std::path::PathBuf;
use std::process::ExitCode;

/// Averages the weights of checkpoints into one .safetensors file.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct Args {
    /// Averages these checkpoints, .safetensors files, or all checkpoints of a run directory
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Writes the mean to this .safetensors file, which loads like a model.safetensors
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
}

impl Args {
    /// Averages the weights, and prints the files that were averaged.
    ///
    /// # Errors
    ///
    /// The errors of [`average_weights`].
    pub fn run(self) -> Result<ExitCode, BoxError> {
        let average = average_weights(&self.paths, &self.out)?;
        for file in &average.files {
            say(file.display());
        }
        say(format_args!("wrote {}, {average}", self.out.display()));
        Ok(ExitCode::SUCCESS)
    }
}
