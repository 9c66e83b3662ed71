//! Runs in TensorBoard: the HParams table, and resumed runs.

#![cfg(feature = "sink")]

#[path = "support/board.rs"]
mod board;
#[path = "../../bdh-callbacks/tests/support/judges.rs"]
mod judges;

use bdh::{Outcome, Record, RunInfo, Sink, Value};
use bdh_tensorboard::TensorBoard;
use board::{Board, LOADERS, accumulated, points, record, run, write};
use judges::Judge;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Returns a record of a loss, and on even steps of a text: the slow reader shows only ten texts.
fn loss(step: u64, loss: f64) -> Record {
    let text = ("sample", Value::Text(format!("{loss}")));
    let text = step.is_multiple_of(2).then_some(text);
    record(
        step,
        [("loss", Value::Scalar(loss))].into_iter().chain(text),
    )
}

#[test]
fn table_has_settings_metrics_and_outcome_of_each_run() {
    let Some(judge) = Judge::modern() else { return };
    let runs = tempfile::tempdir().expect("a temporary directory");
    let failed = Outcome::Failed("out of memory".to_owned());
    let stopped = Outcome::Stopped(bdh::StopReason::Signal);
    let cases = [
        (
            "a",
            json!({ "lr": 0.1, "depth": 2 }),
            3.0,
            Outcome::Completed,
            "STATUS_SUCCESS",
        ),
        (
            "b",
            json!({ "lr": 0.2, "opt": { "name": "muon" } }),
            2.0,
            stopped,
            "STATUS_SUCCESS",
        ),
        (
            "c",
            json!({ "tied": true, "depth": null }),
            f64::INFINITY,
            failed,
            "STATUS_FAILURE",
        ),
    ];
    for (name, user, last, end, _) in &cases {
        let records = [loss(1, 9.0), loss(2, *last)];
        write(
            TensorBoard::default(),
            &run(&runs.path().join(name), user),
            &records,
            end,
        );
    }
    let mut killed = TensorBoard::default();
    killed
        .open(&run(&runs.path().join("d"), &json!({ "lr": 0.4 })))
        .expect("a directory");
    killed.write(&loss(2, 4.0)).expect("space");
    drop(killed);
    for loader in LOADERS {
        let shown = Board::start(&judge, runs.path(), loader).shows(4, 2);
        let table = &shown["hparams"];
        assert_eq!(
            table.as_object().map(serde_json::Map::len),
            Some(4),
            "{loader:?} {table}"
        );
        assert_eq!(table["d"]["status"], "STATUS_UNKNOWN");
        assert_eq!(
            table["a"]["settings"],
            json!({ "lr": 0.1, "depth": 2.0, "seed": 7.0 })
        );
        assert_eq!(
            table["b"]["settings"],
            json!({ "lr": 0.2, "opt.name": "muon", "seed": 7.0 })
        );
        assert_eq!(table["c"]["settings"], json!({ "tied": true, "seed": 7.0 }));
        for (name, _, last, _, status) in &cases {
            let row = &table[*name];
            let last = if last.is_finite() {
                json!(last)
            } else {
                json!("Infinity")
            };
            assert_eq!(row["metrics"], json!({ "loss": last }), "{loader:?} {name}");
            assert_eq!(
                (&row["status"], &row["has_times"]),
                (&json!(status), &json!(true))
            );
        }
    }
}

/// Writes a run up to step 7; its last checkpoint is of step 4.
fn first_life(dir: &Path, end: Option<&Outcome>) {
    let mut sink = TensorBoard::default();
    sink.open(&run(dir, &json!({ "lr": 0.1 })))
        .expect("a directory");
    for step in 0..=7 {
        sink.write(&loss(step, 1.0)).expect("space");
    }
    let late = record(7, [("late", Value::Scalar(1.0))]);
    sink.write(&late).expect("space");
    if let Some(end) = end {
        sink.close(end).expect("space");
    }
}

fn resumed(dir: &Path, step: u64) -> RunInfo {
    let record = Some(loss(step, 2.0));
    RunInfo {
        resumed_at: Some(step),
        resumed_record: record,
        ..run(dir, &json!({ "lr": 0.1 }))
    }
}

fn second_life(dir: &Path, from: u64) {
    let records: Vec<_> = (from + 1..=10).map(|step| loss(step, 2.0)).collect();
    write(
        TensorBoard::default(),
        &resumed(dir, from),
        &records,
        &Outcome::Completed,
    );
}

/// Returns the expected losses: 1 up to step `last`, from the first life, then 2 from the second.
fn once_each(last: u64) -> Vec<(u64, f64)> {
    (0..=10)
        .map(|step| (step, if step <= last { 1.0 } else { 2.0 }))
        .collect()
}

#[test]
fn resumed_run_shows_each_step_once() {
    let Some(judge) = Judge::modern() else { return };
    let runs = tempfile::tempdir().expect("a temporary directory");
    let dir = runs.path().join("run");
    first_life(&dir, Some(&Outcome::Failed("killed".to_owned())));
    let early = LOADERS.map(|loader| Board::start(&judge, runs.path(), loader));
    for board in &early {
        assert_eq!(
            board.shows(1, 7)["hparams"]["run"]["status"],
            "STATUS_FAILURE"
        );
    }
    second_life(&dir, 4);
    let late = LOADERS.map(|loader| Board::start(&judge, runs.path(), loader));
    let even = once_each(4).into_iter().step_by(2);
    let texts: Json = even
        .map(|(step, loss)| json!([step, format!("<p><code>{loss}</code></p>")]))
        .collect();
    for board in early.iter().chain(&late) {
        let shown = board.shows(1, 10);
        assert_eq!(points(&shown, "run", "loss"), once_each(4));
        assert_eq!(shown["texts"]["run"]["sample"], texts);
    }
    for board in &late {
        let shown = board.shows(1, 10);
        assert_eq!(
            points(&shown, "run", "late"),
            [],
            "the key is not written again"
        );
        assert_eq!(shown["hparams"]["run"]["status"], "STATUS_SUCCESS");
        assert_eq!(
            shown["hparams"]["run"]["settings"],
            json!({ "lr": 0.1, "seed": 7.0 })
        );
    }
    assert_eq!(
        accumulated(&judge, &[&dir])[0]["scalars"]["loss"],
        pairs(&once_each(4))
    );
}

fn pairs(points: &[(u64, f64)]) -> Json {
    points
        .iter()
        .map(|(step, value)| json!([step, value]))
        .collect()
}

#[test]
fn record_lost_between_checkpoint_and_kill_is_written_on_resume() {
    let Some(judge) = Judge::modern() else { return };
    let runs = tempfile::tempdir().expect("a temporary directory");
    // Killed after the checkpoint of step 8 and before its record, or resumed without the old event file.
    let killed = runs.path().join("killed");
    first_life(&killed, None);
    second_life(&killed, 8);
    let moved = runs.path().join("moved");
    second_life(&moved, 8);
    // A third life repeats some steps of the second.
    let third = runs.path().join("third");
    first_life(&third, None);
    second_life(&third, 4);
    second_life(&third, 9);
    for loader in LOADERS {
        let shown = Board::start(&judge, runs.path(), loader).shows(3, 10);
        assert_eq!(points(&shown, "killed", "loss"), once_each(7), "{loader:?}");
        assert_eq!(
            points(&shown, "moved", "loss"),
            once_each(7)[8..],
            "{loader:?}"
        );
        assert_eq!(points(&shown, "third", "loss"), once_each(4), "{loader:?}");
    }
}

#[test]
fn resumed_run_leaves_another_runs_files_alone() {
    let all = tempfile::tempdir().expect("a temporary directory");
    let shared = all.path().join("shared");
    let life = |name: &str, from: Option<u64>| {
        let dir = all.path().join(name);
        std::fs::create_dir_all(&dir).expect("a run directory");
        let run = from.map_or_else(|| run(&dir, &json!({})), |step| resumed(&dir, step));
        let records = (from.map_or(0, |step| step + 1)..=7).map(|step| loss(step, 1.0));
        let records: Vec<_> = records.collect();
        write(
            TensorBoard::at(&shared),
            &run,
            &records,
            &Outcome::Completed,
        );
    };
    let files = || {
        let paths = std::fs::read_dir(&shared).expect("the directory").flatten();
        let sizes = paths.map(|entry| (entry.path(), entry.metadata().expect("a file").len()));
        sizes.collect::<BTreeMap<_, _>>()
    };
    life("a", None);
    let of_a = files();
    life("b", None);
    let both = files();
    life("b", Some(4));
    let after = files();
    assert_eq!((of_a.len(), both.len(), after.len()), (1, 2, 3));
    for (path, len) in both {
        assert_eq!(
            after[&path] == len,
            of_a.contains_key(&path),
            "{}",
            path.display()
        );
    }
}
