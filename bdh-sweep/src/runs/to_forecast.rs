//! Runs as the plain numbers that forecasts take.

use super::columns::{setting, settings};
use super::{Keys, Run, RunStatus};
use crate::goal::Goal;
use bdh_forecast::End;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The runs as [`bdh_forecast`] takes them; their order in time is that in which they were begun.
///
/// Settings are those in which runs differ: numbers as they are, switches as 0 and 1, texts as one such switch a text.
/// A metric of which more is better is negated. A run whose loss or metric ends without a finite value has diverged; one that was
/// stopped, failed or died goes on, as far as forecasts know. A run without a horizon has left nothing, and is left out.
#[must_use]
pub fn to_forecast(runs: &[Run], keys: &Keys) -> Vec<bdh_forecast::Run> {
    let names = settings(runs);
    let texts: BTreeSet<(&str, &str)> = (names.iter())
        .flat_map(|name| {
            runs.iter()
                .filter_map(move |run| Some((&**name, setting(run, name)?.as_str()?)))
        })
        .collect();
    let with_horizon = runs.iter().filter(|run| run.steps > 0);
    let one = |run: &Run| bdh_forecast::Run {
        name: run.name.clone(),
        order: (1e3 * run.started_at) as u64,
        settings: numbers(run, &names, &texts),
        horizon: run.steps,
        metric: signed(run.series(&keys.metric), keys.goal),
        loss: run.series(&keys.loss).to_vec(),
        lr: run.series(&keys.lr).to_vec(),
        norms: norms(run, keys),
        cost: cost(run, keys),
        end: end(run, keys),
    };
    with_horizon.map(one).collect()
}

fn numbers(run: &Run, names: &[String], texts: &BTreeSet<(&str, &str)>) -> BTreeMap<String, f64> {
    let mut numbers = BTreeMap::new();
    for name in names {
        match setting(run, name) {
            Some(Value::Number(number)) => {
                numbers.extend(number.as_f64().map(|number| (name.clone(), number)));
            }
            Some(Value::Bool(is_on)) => {
                numbers.insert(name.clone(), f64::from(u8::from(*is_on)));
            }
            Some(Value::String(text)) => {
                for (_, other) in texts.iter().filter(|(of, _)| of == name) {
                    let is_it = f64::from(u8::from(text == other));
                    numbers.insert(format!("{name}={other}"), is_it);
                }
            }
            _ => {}
        }
    }
    numbers
}

fn signed(series: &[(u64, f64)], goal: Goal) -> Vec<(u64, f64)> {
    series
        .iter()
        .map(|(step, value)| (*step, goal.sign() * value))
        .collect()
}

fn norms(run: &Run, keys: &Keys) -> BTreeMap<String, Vec<(u64, f64)>> {
    let norms = [
        ("weight_norm", &keys.weight_norm),
        ("grad_norm", &keys.grad_norm),
    ];
    let named = norms.map(|(name, key)| (name.to_owned(), run.series(key).to_vec()));
    named
        .into_iter()
        .filter(|(_, series)| !series.is_empty())
        .collect()
}

/// Of the whole run: FLOPs, or else seconds; what a run that is not through has used is scaled up.
fn cost(run: &Run, keys: &Keys) -> f64 {
    let used = run.last(&keys.flops).unwrap_or(run.seconds);
    if run.last_step == 0 {
        0.0
    } else {
        used * run.steps as f64 / run.last_step as f64
    }
}

fn end(run: &Run, keys: &Keys) -> End {
    let series = [&keys.metric, &keys.loss].map(|key| run.series(key));
    let lost = series.into_iter().filter_map(lost_at).min();
    match (lost, &run.status, run.last(&keys.metric)) {
        (Some(step), ..) => End::Diverged { step },
        (None, RunStatus::Completed, Some(value)) => End::Finished(keys.goal.sign() * value),
        _ => End::Unfinished,
    }
}

/// From which step on a series has no finite value any more.
fn lost_at(series: &[(u64, f64)]) -> Option<u64> {
    let lost = series
        .iter()
        .rev()
        .take_while(|(_, value)| !value.is_finite());
    lost.last().map(|(step, _)| *step)
}
