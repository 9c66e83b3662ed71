//! Callbacks may ask the run to stop, to evaluate and to save; it heeds them on that very step.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "support/tiny.rs"]
mod tiny;

use bdh::testing::HookLog;
use bdh::{
    Attach, CheckpointRequest, Fitted, MemorySink, Outcome, StopReason, at, every, last, never,
    start,
};
use tiny::Seen;

fn fit(run: tiny::Builder) -> Fitted<tiny::Tiny> {
    run.build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes")
}

fn asked(by: &str, why: &str) -> Outcome {
    let (by, why) = (by.to_owned(), why.to_owned());
    let asked: StopReason = StopReason::Asked { by, why };
    Outcome::Stopped(asked)
}

#[test]
fn a_run_that_is_asked_to_stop_ends_after_that_step_and_tells_who_asked() {
    let memory = MemorySink::default();
    let stop = tiny::on_step(|at| {
        at.stop("seen enough");
        Ok(())
    });
    let fitted = fit(tiny::run(9)
        .sink(memory.clone())
        .callback(stop.every(at([4])).named("impatient")));
    assert_eq!(fitted.outcome, asked("impatient", "seen enough"));
    assert_eq!(memory.series("train/loss").len(), 4);
    assert_eq!(fitted.last.expect("a record").clock.step, 4);
}

#[test]
fn everybody_is_heard_before_a_stop_takes_effect_and_the_first_reason_counts() {
    let hooks = HookLog::default();
    let first = tiny::on_step(|at| Ok(at.stop("first")));
    let second = hooks.of(tiny::on_step(|at| {
        at.evaluate();
        at.stop("second");
        Ok(())
    }));
    let third = hooks.of(tiny::on_eval(|at| Ok(at.stop("third"))));
    let fitted = fit(tiny::run(9)
        .callback(first.named("first"))
        .callback(second)
        .callback(third));
    assert_eq!(fitted.outcome, asked("first", "first"));
    hooks.expect("1: on_step on_eval");
}

#[test]
fn a_stop_on_the_untrained_model_takes_no_step() {
    let before = tiny::weights(&tiny::Tiny::new(0.0));
    let stop = tiny::on_eval(|at| Ok(at.stop("good enough")));
    let fitted = fit(tiny::run(9).eval(start()).callback(stop.named("judge")));
    assert_eq!(fitted.outcome, asked("judge", "good enough"));
    assert_eq!(tiny::weights(&fitted.model), before);
}

#[test]
fn an_eval_that_was_asked_for_comes_on_that_very_step() {
    let memory = MemorySink::default();
    let ask = tiny::on_step(|at| Ok(at.evaluate()));
    let seen = Seen::new();
    let note = seen.clone();
    let report = tiny::on_eval(move |at| {
        assert!(at.report.get("loss").is_some_and(f64::is_finite));
        Ok(note.push(format!("on_eval@{}", at.step())))
    });
    fit(tiny::run(6)
        .eval(never())
        .sink(memory.clone())
        .callback(ask.every(at([2, 5])))
        .callback(report));
    assert_eq!(seen.text(), "on_eval@2 on_eval@5");
    let steps = |key| {
        memory
            .series(key)
            .into_iter()
            .map(|(step, _)| step)
            .collect::<Vec<_>>()
    };
    assert_eq!(steps("val/loss"), [2, 5]);
    assert_eq!(steps("val/bpb"), [2, 5]);
}

#[test]
fn an_eval_that_is_due_and_asked_for_is_made_once() {
    let hooks = HookLog::default();
    let ask = tiny::on_step(|at| Ok(at.evaluate()));
    let report = hooks.of(tiny::on_eval(|_| Ok(())));
    fit(tiny::run(2).eval(every(1)).callback(ask).callback(report));
    hooks.expect("1: on_eval 2: on_eval");
}

#[test]
fn a_checkpoint_that_was_asked_for_is_written_under_its_name_on_that_very_step() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let request = |pinned| CheckpointRequest {
        name: "precious".to_owned(),
        pinned,
    };
    let ask = tiny::on_step(move |at| Ok(at.checkpoint(request(true))));
    let ask_again = tiny::on_step(move |at| Ok(at.checkpoint(request(false))));
    let best = tiny::on_eval(|at| {
        let name = format!("best_at_{}", at.step());
        Ok(at.checkpoint(CheckpointRequest {
            name,
            pinned: false,
        }))
    });
    let seen = Seen::new();
    let note = seen.clone();
    let told = tiny::on_checkpoint(move |at| {
        assert!(at.path.join("model.safetensors").exists());
        let name = at.path.file_name().expect("a name").to_string_lossy();
        Ok(note.push(format!("{name}@{}:{}", at.step(), at.pinned)))
    });
    fit(tiny::run(5)
        .eval(at([3]))
        .checkpoint(last())
        .run_dir(&dir)
        .callback(ask.every(at([2])).named("ask"))
        .callback(ask_again.every(at([2])).named("ask again"))
        .callback(best)
        .callback(told));
    assert_eq!(
        seen.text(),
        "precious@2:true best_at_3@3:false step_00000005@5:false"
    );
    let clock = |name: &str| {
        let read = bdh::Checkpoint::read(&dir.join("checkpoints").join(name));
        read.expect("a whole checkpoint").state.clock.step
    };
    assert_eq!(
        (
            clock("precious"),
            clock("best_at_3"),
            clock("step_00000005")
        ),
        (2, 3, 5)
    );
}

#[test]
fn a_checkpoint_without_a_run_directory_is_told_instead_of_being_lost_silently() {
    let ask = tiny::on_step(|at| {
        Ok(at.checkpoint(CheckpointRequest {
            name: "nowhere".to_owned(),
            pinned: true,
        }))
    });
    let fitted = fit(tiny::run(5).callback(ask));
    assert_eq!(fitted.problems.len(), 1, "{:?}", fitted.problems);
    assert!(
        fitted.problems[0].to_string().contains("nowhere"),
        "{}",
        fitted.problems[0]
    );
}

#[test]
fn a_name_that_is_no_directory_name_fails_the_callback_and_touches_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    for name in ["", ".", "..", "a/b", "/x"] {
        let name = name.to_owned();
        let ask = tiny::on_step(move |at| {
            Ok(at.checkpoint(CheckpointRequest {
                name: name.clone(),
                pinned: true,
            }))
        });
        let run = tiny::run(3)
            .checkpoint(at([1]))
            .run_dir(&dir)
            .callback(ask.every(at([2])));
        let fitted = fit(run);
        assert_eq!(fitted.problems[0].who, "AtStep");
        assert!(dir.join("checkpoints/step_00000001").exists());
        std::fs::remove_dir_all(&dir).expect("the run directory");
    }
}
