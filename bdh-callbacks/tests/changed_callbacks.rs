//! A resume with other callbacks or interventions works as the refusal advises.

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::burn::optim::SgdConfig;
use bdh::cadence::every;
use bdh::{ConfigError, TrainResult};
use bdh_callbacks::{Ema, Norms, SkipNonFinite};
use std::path::Path;
use tiny::Tiny;

fn run(dir: &Path, steps: u64) -> tiny::Builder {
    tiny::run(steps)
        .run_dir(dir)
        .checkpoint(every(2))
        .resume("auto")
}

fn fit(run: tiny::Builder) -> (TrainResult<Tiny>, Vec<String>) {
    let trainer = run
        .allow_changed(["trainer.steps"])
        .build()
        .expect("the advised keys");
    let notes = trainer.plan().notes.clone();
    (trainer.fit().expect("a fit"), notes)
}

/// Returns the keys that a refusal advises to allow.
fn advised(run: tiny::Builder) -> Vec<String> {
    let error = run
        .allow_changed(["trainer.steps"])
        .build()
        .expect_err("a refusal");
    assert!(matches!(error, ConfigError::Changed { .. }), "{error}");
    let text = error.to_string();
    let (_, keys) = text.split_once(".allow_changed([").expect("advice");
    let keys = keys.trim_end_matches("])`").split(", ");
    keys.map(|key| key.trim_matches('"').to_owned()).collect()
}

#[test]
fn added_callback_starts_anew() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(run(dir.path(), 4));
    let changed = || run(dir.path(), 8).callback(Ema::default());
    let keys = advised(changed());
    assert_eq!(keys, ["callbacks.ema"]);
    let (fitted, notes) = fit(changed().allow_changed(keys));
    assert_eq!(
        notes,
        ["callback `ema` starts anew: the checkpoint has no state of it"]
    );
    assert_eq!(
        (fitted.warnings, fitted.last.map(|last| last.clock.step)),
        (vec![], Some(8))
    );
}

#[test]
fn removed_callback_is_dropped_with_its_weights() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(run(dir.path(), 4)
        .callback(Ema::default())
        .callback(Norms::default()));
    let changed = || run(dir.path(), 8).callback(Norms::default());
    let keys = advised(changed());
    let (_, notes) = fit(changed().allow_changed(keys));
    let expected =
        "the checkpoint's state of callback `ema` is dropped: this run has none of that name";
    assert_eq!(notes, [expected]);
}

#[test]
fn interventions_are_added_and_removed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(run(dir.path(), 4));
    let skipping = || run(dir.path(), 6).intervention(SkipNonFinite::default());
    let keys = advised(skipping());
    let (_, notes) = fit(skipping().allow_changed(keys));
    assert_eq!(
        notes,
        ["intervention `skip_non_finite` starts anew: the checkpoint has no state of it"]
    );

    let keys = advised(run(dir.path(), 8));
    let (_, notes) = fit(run(dir.path(), 8).allow_changed(keys));
    assert!(
        notes[0].starts_with("the checkpoint's state of intervention `skip_non_finite` is dropped"),
        "{notes:?}"
    );
}

#[test]
fn other_optimizer_starts_anew() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(run(dir.path(), 4));
    let changed = || {
        let run = tiny::compose(tiny::ROWS, Tiny::new(0.0), 8);
        let run = run.optimizer(SgdConfig::new().build(), 0.01);
        run.run_dir(dir.path()).checkpoint(every(2)).resume("auto")
    };
    let keys = advised(changed());
    let (_, notes) = fit(changed().allow_changed(keys));
    assert_eq!(
        notes,
        ["the optimizer starts anew: it is not the checkpoint's"]
    );
}
