//! A run whose directory is deleted, moved or replaced ends with an error, and changes nothing at its old path.
#![cfg(unix)]

#[path = "support/tiny.rs"]
mod tiny;

use bdh::cadence::every;
use bdh::error::DirLoss;
use bdh::{
    BoxError, Cadence, CallbackExt, ErrorPolicy, Outcome, Record, RunInfo, Sink, TrainError,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const STEPS: u64 = 12;

/// The step at which the directory is lost: two checkpoints are on the disk by then.
const FAULT: u64 = 7;

/// Steps after which the loss is noticed: the step of the next checkpoint, or an earlier one if steps are slow.
const NOTICED: std::ops::RangeInclusive<u64> = FAULT..=9;

/// Checkpoints at steps 3, 6, 9 and 12.
fn run(dir: &Path) -> tiny::Builder {
    tiny::run_with(0.2, STEPS)
        .run_dir(dir)
        .checkpoint(every(3))
        .keep_checkpoints(9)
}

/// A callback that calls a closure at a step, when all checkpoints before it are on the disk.
fn happens(mut fault: impl FnMut() + Send + 'static) -> impl bdh::Callback {
    let fault = move |ctx: &bdh::hooks::StepEnd<'_>| {
        if ctx.step() == FAULT {
            fault();
        }
        Ok(())
    };
    tiny::on_step(fault)
}

fn fails(run: tiny::Builder) -> TrainError {
    // With `on_checkpoint` a run waits until the checkpoint is on the disk.
    let run = run.callback(tiny::on_checkpoint(|_| Ok(())));
    run.build()
        .expect("a valid run")
        .fit()
        .map(|_| ())
        .expect_err("a run that loses its directory")
}

/// Every file below a directory, with its content.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
    found
}

/// Moves `dir` away and puts the directory of a finished run there. Returns the files of that run.
fn replace(dir: &Path, other: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fs::rename(dir, dir.with_extension("moved")).expect("moved");
    fs::rename(other, dir).expect("replaced");
    files(dir)
}

/// A path for a run, and the directory of a finished run.
fn two_places() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let (dir, other) = (scratch.path().join("run"), scratch.path().join("other"));
    run(&other)
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    (scratch, dir, other)
}

#[test]
fn a_deleted_directory_ends_the_run_and_is_not_created_again() {
    let _alone = tiny::alone();
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let dir = scratch.path().join("run");
    let gone = dir.clone();
    let fault = happens(move || fs::remove_dir_all(&gone).expect("deleted"));
    let error = fails(run(&dir).callback(fault));
    let TrainError::DirLost {
        how: DirLoss::Deleted,
        step,
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert!(NOTICED.contains(&step), "{step}");
    let expected = format!(
        "the run directory `{}` was deleted, which was noticed after step {step}; no checkpoint of the run can be found",
        dir.display()
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(fs::read_dir(scratch.path()).expect("a folder").count(), 0);
}

#[test]
fn a_moved_directory_ends_the_run_with_the_last_checkpoint_path() {
    let _alone = tiny::alone();
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let scratch = scratch.path().canonicalize().expect("a path");
    let (dir, moved) = (scratch.join("run"), scratch.join("moved"));
    let (from, to) = (dir.clone(), moved.clone());
    let error = fails(run(&dir).callback(happens(move || fs::rename(&from, &to).expect("moved"))));
    let TrainError::DirLost {
        how,
        step,
        last_checkpoint,
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(how, DirLoss::Moved);
    assert!(NOTICED.contains(&step), "{step}");
    if cfg!(target_os = "linux") {
        assert_eq!(
            last_checkpoint,
            Some(moved.join("checkpoints/step_00000006"))
        );
    }
    assert!(!dir.exists());

    // The moved directory is a run like any other.
    fs::rename(&moved, &dir).expect("moved back");
    let resumed = run(&dir)
        .resume("auto")
        .callback(tiny::on_checkpoint(|_| Ok(())));
    let resumed = resumed
        .build()
        .expect("a run to resume")
        .fit()
        .expect("it completes");
    let undisturbed = tiny::run_with(0.2, STEPS)
        .build()
        .expect("a valid run")
        .fit();
    let undisturbed = undisturbed.expect("it completes");
    assert_eq!(
        tiny::weights(&resumed.model),
        tiny::weights(&undisturbed.model)
    );
}

#[test]
fn a_run_with_a_replaced_directory_leaves_the_new_one_alone() {
    let _alone = tiny::alone();
    // The loss is found by the next checkpoint, by the end of the run, and after another error of the run.
    for (checkpoint, fails_at) in [
        (every(3), 0),
        (Cadence::Never, 0),
        (Cadence::Never, FAULT + 1),
    ] {
        let (_scratch, dir, other) = two_places();
        let (from, to) = (other.clone(), dir.clone());
        let before = std::sync::Arc::new(std::sync::Mutex::new(BTreeMap::new()));
        let noted = std::sync::Arc::clone(&before);
        let fault = happens(move || *noted.lock().expect("a lock") = replace(&to, &from));
        let breaks = tiny::on_step(move |ctx| match ctx.step() {
            step if step == fails_at => Err("out of ink".into()),
            _ => Ok(()),
        });
        let breaks = breaks.on_error(ErrorPolicy::Abort).named("breaks");
        let error = fails(
            run(&dir)
                .checkpoint(checkpoint)
                .callback(fault)
                .callback(breaks),
        );
        match error {
            TrainError::DirLost {
                how: DirLoss::Replaced,
                ..
            } => {}
            TrainError::Callback { step, .. } if step == fails_at => {}
            other => panic!("{other}"),
        }
        assert!(
            files(&dir) == *before.lock().expect("a lock"),
            "another run's files"
        );
    }
}

/// A sink in whose flush the run directory is replaced: the checkpoint waits for it.
struct Replaces(Option<(PathBuf, PathBuf)>);

impl Sink for Replaces {
    fn name(&self) -> String {
        "replaces".to_owned()
    }

    fn open(&mut self, _: &RunInfo) -> Result<(), BoxError> {
        Ok(())
    }

    fn write(&mut self, _: &Record) -> Result<(), BoxError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BoxError> {
        if let Some((dir, other)) = self.0.take() {
            replace(&dir, &other);
        }
        Ok(())
    }

    fn close(&mut self, _: &Outcome) -> Result<(), BoxError> {
        Ok(())
    }
}

#[test]
fn a_checkpoint_in_writing_spares_a_run_that_replaced_its_own() {
    let _alone = tiny::alone();
    let (_scratch, dir, other) = two_places();
    let before: Vec<_> = files(&other).into_values().collect();
    let fault = Replaces(Some((dir.clone(), other)));
    let error = fails(run(&dir).sink(fault));
    assert!(
        matches!(
            error,
            TrainError::DirLost {
                how: DirLoss::Replaced,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        files(&dir).into_values().collect::<Vec<_>>() == before,
        "another run's files"
    );
}
