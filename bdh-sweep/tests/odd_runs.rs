//! Reading a crafted run directory is an error: no reader waits, and none reads without end.
#![cfg(unix)]

#[path = "../../bdh/tests/support/odd.rs"]
mod odd;
#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::cadence::{every, last};
use bdh_sweep::runs::{self, Keys, Run};
use odd::{ODD, spoil};
use std::path::PathBuf;

/// Trains a run in a folder of its own.
fn finished() -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let dir = scratch.path().join("run");
    let run = tiny::run(6).run_dir(&dir).checkpoint(every(3) | last());
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    (scratch, dir)
}

fn why(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[test]
fn run_with_odd_files_is_an_error() {
    let _alone = tiny::alone();
    for name in ["run.json", "metrics.jsonl"] {
        for with in ODD {
            let (scratch, dir) = finished();
            spoil(&dir.join(name), with);
            let error = why(&Run::read(&dir, &["train/loss"]).expect_err("an odd file"));
            assert!(error.contains(name), "{with}: {error}");
            let found = runs::read_all([scratch.path()], &Keys::new("train/loss"));
            let is_reported = !found.errors.is_empty() || (name, with) == ("run.json", "folder");
            assert!(is_reported, "{with} as {name}");
        }
    }
}
