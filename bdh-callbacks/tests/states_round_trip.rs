//! States of callbacks are bit-identical after saving and loading, including NaN and infinities.

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::checkpoint::Checkpoint;
use bdh::{Callback, checkpoint, registry};
use bdh_callbacks as _;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Callbacks whose states contain numbers that may become infinite or NaN in a run.
const NAMES: [&str; 5] = [
    "clipping",
    "early_stop",
    "finite",
    "gradient_noise",
    "spikes",
];

fn built(name: &str) -> Box<dyn Callback> {
    let entry = registry::all().into_iter().find(|entry| entry.name == name);
    (entry.expect("a registered name").build)(json!({})).expect("the defaults are valid")
}

/// Returns the state of each callback after a few steps and an eval.
fn states() -> Vec<(&'static str, Value)> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = tiny::run(4)
        .grad_accum_steps(2)
        .clip_grad_norm(0.5)
        .run_dir(dir.path());
    let run = run
        .checkpoint(bdh::cadence::last())
        .callbacks(NAMES.map(built));
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    let path = checkpoint::latest(&dir.path().join("checkpoints")).expect("a checkpoint");
    let mut saved = Checkpoint::read(&path)
        .expect("a whole checkpoint")
        .state
        .callbacks;
    NAMES
        .map(|name| (name, saved.remove(name).expect("a state")))
        .into()
}

/// Replaces each number that is not a count by the next of `numbers`. Returns how many it replaced.
fn replace(state: &mut Value, numbers: &mut impl Iterator<Item = f64>) -> usize {
    match state {
        Value::Array(items) => items.iter_mut().map(|item| replace(item, numbers)).sum(),
        Value::Object(fields) => {
            let fields = fields.iter_mut().filter(|(name, _)| *name != "elapsed");
            fields.map(|(_, field)| replace(field, numbers)).sum()
        }
        Value::Number(number) if number.is_f64() => {
            let number = bdh::number::Number(numbers.next().expect("the iterator is endless"));
            *state = serde_json::to_value(number).expect("JSON");
            1
        }
        _ => 0,
    }
}

#[test]
fn states_with_any_numbers_are_restored() {
    let _alone = tiny::alone();
    let states = states();
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -0.0];
    let number = prop_oneof![proptest::sample::select(odd.to_vec()), any::<f64>()];
    proptest!(|(numbers in proptest::collection::vec(number, 1..9))| {
        for (name, state) in &states {
            let mut state = state.clone();
            let mut numbers = numbers.iter().copied().cycle();
            prop_assert!(replace(&mut state, &mut numbers) > 0, "{name}: {state}");
            let mut callback = built(name);
            callback.load_state(state.clone()).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(callback.state(), state, "{}", name);
        }
    });
}

#[test]
fn older_states_with_null_for_nan_are_read() {
    let old = [
        (
            "early_stop",
            json!({ "seen": { "best": null, "waited": 1 }, "pending": [3, null] }),
        ),
        (
            "finite",
            json!({ "was_bad": true, "pending": { "step": 3, "loss": null, "params": [] } }),
        ),
        ("clipping", json!({ "steps": 3, "clipped": 2.0 })),
    ];
    for (name, state) in old {
        built(name)
            .load_state(state)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn resumed_run_with_an_infinite_best_completes() {
    for (mode, best) in [("min", "Infinity"), ("max", "-Infinity")] {
        let mut stop = built("early_stop");
        let state = json!({ "seen": { "best": best, "waited": 4 }, "pending": [1, "Infinity"] });
        stop.load_state(state).expect("a valid state");
        let mode: Value = json!({ "metric": "loss", "mode": mode });
        let entry = registry::all()
            .into_iter()
            .find(|entry| entry.name == "early_stop");
        let mut stop_in_mode =
            (entry.expect("a registered name").build)(mode).expect("valid settings");
        stop_in_mode
            .load_state(stop.state())
            .expect("a valid state");
        let run = tiny::run(4).callbacks([stop_in_mode]);
        let fitted = run
            .build()
            .expect("a valid run")
            .fit()
            .expect("a run that ends well");
        assert_eq!(fitted.outcome, bdh::Outcome::Completed);
    }
}
