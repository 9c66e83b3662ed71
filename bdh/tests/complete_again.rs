//! A complete run that is started again reports that it is complete, and changes nothing. A run that continues reports
//! the step at which it resumed.

#[path = "support/snapshot.rs"]
mod snapshot;
#[path = "support/tiny.rs"]
mod tiny;

use bdh::cadence::{every, last, secs, start};
use bdh::hooks::{on_fit_end, on_fit_start};
use bdh::{BoxError, MemorySink, Message, Outcome, Record, RunInfo, Sink, TrainResult};
use snapshot::snapshot;
use std::path::Path;
use tiny::{Listener, Seen, Tiny};

/// A run whose callbacks collect the hooks that are called.
fn run(dir: &Path, steps: u64, calls: &Seen<String>) -> tiny::Builder {
    let (started, ended) = (calls.clone(), calls.clone());
    tiny::run(steps)
        .eval(start() | every(2))
        .checkpoint(every(2) | last())
        .run_dir(dir)
        .resume("auto")
        .callback(on_fit_start(move |_| {
            started.push("start".to_owned());
            Ok(())
        }))
        .callback(on_fit_end(move |_| {
            ended.push("end".to_owned());
            Ok(())
        }))
}

fn is_complete(dir: &Path, steps: u64) -> String {
    let dir = dir.display();
    format!("`{dir}` is complete: all {steps} steps are taken, and nothing is changed")
}

#[test]
fn complete_run_reports_it_and_changes_nothing() -> Result<(), BoxError> {
    let _alone = tiny::alone();
    let (scratch, calls) = (tempfile::tempdir()?, Seen::new());
    let dir = scratch.path().join("run");
    let first = run(&dir, 6, &calls).build()?.fit()?;
    assert_eq!(calls.text(), "start end");
    let before = snapshot(scratch.path());

    let (messages, records) = (Seen::new(), MemorySink::default());
    let again = run(&dir, 6, &calls)
        .sink(Listener(messages.clone()))
        .sink(records.clone());
    let again = again.build()?.fit()?;
    assert_eq!(again.outcome, Outcome::Completed);
    assert_eq!(tiny::weights(&again.model), tiny::weights(&first.model));
    let loss = |result: &TrainResult<Tiny>| result.last.as_ref()?.scalar("train/loss");
    assert_eq!(loss(&again), loss(&first));
    assert!(loss(&again).is_some());
    assert_eq!(messages.all(), [is_complete(&dir, 6)]);
    assert_eq!(records.records(), []);
    assert_eq!(calls.text(), "start end", "no hook is called again");
    assert_eq!(snapshot(scratch.path()), before);
    Ok(())
}

/// Sink that counts on being open.
#[derive(Default)]
struct Fragile {
    is_open: bool,
}

impl Sink for Fragile {
    fn name(&self) -> String {
        "fragile".to_owned()
    }

    fn open(&mut self, _: &RunInfo) -> Result<(), BoxError> {
        self.is_open = true;
        Ok(())
    }

    fn write(&mut self, _: &Record) -> Result<(), BoxError> {
        Ok(())
    }

    fn message(&mut self, _: &Message) {
        assert!(self.is_open, "no file to write to");
    }
}

#[test]
fn sink_that_is_not_open_cannot_fail_a_complete_run() -> Result<(), BoxError> {
    let _alone = tiny::alone();
    let (scratch, calls, messages) = (tempfile::tempdir()?, Seen::new(), Seen::new());
    let dir = scratch.path().join("run");
    run(&dir, 4, &calls).build()?.fit()?;
    let again = run(&dir, 4, &calls)
        .sink(Fragile::default())
        .sink(Listener(messages.clone()));
    assert_eq!(again.build()?.fit()?.outcome, Outcome::Completed);
    assert_eq!(messages.all(), [is_complete(&dir, 4)]);
    Ok(())
}

#[test]
fn complete_run_has_no_step_for_a_loop_of_your_own() -> Result<(), BoxError> {
    let _alone = tiny::alone();
    let (scratch, calls) = (tempfile::tempdir()?, Seen::new());
    let dir = scratch.path().join("run");
    run(&dir, 4, &calls).build()?.fit()?;
    let before = snapshot(scratch.path());
    let mut again = run(&dir, 4, &calls).build()?.start()?;
    assert!(again.step()?.is_none());
    assert_eq!(again.finish()?.outcome, Outcome::Completed);
    drop(run(&dir, 4, &calls).build()?.start()?);
    assert_eq!(snapshot(scratch.path()), before);
    Ok(())
}

#[test]
fn complete_run_is_known_by_any_path_to_its_checkpoint() -> Result<(), BoxError> {
    let _alone = tiny::alone();
    let (scratch, calls) = (tempfile::tempdir()?, Seen::new());
    let dir = scratch.path().join("run");
    run(&dir, 4, &calls).build()?.fit()?;
    let before = snapshot(scratch.path());
    let messages = Seen::new();
    let roundabout = dir.join("checkpoints/../checkpoints/step_00000004");
    let again = run(&dir, 4, &calls).resume(roundabout);
    again.sink(Listener(messages.clone())).build()?.fit()?;
    assert_eq!(messages.all(), [is_complete(&dir, 4)]);
    assert_eq!(snapshot(scratch.path()), before);
    Ok(())
}

#[test]
fn complete_run_that_was_limited_by_time_changes_nothing_either() -> Result<(), BoxError> {
    let _alone = tiny::alone();
    let (scratch, calls) = (tempfile::tempdir()?, Seen::new());
    let dir = scratch.path().join("run");
    let timed = || run(&dir, 1, &calls).eval(last()).duration(secs(0.2));
    let steps = timed().build()?.fit()?.last.expect("a record").clock.step;
    let before = snapshot(scratch.path());
    let messages = Seen::new();
    timed().sink(Listener(messages.clone())).build()?.fit()?;
    assert_eq!(messages.all(), [is_complete(&dir, steps)]);
    assert_eq!(snapshot(scratch.path()), before);
    Ok(())
}

#[test]
fn run_that_continues_reports_the_step_at_which_it_resumed() -> Result<(), BoxError> {
    let _alone = tiny::alone();
    let (scratch, calls, messages) = (tempfile::tempdir()?, Seen::new(), Seen::new());
    let dir = scratch.path().join("run");
    run(&dir, 4, &calls)
        .sink(Listener(messages.clone()))
        .build()?
        .fit()?;
    assert_eq!(messages.all(), [""; 0], "a new run resumes nothing");
    run(&dir, 6, &calls)
        .allow_changed(["trainer.steps"])
        .sink(Listener(messages.clone()))
        .build()?
        .fit()?;
    assert_eq!(messages.all(), ["resumed at step 4"]);
    Ok(())
}
