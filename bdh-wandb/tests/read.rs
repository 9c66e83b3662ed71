//! Runs read from W&B logs, including those of the Python client.

#[path = "../../bdh-callbacks/tests/support/judges.rs"]
mod judges;
#[path = "support/sink.rs"]
mod sink;

use bdh_sweep::runs::{Keys, RunStatus, Table};
use bdh_wandb::{Mode, Wandb, read_run, read_runs};
use judges::Judge;
use serde_json::json;
use std::fs;
use std::path::PathBuf;

#[test]
fn runs_read_from_a_log_equal_the_records() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let records: Vec<_> = (0..40).map(sink::scalars).collect();
    let mut wandb = Wandb::from_env().mode(Mode::Offline).project("p");
    sink::log(&mut wandb, &sink::run(dir.path()), &records);
    let keys: Vec<&str> = records[0].scalars().map(|(key, _)| key).collect();
    let (mut runs, errors) = read_runs(dir.path(), &Keys::new(keys[0]));
    assert!(errors.is_empty() && runs.len() == 1, "{errors:?} {runs:?}");
    let run = runs.remove(0);
    let mut log = fs::read_dir(&run.dir)
        .expect("the folder")
        .flatten()
        .map(|entry| entry.path());
    let log = log.find(|path| path.extension().is_some_and(|ending| ending == "wandb"));
    let run = read_run(&log.expect("a log"), &keys).expect("a run");
    for key in keys {
        let expected: Vec<_> = records
            .iter()
            .filter_map(|record| Some((record.clock.step, record.scalar(key)?)))
            .collect();
        // Compared as text, because NaN is not equal to itself.
        assert_eq!(
            format!("{:?}", run.series(key)),
            format!("{expected:?}"),
            "{key}"
        );
    }

    fs::write(dir.path().join("run.json"), "{}").expect("a file");
    assert!(
        read_runs(dir.path(), &Keys::new("x")).0.is_empty(),
        "a run directory is read from its own records"
    );
}

#[test]
fn runs_of_the_python_client_are_read_too() {
    let Some(judge) = Judge::modern() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    for exit in ["0", "3"] {
        let made = judge.python(
            "wandb_offline.py",
            [dir.path().to_str().expect("UTF-8"), exit],
        );
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
    }
    let keys = Keys::new("val_bpb");
    let (runs, errors) = read_runs(dir.path(), &keys);
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(runs.len(), 2);
    let statuses: Vec<_> = runs.iter().map(|run| run.status.clone()).collect();
    assert!(
        statuses.contains(&RunStatus::Diverged),
        "the last value is NaN"
    );
    assert!(statuses.contains(&RunStatus::Failed("exit code 3".to_owned())));
    let run = &runs[0];
    assert_eq!(run.series("val_bpb")[..2], [(0, 3.0), (20, 2.5)]);
    assert!(run.last("val_bpb").is_some_and(f64::is_nan));
    assert_eq!((run.series("train/loss").len(), run.last_step), (5, 40));
    assert_eq!(
        (&run.config["lr"], &run.config["model.depth"]),
        (&json!(0.001), &json!(4))
    );
    assert_eq!(Table::of(&runs, &keys).rows.len(), 2);
}

#[test]
fn file_that_is_not_a_log_is_an_error() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("run-x.wandb"), "no log").expect("a file");
    let (runs, errors) = read_runs(dir.path(), &Keys::new("val_bpb"));
    assert!(runs.is_empty());
    let messages: Vec<(PathBuf, String)> = errors
        .into_iter()
        .map(|(path, error)| (path, error.to_string()))
        .collect();
    assert_eq!(
        messages,
        [(
            dir.path().join("run-x.wandb"),
            "the file is not a W&B log".to_owned()
        )]
    );
}
