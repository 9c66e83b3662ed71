//! A loop of one's own: `Trainer::start`, `Run::step`, `Run::finish`.

#[path = "support/tiny.rs"]
mod tiny;

use bdh::burn::optim::AdamWConfig;
use bdh::cadence::{every, start};
use bdh::data::{TrainData, by_hand};
use bdh::error::TrainError;
use bdh::hooks::{on_fit_end, on_step};
use bdh::{BoxError, Callback, MemorySink, Outcome, Record, RunInfo, Sink, StopReason};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tiny::{Rows, Seen, Tiny};

fn asked_to_stop(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Stopped(StopReason::Asked { by, why }) if by == "program" => Some(why),
        _ => None,
    }
}

#[test]
fn steps_of_a_loop_are_those_of_fit() -> Result<(), BoxError> {
    let (fitted, stepped) = (MemorySink::default(), MemorySink::default());
    let plain = tiny::run(7).sink(fitted.clone()).build()?.fit()?;

    let mut run = tiny::run(7).sink(stepped.clone()).build()?.start()?;
    let mut losses = Vec::new();
    while let Some(step) = run.step()? {
        assert_eq!(step.number, run.clock().step);
        losses.push((step.number, step.loss.value().expect("a recorded loss")));
    }
    let own = run.finish()?;

    assert_eq!(own.outcome, Outcome::Completed);
    assert_eq!(tiny::weights(&plain.model), tiny::weights(&own.model));
    assert_eq!(losses, fitted.series("train/loss"));
    assert_eq!(fitted.series("val/loss"), stepped.series("val/loss"));
    Ok(())
}

#[test]
fn a_given_batch_is_trained_on_and_counted() -> Result<(), BoxError> {
    let mut rows = Rows::of(tiny::ROWS);
    let drawn = tiny::run(5).build()?.fit()?;
    let run = tiny::bare(tiny::task(), by_hand(), Tiny::new(0.0), 5);
    let run = run.optimizer(AdamWConfig::new().build(), 0.01);
    let mut run = run.build()?.start()?;
    while !is_over(&run) {
        run.step_on(vec![rows.next_batch()?])?;
    }
    assert_eq!(run.clock().samples, 5 * tiny::ROWS as u64);
    let given = run.finish()?;
    assert_eq!(tiny::weights(&drawn.model), tiny::weights(&given.model));
    Ok(())
}

fn is_over(run: &bdh::Run<tiny::Task>) -> bool {
    run.clock().step == 5
}

#[test]
fn model_and_data_are_at_hand_between_steps() -> Result<(), BoxError> {
    let mut run = tiny::run(3).build()?.start()?;
    let before = tiny::weights(run.model());
    run.step()?;
    assert_ne!(tiny::weights(run.model()), before);
    let (_, rows) = run.model_and_data::<Rows>().expect("the data's type");
    rows.next_batch()?; // skips a batch
    let state = rows.state();
    run.step()?;
    assert_ne!(run.data::<Rows>().expect("the data's type").state(), state);
    assert!(run.data::<String>().is_none());
    Ok(())
}

#[test]
fn a_logged_value_is_in_the_record_of_the_next_step() -> Result<(), BoxError> {
    let memory = MemorySink::default();
    let mut run = tiny::run(3).sink(memory.clone()).build()?.start()?;
    run.step()?;
    run.log("rollout/reward", 0.5);
    run.step()?;
    run.finish()?;
    assert_eq!(memory.series("rollout/reward"), [(2, 0.5)]);
    Ok(())
}

#[test]
fn a_run_that_is_stopped_takes_no_more_steps() -> Result<(), BoxError> {
    let mut run = tiny::run(9).build()?.start()?;
    run.step()?;
    run.stop("enough");
    assert!(run.step()?.is_none());
    let result = run.finish()?;
    assert_eq!(asked_to_stop(&result.outcome), Some("enough"));
    Ok(())
}

#[test]
fn a_run_that_is_finished_early_is_not_completed() -> Result<(), BoxError> {
    let mut run = tiny::run(9).build()?.start()?;
    run.step()?;
    let result = run.finish()?;
    let why = asked_to_stop(&result.outcome).expect("stopped by the program");
    assert!(why.contains("before its last step"), "{why}");
    Ok(())
}

/// Returns a callback that notes the outcome.
fn end_in(seen: &Seen<String>) -> impl Callback + use<> {
    let ends = seen.clone();
    on_fit_end(move |ctx| {
        ends.push(ctx.outcome.to_string());
        Ok(())
    })
}

#[test]
fn a_dropped_run_ends_with_its_hooks() -> Result<(), BoxError> {
    let seen = Seen::new();
    let mut run = tiny::run(9).callback(end_in(&seen)).build()?.start()?;
    run.step()?;
    drop(run);
    assert_eq!(
        seen.text(),
        "stopped: program: it dropped the run before its end"
    );
    Ok(())
}

#[test]
fn a_dropped_run_whose_steps_are_all_taken_is_completed() -> Result<(), BoxError> {
    let seen = Seen::new();
    let mut run = tiny::run(2).callback(end_in(&seen)).build()?.start()?;
    run.step()?;
    run.step()?;
    drop(run);
    assert_eq!(seen.text(), "completed");
    Ok(())
}

/// A sink that panics.
struct Panics;

impl Sink for Panics {
    fn name(&self) -> String {
        "panics".to_owned()
    }

    fn open(&mut self, _: &RunInfo) -> Result<(), BoxError> {
        panic!("no such place")
    }

    fn write(&mut self, _: &Record) -> Result<(), BoxError> {
        Ok(())
    }
}

#[test]
fn a_run_that_never_began_is_not_ended() -> Result<(), BoxError> {
    let (scratch, seen) = (tempfile::tempdir()?, Seen::new());
    let run = tiny::run(2)
        .run_dir(scratch.path().join("run"))
        .sink(Panics);
    let run = run.callback(end_in(&seen)).build()?;
    let started = catch_unwind(AssertUnwindSafe(|| run.start()));
    assert!(started.is_err(), "the sink's panic");
    assert_eq!(seen.text(), "", "`on_fit_end` without `on_fit_start`");
    assert!(!scratch.path().join("run/run.json").exists());
    Ok(())
}

#[test]
fn cadences_are_due_between_steps_as_in_hooks() -> Result<(), BoxError> {
    let mut run = tiny::run(6).build()?.start()?;
    assert!(run.ctx().is_due(&start()));
    let mut due = Vec::new();
    while let Some(step) = run.step()? {
        if run.ctx().is_due(&every(2)) {
            due.push(step.number);
        }
    }
    assert_eq!(due, [2, 4, 6]);
    Ok(())
}

#[test]
fn a_step_that_fails_before_it_begins_is_not_recorded() -> Result<(), BoxError> {
    let memory = MemorySink::default();
    let mut run = tiny::run(9).sink(memory.clone()).build()?.start()?;
    run.step()?;
    run.log("rollout/reward", 0.5);
    run.step_on(Vec::new()).expect_err("nothing to train on");
    let recorded: Vec<_> = memory
        .records()
        .iter()
        .map(|record| record.clock.step)
        .collect();
    assert_eq!(recorded, [1]);
    Ok(())
}

#[test]
fn several_devices_share_given_batches_evenly() -> Result<(), BoxError> {
    let run = tiny::run(9)
        .grad_accum_steps(2)
        .devices(bdh::devices("cpu:0-1")?);
    let mut run = run.build()?.start()?;
    let mut rows = Rows::of(tiny::ROWS);
    run.step_on(vec![rows.next_batch()?, rows.next_batch()?])?;
    let error = run
        .step_on(vec![rows.next_batch()?])
        .expect_err("one batch for two devices");
    let text = error.to_string();
    assert!(
        text.ends_with("got 1 micro-batches; 2 devices need 2 or a multiple of it"),
        "{text}"
    );
    Ok(())
}

#[test]
fn an_error_ends_the_run_once() -> Result<(), BoxError> {
    let fails = on_step(|ctx| match ctx.step() {
        2 => Err("no more".into()),
        _ => Ok(()),
    });
    let run = tiny::run(9).callback(bdh::CallbackExt::on_error(fails, bdh::ErrorPolicy::Abort));
    let mut run = run.build()?.start()?;
    run.step()?;
    assert!(matches!(
        run.step(),
        Err(TrainError::Callback { step: 2, .. })
    ));
    assert!(run.step()?.is_none());
    assert!(matches!(run.finish(), Err(TrainError::Ended)));
    Ok(())
}

#[test]
fn no_batches_for_a_step_is_an_error_that_says_so() -> Result<(), BoxError> {
    let mut run = tiny::run(9).build()?.start()?;
    let error = run.step_on(Vec::new()).expect_err("nothing to train on");
    assert!(
        error.to_string().contains("`step_on` got 0 micro-batches"),
        "{error}"
    );
    Ok(())
}

#[test]
fn by_hand_data_asks_for_step_on() -> Result<(), BoxError> {
    let run = tiny::bare(tiny::task(), by_hand(), Tiny::new(0.0), 5);
    let run = run.optimizer(AdamWConfig::new().build(), 0.01).build()?;
    let error = run.fit().expect_err("no data").to_string();
    assert!(error.contains("step_on"), "{error}");
    Ok(())
}
