//! Checks of `bdh::testing` for every callback of the crate.
//!
//! Every test trains alone, since the process has one random number generator for the CPU, which each run seeds.

#[path = "../../../bdh/tests/support/tiny.rs"]
mod tiny;

mod cases;

use bdh::cadence::{every, last};
use bdh::{CallbackExt, MemorySink, TrainResult, registry};
use cases::{CASES, Case};

/// Runs a check for every callback.
fn each(check: fn(&Case)) {
    let _alone = tiny::alone();
    CASES.iter().for_each(check);
}

#[test]
fn building_in_code_and_by_name_gives_the_same() {
    each(|case| case.check().is_built_by_name());
}

#[test]
fn each_records_exactly_the_keys_it_announces() {
    each(|case| case.check().records_its_keys());
}

#[test]
fn each_keeps_to_the_steps_and_files_of_its_plan() {
    each(|case| case.check().fires_as_planned());
}

#[test]
fn training_is_bit_identical_with_each() {
    each(|case| case.check().changes_nothing());
}

#[test]
fn each_survives_a_resume() {
    each(|case| case.check().comes_through_a_resume());
}

#[test]
fn each_survives_nan_losses_and_gradients() {
    each(|case| case.check().survives_nan());
}

#[test]
fn every_registered_callback_is_tested() {
    for entry in registry::all() {
        assert!(
            CASES.iter().any(|case| case.name == entry.name),
            "{}",
            entry.name
        );
    }
}

/// Returns the steps on which a key was recorded.
fn steps_with(memory: &MemorySink, key: &str) -> Vec<u64> {
    let mut steps = Vec::new();
    for record in memory.records() {
        if record.values.iter().any(|(known, _)| known == key) {
            steps.push(record.clock.step);
        }
    }
    steps
}

#[test]
fn each_records_on_every_step_of_its_plan() {
    let _alone = tiny::alone();
    for case in &CASES {
        // Checkpoints and evals have cadences of their own.
        let others = ["checkpoint/", "val/", "forecast/"];
        let of_steps = |key: &&&str| !others.iter().any(|other| key.starts_with(other));
        let Some(key) = case.keys.first().filter(of_steps) else {
            continue;
        };
        let dir = tempfile::tempdir().expect("a temporary directory");
        let memory = MemorySink::default();
        let run = tiny::run(12)
            .grad_accum_steps(2)
            .clip_grad_norm(0.5)
            .run_dir(dir.path());
        let trainer = run.sink(memory.clone()).callback((case.build)()).build();
        let trainer = trainer.expect("a valid run");
        let row = trainer
            .plan()
            .rows
            .last()
            .expect("a row for the callback")
            .clone();
        trainer.fit().expect("a run that completes");
        let planned = row.firings.expect("counted in steps");
        assert_eq!(steps_with(&memory, key), planned, "{}", case.name);
    }
}

#[test]
fn training_is_bit_identical_with_all_at_once() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = |name: &str| {
        tiny::run_with(0.3, 12)
            .clip_grad_norm(0.5)
            .eval(every(4))
            .checkpoint(last())
            .run_dir(dir.path().join(name))
    };
    let saved = |name: &str| {
        let path = dir.path().join(name).join("checkpoints/step_00000012");
        let files = ["model.safetensors", "optimizer.safetensors"];
        files.map(|file| std::fs::read(path.join(file)).expect("a file"))
    };
    fit(run("alone"));
    let all = CASES
        .iter()
        .enumerate()
        .fold(run("watched"), |run, (index, case)| {
            run.callback((case.build)().prefix(index.to_string()))
        });
    assert_eq!(fit(all).warnings, []);
    assert!(saved("watched") == saved("alone"));
}

fn fit(run: tiny::Builder) -> TrainResult<tiny::Tiny> {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
}
