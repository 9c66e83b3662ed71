//! A resume with other callbacks or interventions does what the refusal advises.

#[path = "../../bdh/tests/support/tiny.rs"]
mod tiny;

use bdh::burn::optim::SgdConfig;
use bdh::{ConfigError, Fitted, every};
use bdh_callbacks::{Ema, Norms, SkipNonFinite};
use std::path::Path;
use tiny::Tiny;

fn run(dir: &Path, steps: u64) -> tiny::Builder {
    tiny::run(steps)
        .run_dir(dir)
        .checkpoint(every(2))
        .resume("auto")
}

fn fit(run: tiny::Builder) -> (Fitted<Tiny>, Vec<String>) {
    let trainer = run
        .allow_changed(["trainer.steps"])
        .build()
        .expect("what was advised");
    let notes = trainer.plan().notes.clone();
    (trainer.fit().expect("a fit"), notes)
}

/// The keys that a refusal advises to allow.
fn advised(run: tiny::Builder) -> Vec<String> {
    let error = run
        .allow_changed(["trainer.steps"])
        .build()
        .err()
        .expect("it was changed");
    assert!(matches!(error, ConfigError::Changed { .. }), "{error}");
    let text = error.to_string();
    let (_, keys) = text.split_once(".allow_changed([").expect("advice");
    let keys = keys.trim_end_matches("])`").split(", ");
    keys.map(|key| key.trim_matches('"').to_owned()).collect()
}

#[test]
fn an_average_that_is_added_begins_anew() {
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
        (fitted.problems, fitted.last.map(|last| last.clock.step)),
        (vec![], Some(8))
    );
}

#[test]
fn an_average_that_is_removed_is_dropped_with_its_weights() {
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
fn an_intervention_comes_and_goes_likewise() {
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
fn another_optimizer_begins_anew() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fit(run(dir.path(), 4));
    let changed = || {
        let run = tiny::compose(tiny::task(tiny::ROWS), Tiny::new(0.0), 8);
        let run = run.optimizer(SgdConfig::new().build(), 0.01);
        run.run_dir(dir.path()).checkpoint(every(2)).resume("auto")
    };
    let keys = advised(changed());
    let (_, notes) = fit(changed().allow_changed(keys));
    assert_eq!(notes, ["the optimizer starts anew: it is another one"]);
}
