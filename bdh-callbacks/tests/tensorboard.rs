//! A trained run in TensorBoard.

#![cfg(feature = "tensorboard")]

#[path = "../../bdh-tensorboard/tests/support/board.rs"]
mod board;
#[path = "support/judges.rs"]
mod judges;
#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::MemorySink;
use bdh::cadence::every;
use bdh_callbacks::{Norms, TensorBoard};
use board::{Board, LOADERS, points};
use judges::Judge;
use serde_json::json;
use std::collections::BTreeMap;

#[test]
fn tensorboard_shows_the_records_of_a_resumed_run() {
    let Some(judge) = Judge::modern() else { return };
    let runs = tempfile::tempdir().expect("a temporary directory");
    let dir = runs.path().join("trained");
    let memory = MemorySink::default();
    let train = |steps, resume: bool| {
        let mut run = tiny::run(steps)
            .run_dir(&dir)
            .config(json!({ "lr": 0.01 }))
            .eval(every(3))
            .checkpoint(every(4))
            .callback(Norms::default())
            .sink(TensorBoard::default())
            .sink(memory.clone());
        if resume {
            run = run.resume(dir.join("checkpoints/step_00000004"));
            run = run.allow_changed(["trainer.steps"]);
        }
        let fitted = run.build().expect("a valid run").fit().expect("a run");
        assert_eq!(fitted.warnings, []);
    };
    train(6, false);
    train(9, true);
    let recorded = |tag: &str| {
        let last_of_each: BTreeMap<_, _> = memory.series(tag).into_iter().collect();
        let single = |(step, value)| (step, f64::from(value as f32));
        last_of_each.into_iter().map(single).collect::<Vec<_>>()
    };
    for loader in LOADERS {
        let shown = Board::start(&judge, runs.path(), loader).shows(1, 9);
        for tag in ["train/loss", "train/grad_norm", "lr"] {
            let points = points(&shown, "trained", tag);
            assert_eq!(points, recorded(tag), "{tag} {loader:?}");
            assert_eq!(points.len(), 9);
        }
        assert_eq!(shown["hparams"]["trained"]["status"], "STATUS_SUCCESS");
    }
}
