//! Runs read from W&B logs, including those of the Python client.

use crate::log::{LogError, LogReader};
use crate::proto::{History, Item, Kind, Record};
use crate::rows::step_of;
use bdh_sweep::runs::{Keys, Run, RunStatus};
use prost::Message;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Levels of folders that are searched for logs.
const DEPTH: usize = 8;

/// Reads every W&B log below a folder, and returns the runs, and the paths of unreadable logs with the errors.
///
/// Run directories of bdh are skipped: [`runs::read_all`](bdh_sweep::runs::read_all) reads those.
#[must_use]
pub fn read_runs(root: &Path, keys: &Keys) -> (Vec<Run>, Vec<(PathBuf, LogError)>) {
    let mut logs = Vec::new();
    search(root, DEPTH, &mut logs);
    let (mut runs, mut errors) = (Vec::new(), Vec::new());
    for log in logs {
        match read_run(&log, &keys.all()) {
            Ok(mut run) => {
                let below = log.strip_prefix(root).unwrap_or(&log).with_extension("");
                run.name = below.display().to_string();
                runs.push(run);
            }
            Err(error) => errors.push((log, error)),
        }
    }
    (runs, errors)
}

/// Reads the series of `keys` from one log; the first key is the metric.
///
/// Damaged records are skipped. The configuration is the one that the run sent to W&B. The step of a row is its `step`,
/// or W&B's own count if it has none. A log does not contain the planned number of steps, so a run counts as finished
/// at its last row.
///
/// # Errors
///
/// If the file cannot be read, or is not a log.
pub fn read_run(log: &Path, keys: &[&str]) -> Result<Run, LogError> {
    let mut reader = LogReader::open(log)?;
    let mut run = Run::new(log.file_stem().unwrap_or_default().to_string_lossy());
    run.dir = log.parent().unwrap_or(log).into();
    run.status = RunStatus::Died; // until an exit entry is found
    read_entries(&mut reader, &mut run, keys)?;
    run.steps = run.last_step;
    if run.status == RunStatus::Completed && is_diverged(&run, keys) {
        run.status = RunStatus::Diverged;
    }
    Ok(run)
}

/// Whether the last value of the metric is not finite.
fn is_diverged(run: &Run, keys: &[&str]) -> bool {
    let Some(metric) = keys.first() else {
        return false;
    };
    run.last(metric).is_some_and(|last| !last.is_finite())
}

/// Adds the content of all readable entries to a run.
fn read_entries(reader: &mut LogReader, run: &mut Run, keys: &[&str]) -> Result<(), LogError> {
    loop {
        match reader.next_record() {
            Ok(Some(bytes)) => {
                if let Ok(record) = Record::decode(bytes.as_slice()) {
                    apply(run, record, keys);
                }
            }
            Ok(None) => return Ok(()),
            Err(LogError::Damaged { .. }) => {
                reader.resync()?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Adds the content of one entry to a run.
fn apply(run: &mut Run, record: Record, keys: &[&str]) {
    match record.kind {
        Some(Kind::Run(of)) => configure(run, &of.config.unwrap_or_default().update),
        Some(Kind::Config(config)) => configure(run, &config.update),
        Some(Kind::History(row)) => add_row(run, &row, keys),
        Some(Kind::Exit(exit)) => run.status = status_of(exit.exit_code),
        _ => {}
    }
}

fn search(dir: &Path, depth: usize, into: &mut Vec<PathBuf>) {
    if dir.join("run.json").is_file() {
        return; // a run of bdh: its own records contain more than its log
    }
    for entry in sorted_entries(dir) {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let path = entry.path();
        if kind.is_dir() && depth > 0 {
            search(&path, depth - 1, into);
        } else if kind.is_file() && path.extension().is_some_and(|ending| ending == "wandb") {
            into.push(path);
        }
    }
}

fn status_of(exit_code: i32) -> RunStatus {
    match exit_code {
        0 => RunStatus::Completed,
        code => RunStatus::Failed(format!("exit code {code}")),
    }
}

/// Returns the entries of a folder by path; none if it cannot be read.
fn sorted_entries(dir: &Path) -> Vec<fs::DirEntry> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::path); // the order of a directory is arbitrary
    entries
}

/// Returns the key of an item; the Python client writes it in parts.
fn key(item: &Item) -> String {
    if item.key.is_empty() {
        item.nested_key.join(".")
    } else {
        item.key.clone()
    }
}

fn configure(run: &mut Run, items: &[Item]) {
    for item in items {
        let key = key(item);
        if key.starts_with('_') {
            continue; // W&B's own
        }
        if let Ok(value) = serde_json::from_str::<Value>(&item.value_json) {
            run.configure(&key, &value);
        }
    }
}

fn add_row(run: &mut Run, row: &History, keys: &[&str]) {
    let Some(step) = step_of_any(row) else {
        return;
    };
    run.last_step = run.last_step.max(step);
    if let Some(seconds) = number(row, "_runtime") {
        run.seconds = seconds;
    }
    if let Some(tokens) = number(row, "tokens") {
        run.tokens = tokens as u64;
    }
    for name in keys {
        if let Some(value) = number(row, name) {
            add_value(run, name, step, value);
        }
    }
}

/// Adds a value to a series, unless the series has one of this step or a later one.
fn add_value(run: &mut Run, key: &str, step: u64, value: f64) {
    let series = run.series.entry(key.to_owned()).or_default();
    if series.last().is_none_or(|(last, _)| *last < step) {
        series.push((step, value));
    }
}

/// Returns the step of a row of any client: `step`, or W&B's own count.
fn step_of_any(row: &History) -> Option<u64> {
    if let Some(step) = step_of(row) {
        return Some(step);
    }
    if let Some(step) = number(row, "step").or_else(|| number(row, "_step")) {
        return Some(step as u64);
    }
    Some(row.step.as_ref()?.num as f64 as u64)
}

/// Returns the number under a key of a row; NaN and infinities have their Python names.
fn number(row: &History, name: &str) -> Option<f64> {
    let item = row.item.iter().find(|item| key(item) == name)?;
    match item.value_json.as_str() {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        text => text.parse().ok(),
    }
}
