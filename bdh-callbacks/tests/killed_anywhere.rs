//! A process killed with SIGKILL at any instant, started again with the same command, gives the undisturbed run.
//!
//! `BDH_KILLS=200 cargo test --workspace --test killed_anywhere` kills as often as docs/reliability.md reports;
//! without it, 12 times.

#[path = "support/child.rs"]
mod child;
#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::{Checkpoint, Value as Logged, every, last, latest_checkpoint, start};
use bdh_callbacks::{Checkpoints, EarlyCheckpoints, Ema, Histograms, Norms, Spikes};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

const NAME: &str = "a_run_killed_at_any_instant_is_the_undisturbed_run";
const STEPS: u64 = 60;

/// How often processes are killed in all.
fn kills() -> u64 {
    std::env::var("BDH_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

/// What every process does, the first and the last: one command for all.
fn train(dir: &Path) {
    let paced = tiny::on_step(|at| {
        thread::sleep(Duration::from_millis(2)); // so that kills meet training and not only the start
        if at.step() % 7 == 3 {
            at.log("sample", Logged::Text("größe ".repeat(50)));
        }
        Ok(())
    });
    let run = tiny::run_with(0.2, STEPS)
        .grad_accum_steps(2)
        .clip_grad_norm(0.5)
        .eval(start() | every(10))
        .checkpoint(every(4) | last())
        .run_dir(dir)
        .resume("auto")
        .callback(paced)
        .callback(Norms::default())
        .callback(Histograms::default())
        .callback(Spikes::default())
        .callback(Ema::default())
        .callback(Checkpoints::default())
        .callback(EarlyCheckpoints::at([5, 30]))
        .build();
    run.expect("a valid run").fit().expect("a run that completes");
}

/// Every record, without what depends on the clock on the wall.
fn records(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("metrics.jsonl")).expect("metrics.jsonl");
    let line = |line: &str| {
        let mut record: Value = serde_json::from_str(line).expect("a whole line");
        record.as_object_mut().expect("an object").remove("elapsed");
        record
    };
    text.lines().map(line).collect()
}

/// What the last checkpoint holds, without what depends on the clock on the wall.
fn end(dir: &Path) -> (Vec<Vec<u8>>, Value) {
    let path = latest_checkpoint(&dir.join("checkpoints")).expect("the last checkpoint");
    let files = ["model.safetensors", "optimizer.safetensors", "weights_ema.safetensors"];
    let files = files.map(|name| fs::read(path.join(name)).expect("a file"));
    let state = Checkpoint::read(&path).expect("a whole checkpoint").state;
    let mut state = serde_json::to_value(state).expect("JSON");
    forget_time(&mut state);
    (files.into(), state)
}

/// Takes out of a state when its steps were taken.
fn forget_time(state: &mut Value) {
    match state {
        Value::Object(fields) => {
            fields.remove("elapsed");
            fields.values_mut().for_each(forget_time);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_time),
        _ => {}
    }
}

/// Names of the checkpoints, whole ones only.
fn names(dir: &Path) -> Vec<String> {
    let found = bdh::list_checkpoints(&dir.join("checkpoints")).into_iter();
    found.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
}

/// A number below `below`, from a sequence that is the same in every run of the test.
fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

#[test]
fn a_run_killed_at_any_instant_is_the_undisturbed_run() {
    if let Some(dir) = child::dir() {
        return train(&dir);
    }
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let undisturbed = scratch.path().join("undisturbed");
    let began = std::time::Instant::now();
    child::passes(child::command(NAME, &undisturbed, &[]));
    let whole = began.elapsed().as_millis() as u64;
    let expected = (records(&undisturbed), end(&undisturbed), names(&undisturbed));

    let (mut seed, mut killed, mut runs, mut early) = (7, 0, 0, 0);
    while killed < kills() {
        let dir = scratch.path().join(format!("run-{runs}"));
        runs += 1;
        // A run is killed up to eight times, each within the time that an undisturbed one takes.
        for _ in 0..8 {
            let mut command = child::command(NAME, &dir, &[]);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let mut process = command.spawn().expect("a process");
            thread::sleep(Duration::from_millis(random(&mut seed, whole)));
            let ended = process.try_wait().expect("a process").is_some();
            process.kill().expect("a signal");
            process.wait().expect("a process that is gone");
            killed += u64::from(!ended);
            if ended {
                break;
            }
        }
        child::passes(child::command(NAME, &dir, &[]));
        early += (1..99).take_while(|n| dir.with_extension(format!("died-{n}")).exists()).count();
        let what = format!("run {runs}, after {killed} kills");
        let (found, end, names) = (records(&dir), end(&dir), names(&dir));
        for (record, expected) in found.iter().zip(&expected.0) {
            assert_eq!(record, expected, "{what}");
        }
        assert_eq!(found.len(), expected.0.len(), "{what}");
        assert_eq!(end.1, expected.1.1, "{what}");
        assert!(end.0 == expected.1.0, "{what}: weights, optimizer or average");
        assert_eq!(names, expected.2, "{what}");
    }
    eprintln!("{killed} kills in {runs} runs, {early} of them before a first checkpoint");
}
