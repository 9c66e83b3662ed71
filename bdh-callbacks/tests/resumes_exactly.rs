//! A run with every callback of this crate, interrupted and resumed, is the undisturbed run to the bit.

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::burn::optim::SgdConfig;
use bdh::testing::resume_exact;
use bdh::{Attach, Callback, CallbackEntry, every, registered_callbacks, start};
use bdh_callbacks as _;
use serde_json::json;

/// What watches the clock on the wall and the machine, which are not the same twice.
const MEASURING: [&str; 4] = ["throughput", "memory", "system", "profile"];

/// The keys of those.
fn measured() -> Vec<String> {
    let entries = registered_callbacks().into_iter();
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

/// With its defaults; only a prompt has to be of the tiny model's alphabet.
fn built(entry: &CallbackEntry) -> Box<dyn Callback> {
    let settings = match entry.name {
        "samples" => json!({ "prompts": ["ab"], "max_tokens": 4 }),
        _ => json!({}),
    };
    (entry.build)(settings).unwrap_or_else(|error| panic!("{}: {error}", entry.name))
}

/// Each with its defaults, often enough for a short run.
fn all() -> impl Iterator<Item = Box<dyn Callback>> {
    let entries = registered_callbacks().into_iter();
    entries.map(|entry| {
        let callback = built(entry);
        let has_cadence = callback.cadence() != bdh::Cadence::EVERY_STEP;
        let often = if has_cadence { every(2) } else { every(1) };
        Box::new(callback.every(often)) as _
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
fn a_run_with_every_callback_dropout_and_accumulation() {
    check(&[1, 4, 7, 11], 2);
}

#[test]
fn a_run_that_is_stopped_in_the_middle_of_an_epoch() {
    check(&[2, 5], 1);
}

#[test]
fn a_run_that_ends_because_of_nan_ends_on_the_same_step() {
    let _alone = tiny::alone();
    // At this rate the weights overflow in the second or third step.
    for watch in ["finite", "early_stop"] {
        let run = || {
            let entries = registered_callbacks()
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
            let run = tiny::compose(tiny::task(tiny::ROWS), tiny::Tiny::new(0.0), 12);
            run.optimizer(SgdConfig::new().build(), f64::MAX)
                .callbacks(callbacks)
        };
        resume_exact([1, 2], &[], run); // what step 2 brought is judged in step 3, which is the last
    }
}
