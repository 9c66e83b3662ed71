//! What fails beside the training neither stops nor changes it, and is told once.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "support/tiny.rs"]
mod tiny;

use bdh::{
    Attach, BoxError, Fitted, Intervene, Intervention, MemorySink, OnError, Outcome, Problem,
    Record, RunInfo, Sink, TrainError, Verdict, at, every,
};
use serde_json::Value;
use std::time::Duration;
use tiny::Seen;

fn fit(run: tiny::Builder) -> Fitted<tiny::Tiny> {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
}

fn undisturbed() -> Vec<Vec<u32>> {
    tiny::weights(&fit(tiny::run(12)).model)
}

/// A sink that hears of problems, and is closed last if it is as a terminal.
struct Listener {
    seen: Seen<Problem>,
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

    fn problem(&mut self, problem: &Problem) {
        self.seen.push(problem.clone());
    }

    fn may_thin(&self) -> bool {
        self.is_terminal
    }
}

/// A sink that does what a test tells it at each record, and at the end.
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
fn check_switched_off(fail: impl Fn() -> Result<(), BoxError> + Send + 'static, told: &str) {
    let (heard, memory) = (Seen::new(), MemorySink::default());
    let failing = tiny::on_step(move |at| {
        at.log("failing/calls", 1.0);
        if at.step() == 7 { fail() } else { Ok(()) }
    });
    let working = tiny::on_step(|at| Ok(at.log("working/calls", 1.0)));
    let fitted = fit(tiny::run(12)
        .callback(failing.named("failing"))
        .callback(working.named("working"))
        .sink(Listener {
            seen: heard.clone(),
            is_terminal: false,
        })
        .sink(memory.clone()));

    assert_eq!(fitted.outcome, Outcome::Completed);
    let problem = Problem {
        who: "failing".to_owned(),
        during: "on_step".to_owned(),
        step: 7,
        error: told.to_owned(),
        consequence: "it is switched off, and the run goes on without it".to_owned(),
    };
    assert_eq!(fitted.problems, std::slice::from_ref(&problem));
    assert_eq!(heard.all(), [problem], "told once, to the sinks too");
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
        "what it logged before is kept"
    );
    assert_eq!(memory.series("working/calls").len(), 12);
    assert_eq!(tiny::weights(&fitted.model), undisturbed());
}

#[test]
fn a_callback_that_fails_is_switched_off_and_told_once() {
    check_switched_off(|| Err("no more ink".into()), "no more ink");
}

#[test]
fn a_callback_that_panics_is_switched_off_and_told_once() {
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
    let told: Vec<_> = fitted
        .problems
        .iter()
        .map(|p| (p.during.as_str(), p.step))
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
    assert_eq!(told, expected);
    assert_eq!(tiny::weights(&fitted.model), undisturbed());
}

#[test]
fn a_value_that_cannot_be_read_is_recorded_as_nan() {
    let memory = MemorySink::default();
    fit(tiny::run(1)
        .sink(memory.clone())
        .callback(tiny::on_step(|at| {
            let empty = bdh::burn::tensor::Tensor::<1>::zeros([0], &at.device().clone().inner());
            at.log("empty", empty);
            Ok(())
        })));
    assert!(memory.series("empty")[0].1.is_nan());
}

#[test]
fn a_run_that_was_told_to_abort_fails_and_names_the_callback() {
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
            move |at| Ok(note.push(at.outcome.to_string()))
        }));
        let run = if hook == "on_step" {
            let failing = tiny::on_step(move |at| abort(at.step()));
            run.callback(failing.named("pen").or_else(OnError::Abort))
        } else {
            let failing = tiny::after_backward(move |at| abort(at.step()));
            run.callback(failing.named("pen").or_else(OnError::Abort))
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
    // Everybody hears of the end, even of one in the middle of a step.
    let told = ["after_backward", "on_step"]
        .map(|hook| format!("failed: `pen` failed in `{hook}` at step 7: no more ink"));
    assert_eq!(ends.all(), told);
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

    fn intervene(&mut self, at: &mut Intervene<'_>) -> Result<Verdict, BoxError> {
        assert!(at.cx().step() != self.0, "step {} is too much", self.0);
        Ok(Verdict::Apply)
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

/// Runs with a sink that fails, and checks that nothing else does; the problem is returned.
fn check_sink(sink: impl Sink + 'static) -> Problem {
    let memory = MemorySink::default();
    let undisturbed = MemorySink::default();
    fit(tiny::run(12).sink(undisturbed.clone()));
    let fitted = fit(tiny::run(12).sink(sink).sink(memory.clone()));
    assert_eq!(fitted.outcome, Outcome::Completed);
    assert_eq!(
        memory.series("train/loss"),
        undisturbed.series("train/loss")
    );
    assert_eq!(fitted.problems.len(), 1, "{:?}", fitted.problems);
    assert_eq!(fitted.problems[0].who, "doing");
    fitted.problems[0].clone()
}

#[test]
fn a_sink_that_fails_is_closed_and_the_run_goes_on() {
    let fails = |record: &Record| -> Result<(), BoxError> {
        if record.clock.step == 5 {
            Err("the disk is full".into())
        } else {
            Ok(())
        }
    };
    let problem = check_sink(Doing(fails, || Ok(())));
    assert_eq!((problem.during.as_str(), problem.step), ("write", 5));
    assert_eq!(problem.error, "the disk is full");
}

#[test]
fn a_sink_that_panics_is_closed_and_the_run_goes_on() {
    let panics = |record: &Record| -> Result<(), BoxError> {
        assert!(record.clock.step != 5, "the server is on fire");
        Ok(())
    };
    let problem = check_sink(Doing(panics, || Ok(())));
    assert_eq!(problem.error, "it panicked: the server is on fire");
}

#[test]
fn a_sink_that_cannot_be_closed_is_told_in_the_outcome() {
    let problem = check_sink(Doing(|_: &Record| Ok(()), || Err("cut off".into())));
    assert_eq!(
        (problem.during.as_str(), problem.error.as_str()),
        ("close", "cut off")
    );
}

#[test]
fn a_slow_sink_gets_every_record_without_holding_the_steps_up() {
    let seen = Seen::new();
    let note = seen.clone();
    let slow = move |record: &Record| {
        std::thread::sleep(Duration::from_millis(20));
        note.push(record.clock.step);
        Ok(())
    };
    let fitted = fit(tiny::run(30).sink(Doing(slow, || Ok(()))));
    assert_eq!(seen.all(), (1..=30).collect::<Vec<_>>());
    assert_eq!(fitted.problems, []);
    assert!(
        fitted.overhead.steps < Duration::from_millis(600),
        "{:?}",
        fitted.overhead.steps
    );
}

#[test]
fn a_sink_that_cannot_be_opened_fails_the_run_before_its_first_step() {
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
fn a_checkpoint_that_cannot_be_written_is_reported_and_a_later_one_makes_up_for_it() {
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
    let fitted = fit(run.callback(away.every(at([8]))));
    assert_eq!(fitted.outcome, Outcome::Completed);
    assert_eq!(tiny::weights(&fitted.model), undisturbed());
    assert_eq!(fitted.problems.len(), 1, "{:?}", fitted.problems);
    let problem = &fitted.problems[0];
    assert_eq!((problem.who.as_str(), problem.step), ("checkpoint", 6));
    assert!(problem.error.contains("step_00000006"), "{}", problem.error);
}

#[test]
fn a_run_whose_last_checkpoint_cannot_be_written_fails_after_all_else_was_closed() {
    for stops in [false, true] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("checkpoints"), "in the way").expect("a file");
        let (memory, ends) = (MemorySink::default(), Seen::new());
        let note = ends.clone();
        let asks = tiny::on_step(|at| Ok(at.stop("enough")));
        let run = tiny::run(12)
            .run_dir(dir.path())
            .checkpoint(every(6))
            .sink(memory.clone())
            .callback(stops.then(|| asks.every(at([6])).named("stop")))
            .callback(tiny::on_fit_end(move |at| {
                Ok(note.push(at.outcome.to_string()))
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
        assert!(matches!(error, TrainError::Unsaved { step: at, .. } if at == step));
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
fn an_end_that_cannot_be_noted_in_run_json_is_shown_on_the_terminal() {
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
    let fitted = fit(run.callback(in_the_way.every(at([2]))));
    assert_eq!(shown.all(), fitted.problems);
    let told: Vec<_> = fitted
        .problems
        .iter()
        .map(|p| (&*p.who, &*p.during, p.step))
        .collect();
    assert_eq!(told, [("run.json", "close", 3)]);
}

#[test]
fn run_json_says_how_a_run_ended_before_a_sink_takes_its_time_to_close() {
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
        "and every record is there"
    );
    let file = std::fs::read(dir.path().join("run.json")).expect("run.json");
    let file: Value = serde_json::from_slice(&file).expect("JSON");
    assert_eq!(
        file["problems"][0]["error"], "cut off",
        "what closing brought is in it, too"
    );
}
