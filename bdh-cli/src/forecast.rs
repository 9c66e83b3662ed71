//! `forecast`: predictions of how runs will end, and their accuracy.

use crate::page::{remark, say};
use crate::runs::{RunsArgs, print_importance, read, write};
use bdh::BoxError;
use bdh_forecast::{Cut, Forecast, ForecastError, Importance, Report, Run, StopRule};
use bdh_sweep::runs::{self, Keys, Table, to_forecast};
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Predicts how unfinished runs will end, and measures on finished runs how accurate such predictions are.
#[derive(Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct Args {
    /// Runs to predict, and their metric.
    #[command(flatten)]
    pub of: RunsArgs,
    /// Predicts from these points of a run, as shares or steps: 12.5%,50% or 250,500,1000 [default:
    /// 6.25%,12.5%,25%,50%,75%]
    #[arg(long, value_name = "CUTS", value_delimiter = ',')]
    cuts: Vec<Cut>,
    /// Leaves out the runs of one value of this setting at a time, to measure how predictions extrapolate
    #[arg(long, value_name = "SETTING", default_value = "depth")]
    group: String,
    /// Lets a stop rule worsen the sweep's best metric by at most this [default: the noise of seeds]
    #[arg(long, value_name = "METRIC")]
    stop_regret: Option<f64>,
    /// Writes all figures and each prediction as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a page with plots, a table and curves, which opens without a network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Writes the runs' numbers to one file, which this command accepts in place of a folder
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

impl Args {
    /// Predicts, prints the report, and writes the files that the arguments name.
    ///
    /// # Errors
    ///
    /// If there are no runs, or too few, or a file cannot be read or written.
    pub fn run(self) -> Result<ExitCode, BoxError> {
        self.run_with(|_| {})
    }

    /// Runs the command like [`run`](Self::run), and calls `say_more` after the report is printed.
    ///
    /// # Errors
    ///
    /// Fails like [`run`](Self::run).
    pub fn run_with(self, say_more: impl FnOnce(&Report)) -> Result<ExitCode, BoxError> {
        let keys = self.of.keys();
        let input = Input::read(&self.of, &keys)?;
        let report = self.report(input.runs.clone())?;
        if self.of.maximize {
            remark(
                "note",
                "with --maximize, every value is shown with its sign reversed",
            );
        }
        say(&report);
        print_importance(&Importance::of(&input.runs)?);
        say_more(&report);
        self.write_files(&report, input, &keys)?;
        Ok(ExitCode::SUCCESS)
    }

    fn report(&self, runs: Vec<Run>) -> Result<Report, ForecastError> {
        let mut forecast = Forecast::of(runs)?.group(self.group.clone());
        if !self.cuts.is_empty() {
            forecast = forecast.cuts(self.cuts.iter().copied())?;
        }
        if let Some(regret) = self.stop_regret {
            forecast = forecast.stop(StopRule { regret });
        }
        Ok(forecast.report())
    }

    fn write_files(&self, report: &Report, input: Input, keys: &Keys) -> Result<(), BoxError> {
        if let Some(path) = &self.json {
            write(path, &serde_json::to_string_pretty(report)?)?;
        }
        if let Some(path) = &self.save {
            write(path, &serde_json::to_string(&rounded(input.runs))?)?;
        }
        if let Some(path) = &self.html {
            let histories = &input.histories;
            let table = Table::of(histories, keys);
            let page = table.html_with_forecast(&self.of.names(), histories, keys, report);
            write(path, &page)?;
        }
        Ok(())
    }
}

/// Runs to predict, with the histories that a page draws.
struct Input {
    runs: Vec<Run>,
    /// Empty if the runs come from a file of `--save`.
    histories: Vec<runs::Run>,
}

impl Input {
    fn read(of: &RunsArgs, keys: &Keys) -> Result<Self, BoxError> {
        if let Some(runs) = saved(&of.dirs)? {
            let histories = Vec::new();
            return Ok(Self { runs, histories });
        }
        let histories = read(of, keys)?;
        let runs = to_forecast(&histories, keys);
        Ok(Self { runs, histories })
    }
}

/// Reads the runs of a file that `--save` has written; `None` for folders.
fn saved(dirs: &[PathBuf]) -> Result<Option<Vec<Run>>, BoxError> {
    let [path] = dirs else { return Ok(None) };
    if !path.is_file() {
        return Ok(None);
    }
    let text = fs::read(path).map_err(|error| unreadable(path, &error))?;
    let runs = serde_json::from_slice(&text).map_err(|error| unreadable(path, &error))?;
    Ok(Some(runs))
}

fn unreadable(path: &Path, error: &dyn Display) -> BoxError {
    let path = path.display();
    format!("`{path}` is not a file written by --save: {error}").into()
}

/// Rounds every measured value to six digits, and leaves out NaN and infinities.
///
/// More digits are noise and make the file three times as large. JSON has no NaN, and forecasts ignore it.
fn rounded(mut runs: Vec<Run>) -> Vec<Run> {
    for run in &mut runs {
        let norms = run.norms.values_mut();
        for series in norms.chain([&mut run.metric, &mut run.loss, &mut run.lr]) {
            series.retain(|(_, value)| value.is_finite());
            for (_, value) in series.iter_mut() {
                *value = format!("{value:.5e}").parse().unwrap_or(*value);
            }
        }
    }
    runs
}
