//! A run with every callback of this crate is bit-identical after an interruption and a resume.

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::burn::optim::SgdConfig;
use bdh::cadence::{every, start};
use bdh::registry::CallbackEntry;
use bdh::testing::resume_exact;
use bdh::{Callback, CallbackExt, registry};
use bdh_callbacks as _;
use serde_json::json;

/// Callbacks that measure time and the machine, whose values differ between two equal runs.
const MEASURING: [&str; 4] = ["throughput", "memory", "system", "profile"];

/// Returns the keys of the callbacks in [`MEASURING`].
fn measured() -> Vec<String> {
    let entries = registry::all().into_iter();
    entries
        .filter(|entry| MEASURING.contains(&entry.name))
        .flat_map(|e| built(e).keys())
        .collect()
}

fn check(stops: &[u64], accumulation: usize) {
    let _alone = tiny::alone();
    let measured = measured();
    let measured: Vec<_> = measured.iter().map(String::as_str).collect();
    resume_exact(stops.iter().copied(), &measured, || run(accumulation));
}

/// Builds a callback with its defaults, except for prompts in the tiny model's alphabet.
fn built(entry: &CallbackEntry) -> Box<dyn Callback> {
    let settings = match entry.name {
        "samples" => json!({ "prompts": ["ab"], "max_tokens": 4 }),
        _ => json!({}),
    };
    (entry.build)(settings).unwrap_or_else(|error| panic!("{}: {error}", entry.name))
}

/// Builds all callbacks with their defaults, at cadences for a short run.
fn all() -> impl Iterator<Item = Box<dyn Callback>> {
    let entries = registry::all().into_iter();
    entries.map(|entry| {
        let callback = built(entry);
        let has_cadence = callback.cadence() != bdh::Cadence::EVERY_STEP;
        let often = if has_cadence { every(2) } else { every(1) };
        Box::new(callback.on(often)) as _
    })
}

fn run(accumulation: usize) -> tiny::Builder {
    tiny::run_with(0.2, 12)
        .grad_accum_steps(accumulation)
        .clip_grad_norm(0.5)
        .seed(5)
        .eval(start() | every(4))
        .callbacks(all())
}

#[test]
fn resume_is_exact_with_dropout_and_gradient_accumulation() {
    check(&[1, 4, 7, 11], 2);
}

#[test]
fn resume_is_exact_in_the_middle_of_an_epoch() {
    check(&[2, 5], 1);
}

#[test]
fn resumed_run_is_stopped_by_nan_on_the_same_step() {
    let _alone = tiny::alone();
    // At this learning rate the weights overflow in the second or third step.
    for watch in ["finite", "early_stop"] {
        let run = || {
            let entries = registry::all()
                .into_iter()
                .filter(|entry| entry.name == watch);
            let callbacks = entries.map(|entry| {
                let settings = if watch == "finite" {
                    json!({ "action": "stop" })
                } else {
                    json!({})
                };
                (entry.build)(settings).expect("valid settings")
            });
            let run = tiny::compose(tiny::ROWS, tiny::Tiny::new(0.0), 12);
            run.optimizer(SgdConfig::new().build(), f64::MAX)
                .callbacks(callbacks)
        };
        resume_exact([1, 2], &[], run); // step 3, the last, checks the numbers of step 2
    }
}
