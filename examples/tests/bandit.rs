//! Tests of the program `bandit`: its reward rises, and a killed run continues with the same numbers.

#[path = "support/program.rs"]
mod program;

use program::Ended;
use serde_json::Value;
use std::fs;
use std::thread;
use std::time::Duration;

type Place = program::Place<Bandit>;

/// Program under test.
struct Bandit;

impl program::Name for Bandit {
    const NAME: &'static str = "bandit";
}

/// Runs the program in a directory, to its end.
fn finish(place: &Place, run: &str) -> Ended {
    let ended = place.run(run);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    ended
}

/// Starts the program, and kills it once it has a checkpoint.
fn kill(place: &Place, run: &str) {
    let mut process = place.command(run).spawn().expect("the program starts");
    let checkpoints = place.at(run).join("checkpoints");
    while bdh::checkpoint::latest(&checkpoints).is_none() {
        let ended = process.try_wait().expect("a process");
        assert!(ended.is_none(), "it ended without a checkpoint");
        thread::sleep(Duration::from_millis(1));
    }
    process.kill().expect("a signal");
    process.wait().expect("a process that is gone");
    assert_ne!(
        place.json(&format!("{run}/run.json"))["status"],
        "completed"
    );
}

/// Returns the records without the time.
fn records(place: &Place, run: &str) -> Vec<Value> {
    let mut records = place.metrics(run);
    for record in &mut records {
        record["elapsed"].take();
    }
    records
}

fn mean_reward(records: &[Value]) -> f64 {
    let rewards = records
        .iter()
        .map(|record| record["rollout/reward"].as_f64().expect("a reward"));
    rewards.sum::<f64>() / records.len() as f64
}

#[test]
fn reward_rises_and_a_killed_run_continues_with_the_same_numbers() {
    let place = Place::new();
    finish(&place, "whole");
    let whole = records(&place, "whole");
    assert_eq!(whole.len(), 1_000);
    let (first, last) = (mean_reward(&whole[..20]), mean_reward(&whole[900..]));
    assert!(first < 0.6 && last > 0.8, "from {first} to {last}");

    kill(&place, "killed");
    finish(&place, "killed");
    let run = place.json("killed/run.json");
    let resumed_at = run["resumed_at"].as_u64().expect("a resumed run");
    assert!(resumed_at.is_multiple_of(50), "the cadence of checkpoints");
    assert_eq!(records(&place, "killed"), whole);
    let weights = ["whole", "killed"].map(|run| {
        let path = format!("{run}/checkpoints/step_00001000/model.safetensors");
        fs::read(place.at(&path)).expect("a checkpoint")
    });
    assert_eq!(weights[0], weights[1]);
}

#[test]
fn completed_run_that_is_started_again_stays_as_it_is() {
    let place = Place::new();
    finish(&place, "run");
    let before = place.files();
    finish(&place, "run");
    assert_eq!(place.files(), before);
}
