//! A failing callback or sink neither stops nor changes the training, and is reported once.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "support/tiny.rs"]
mod tiny;

use bdh::cadence::{at, every};
use bdh::{
    BoxError, CallbackExt, ErrorPolicy, Intervention, InterventionContext, MemorySink, Message,
    Outcome, Record, RunInfo, Sink, TrainError, TrainResult, UpdateDecision, Warning,
};
use serde_json::Value;
use std::time::Duration;
use tiny::Seen;

fn fit(run: tiny::Builder) -> TrainResult<tiny::Tiny> {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
}

fn undisturbed() -> Vec<Vec<u32>> {
    tiny::weights(&fit(tiny::run(12)).model)
}

/// A sink that collects warnings. As a terminal it is lossy, so it is closed last.
struct Listener {
    seen: Seen<Warning>,
    is_terminal: bool,
}

impl Sink for Listener {
    fn name(&self) -> String {
        "listener".to_owned()
    }

    fn open(&mut self, _: &RunInfo) -> Result<(), BoxError> {
        Ok(())
    }

    fn write(&mut self, _: &Record) -> Result<(), BoxError> {
        Ok(())
    }

    fn message(&mut self, message: &Message) {
        if let Message::Warning(warning) = message {
            self.seen.push(warning.clone());
        }
    }

    fn is_lossy(&self) -> bool {
        self.is_terminal
    }
}

/// A sink that calls a closure of the test for each record, and another one at the end.
struct Doing<W, C>(W, C);

impl<W, C> Sink for Doing<W, C>
where
    W: FnMut(&Record) -> Result<(), BoxError> + Send,
    C: FnMut() -> Result<(), BoxError> + Send,
{
    fn name(&self) -> String {
        "doing".to_owned()
    }

    fn open(&mut self, _: &RunInfo) -> Result<(), BoxError> {
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), BoxError> {
        (self.0)(record)
    }

    fn close(&mut self, _: &Outcome) -> Result<(), BoxError> {
        (self.1)()
    }
}

/// A sink that cannot be opened.
struct Closed;

impl Sink for Closed {
    fn name(&self) -> String {
        "closed".to_owned()
    }

    fn open(&mut self, _: &RunInfo) -> Result<(), BoxError> {
        Err("the door is locked".into())
    }

    fn write(&mut self, _: &Record) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Runs with a callback that fails on step 7 beside one that works, and checks everything that follows.
fn check_switched_off(fail: impl Fn() -> Result<(), BoxError> + Send + 'static, cause: &str) {
    let (received, memory) = (Seen::new(), MemorySink::default());
    let failing = tiny::on_step(move |ctx| {
        ctx.log("failing/calls", 1.0);
        if ctx.step() == 7 { fail() } else { Ok(()) }
    });
    let working = tiny::on_step(|ctx| Ok(ctx.log("working/calls", 1.0)));
    let fitted = fit(tiny::run(12)
        .callback(failing.named("failing"))
        .callback(working.named("working"))
        .sink(Listener {
            seen: received.clone(),
            is_terminal: false,
        })
        .sink(memory.clone()));

    assert_eq!(fitted.outcome, Outcome::Completed);
    let expected = Warning {
        source: "failing".to_owned(),
        phase: "on_step".to_owned(),
        step: 7,
        cause: cause.to_owned(),
        consequence: "it is switched off, and the run continues without it".to_owned(),
    };
    assert_eq!(fitted.warnings, std::slice::from_ref(&expected));
    assert_eq!(
        received.all(),
        [expected],
        "reported once, to the sinks too"
    );
    let rows: Vec<_> = fitted
        .overhead
        .rows
        .iter()
        .map(|row| (&*row.name, row.calls, row.errors))
        .collect();
    assert_eq!(rows, [("failing", 7, 1), ("working", 12, 0)]);
    assert_eq!(
        memory.series("failing/calls").len(),
        7,
        "values logged before the failure are kept"
    );
    assert_eq!(memory.series("working/calls").len(), 12);
    assert_eq!(tiny::weights(&fitted.model), undisturbed());
}

#[test]
fn a_failing_callback_is_switched_off_and_reported_once() {
    check_switched_off(|| Err("no more ink".into()), "no more ink");
}

#[test]
fn a_panicking_callback_is_switched_off_and_reported_once() {
    check_switched_off(|| panic!("out of paper"), "it panicked: out of paper");
}

#[test]
fn a_callback_may_fail_in_any_hook_without_changing_the_run() {
    let oops = || Err("oops".into());
    let fitted = fit(tiny::run(12)
        .callback(tiny::on_fit_start(move |_| oops()))
        .callback(tiny::on_step_start(move |_| oops()))
        .callback(tiny::on_micro_batch(move |_| oops()))
        .callback(tiny::after_backward(move |_| oops()))
        .callback(tiny::before_optimizer_step(move |_| oops()))
        .callback(tiny::after_optimizer_step(move |_| oops()))
        .callback(tiny::on_step(move |_| oops()))
        .callback(tiny::on_eval_batch(move |_| oops()))
        .callback(tiny::on_eval(move |_| oops()))
        .callback(tiny::on_fit_end(move |_| oops())));
    let found: Vec<_> = fitted
        .warnings
        .iter()
        .map(|p| (p.phase.as_str(), p.step))
        .collect();
    let expected = [
        ("on_fit_start", 0),
        ("on_step_start", 1),
        ("on_micro_batch", 1),
        ("after_backward", 1),
        ("before_optimizer_step", 1),
        ("after_optimizer_step", 1),
        ("on_step", 1),
        ("on_eval_batch", 12),
        ("on_eval", 12),
        ("on_fit_end", 12),
    ];
    assert_eq!(found, expected);
    assert_eq!(tiny::weights(&fitted.model), undisturbed());
}

#[test]
fn a_value_that_cannot_be_read_is_recorded_as_nan() {
    let memory = MemorySink::default();
    fit(tiny::run(1)
        .sink(memory.clone())
        .callback(tiny::on_step(|ctx| {
            let empty = bdh::burn::tensor::Tensor::<1>::zeros([0], &ctx.device().clone().inner());
            ctx.log("empty", empty);
            Ok(())
        })));
    assert!(memory.series("empty")[0].1.is_nan());
}

#[test]
fn the_abort_policy_fails_the_run_and_names_the_callback() {
    let ends = Seen::new();
    let note = ends.clone();
    for hook in ["after_backward", "on_step"] {
        let abort = |step: u64| -> Result<(), BoxError> {
            if step == 7 {
                Err("no more ink".into())
            } else {
                Ok(())
            }
        };
        let run = tiny::run(12).callback(tiny::on_fit_end({
            let note = note.clone();
            move |ctx| Ok(note.push(ctx.outcome.to_string()))
        }));
        let run = if hook == "on_step" {
            let failing = tiny::on_step(move |ctx| abort(ctx.step()));
            run.callback(failing.named("pen").on_error(ErrorPolicy::Abort))
        } else {
            let failing = tiny::after_backward(move |ctx| abort(ctx.step()));
            run.callback(failing.named("pen").on_error(ErrorPolicy::Abort))
        };
        let error = run
            .build()
            .expect("a valid run")
            .fit()
            .expect_err("the pen aborts it");
        assert_eq!(
            error.to_string(),
            format!("`pen` failed in `{hook}` at step 7: no more ink")
        );
        assert!(matches!(error, TrainError::Callback { step: 7, .. }));
    }
    // All callbacks get `on_fit_end`, even if the run ends in the middle of a step.
    let expected = ["after_backward", "on_step"]
        .map(|hook| format!("failed: `pen` failed in `{hook}` at step 7: no more ink"));
    assert_eq!(ends.all(), expected);
}

/// An intervention that panics on a step.
struct Breaks(u64);

impl Intervention for Breaks {
    fn name(&self) -> String {
        "breaks".to_owned()
    }

    fn config(&self) -> Value {
        Value::Null
    }

    fn intervene(&mut self, ctx: &mut InterventionContext<'_>) -> Result<UpdateDecision, BoxError> {
        assert!(ctx.ctx().step() != self.0, "step {} is too much", self.0);
        Ok(UpdateDecision::Apply)
    }
}

#[test]
fn an_intervention_that_panics_fails_the_run_with_its_name() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let run = tiny::run(12)
        .run_dir(&dir)
        .intervention(Breaks(3))
        .build()
        .expect("a valid run");
    let error = run.fit().expect_err("it breaks");
    assert_eq!(
        error.to_string(),
        "`breaks` failed in `intervene` at step 3: it panicked: step 3 is too much"
    );

    let file = std::fs::read(dir.join("run.json")).expect("run.json");
    let file: Value = serde_json::from_slice(&file).expect("JSON");
    assert_eq!(file["status"], "failed");
    assert_eq!(
        file["outcome"]["failed"],
        "`breaks` failed in `intervene` at step 3: it panicked: step 3 is too much"
    );
}

/// Runs with a sink that fails, and checks that nothing else does. Returns the warning.
fn check_sink(sink: impl Sink + 'static) -> Warning {
    let memory = MemorySink::default();
    let undisturbed = MemorySink::default();
    fit(tiny::run(12).sink(undisturbed.clone()));
    let fitted = fit(tiny::run(12).sink(sink).sink(memory.clone()));
    assert_eq!(fitted.outcome, Outcome::Completed);
    assert_eq!(
        memory.series("train/loss"),
        undisturbed.series("train/loss")
    );
    assert_eq!(fitted.warnings.len(), 1, "{:?}", fitted.warnings);
    assert_eq!(fitted.warnings[0].source, "doing");
    fitted.warnings[0].clone()
}

#[test]
fn a_failing_sink_is_closed_and_the_run_continues() {
    let fails = |record: &Record| -> Result<(), BoxError> {
        if record.clock.step == 5 {
            Err("the disk is full".into())
        } else {
            Ok(())
        }
    };
    let warning = check_sink(Doing(fails, || Ok(())));
    assert_eq!((warning.phase.as_str(), warning.step), ("write", 5));
    assert_eq!(warning.cause, "the disk is full");
}

#[test]
fn a_panicking_sink_is_closed_and_the_run_continues() {
    let panics = |record: &Record| -> Result<(), BoxError> {
        assert!(record.clock.step != 5, "the server is on fire");
        Ok(())
    };
    let warning = check_sink(Doing(panics, || Ok(())));
    assert_eq!(warning.cause, "it panicked: the server is on fire");
}

#[test]
fn a_sink_that_fails_to_close_is_a_warning() {
    let warning = check_sink(Doing(|_: &Record| Ok(()), || Err("cut off".into())));
    assert_eq!(
        (warning.phase.as_str(), warning.cause.as_str()),
        ("close", "cut off")
    );
}

#[test]
fn a_slow_sink_gets_every_record_without_delaying_steps() {
    let seen = Seen::new();
    let note = seen.clone();
    let slow = move |record: &Record| {
        std::thread::sleep(Duration::from_millis(20));
        note.push(record.clock.step);
        Ok(())
    };
    let fitted = fit(tiny::run(30).sink(Doing(slow, || Ok(()))));
    assert_eq!(seen.all(), (1..=30).collect::<Vec<_>>());
    assert_eq!(fitted.warnings, []);
    assert!(
        fitted.overhead.steps < Duration::from_millis(600),
        "{:?}",
        fitted.overhead.steps
    );
}

#[test]
fn a_sink_that_fails_to_open_fails_the_run_before_step_1() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let seen = Seen::new();
    let note = seen.clone();
    let start = tiny::on_fit_start(move |_| Ok(note.push("started".to_owned())));
    let run = tiny::run(3).run_dir(&dir).callback(start).sink(Closed);
    let error = run
        .build()
        .expect("a valid run")
        .fit()
        .expect_err("the sink is closed");
    let cause = std::error::Error::source(&error)
        .expect("a cause")
        .to_string();
    assert!(
        cause.contains("closed") && cause.contains("the door is locked"),
        "{cause}"
    );
    assert_eq!(seen.text(), "");

    // Nothing has run, so the directory is free for the next attempt.
    fit(tiny::run(3).run_dir(&dir));
}

#[test]
fn a_failed_checkpoint_is_a_warning_if_a_later_one_succeeds() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let folder = dir.path().join("checkpoints");
    std::fs::write(&folder, "in the way").expect("a file");
    let away = tiny::on_step(move |_| Ok(std::fs::remove_file(&folder)?));
    // With a callback that looks for the files, the run waits for the disk.
    let waits = tiny::on_checkpoint(|_| Ok(()));
    let run = tiny::run(12)
        .run_dir(dir.path())
        .checkpoint(every(6))
        .callback(waits);
    let fitted = fit(run.callback(away.on(at([8]))));
    assert_eq!(fitted.outcome, Outcome::Completed);
    assert_eq!(tiny::weights(&fitted.model), undisturbed());
    assert_eq!(fitted.warnings.len(), 1, "{:?}", fitted.warnings);
    let warning = &fitted.warnings[0];
    assert_eq!((warning.source.as_str(), warning.step), ("checkpoint", 6));
    assert!(warning.cause.contains("step_00000006"), "{}", warning.cause);
}

#[test]
fn a_failed_last_checkpoint_fails_the_run_after_sinks_closed() {
    for stops in [false, true] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("checkpoints"), "in the way").expect("a file");
        let (memory, ends) = (MemorySink::default(), Seen::new());
        let note = ends.clone();
        let asks = tiny::on_step(|ctx| Ok(ctx.stop("enough")));
        let run = tiny::run(12)
            .run_dir(dir.path())
            .checkpoint(every(6))
            .sink(memory.clone())
            .callback(stops.then(|| asks.on(at([6])).named("stop")))
            .callback(tiny::on_fit_end(move |ctx| {
                Ok(note.push(ctx.outcome.to_string()))
            }));
        let step = if stops { 6 } else { 12 };
        let error = run
            .build()
            .expect("a valid run")
            .fit()
            .expect_err("its end is lost");
        let text = format!("the last checkpoint, of step {step}, could not be written");
        assert!(
            error.to_string().starts_with(&format!("{text}: ")),
            "{error}"
        );
        assert!(matches!(error, TrainError::Unsaved { step: ctx, .. } if ctx == step));
        assert_eq!(memory.records().len() as u64, step);
        let ends = ends.text();
        assert!(ends.starts_with(&format!("failed: {text}: ")), "{ends}");
        assert!(ends.contains("os error"), "the cause: {ends}");

        let file = std::fs::read(dir.path().join("run.json")).expect("run.json");
        let file: Value = serde_json::from_slice(&file).expect("JSON");
        assert_eq!(file["status"], "failed");
        assert_eq!(
            format!(
                "failed: {}",
                file["outcome"]["failed"].as_str().expect("a text")
            ),
            ends
        );
        assert_eq!(file["problems"][0]["who"], "checkpoint");
    }
}

#[test]
fn a_failed_write_of_run_json_is_shown_on_the_terminal() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (path, shown) = (dir.path().join("run.json"), Seen::new());
    let in_the_way = tiny::on_step(move |_| {
        std::fs::remove_file(&path)?;
        Ok(std::fs::create_dir(&path)?)
    });
    let run = tiny::run(3).run_dir(dir.path()).sink(Listener {
        seen: shown.clone(),
        is_terminal: true,
    });
    let fitted = fit(run.callback(in_the_way.on(at([2]))));
    assert_eq!(shown.all(), fitted.warnings);
    let found: Vec<_> = fitted
        .warnings
        .iter()
        .map(|p| (&*p.source, &*p.phase, p.step))
        .collect();
    assert_eq!(found, [("run.json", "close", 3)]);
}

#[test]
fn run_json_has_the_outcome_before_a_slow_sink_closes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().to_owned();
    let seen = Seen::new();
    let note = seen.clone();
    let looks = move || -> Result<(), BoxError> {
        let file: Value = serde_json::from_slice(&std::fs::read(path.join("run.json"))?)?;
        let lines = std::fs::read_to_string(path.join("metrics.jsonl"))?
            .lines()
            .count();
        note.push((file["status"].to_string(), lines));
        Err("cut off".into())
    };
    let run = tiny::run(3).run_dir(dir.path());
    fit(run.sink(Doing(|_: &Record| Ok(()), looks)));
    assert_eq!(
        seen.all(),
        [("\"completed\"".to_owned(), 3)],
        "every record is there"
    );
    let file = std::fs::read(dir.path().join("run.json")).expect("run.json");
    let file: Value = serde_json::from_slice(&file).expect("JSON");
    assert_eq!(
        file["problems"][0]["error"], "cut off",
        "warnings of closing are in it, too"
    );
}
