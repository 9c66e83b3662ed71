//! `compare`: runs side by side.

use crate::page::{remark, say};
use crate::runs::{RunsArgs, print_importance, read, write};
use bdh::BoxError;
use bdh_forecast::Importance;
use bdh_sweep::runs::{Table, to_forecast};
use std::path::PathBuf;
use std::process::ExitCode;

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
