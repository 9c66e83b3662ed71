//! Runs read back from W&B's logs: those that Python's client wrote, too.

use crate::log::{LogError, LogReader};
use crate::proto::{History, Item, Kind, Record};
use crate::rows::step_of;
use bdh_sweep::runs::{Keys, Run, RunStatus};
use prost::Message;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders below a folder that are searched for logs, at most.
const DEPTH: usize = 8;

/// Reads every W&B log below a folder that is not part of a run directory of ours, as
/// [`runs::read_all`](bdh_sweep::runs::read_all) reads those. Logs that cannot be read come with the reason.
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

/// Reads one log; `keys` are those of its rows that are wanted, the first of them the metric. Damaged records are passed over.
///
/// The configuration is what the run told W&B, the steps are those of its rows: `step` if they have one, else W&B's own
/// count. How many steps a run was to take no log knows: it counts as finished at its last row.
///
/// # Errors
///
/// If the file cannot be read, or is no log.
pub fn read_run(log: &Path, keys: &[&str]) -> Result<Run, LogError> {
    let mut reader = LogReader::open(log)?;
    let mut run = Run::new(log.file_stem().unwrap_or_default().to_string_lossy());
    run.dir = log.parent().unwrap_or(log).into();
    run.status = RunStatus::Died; // unless it says how it ended
    loop {
        let bytes = match reader.next_record() {
            Ok(Some(bytes)) => bytes,
            Ok(None) => break,
            Err(LogError::Damaged { .. }) => {
                reader.resync()?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let Ok(record) = Record::decode(bytes.as_slice()) else {
            continue;
        };
        match record.kind {
            Some(Kind::Run(of)) => configure(&mut run, &of.config.unwrap_or_default().update),
            Some(Kind::Config(config)) => configure(&mut run, &config.update),
            Some(Kind::History(row)) => add(&mut run, &row, keys),
            Some(Kind::Exit(exit)) if exit.exit_code == 0 => run.status = RunStatus::Completed,
            Some(Kind::Exit(exit)) => {
                run.status = RunStatus::Failed(format!("exit code {}", exit.exit_code));
            }
            _ => {}
        }
    }
    run.steps = run.last_step;
    let last = keys.first().and_then(|metric| run.last(metric));
    if run.status == RunStatus::Completed && last.is_some_and(|last| !last.is_finite()) {
        run.status = RunStatus::Diverged;
    }
    Ok(run)
}

fn search(dir: &Path, depth: usize, into: &mut Vec<PathBuf>) {
    if dir.join("run.json").is_file() {
        return; // its records say more than its log
    }
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some((entry.path(), entry.file_type().ok()?)))
        .collect();
    paths.sort_by(|a, b| a.0.cmp(&b.0));
    for (path, kind) in paths {
        if kind.is_dir() && depth > 0 {
            search(&path, depth - 1, into);
        } else if kind.is_file() && path.extension().is_some_and(|ending| ending == "wandb") {
            into.push(path);
        }
    }
}

/// The key of an item: Python's client gives its parts.
fn key(item: &Item) -> String {
    if item.key.is_empty() {
        item.nested_key.join(".")
    } else {
        item.key.clone()
    }
}

fn configure(run: &mut Run, items: &[Item]) {
    for item in items.iter().filter(|item| !key(item).starts_with('_')) {
        if let Ok(value) = serde_json::from_str::<Value>(&item.value_json) {
            run.configure(&key(item), &value);
        }
    }
}

fn add(run: &mut Run, row: &History, keys: &[&str]) {
    let number = |item: &Item| match item.value_json.as_str() {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        text => text.parse::<f64>().ok(),
    };
    let of = |name: &str| {
        row.item
            .iter()
            .find(|item| key(item) == name)
            .and_then(number)
    };
    let counted = || of("_step").or_else(|| Some(row.step.as_ref()?.num as f64));
    let Some(step) = step_of(row).or_else(|| of("step").or_else(counted).map(|step| step as u64))
    else {
        return;
    };
    run.last_step = run.last_step.max(step);
    run.seconds = of("_runtime").unwrap_or(run.seconds);
    run.tokens = of("tokens").map_or(run.tokens, |tokens| tokens as u64);
    for name in keys {
        if let Some(value) = of(name) {
            let series = run.series.entry((*name).to_owned()).or_default();
            if series.last().is_none_or(|(last, _)| *last < step) {
                series.push((step, value));
            }
        }
    }
}
