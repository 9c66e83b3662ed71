//! `compare`: runs side by side.

use crate::page::{remark, say};
use crate::runs::{RunsArgs, print_importance, read, write};
use bdh::BoxError;
use bdh_forecast::Importance;
use bdh_sweep::runs::{Keys, Run, Table, to_forecast};
use std::path::PathBuf;
use std::process::ExitCode;

/// Compares the runs below some folders, on the terminal, as CSV or as a page for a browser.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct Args {
    #[command(flatten)]
    of: RunsArgs,
    /// Sorts by this column of the CSV [default: the metric, the best run first]
    #[arg(long, value_name = "COLUMN")]
    sort: Option<String>,
    /// Writes all columns as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Writes a page with a table, curves and parallel coordinates, which opens without a network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Args {
    /// Reads the runs, prints the table, and writes the files that the arguments name.
    ///
    /// # Errors
    ///
    /// If there are no runs, the column to sort by does not exist, or a file cannot be written.
    pub fn run(self) -> Result<ExitCode, BoxError> {
        let keys = self.of.keys();
        let runs = read(&self.of, &keys)?;
        let mut table = Table::of(&runs, &keys);
        if let Some(column) = &self.sort {
            table.sort_by(column)?;
        }
        say(&table);
        if table.rows.iter().all(|row| row.end.metric.is_none()) {
            note_no_metric(&keys.metric);
        }
        // Without enough runs to estimate it, the importance of the settings is left out.
        print_importance(&Importance::of(&to_forecast(&runs, &keys)).unwrap_or_default());
        self.write_files(&table, &runs, &keys)?;
        Ok(ExitCode::SUCCESS)
    }

    fn write_files(&self, table: &Table, runs: &[Run], keys: &Keys) -> Result<(), BoxError> {
        if let Some(path) = &self.csv {
            write(path, &table.csv())?;
        }
        if let Some(path) = &self.html {
            write(path, &table.html(&self.of.names(), runs, keys))?;
        }
        Ok(())
    }
}

fn note_no_metric(metric: &str) {
    remark(
        "note",
        format_args!("no run has recorded `{metric}`; choose another key with --metric"),
    );
}
