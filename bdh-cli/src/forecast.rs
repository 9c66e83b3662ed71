//! `forecast`: where runs will end, from their beginnings, and how far to trust it.

use crate::page::{remark, say};
use crate::runs::{RunsArgs, print_importance, read, write};
use bdh::BoxError;
use bdh_forecast::{Cut, Forecast, ForecastError, Importance, Report, Run, StopRule};
use bdh_sweep::runs::{Table, to_forecast};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Says how well the ends of runs can be foretold from their beginnings, and foretells those that are not through.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct Args {
    /// Whose ends are predicted.
    #[command(flatten)]
    pub of: RunsArgs,
    /// How far into a run to look: shares or steps, such as 12.5%,50% or 250,500,1000 [default: 6.25%,12.5%,25%,50%,75%]
    #[arg(long, value_name = "CUTS", value_delimiter = ',')]
    cuts: Vec<Cut>,
    /// The setting of which one value is left out at a time, to see how forecasts extrapolate
    #[arg(long, value_name = "SETTING", default_value = "depth")]
    group: String,
    /// By how much a stop rule may worsen the best of the sweep [default: the noise of seeds]
    #[arg(long, value_name = "METRIC")]
    stop_regret: Option<f64>,
    /// Writes all figures and each prediction as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a page with plots, table and curves, which opens without a network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Writes the runs' numbers as one file, which this command reads like a folder
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

impl Args {
    /// Predicts, and prints and writes what the arguments ask for.
    ///
    /// # Errors
    ///
    /// If there are no runs, or too few, or a file cannot be read or written.
    pub fn run(self) -> Result<ExitCode, BoxError> {
        self.run_with(|_| {})
    }

    /// Does the same, with more to `say` of the report on the terminal.
    ///
    /// # Errors
    ///
    /// The same errors as those of [`run`](Self::run).
    pub fn run_with(self, say_more: impl FnOnce(&Report)) -> Result<ExitCode, BoxError> {
        let keys = self.of.keys();
        let saved = saved(&self.of.dirs)?;
        let histories = if saved.is_some() {
            Vec::new()
        } else {
            read(&self.of, &keys)?
        };
        let runs = saved.unwrap_or_else(|| to_forecast(&histories, &keys));
        let report = report(&self, runs.clone())?;
        if self.of.maximize {
            remark(
                "note",
                "more is better, so every value stands with its sign turned",
            );
        }
        say(&report);
        print_importance(&Importance::of(&runs)?);
        say_more(&report);
        if let Some(path) = &self.json {
            write(path, &serde_json::to_string_pretty(&report)?)?;
        }
        if let Some(path) = &self.save {
            write(path, &serde_json::to_string(&rounded(runs))?)?;
        }
        if let Some(path) = &self.html {
            let table = Table::of(&histories, &keys);
            write(
                path,
                &table.html_with_forecast(&self.of.names(), &histories, &keys, &report),
            )?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The runs of a file that `--save` has written; `None` for folders.
fn saved(dirs: &[PathBuf]) -> Result<Option<Vec<Run>>, BoxError> {
    let [path] = dirs else { return Ok(None) };
    if !path.is_file() {
        return Ok(None);
    }
    let text = fs::read(path).map_err(|error| unreadable(path, &error))?;
    Ok(Some(
        serde_json::from_slice(&text).map_err(|error| unreadable(path, &error))?,
    ))
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> BoxError {
    format!(
        "`{}` is no file that --save has written: {error}",
        path.display()
    )
    .into()
}

fn report(args: &Args, runs: Vec<Run>) -> Result<Report, ForecastError> {
    let mut forecast = Forecast::of(runs)?.group(args.group.clone());
    if !args.cuts.is_empty() {
        forecast = forecast.cuts(args.cuts.iter().copied())?;
    }
    if let Some(regret) = args.stop_regret {
        forecast = forecast.stop(StopRule { regret });
    }
    Ok(forecast.report())
}

/// Six digits of everything that was measured: more are noise, and make the file three times as large. What is no number
/// is left out, as forecasts do; JSON has no such.
fn rounded(mut runs: Vec<Run>) -> Vec<Run> {
    let round = |value: f64| format!("{value:.5e}").parse().unwrap_or(value);
    for run in &mut runs {
        let norms = run.norms.values_mut();
        for series in norms.chain([&mut run.metric, &mut run.loss, &mut run.lr]) {
            series.retain(|(_, value)| value.is_finite());
            for (_, value) in series.iter_mut() {
                *value = round(*value);
            }
        }
    }
    runs
}
