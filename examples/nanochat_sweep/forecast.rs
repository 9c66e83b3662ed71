//! `nanochat_sweep forecast`: where runs will end, from their beginnings, and how far to trust it.

use crate::compare::{RunsArgs, read, write};
use crate::page::{remark, say};
use bdh::BoxError;
use bdh_examples::core::core_from_bpb;
use bdh_forecast::{Cut, Forecast, ForecastError, Importance, Report, Run, StopRule};
use bdh_sweep::runs::{Table, to_forecast};
use clap::Parser;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Says how well the ends of runs can be foretold from their beginnings, and foretells those that are not through.
#[derive(Debug, Parser)]
#[command(name = "nanochat_sweep forecast", next_line_help = true)]
struct ForecastArgs {
    #[command(flatten)]
    of: RunsArgs,
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

/// Runs what the words after `forecast` ask for.
pub(crate) fn main(words: impl Iterator<Item = OsString>) -> Result<ExitCode, BoxError> {
    let name = OsString::from("nanochat_sweep forecast");
    let args = ForecastArgs::parse_from(std::iter::once(name).chain(words));
    let keys = args.of.keys();
    let saved = saved(&args.of.dirs)?;
    let histories = if saved.is_some() { Vec::new() } else { read(&args.of, &keys)? };
    let runs = saved.unwrap_or_else(|| to_forecast(&histories, &keys));
    let report = report(&args, runs.clone())?;
    if args.of.maximize {
        remark("note", "more is better, so every value stands with its sign turned");
    }
    say(&report);
    print_importance(&Importance::of(&runs)?);
    if keys.metric == "val_bpb" {
        print_core(&report);
    }
    if let Some(path) = &args.json {
        write(path, &serde_json::to_string_pretty(&report)?)?;
    }
    if let Some(path) = &args.save {
        write(path, &serde_json::to_string(&rounded(runs))?)?;
    }
    if let Some(path) = &args.html {
        let table = Table::of(&histories, &keys);
        write(path, &table.html_with_forecast(&args.of.names(), &histories, &keys, &report))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The runs of a file that `--save` has written; `None` for folders.
fn saved(dirs: &[PathBuf]) -> Result<Option<Vec<Run>>, BoxError> {
    let [path] = dirs else { return Ok(None) };
    if !path.is_file() {
        return Ok(None);
    }
    let text = fs::read(path).map_err(|error| unreadable(path, &error))?;
    Ok(Some(serde_json::from_slice(&text).map_err(|error| unreadable(path, &error))?))
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> BoxError {
    format!("`{}` is no file that --save has written: {error}", path.display()).into()
}

fn report(args: &ForecastArgs, runs: Vec<Run>) -> Result<Report, ForecastError> {
    let mut forecast = Forecast::of(runs)?.group(args.group.clone());
    if !args.cuts.is_empty() {
        forecast = forecast.cuts(args.cuts.iter().copied())?;
    }
    if let Some(regret) = args.stop_regret {
        forecast = forecast.stop(StopRule { regret });
    }
    Ok(forecast.report())
}

/// Which settings matter, if there are enough runs to say so.
pub(crate) fn print_importance(importance: &[Importance]) {
    if importance.is_empty() {
        return;
    }
    say("importance of a setting: how much worse its absence makes what the settings foretell");
    for of in importance {
        let (value, low, high) = (of.value, of.between.low, of.between.high);
        say(format_args!("  {:<24} {value:>8.4}  [{low:.4}, {high:.4}]", of.name));
    }
}

/// What CORE the best run may reach, where that can be said.
fn print_core(report: &Report) {
    let ends = report.runs.iter().filter_map(|run| run.end);
    let foretold = report.predictions.iter().map(|prediction| prediction.value);
    let Some(best) = ends.chain(foretold).min_by(f64::total_cmp) else { return };
    match core_from_bpb(best) {
        Ok(core) => say(format_args!(
            "CORE from the best val_bpb, {best:.4}: {:.3} ± {:.3}, the noise of seeds",
            core.core, core.floor
        )),
        Err(error) => {
            remark("note", format_args!("no CORE from the best val_bpb, {best:.4}: {error}"));
        }
    }
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
