//! The suite that every callback of the crate passes: the checks of `bdh::testing`, which anyone's callback can pass.
//!
//! Every test trains alone: the CPU has one generator of random numbers for the process, and each run seeds it.

#[path = "../../../bdh/tests/support/tiny.rs"]
mod tiny;

mod cases;

use bdh::{Attach, Fitted, MemorySink, every, last, registered_callbacks};
use cases::{CASES, Case};

/// Makes a check of every callback.
fn each(check: fn(&Case)) {
    let _alone = tiny::alone();
    CASES.iter().for_each(check);
}

#[test]
fn building_in_code_and_by_name_gives_the_same() {
    each(|case| case.check().is_built_by_name());
}

#[test]
fn each_records_exactly_the_keys_that_it_announces() {
    each(|case| case.check().records_its_keys());
}

#[test]
fn each_acts_on_the_steps_and_leaves_the_files_of_its_plan() {
    each(|case| case.check().fires_as_planned());
}

#[test]
fn training_is_bit_identical_with_each_of_them() {
    each(|case| case.check().changes_nothing());
}

#[test]
fn each_comes_through_a_resume() {
    each(|case| case.check().comes_through_a_resume());
}

#[test]
fn each_survives_losses_and_gradients_that_are_not_numbers() {
    each(|case| case.check().survives_nan());
}

#[test]
fn no_registered_callback_is_left_out() {
    for entry in registered_callbacks() {
        assert!(
            CASES.iter().any(|case| case.name == entry.name),
            "{}",
            entry.name
        );
    }
}

/// The steps on which something was recorded under a key.
fn steps_with(memory: &MemorySink, key: &str) -> Vec<u64> {
    let records = memory.records();
    let has = |record: &&bdh::Record| record.values.iter().any(|(known, _)| known == key);
    records
        .iter()
        .filter(has)
        .map(|record| record.clock.step)
        .collect()
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
fn training_is_bit_identical_with_all_of_them_at_once() {
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
    assert_eq!(fit(all).problems, []);
    assert!(saved("watched") == saved("alone"));
}

fn fit(run: tiny::Builder) -> Fitted<tiny::Tiny> {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
}
