//! Eval sets: names, cadences, streams, bad data, and evals without training.

#[path = "support/tiny.rs"]
mod tiny;

use bdh::burn::optim::AdamWConfig;
use bdh::cadence::{epochs, every, last};
use bdh::checkpoint::CheckpointRequest;
use bdh::data::{EvalData, TrainData, cycle, stream};
use bdh::hooks::{EvalEnd, EvalReport, on_eval, on_eval_batch, on_step};
use bdh::metrics::{Classes, Metrics};
use bdh::{
    BatchSize, BoxError, Callback, CallbackExt, ErrorPolicy, HookResult, Intervention,
    InterventionContext, LossContext, MemorySink, Outlook, Task, Trainer, UpdateDecision, callback,
};
use serde_json::Value;
use std::path::Path;
use tiny::{Seen, Tiny};

fn bare(steps: u64) -> tiny::Builder {
    let run = tiny::bare(
        tiny::task(),
        tiny::Rows::of(tiny::ROWS),
        Tiny::new(0.0),
        steps,
    );
    run.optimizer(AdamWConfig::new().build(), 0.01)
}

fn steps(memory: &MemorySink, key: &str) -> Vec<u64> {
    memory.series(key).iter().map(|(step, _)| *step).collect()
}

#[test]
fn sets_are_evaluated_on_their_own_cadences() -> Result<(), BoxError> {
    let memory = MemorySink::default();
    let run = bare(6)
        .eval_data("val", tiny::val())
        .eval_data_on("test", vec![tiny::val().remove(0)], last())
        .eval(every(2))
        .sink(memory.clone())
        .build()?;
    let plan = run.plan().to_string();
    assert!(
        plan.contains("eval test") && plan.contains("test/*"),
        "{plan}"
    );
    run.fit()?;
    assert_eq!(steps(&memory, "val/loss"), [2, 4, 6]);
    assert_eq!(steps(&memory, "test/loss"), [6]);
    assert_ne!(
        memory.series("val/loss")[2].1,
        memory.series("test/loss")[0].1
    );
    Ok(())
}

#[test]
fn a_stream_has_the_metrics_of_the_same_batches_in_memory() -> Result<(), BoxError> {
    let (kept, streamed) = (MemorySink::default(), MemorySink::default());
    bare(3)
        .eval_data("val", tiny::val())
        .sink(kept.clone())
        .build()?
        .fit()?;
    let run = bare(3).eval_data("val", stream(tiny::val));
    run.sink(streamed.clone()).build()?.fit()?;
    for metric in ["val/loss", "val/accuracy", "val/bpb", "val/perplexity"] {
        assert_eq!(kept.series(metric), streamed.series(metric), "{metric}");
        assert_eq!(kept.series(metric).len(), 1, "{metric}");
    }
    Ok(())
}

#[test]
fn hooks_know_the_set() -> Result<(), BoxError> {
    let seen = Seen::new();
    let (batches, evals) = (seen.clone(), seen.clone());
    bare(2)
        .eval_data("val", tiny::val())
        .eval_data("test", stream(tiny::val))
        .callback(on_eval_batch(move |ctx| {
            batches.push(format!("{}/{:?}", ctx.index, ctx.count));
            Ok(())
        }))
        .callback(on_eval(move |ctx| {
            let of_val = ctx.monitored("val/loss")?.is_some();
            let of_first = ctx.monitored("loss")?.is_some();
            evals.push(format!("{}:{of_val}:{of_first}", ctx.report.set));
            Ok(())
        }))
        .build()?
        .fit()?;
    assert_eq!(
        seen.text(),
        "0/Some(2) 1/Some(2) val:true:true 0/None 1/None test:false:false"
    );
    Ok(())
}

#[test]
fn bad_sets_are_refused_before_the_run() {
    let refused = |run: tiny::Builder| run.build().expect_err("a bad set").to_string();
    let twice = bare(1)
        .eval_data("val", tiny::val())
        .eval_data("val", tiny::val());
    assert!(refused(twice).starts_with("`eval_data` is val: two eval sets have this name"));
    let empty = bare(1).eval_data("test", Vec::new());
    assert!(refused(empty).starts_with("`eval_data` is test: it has no batches"));
    let empty = bare(1).eval_data("test", stream(Vec::new));
    assert!(refused(empty).starts_with("`eval_data` is test: it has no batches"));
    for name in ["", "a/b", "train"] {
        let text = refused(bare(1).eval_data(name, tiny::val()));
        assert!(text.contains("use a plain word"), "{text}");
    }
}

#[test]
fn data_that_fails_in_an_eval_ends_the_run_with_its_text() -> Result<(), BoxError> {
    struct Torn;
    impl EvalData for Torn {
        type Batch = bdh::TokenBatch;
        fn batches(&self) -> Box<dyn Iterator<Item = Result<bdh::TokenBatch, BoxError>> + '_> {
            let first = tiny::val().remove(0);
            Box::new([Ok(first), Err("page 7 is torn".into())].into_iter())
        }
    }
    let error = bare(2)
        .eval_data("val", Torn)
        .build()?
        .fit()
        .expect_err("torn");
    assert_eq!(
        error.to_string(),
        "batch 1 of the eval set `val` failed at step 2: page 7 is torn"
    );
    Ok(())
}

#[test]
fn evals_without_training_give_the_recorded_metrics() -> Result<(), BoxError> {
    let memory = MemorySink::default();
    let run = bare(2)
        .eval_data("val", tiny::val())
        .eval(bdh::cadence::start());
    let trainer = run.sink(memory.clone()).build()?;
    let before = trainer.evaluate()?;
    let alone = bdh::evaluate(&tiny::task(), &Tiny::new(0.0), &tiny::val())?;
    trainer.fit()?;
    assert_eq!(before.len(), 4);
    for ((key, value), (name, own)) in before.iter().zip(&alone) {
        assert_eq!(key, &format!("val/{name}"));
        assert_eq!(memory.series(key), [(0, *value)], "{key}");
        assert_eq!(value, own, "{key}");
    }
    let error = bdh::evaluate(&tiny::task(), &Tiny::new(0.0), &Vec::new());
    let error = error.expect_err("nothing to evaluate").to_string();
    assert!(error.contains("no batches"), "{error}");
    Ok(())
}

/// A task with a metric of two classes, whose targets are the batch.
struct TwoClasses {
    /// Whether the model panics at a class that does not exist, as a cross-entropy does.
    panics: bool,
}

impl Task for TwoClasses {
    type Model = Tiny;
    type Batch = Vec<i32>;

    fn size(&self, batch: &Vec<i32>) -> BatchSize {
        BatchSize::samples(batch.len())
    }

    fn loss(
        &self,
        model: &Tiny,
        _: &Vec<i32>,
        _: &LossContext<'_>,
    ) -> bdh::burn::tensor::Tensor<1> {
        model.head.weight.val().mean()
    }

    fn eval(&self, model: &Tiny, batch: &Vec<i32>, metrics: &mut Metrics) {
        use bdh::burn::tensor::Tensor;
        assert!(!self.panics || !batch.contains(&7), "class 7");
        let device = model.head.weight.val().device();
        let targets = Tensor::from_ints(batch.as_slice(), &device);
        let logits = Tensor::ones([batch.len(), 2], &device);
        metrics.classes(&Classes::new(2), logits, targets);
    }
}

#[test]
fn a_class_out_of_range_ends_the_run_with_the_range() -> Result<(), BoxError> {
    let run = Trainer::builder(TwoClasses { panics: false }, Tiny::new(0.0))
        .train_data(cycle(vec![vec![0, 1]]))
        .eval_data("val", vec![vec![0, 1], vec![1, 7]])
        .optimizer(AdamWConfig::new().build(), 0.01)
        .steps(1);
    let error = run.build()?.fit().expect_err("class 7 of 2").to_string();
    assert!(
        error.starts_with("the eval set `val` failed at step 1: the metric"),
        "{error}"
    );
    assert!(error.contains("0 to 1"), "{error}");
    Ok(())
}

/// A callback that watches an accuracy.
struct Watch;

#[callback]
impl Callback for Watch {
    fn check(&self, run: &Outlook<'_>) -> Result<(), BoxError> {
        run.check_metric("val/accuracy")
    }

    fn on_eval(&mut self, _: &EvalEnd<'_>) -> HookResult {
        Ok(())
    }
}

#[test]
fn a_set_that_cannot_be_evaluated_is_refused_with_the_cause_if_its_metrics_are_watched() {
    let refused = |task: TwoClasses| {
        let run = Trainer::builder(task, Tiny::new(0.0))
            .train_data(cycle(vec![vec![0, 1]]))
            .eval_data("val", vec![vec![0, 7]])
            .optimizer(AdamWConfig::new().build(), 0.01)
            .steps(1)
            .callback(Watch);
        run.build().expect_err("class 7 of 2").to_string()
    };
    let text = refused(TwoClasses { panics: false });
    assert!(
        text.starts_with("batch 0 of the eval set `val` cannot be used: the metric"),
        "{text}"
    );
    let text = refused(TwoClasses { panics: true });
    let expected =
        "batch 0 of the eval set `val` cannot be used: the task or the model panicked: class 7";
    assert_eq!(text, expected);
}

/// Returns the records of a run, without times.
fn records(dir: &Path) -> Result<Vec<Value>, BoxError> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl"))?;
    let mut records = Vec::new();
    for line in text.lines() {
        let mut record: Value = serde_json::from_str(line)?;
        record.as_object_mut().expect("an object").remove("elapsed");
        records.push(record);
    }
    Ok(records)
}

/// Returns a callback that ends the run in the eval of a step, as a killed process would: after the checkpoint, before
/// the record.
fn kill_in_eval_of(step: u64) -> impl Callback {
    let kill = on_eval_batch(move |ctx| {
        assert_ne!(ctx.step(), step, "the eval takes the process down");
        Ok(())
    });
    kill.on_error(ErrorPolicy::Abort)
}

/// Checks that a run that is killed in the eval of a step, and resumed, records the same as one that is not. Returns the
/// directory of the resumed run.
fn resumes_in_eval_of(
    step: u64,
    compose: impl Fn() -> tiny::Builder,
) -> Result<tempfile::TempDir, BoxError> {
    let (whole, killed) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let compose = |dir: &Path| compose().checkpoint_before_eval(true).run_dir(dir);
    let uninterrupted = compose(whole.path()).build()?.fit()?;
    let run = compose(killed.path()).callback(kill_in_eval_of(step));
    run.build()?.fit().expect_err("killed");
    let resumed = compose(killed.path()).resume("auto").build()?.fit()?;
    assert_eq!(resumed.outcome, uninterrupted.outcome);
    assert_eq!(records(killed.path())?, records(whole.path())?);
    Ok(killed)
}

#[test]
fn an_eval_that_kills_the_process_costs_nothing() -> Result<(), BoxError> {
    let every_second = || bare(4).eval_data("val", tiny::val()).eval(every(2));
    let dir = resumes_in_eval_of(2, || every_second().checkpoint(every(2)))?;
    assert_eq!(records(dir.path())?.len(), 4);
    resumes_in_eval_of(4, every_second)?;
    Ok(())
}

#[test]
fn evals_in_epochs_are_due_again_only_if_they_were() -> Result<(), BoxError> {
    let mut rows = tiny::Rows::of(tiny::ROWS);
    let mut five = Vec::new();
    for _ in 0..5 {
        five.push(rows.next_batch()?);
    }
    let dir = resumes_in_eval_of(7, || {
        let run = tiny::bare(tiny::task(), cycle(five.clone()), Tiny::new(0.0), 8);
        run.optimizer(AdamWConfig::new().build(), 0.01)
            .eval_data("val", tiny::val())
            .eval(every(epochs(1)))
            .eval_data_on("test", tiny::val(), every(7))
    })?;
    let of_seven = &records(dir.path())?[6];
    assert!(
        of_seven.get("test/loss").is_some() && of_seven.get("val/loss").is_none(),
        "{of_seven}"
    );
    Ok(())
}

#[test]
fn requests_before_a_deadly_eval_are_met_after_the_resume() -> Result<(), BoxError> {
    let ask = || {
        on_step(|ctx| {
            if ctx.step() == 3 {
                ctx.evaluate();
                ctx.stop("three are enough");
                let name = "third".to_owned();
                ctx.checkpoint(CheckpointRequest { name, pinned: true });
            }
            Ok(())
        })
    };
    let dir = resumes_in_eval_of(3, || bare(6).eval_data("val", tiny::val()).callback(ask()))?;
    let records = records(dir.path())?;
    assert!(
        records.len() == 3 && records[2].get("val/loss").is_some(),
        "{records:?}"
    );
    assert!(dir.path().join("checkpoints/third").exists());
    Ok(())
}

#[test]
fn the_plan_has_checkpoints_before_evals_and_settings_without_effect() -> Result<(), BoxError> {
    let scratch = tempfile::tempdir()?;
    let compose = || {
        let run = bare(5).checkpoint_before_eval(true);
        run.run_dir(scratch.path().join("run")).eval(every(2))
    };
    let run = compose().eval_data("val", tiny::val()).build()?;
    let saved = ["checkpoints/step_00000004", "checkpoints/step_00000002"];
    let files = &run.plan().files;
    assert!(files.ends_with(&saved.map(str::to_owned)), "{files:?}");

    let has_note = |run: tiny::Builder, text: &str| -> Result<bool, BoxError> {
        Ok(run
            .build()?
            .plan()
            .notes
            .iter()
            .any(|note| note.contains(text)))
    };
    assert!(has_note(
        compose(),
        "`checkpoint_before_eval` saves nothing"
    )?);
    let own = compose().eval_data_on("test", tiny::val(), last());
    assert!(has_note(own, "each eval set has a cadence of its own")?);
    Ok(())
}

/// An intervention that fails when an eval ends.
struct Panics;

impl Intervention for Panics {
    fn name(&self) -> String {
        "panics".to_owned()
    }

    fn config(&self) -> Value {
        Value::Null
    }

    fn intervene(&mut self, _: &mut InterventionContext<'_>) -> Result<UpdateDecision, BoxError> {
        Ok(UpdateDecision::Apply)
    }

    fn on_eval(&mut self, report: &EvalReport) {
        panic!("it cannot take {}", report.set)
    }
}

#[test]
fn an_intervention_that_panics_after_an_eval_ends_the_run_with_its_name() -> Result<(), BoxError> {
    let run = bare(2).eval_data("val", tiny::val()).intervention(Panics);
    let error = run.build()?.fit().expect_err("a panic").to_string();
    assert!(
        error.contains("`panics` failed in `on_eval` at step 2"),
        "{error}"
    );
    Ok(())
}
