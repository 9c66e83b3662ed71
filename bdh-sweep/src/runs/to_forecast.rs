//! Conversion of runs to the plain numbers of forecasts.

use super::columns::{setting, settings};
use super::{Keys, Run, RunStatus};
use crate::goal::Goal;
use bdh_forecast::End;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Converts runs for [`bdh_forecast`]; their order in time is that of their starts.
///
/// Settings are those in which runs differ: numbers as they are, booleans as 0 and 1, texts as one such 0 or 1 per
/// text. A metric to maximize is negated. A run whose loss or metric ends without a finite value has diverged; a run
/// that was stopped, failed or died counts as unfinished. A run without a horizon has recorded nothing, and is left
/// out.
#[must_use]
pub fn to_forecast(runs: &[Run], keys: &Keys) -> Vec<bdh_forecast::Run> {
    let names = settings(runs);
    let texts = texts(runs, &names);
    let mut converted = Vec::with_capacity(runs.len());
    for run in runs {
        if run.steps == 0 {
            continue;
        }
        converted.push(bdh_forecast::Run {
            name: run.name.clone(),
            order: (1e3 * run.started_at) as u64, // milliseconds
            settings: numbers(run, &names, &texts),
            horizon: run.steps,
            metric: signed(run.series(&keys.metric), keys.goal),
            loss: run.series(&keys.loss).to_vec(),
            lr: run.series(&keys.lr).to_vec(),
            norms: norms(run, keys),
            cost: cost(run, keys),
            end: end(run, keys),
        });
    }
    converted
}

/// Returns the texts of each setting in any run.
fn texts<'r>(runs: &'r [Run], names: &'r [String]) -> BTreeMap<&'r str, BTreeSet<&'r str>> {
    let mut texts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for name in names {
        for run in runs {
            if let Some(Value::String(text)) = setting(run, name) {
                texts.entry(name).or_default().insert(text);
            }
        }
    }
    texts
}

fn numbers(
    run: &Run,
    names: &[String],
    texts: &BTreeMap<&str, BTreeSet<&str>>,
) -> BTreeMap<String, f64> {
    let mut numbers = BTreeMap::new();
    for name in names {
        match setting(run, name) {
            Some(Value::Number(number)) => {
                if let Some(number) = number.as_f64() {
                    numbers.insert(name.clone(), number);
                }
            }
            Some(Value::Bool(is_on)) => {
                numbers.insert(name.clone(), f64::from(u8::from(*is_on)));
            }
            Some(Value::String(text)) => {
                insert_one_hot(name, text, &texts[name.as_str()], &mut numbers);
            }
            _ => {}
        }
    }
    numbers
}

/// Inserts 1 for the text of a setting, and 0 for each other text.
fn insert_one_hot(
    name: &str,
    text: &str,
    texts: &BTreeSet<&str>,
    numbers: &mut BTreeMap<String, f64>,
) {
    for other in texts {
        let is_it = f64::from(u8::from(text == *other));
        numbers.insert(format!("{name}={other}"), is_it);
    }
}

fn signed(series: &[(u64, f64)], goal: Goal) -> Vec<(u64, f64)> {
    series
        .iter()
        .map(|(step, value)| (*step, goal.sign() * value))
        .collect()
}

fn norms(run: &Run, keys: &Keys) -> BTreeMap<String, Vec<(u64, f64)>> {
    let mut norms = BTreeMap::new();
    for (name, key) in [
        ("weight_norm", &keys.weight_norm),
        ("grad_norm", &keys.grad_norm),
    ] {
        let series = run.series(key);
        if !series.is_empty() {
            norms.insert(name.to_owned(), series.to_vec());
        }
    }
    norms
}

/// Returns the cost of the whole run, in FLOPs or else seconds; the use of an unfinished run is scaled up.
fn cost(run: &Run, keys: &Keys) -> f64 {
    if run.last_step == 0 {
        return 0.0;
    }
    let used = run.last(&keys.flops).unwrap_or(run.seconds);
    used * run.steps as f64 / run.last_step as f64
}

fn end(run: &Run, keys: &Keys) -> End {
    let metric = lost_at(run.series(&keys.metric));
    let loss = lost_at(run.series(&keys.loss));
    if let Some(step) = [metric, loss].into_iter().flatten().min() {
        return End::Diverged { step };
    }
    match (&run.status, run.last(&keys.metric)) {
        (RunStatus::Completed, Some(value)) => End::Finished(keys.goal.sign() * value),
        _ => End::Unfinished,
    }
}

/// Returns the step from which on a series has no finite value.
fn lost_at(series: &[(u64, f64)]) -> Option<u64> {
    let last_finite = series.iter().rposition(|(_, value)| value.is_finite());
    let lost = last_finite.map_or(0, |index| index + 1);
    series.get(lost).map(|(step, _)| *step)
}
