//! In which settings runs differ.

use super::Run;
use serde_json::Value;
use std::collections::BTreeSet;

/// Where a program keeps its user's choices, the narrowest place first.
const PLACES: [&str; 3] = ["user.args.", "user.", ""];

/// What a run is called and where it lies is no setting.
const NAMES: [&str; 4] = ["name", "runs", "run_dir", "out_dir"];

/// The settings in which some runs differ, as the user knows them.
///
/// Those of a sweep are its parameters. Elsewhere they are what differs among the arguments; or, in a program that
/// records none, in the user's part of the configuration, or in all of it.
pub(super) fn settings(runs: &[Run]) -> Vec<String> {
    let chosen: BTreeSet<_> = runs.iter().flat_map(|run| run.chosen.keys()).collect();
    if !chosen.is_empty() {
        return chosen.into_iter().cloned().collect();
    }
    let differing = PLACES.map(|place| differing(runs, place));
    differing
        .into_iter()
        .find(|keys| !keys.is_empty())
        .unwrap_or_default()
}

/// The value of a setting.
pub(super) fn setting<'a>(run: &'a Run, key: &str) -> Option<&'a Value> {
    let configured = || {
        PLACES
            .iter()
            .find_map(|place| run.config.get(&format!("{place}{key}")))
    };
    run.chosen.get(key).or_else(configured)
}

/// The keys below a place whose values differ between runs, without the place.
fn differing(runs: &[Run], place: &str) -> Vec<String> {
    // Trials that left no run have no configuration at all.
    let runs: Vec<_> = runs.iter().filter(|run| !run.config.is_empty()).collect();
    let keys: BTreeSet<_> = runs.iter().flat_map(|run| run.config.keys()).collect();
    let differs = |key: &&&String| {
        let first = runs.first().and_then(|run| run.config.get(**key));
        runs.iter().any(|run| run.config.get(**key) != first)
    };
    let below = keys
        .iter()
        .filter(|key| key.starts_with(place))
        .filter(differs);
    let names = below.map(|key| key[place.len()..].to_owned());
    names.filter(|key| !NAMES.contains(&key.as_str())).collect()
}
