//! A process that is killed with SIGKILL at any instant and started again with the same command completes the same run.
//!
//! `BDH_KILLS=200 cargo test --workspace --test killed_anywhere` kills as often as docs/reliability.md reports. The default
//! is 12 kills.

#[path = "support/child.rs"]
mod child;
#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::cadence::{every, last, start};
use bdh::checkpoint::Checkpoint;
use bdh::{TrainError, Value as Logged, checkpoint};
use bdh_callbacks::{Checkpoints, EarlyCheckpoints, Ema, Histograms, LossSpikes, Norms};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

const NAME: &str = "run_killed_at_any_instant_equals_the_undisturbed_run";
const STEPS: u64 = 60;

/// Returns the total number of kills.
fn kills() -> u64 {
    std::env::var("BDH_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(12)
}

/// Work of every child: one command that starts or resumes the run.
fn train(dir: &Path) {
    let paced = tiny::on_step(|ctx| {
        thread::sleep(Duration::from_millis(2)); // so that kills hit training and not only the start
        if ctx.step() % 7 == 3 {
            ctx.log("sample", Logged::Text("größe ".repeat(50)));
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
        .callback(LossSpikes::default())
        .callback(Ema::default())
        .callback(Checkpoints::default())
        .callback(EarlyCheckpoints::at([5, 30]))
        .build();
    run.expect("a valid run")
        .fit()
        .expect("a run that completes");
}

/// Returns every record, without elapsed times.
fn records(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("metrics.jsonl")).expect("metrics.jsonl");
    let line = |line: &str| {
        let mut record: Value = serde_json::from_str(line).expect("a whole line");
        record.as_object_mut().expect("an object").remove("elapsed");
        record
    };
    text.lines().map(line).collect()
}

/// Returns tensors and state of the last checkpoint, without elapsed times.
fn end(dir: &Path) -> (Vec<Vec<u8>>, Value) {
    let path = checkpoint::latest(&dir.join("checkpoints")).expect("the last checkpoint");
    let files = [
        "model.safetensors",
        "optimizer.safetensors",
        "weights_ema.safetensors",
    ];
    let files = files.map(|name| fs::read(path.join(name)).expect("a file"));
    let state = Checkpoint::read(&path).expect("a whole checkpoint").state;
    let mut state = serde_json::to_value(state).expect("JSON");
    forget_time(&mut state);
    (files.into(), state)
}

/// Removes elapsed times from a state.
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

/// Returns the names of the complete checkpoints.
fn names(dir: &Path) -> Vec<String> {
    let found = bdh::checkpoint::list(&dir.join("checkpoints")).into_iter();
    found
        .map(|path| {
            path.file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

/// Returns a pseudo-random number below `below`, from the same sequence in every run of the test.
fn random(state: &mut u64, below: u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

#[test]
fn run_killed_at_any_instant_equals_the_undisturbed_run() {
    if let Some(dir) = child::dir() {
        return train(&dir);
    }
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let undisturbed = scratch.path().join("undisturbed");
    let began = std::time::Instant::now();
    child::passes(child::command(NAME, &undisturbed, &[]));
    let whole = began.elapsed().as_millis() as u64;
    let expected = (
        records(&undisturbed),
        end(&undisturbed),
        names(&undisturbed),
    );

    let (mut seed, mut killed, mut runs, mut early) = (7, 0, 0, 0);
    while killed < kills() {
        let dir = scratch.path().join(format!("run-{runs}"));
        runs += 1;
        // A run is killed up to eight times, each time within the duration of an undisturbed run.
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
        early += (1..99)
            .take_while(|n| dir.with_extension(format!("died-{n}")).exists())
            .count();
        let what = format!("run {runs}, after {killed} kills");
        let (found, end, names) = (records(&dir), end(&dir), names(&dir));
        for (record, expected) in found.iter().zip(&expected.0) {
            assert_eq!(record, expected, "{what}");
        }
        assert_eq!(found.len(), expected.0.len(), "{what}");
        assert_eq!(end.1, expected.1.1, "{what}");
        assert!(
            end.0 == expected.1.0,
            "{what}: weights, optimizer or average"
        );
        assert_eq!(names, expected.2, "{what}");
    }
    eprintln!("{killed} kills in {runs} runs, {early} of them before a first checkpoint");
}

/// Returns a short run, which is resumed or started.
fn short(dir: &Path, resumes: bool) -> tiny::Builder {
    let paced = tiny::on_step(|_| {
        thread::sleep(Duration::from_millis(2));
        Ok(())
    });
    let run = tiny::run_with(0.2, 20)
        .checkpoint(last())
        .run_dir(dir)
        .callback(paced);
    if resumes { run.resume("auto") } else { run }
}

#[test]
fn run_killed_at_its_start_can_be_started_or_resumed() {
    const NAME: &str = "run_killed_at_its_start_can_be_started_or_resumed";
    if let Some(dir) = child::dir() {
        // Without `resume` if possible.
        let run = short(&dir, bdh::run_dir::holds_run(&dir));
        run.build()
            .expect("a valid run")
            .fit()
            .expect("a run that completes");
        return;
    }
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let (mut seed, mut without_a_run) = (5, 0);
    for number in 0..20 {
        let dir = scratch.path().join(format!("run-{number}"));
        let mut command = child::command(NAME, &dir, &[]);
        let mut process = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        // Half of the kills come right after the directory is made, before the run has written `run.json`.
        let began = std::time::Instant::now();
        while number % 2 == 0 && !dir.exists() && began.elapsed() < Duration::from_secs(5) {
            std::hint::spin_loop();
        }
        thread::sleep(Duration::from_micros(
            random(&mut seed, 2_000) * (1 + 49 * (number % 2)),
        ));
        process.kill().expect("a signal");
        process.wait().expect("a process that is gone");
        without_a_run += u64::from(dir.exists() && !bdh::run_dir::holds_run(&dir));
        if number % 4 < 2 {
            child::passes(child::command(NAME, &dir, &[]));
        } else {
            short(&dir, true)
                .build()
                .expect("a valid run")
                .fit()
                .expect("a run that completes");
        }
        assert_eq!(records(&dir).len(), 20, "run {number}");
    }
    eprintln!("{without_a_run} of 20 had an empty directory");
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "the parent reads the results of its children"
)]
fn concurrent_resumes_of_a_dead_run_are_one_run() {
    const NAME: &str = "concurrent_resumes_of_a_dead_run_are_one_run";
    if let Some(dir) = child::dir() {
        match short(&dir, true).build().map(bdh::Trainer::fit) {
            Ok(Ok(_)) => println!("completed"),
            Ok(Err(TrainError::Config(error))) | Err(error) => println!("refused: {error}"),
            Ok(Err(error)) => panic!("{error}"),
        }
        return;
    }
    let scratch = tempfile::tempdir().expect("a temporary directory");
    for round in 0..8 {
        let dir = scratch.path().join(format!("run-{round}"));
        fs::create_dir(&dir).expect("a directory");
        let dead = r#"{"name": "run", "steps": 20, "status": "running"}"#;
        fs::write(dir.join("run.json"), dead).expect("a file");
        fs::write(dir.join("metrics.jsonl"), "{\"step\": 1}\n").expect("a file");
        let spawn = |_| {
            let mut command = child::command(NAME, &dir, &[]);
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("a process")
        };
        let mut outputs = Vec::new();
        for process in [0, 1, 2].map(spawn) {
            let output = process.wait_with_output().expect("a process that ends");
            let text =
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(output.status.success(), "round {round}: {text}");
            outputs.push(text);
        }
        assert!(
            outputs.iter().any(|text| text.contains("completed")),
            "{outputs:?}"
        );
        let aside = (1..9)
            .filter(|n| dir.with_extension(format!("died-{n}")).exists())
            .count();
        assert_eq!(
            aside, 1,
            "round {round}: a live directory was moved aside: {outputs:?}"
        );
        assert_eq!(records(&dir).len(), 20, "round {round}: {outputs:?}");
    }
}
