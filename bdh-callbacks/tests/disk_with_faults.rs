//! Whichever call of the file system fails, once or for good, a run ends as it says, and the same command completes it.
//!
//! A library in C, compiled here and loaded before the system's, lets the n-th `write`, `fsync`, `rename` or `open` of a
//! child process fail with EIO or ENOSPC, be interrupted (EINTR) or write a half. Where there is no `cc`, the test is skipped
//! with a line that says so. `BDH_FAULTS=1 cargo test --workspace --test disk_with_faults` strikes every call; without it,
//! some of each kind.
#![cfg(all(target_os = "linux", feature = "tensorboard", feature = "wandb"))]

#[path = "support/child.rs"]
mod child;
#[path = "support/logs.rs"]
mod logs;
#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::{Checkpoint, Outcome, TrainError, every, list_checkpoints};
use bdh_callbacks::wandb::{Mode, repair};
use bdh_callbacks::{TensorBoard, Wandb};
use serde_json::Value as Json;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str =
    "whatever_fails_the_end_is_reported_truly_and_the_same_command_completes_the_run";
const STEPS: u64 = 9;

/// Calls of each kind that fail, spread over the run, unless all are asked for.
const STRIKES: usize = 4;

const EINTR: i32 = 4;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// Not an error: half of a write.
const SHORT: i32 = 0;

/// Calls that go wrong.
#[derive(Debug, Clone, Copy)]
struct Strike {
    call: &'static str,
    errno: i32,
    first: usize,
    last: usize,
}

/// What the child does: it trains, and says how that ended.
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
                .problems
                .iter()
                .map(|problem| &*problem.who)
                .collect();
            assert_eq!(fitted.outcome, Outcome::Completed);
            format!("completed {}", names.join(" "))
        }
        Err(error) => format!("failed {error:?}"),
    };
    fs::write(dir.join("end"), end).expect("outside of what fails");
}

/// Compiles the library; `None` if that is impossible.
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

/// Runs the child where `strike` goes wrong, and gives what it says of its end. It never panics.
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
    fs::read_to_string(dir.join("end")).expect("how it ended")
}

fn status(dir: &Path) -> (String, Vec<String>) {
    let file = fs::read(dir.join("run/run.json")).expect("run.json");
    let file: Json = serde_json::from_slice(&file).expect("a whole file");
    let problems = file["problems"].as_array().expect("a list").iter();
    let who = problems.map(|problem| problem["who"].as_str().expect("a name").to_owned());
    (
        file["status"].as_str().expect("a status").to_owned(),
        who.collect(),
    )
}

/// The weights of the last checkpoint, after reading all of them.
fn weights(dir: &Path) -> Vec<u8> {
    let all = list_checkpoints(&dir.join("run/checkpoints"));
    let all = all
        .iter()
        .map(|path| Checkpoint::read(path).expect("a whole checkpoint"));
    let steps: Vec<_> = all.map(|checkpoint| checkpoint.state.clock.step).collect();
    assert_eq!(steps.first(), Some(&STEPS), "{steps:?}");
    fs::read(dir.join("run/checkpoints/step_00000009/model.safetensors")).expect("the model")
}

/// Checks what a run left that met a fault.
fn check_left(dir: &Path, end: &str, what: &str) {
    if !dir.join("run/run.json").exists() {
        assert!(end.starts_with("failed Config"), "{what}: {end}");
        return; // it never began
    }
    let (status, told) = status(dir);
    if let Some(names) = end.strip_prefix("completed ") {
        let is_noted = names.split(' ').any(|name| name == "run.json");
        assert!(
            status == "completed" || is_noted && status == "running",
            "{what}: {status}"
        );
        assert!(weights(dir).len() > 100, "{what}: its end is on the disk");
        let has_all = logs::jsonl(dir.join("run").as_path()).len() as u64 == STEPS;
        assert!(
            has_all || names.contains("jsonl"),
            "{what}: records are missing, and {names:?}"
        );
        if !is_noted {
            assert_eq!(told.join(" "), names, "{what}");
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

/// Past the capture of the test harness: who skips must say so.
fn skip(why: &str) {
    let _ = writeln!(io::stderr(), "skipped: {NAME}: {why}");
}

#[test]
fn whatever_fails_the_end_is_reported_truly_and_the_same_command_completes_the_run() {
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
                assert_eq!(end, "completed ", "{what}: it is no fault");
            }
            check_left(&dir, &end, &what);

            let again = run(&dir, &library, None);
            // One that died before its first checkpoint says that it is begun anew.
            let is_well = ["completed ", "completed run"].contains(&&*again);
            assert!(is_well, "{what}: the same command again: {again}");
            assert!(weights(&dir) == expected.1, "{what}: the weights");
            let missing = expected.0.len() - logs::jsonl(&dir.join("run")).len();
            assert!(
                missing == 0 || end.contains("jsonl"),
                "{what}: {missing} records are gone"
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
    assert!(
        felt >= STRIKES,
        "{felt} of {struck} runs had anything to report"
    );
}
