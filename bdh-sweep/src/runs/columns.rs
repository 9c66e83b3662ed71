//! The settings in which runs differ.

use super::Run;
use serde_json::Value;
use std::collections::BTreeSet;

/// Prefixes of the keys with a user's choices, the narrowest first.
const PLACES: [&str; 3] = ["user.args.", "user.", ""];

/// Keys of names and paths, which are not settings.
const NAMES: [&str; 4] = ["name", "runs", "run_dir", "out_dir"];

/// Returns the settings in which some runs differ, by the names that users know.
///
/// For a sweep they are its parameters. Otherwise they are the arguments that differ; for a program that records no
/// arguments, the differing keys of the user's part of the configuration, or of all of it.
pub(super) fn settings(runs: &[Run]) -> Vec<String> {
    let mut chosen = BTreeSet::new();
    for run in runs {
        chosen.extend(run.chosen.keys().cloned());
    }
    if !chosen.is_empty() {
        return chosen.into_iter().collect();
    }
    for place in PLACES {
        let keys = differing(runs, place);
        if !keys.is_empty() {
            return keys;
        }
    }
    Vec::new()
}

/// Returns the value of a setting.
pub(super) fn setting<'a>(run: &'a Run, key: &str) -> Option<&'a Value> {
    if let Some(value) = run.chosen.get(key) {
        return Some(value);
    }
    for place in PLACES {
        if let Some(value) = run.config.get(&format!("{place}{key}")) {
            return Some(value);
        }
    }
    None
}

/// Returns the keys below a place whose values differ between runs, without the place.
fn differing(runs: &[Run], place: &str) -> Vec<String> {
    let mut configs = Vec::with_capacity(runs.len());
    let mut keys = BTreeSet::new();
    for run in runs {
        // Trials without a run have no configuration at all.
        if !run.config.is_empty() {
            configs.push(&run.config);
            keys.extend(run.config.keys());
        }
    }
    let mut differing = Vec::new();
    for key in keys {
        let Some(name) = key.strip_prefix(place) else {
            continue;
        };
        let first = configs[0].get(key);
        let differs = configs.iter().any(|config| config.get(key) != first);
        if differs && !NAMES.contains(&name) {
            differing.push(name.to_owned());
        }
    }
    differing
}
