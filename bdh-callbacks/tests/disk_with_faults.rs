//! If any call of the file system fails, once or from then on, the run reports its end truly, and the same command
//! completes it.
//!
//! A C library, compiled here and loaded before the system's, makes the n-th `write`, `fsync`, `rename` or `open` of a child
//! process fail with EIO or ENOSPC, be interrupted (EINTR), or write half of its bytes. Without `cc` the test is skipped with
//! a line that reports it. `BDH_FAULTS=1 cargo test --workspace --test disk_with_faults` makes every call fail in turn. By
//! default some calls of each kind fail.
#![cfg(all(target_os = "linux", feature = "tensorboard", feature = "wandb"))]

#[path = "support/child.rs"]
mod child;
#[path = "support/logs.rs"]
mod logs;
#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::cadence::every;
use bdh::checkpoint::Checkpoint;
use bdh::{Outcome, TrainError, checkpoint};
use bdh_callbacks::wandb::{Mode, repair};
use bdh_callbacks::{TensorBoard, Wandb};
use serde_json::Value as Json;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str = "failing_calls_are_reported_and_the_run_can_be_completed";
const STEPS: u64 = 9;

/// Number of failing calls of each kind, spread over the run, without `BDH_FAULTS`.
const STRIKES: usize = 4;

const EINTR: i32 = 4;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// Stands for a write of half of the bytes, which is not an error.
const SHORT: i32 = 0;

/// Range of calls that fail.
#[derive(Debug, Clone, Copy)]
struct Strike {
    call: &'static str,
    errno: i32,
    first: usize,
    last: usize,
}

/// Work of a child: trains, and writes how the run ended.
fn train(dir: &Path) {
    let run = tiny::run(STEPS)
        .run_dir(dir.join("run"))
        .checkpoint(every(3))
        .resume("auto")
        .sink(TensorBoard::default())
        .sink(Wandb::from_env().mode(Mode::Offline).project("p"));
    let end = match run
        .build()
        .map_err(TrainError::from)
        .and_then(bdh::Trainer::fit)
    {
        Ok(fitted) => {
            let names: Vec<_> = fitted
                .warnings
                .iter()
                .map(|warning| &*warning.source)
                .collect();
            assert_eq!(fitted.outcome, Outcome::Completed);
            format!("completed {}", names.join(" "))
        }
        Err(error) => format!("failed {error:?}"),
    };
    fs::write(dir.join("end"), end).expect("a file outside of the run");
}

/// Compiles the library. `None` if that is impossible.
fn library(dir: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/faults.c");
    let library = dir.join("faults.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(source)
        .arg("-ldl");
    cc.status()
        .is_ok_and(|status| status.success())
        .then_some(library)
}

/// Runs the child with failing calls. Returns its report of the end.
fn run(dir: &Path, library: &Path, strike: Option<Strike>) -> String {
    let mut command = child::command(NAME, dir, &[]);
    if let Some(Strike {
        call,
        errno,
        first,
        last,
    }) = strike
    {
        command
            .env("LD_PRELOAD", library)
            .env("BDH_FAULT_DIR", dir.join("run"));
        command
            .env("BDH_FAULT_CALL", call)
            .env("BDH_FAULT_ERRNO", errno.to_string());
        command
            .env("BDH_FAULT_AT", first.to_string())
            .env("BDH_FAULT_LAST", last.to_string());
        command.env("BDH_FAULT_COUNT", dir.join("count"));
    }
    child::passes(command);
    fs::read_to_string(dir.join("end")).expect("the report of the end")
}

fn status(dir: &Path) -> (String, Vec<String>) {
    let file = fs::read(dir.join("run/run.json")).expect("run.json");
    let file: Json = serde_json::from_slice(&file).expect("a whole file");
    let problems = file["problems"].as_array().expect("a list").iter();
    let sources = problems.map(|problem| problem["who"].as_str().expect("a name").to_owned());
    (
        file["status"].as_str().expect("a status").to_owned(),
        sources.collect(),
    )
}

/// Reads all checkpoints. Returns the weights of the last one.
fn weights(dir: &Path) -> Vec<u8> {
    let all = checkpoint::list(&dir.join("run/checkpoints"));
    let all = all
        .iter()
        .map(|path| Checkpoint::read(path).expect("a whole checkpoint"));
    let steps: Vec<_> = all.map(|checkpoint| checkpoint.state.clock.step).collect();
    assert_eq!(steps.first(), Some(&STEPS), "{steps:?}");
    fs::read(dir.join("run/checkpoints/step_00000009/model.safetensors")).expect("the model")
}

/// Checks the files of a run after a fault.
fn check_left(dir: &Path, end: &str, what: &str) {
    if !dir.join("run/run.json").exists() {
        assert!(end.starts_with("failed Config"), "{what}: {end}");
        return; // the run never began
    }
    let (status, sources) = status(dir);
    if let Some(names) = end.strip_prefix("completed ") {
        let is_noted = names.split(' ').any(|name| name == "run.json");
        assert!(
            status == "completed" || is_noted && status == "running",
            "{what}: {status}"
        );
        assert!(weights(dir).len() > 100, "{what}: the last checkpoint");
        let has_all = logs::jsonl(dir.join("run").as_path()).len() as u64 == STEPS;
        assert!(
            has_all || names.contains("jsonl"),
            "{what}: missing records were not reported: {names:?}"
        );
        if !is_noted {
            assert_eq!(sources.join(" "), names, "{what}");
        }
    } else {
        let is_true = status == "failed" || end.starts_with("failed Config") || status == "running";
        assert!(is_true, "{what}: {status}, {end}");
    }
    assert!(logs::jsonl_is_whole_or_empty(&dir.join("run")), "{what}");
    let left = fs::read_dir(dir.join("run/checkpoints"))
        .into_iter()
        .flatten()
        .flatten();
    for entry in left.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')) {
        Checkpoint::read(&entry.path()).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    }
}

/// Prints past the capture of the test harness, so that a skipped test is visible.
fn skip(why: &str) {
    let _ = writeln!(io::stderr(), "skipped: {NAME}: {why}");
}

#[test]
fn failing_calls_are_reported_and_the_run_can_be_completed() {
    if let Some(dir) = child::dir() {
        return train(&dir);
    }
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let Some(library) = library(scratch.path()) else {
        return skip("no `cc` compiles a library");
    };
    let all = std::env::var_os("BDH_FAULTS").is_some();
    let dir_of = |name: String| {
        let dir = scratch.path().join(name);
        fs::create_dir(&dir).expect("a folder");
        dir
    };

    let undisturbed = dir_of("undisturbed".to_owned());
    assert_eq!(run(&undisturbed, &library, None), "completed ");
    let expected = (logs::jsonl(&undisturbed.join("run")), weights(&undisturbed));
    let (mut struck, mut felt) = (0, 0);
    for (call, errno, lasts) in [
        ("write", EIO, false),
        ("write", ENOSPC, true),
        ("write", EINTR, false),
        ("write", SHORT, false),
        ("fsync", EIO, false),
        ("rename", EIO, false),
        ("open", ENOSPC, false),
    ] {
        let counted = dir_of(format!("count-{call}-{errno}"));
        run(
            &counted,
            &library,
            Some(Strike {
                call,
                errno,
                first: 0,
                last: 0,
            }),
        );
        let count = fs::metadata(counted.join("count")).map_or(0, |file| file.len() as usize);
        assert!(count > 3, "{call}: the library sees {count} calls");
        let apart = if all { 1 } else { count.div_ceil(STRIKES) };
        for first in (1..=count).rev().step_by(apart) {
            let last = if lasts { usize::MAX >> 1 } else { first };
            let what = format!("{call} {first} of {count} with error {errno}, lasting: {lasts}");
            let dir = dir_of(format!("{call}-{errno}-{first}"));
            let end = run(
                &dir,
                &library,
                Some(Strike {
                    call,
                    errno,
                    first,
                    last,
                }),
            );
            if [EINTR, SHORT].contains(&errno) {
                assert_eq!(end, "completed ", "{what}: not a fault");
            }
            check_left(&dir, &end, &what);

            let again = run(&dir, &library, None);
            // A run without a first checkpoint reports that it starts anew.
            let is_well = ["completed ", "completed run"].contains(&&*again);
            assert!(is_well, "{what}: the same command again: {again}");
            assert!(weights(&dir) == expected.1, "{what}: the weights");
            let missing = expected.0.len() - logs::jsonl(&dir.join("run")).len();
            assert!(
                missing == 0 || end.contains("jsonl"),
                "{what}: {missing} records are missing"
            );
            assert_eq!(
                repair(&logs::wandb_log(&dir.join("run")))
                    .expect("a log")
                    .damaged,
                0
            );
            struck += 1;
            felt += usize::from(end != "completed ");
        }
    }
    assert!(struck >= 7 * STRIKES - 7, "{struck} strikes");
    assert!(felt >= STRIKES, "{felt} of {struck} runs reported a fault");
}
