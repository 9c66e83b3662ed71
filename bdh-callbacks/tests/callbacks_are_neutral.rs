//! Training is bit-identical without callbacks and with any of them, at any cadence.

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::cadence::{at, every, last};
use bdh::checkpoint::Checkpoint;
use bdh::registry::CallbackEntry;
use bdh::{Callback, CallbackExt, checkpoint, registry};
use bdh_callbacks as _;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

type Bits = BTreeMap<String, Vec<u8>>;

/// Returns weights and optimizer state at the end of a run of ten steps.
fn train(callbacks: Vec<Box<dyn Callback>>) -> (Bits, Bits) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = tiny::run_with(0.3, 10)
        .grad_accum_steps(2)
        .clip_grad_norm(0.5)
        .eval(at([4]) | last());
    let run = run
        .run_dir(dir.path().join("run"))
        .checkpoint(at([3, 10]))
        .callbacks(callbacks);
    let fitted = run
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(fitted.warnings, []);
    let path = checkpoint::latest(&dir.path().join("run/checkpoints")).expect("the last one");
    let Checkpoint {
        model, optimizer, ..
    } = Checkpoint::read(&path).expect("a whole one");
    let bits = |tensors: bdh::stats::Tensors| -> Bits {
        tensors
            .into_iter()
            .map(|(name, data)| (name, data.as_bytes().to_vec()))
            .collect()
    };
    (bits(model), bits(optimizer))
}

/// Builds a callback with its defaults, except for prompts in the tiny model's alphabet.
fn built(entry: &CallbackEntry) -> Box<dyn Callback> {
    let settings = match entry.name {
        "samples" => json!({ "prompts": ["ab"], "max_tokens": 4 }),
        _ => json!({}),
    };
    (entry.build)(settings).unwrap_or_else(|error| panic!("{}: {error}", entry.name))
}

/// Builds the callbacks whose bit is set in `chosen`, each at its own cadence.
fn subset(chosen: u64, cadences: &[u64]) -> Vec<Box<dyn Callback>> {
    let entries = registry::all().into_iter().enumerate();
    entries
        .filter(|(index, _)| chosen >> index & 1 == 1)
        .map(|(index, entry)| {
            let cadence = every(cadences[index % cadences.len()]);
            Box::new(built(entry).on(cadence)) as _
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn any_subset_at_any_cadence_leaves_training_unchanged(
        chosen in any::<u64>(), cadences in prop::collection::vec(1_u64..6, 7),
    ) {
        let _alone = tiny::alone();
        prop_assert!(train(subset(chosen, &cadences)) == train(Vec::new()));
    }
}

#[test]
fn all_callbacks_leave_training_unchanged() {
    let _alone = tiny::alone();
    assert!(registry::all().len() >= 19);
    assert!(train(subset(u64::MAX, &[1])) == train(Vec::new()));
}
