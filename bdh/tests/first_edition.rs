//! This version resumes a run directory that an earlier version wrote.
//!
//! `data/first_edition` is a run of 12 steps, stopped after step 6 and written before the crates were divided.
//! `data/first_edition.jsonl` has the records of the same run without the stop.

use bdh::cadence::every;
use bdh::hooks::on_step;
use bdh::testing::tiny_run;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn data() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a listing") {
        let from = entry.expect("an entry").path();
        let to = to.join(from.file_name().expect("a name"));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a copy");
        }
    }
}

/// Step, training loss and validation loss of each record.
fn losses(path: &Path) -> Vec<(u64, f64, Option<f64>)> {
    let text = fs::read_to_string(path).expect("records");
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("a record");
        let step = line["step"].as_u64().expect("a step");
        (
            step,
            line["train/loss"].as_f64().expect("a loss"),
            line["val/loss"].as_f64(),
        )
    };
    text.lines().map(read).collect()
}

#[test]
fn a_run_of_an_earlier_version_resumes_with_the_same_numbers() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let dir = scratch.path().join("run");
    copy(&data().join("first_edition"), &dir);
    let before = losses(&dir.join("metrics.jsonl"));
    assert_eq!(before.last().map(|(step, ..)| *step), Some(6));

    let run = tiny_run(12)
        .callback(on_step(|_| Ok(())))
        .eval(every(3))
        .checkpoint(every(3));
    run.run_dir(&dir)
        .resume("auto")
        .build()
        .expect("it fits")
        .fit()
        .expect("a whole run");

    let expected = losses(&data().join("first_edition.jsonl"));
    let found = losses(&dir.join("metrics.jsonl"));
    assert_eq!(found.len(), 12);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.0, expected.0);
        assert!(
            (found.1 - expected.1).abs() < 1e-6,
            "{found:?} is not {expected:?}"
        );
        let is_close = found
            .2
            .zip(expected.2)
            .is_none_or(|(a, b)| (a - b).abs() < 1e-6);
        assert!(
            found.2.is_some() == expected.2.is_some() && is_close,
            "{found:?}, {expected:?}"
        );
    }
}
