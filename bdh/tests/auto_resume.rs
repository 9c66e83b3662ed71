//! One command starts a run and resumes it. If it cannot, it reports why and changes nothing.

#[path = "support/tiny.rs"]
mod tiny;

use bdh::ConfigError;
use bdh::cadence::{every, last};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn run(dir: &Path) -> tiny::Builder {
    tiny::run(6)
        .run_dir(dir)
        .checkpoint(every(2) | last())
        .resume("auto")
}

fn refused(run: tiny::Builder) -> ConfigError {
    run.build().expect_err("a run that cannot begin")
}

/// Makes a finished run look like one that was killed.
fn pretend_killed(dir: &Path) {
    let text = fs::read(dir.join("run.json")).expect("run.json");
    let mut file: Value = serde_json::from_slice(&text).expect("JSON");
    file["status"] = "running".into();
    fs::write(dir.join("run.json"), file.to_string()).expect("a file");
}

#[test]
fn a_missing_run_starts_and_a_complete_one_stays_as_it_is() {
    let _alone = tiny::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let first = run(&dir)
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    let lines = fs::read(dir.join("metrics.jsonl")).expect("records");
    let again = run(&dir)
        .build()
        .expect("a valid run")
        .fit()
        .expect("nothing to do");
    assert_eq!(tiny::weights(&again.model), tiny::weights(&first.model));
    assert_eq!(fs::read(dir.join("metrics.jsonl")).expect("records"), lines);
}

#[test]
fn a_run_that_died_before_its_first_checkpoint_starts_again() {
    let _alone = tiny::alone();
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let dir = scratch.path().join("run");
    run(&dir)
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    let lines = fs::read(dir.join("metrics.jsonl")).expect("records");
    fs::remove_dir_all(dir.join("checkpoints")).expect("a directory");
    pretend_killed(&dir);
    let again = run(&dir)
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert!(
        again.warnings[0].consequence.contains("run.died-1"),
        "{:?}",
        again.warnings
    );
    let aside = scratch.path().join("run.died-1");
    assert_eq!(
        fs::read(aside.join("metrics.jsonl")).expect("records"),
        lines
    );
    assert!(dir.join("checkpoints/step_00000006").exists());
}

#[test]
fn a_run_without_checkpoint_or_run_json_is_moved_aside() {
    let _alone = tiny::alone();
    for is_lost in [true, false] {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let dir = scratch.path().join("run");
        run(&dir)
            .build()
            .expect("a valid run")
            .fit()
            .expect("a run that completes");
        fs::remove_dir_all(dir.join("checkpoints")).expect("a directory");
        if is_lost {
            fs::remove_file(dir.join("run.json")).expect("a file");
        } else {
            fs::write(dir.join("run.json"), "").expect("a damaged file");
        }
        run(&dir)
            .build()
            .expect("a valid run")
            .fit()
            .expect("a run that completes");
        assert!(scratch.path().join("run.died-1/metrics.jsonl").exists());
        assert!(dir.join("checkpoints/step_00000006").exists());
    }
}

#[test]
fn a_run_that_ended_without_a_checkpoint_is_not_touched() {
    let _alone = tiny::alone();
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let dir = scratch.path().join("run");
    run(&dir)
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    fs::remove_dir_all(dir.join("checkpoints")).expect("a directory");
    assert!(matches!(
        refused(run(&dir)),
        ConfigError::NothingToResume { .. }
    ));
    assert!(matches!(
        refused(tiny::run(6).resume("auto")),
        ConfigError::Missing { .. }
    ));
}

#[test]
#[cfg(unix)]
fn two_runs_in_one_directory_are_one_too_many() {
    let _alone = tiny::alone();
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let dir = scratch.path().join("run");
    run(&dir)
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    let first = run(&dir).build().expect("a run to resume");
    let error = refused(run(&dir)).to_string();
    assert!(error.contains("in use by another run"), "{error}");
    drop(first);
    run(&dir).build().expect("the directory is free again");
}

#[test]
fn a_model_with_tied_parameters_trains() {
    use bdh::burn::{self, module::Module, nn::Linear, nn::LinearConfig};

    #[derive(Module, Debug)]
    struct Tied {
        first: Linear,
        second: Linear,
    }

    struct Nothing;

    impl bdh::Task for Nothing {
        type Model = Tied;
        type Batch = ();

        fn size(&self, (): &()) -> bdh::BatchSize {
            bdh::BatchSize::default()
        }

        fn loss(
            &self,
            model: &Tied,
            (): &(),
            _: &bdh::LossContext<'_>,
        ) -> bdh::burn::tensor::Tensor<1> {
            model.first.weight.val().sum()
        }
    }

    let first = LinearConfig::new(2, 2).init(&bdh::device("cpu").expect("the CPU"));
    let before = first.weight.val().into_data();
    let model = Tied {
        second: first.clone(),
        first,
    };
    let run = bdh::Trainer::builder(Nothing, model)
        .train_data(bdh::data::cycle(vec![()]))
        .optimizer(bdh::burn::optim::SgdConfig::new().build(), 0.1)
        .steps(1);
    let model = run
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
        .model;
    let after = model.first.weight.val().into_data();
    assert_ne!(after, before);
    assert_eq!(model.second.weight.val().into_data(), after);
}
