//! Callbacks may request a stop, an eval or a checkpoint; the run acts on it in the same step.

#![expect(
    clippy::unit_arg,
    reason = "a hook that cannot fail reads best on one line"
)]

#[path = "support/tiny.rs"]
mod tiny;

use bdh::cadence::{at, every, last, never, start};
use bdh::checkpoint::CheckpointRequest;
use bdh::testing::HookLog;
use bdh::{CallbackExt, MemorySink, Outcome, StopReason, TrainResult};
use tiny::Seen;

fn fit(run: tiny::Builder) -> TrainResult<tiny::Tiny> {
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
fn a_stop_request_ends_the_run_after_that_step_with_its_source() {
    let memory = MemorySink::default();
    let stop = tiny::on_step(|ctx| {
        ctx.stop("seen enough");
        Ok(())
    });
    let fitted = fit(tiny::run(9)
        .sink(memory.clone())
        .callback(stop.on(at([4])).named("impatient")));
    assert_eq!(fitted.outcome, asked("impatient", "seen enough"));
    assert_eq!(memory.series("train/loss").len(), 4);
    assert_eq!(fitted.last.expect("a record").clock.step, 4);
}

#[test]
fn all_callbacks_run_before_a_stop_and_the_first_reason_counts() {
    let hooks = HookLog::default();
    let first = tiny::on_step(|ctx| Ok(ctx.stop("first")));
    let second = hooks.of(tiny::on_step(|ctx| {
        ctx.evaluate();
        ctx.stop("second");
        Ok(())
    }));
    let third = hooks.of(tiny::on_eval(|ctx| Ok(ctx.stop("third"))));
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
    let stop = tiny::on_eval(|ctx| Ok(ctx.stop("good enough")));
    let fitted = fit(tiny::run(9).eval(start()).callback(stop.named("judge")));
    assert_eq!(fitted.outcome, asked("judge", "good enough"));
    assert_eq!(tiny::weights(&fitted.model), before);
}

#[test]
fn a_requested_eval_runs_on_that_step() {
    let memory = MemorySink::default();
    let ask = tiny::on_step(|ctx| Ok(ctx.evaluate()));
    let seen = Seen::new();
    let note = seen.clone();
    let report = tiny::on_eval(move |ctx| {
        assert!(ctx.report.get("loss").is_some_and(f64::is_finite));
        Ok(note.push(format!("on_eval@{}", ctx.step())))
    });
    fit(tiny::run(6)
        .eval(never())
        .sink(memory.clone())
        .callback(ask.on(at([2, 5])))
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
fn a_due_and_requested_eval_runs_once() {
    let hooks = HookLog::default();
    let ask = tiny::on_step(|ctx| Ok(ctx.evaluate()));
    let report = hooks.of(tiny::on_eval(|_| Ok(())));
    fit(tiny::run(2).eval(every(1)).callback(ask).callback(report));
    hooks.expect("1: on_eval 2: on_eval");
}

#[test]
fn a_requested_checkpoint_is_written_on_that_step() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    let request = |pinned| CheckpointRequest {
        name: "precious".to_owned(),
        pinned,
    };
    let ask = tiny::on_step(move |ctx| Ok(ctx.checkpoint(request(true))));
    let ask_again = tiny::on_step(move |ctx| Ok(ctx.checkpoint(request(false))));
    let best = tiny::on_eval(|ctx| {
        let name = format!("best_at_{}", ctx.step());
        Ok(ctx.checkpoint(CheckpointRequest {
            name,
            pinned: false,
        }))
    });
    let seen = Seen::new();
    let note = seen.clone();
    let note_path = tiny::on_checkpoint(move |ctx| {
        assert!(ctx.path.join("model.safetensors").exists());
        let name = ctx.path.file_name().expect("a name").to_string_lossy();
        Ok(note.push(format!("{name}@{}:{}", ctx.step(), ctx.pinned)))
    });
    fit(tiny::run(5)
        .eval(at([3]))
        .checkpoint(last())
        .run_dir(&dir)
        .callback(ask.on(at([2])).named("ask"))
        .callback(ask_again.on(at([2])).named("ask again"))
        .callback(best)
        .callback(note_path));
    assert_eq!(
        seen.text(),
        "precious@2:true best_at_3@3:false step_00000005@5:false"
    );
    let clock = |name: &str| {
        let read = bdh::checkpoint::Checkpoint::read(&dir.join("checkpoints").join(name));
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
fn a_checkpoint_without_a_run_directory_is_a_warning() {
    let ask = tiny::on_step(|ctx| {
        Ok(ctx.checkpoint(CheckpointRequest {
            name: "nowhere".to_owned(),
            pinned: true,
        }))
    });
    let fitted = fit(tiny::run(5).callback(ask));
    assert_eq!(fitted.warnings.len(), 1, "{:?}", fitted.warnings);
    assert!(
        fitted.warnings[0].to_string().contains("nowhere"),
        "{}",
        fitted.warnings[0]
    );
}

#[test]
fn an_invalid_checkpoint_name_fails_the_callback_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("run");
    for name in ["", ".", "..", "a/b", "/x"] {
        let name = name.to_owned();
        let ask = tiny::on_step(move |ctx| {
            Ok(ctx.checkpoint(CheckpointRequest {
                name: name.clone(),
                pinned: true,
            }))
        });
        let run = tiny::run(3)
            .checkpoint(at([1]))
            .run_dir(&dir)
            .callback(ask.on(at([2])));
        let fitted = fit(run);
        assert_eq!(fitted.warnings[0].source, "AtStep");
        assert!(dir.join("checkpoints/step_00000001").exists());
        std::fs::remove_dir_all(&dir).expect("the run directory");
    }
}
