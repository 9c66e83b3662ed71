//! A panic of a task ends the run after callbacks and sinks have been notified.

use bdh::burn::nn::{Linear, LinearConfig};
use bdh::burn::optim::AdamWConfig;
use bdh::burn::tensor::Tensor;
use bdh::data::cycle;
use bdh::hooks::{FitEnd, on_step};
use bdh::testing::tiny_run;
use bdh::{
    BatchSize, Callback, HookResult, LossContext, MemorySink, Outcome, Task, Trainer, callback,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

/// A task that panics on its third batch.
struct Breaks;

impl Task for Breaks {
    type Model = Linear;
    type Batch = u32;

    fn size(&self, _: &u32) -> BatchSize {
        BatchSize::samples(1)
    }

    fn loss(&self, model: &Linear, batch: &u32, _: &LossContext<'_>) -> Tensor<1> {
        assert!(*batch < 3, "batch {batch} is too much");
        model.weight.val().square().mean()
    }
}

struct Listener(Arc<Mutex<Option<Outcome>>>);

#[callback]
impl Callback for Listener {
    fn on_fit_end(&mut self, ctx: &FitEnd<'_>) -> HookResult {
        *self.0.lock().expect("no holder of the lock panics") = Some(ctx.outcome.clone());
        Ok(())
    }
}

#[test]
fn a_task_panic_reaches_on_fit_end_and_run_json_then_resumes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let received = Arc::new(Mutex::new(None));
    let device = bdh::device("cpu").expect("the CPU is compiled in");
    let trainer = Trainer::builder(Breaks, LinearConfig::new(1, 1).init(&device))
        .train_data(cycle((1..=10).collect()))
        .optimizer(AdamWConfig::new().build(), 0.1)
        .steps(10)
        .callback(Listener(Arc::clone(&received)))
        .run_dir(dir.path().join("run"))
        .build()
        .expect("a valid run");

    let panic = catch_unwind(AssertUnwindSafe(|| trainer.fit())).expect_err("the task panics");
    let text = panic.downcast_ref::<String>().expect("a text");
    assert_eq!(text, "batch 3 is too much");

    let expected = "the task or the model panicked at step 3: batch 3 is too much";
    assert_eq!(
        *received.lock().expect("no holder of the lock panics"),
        Some(Outcome::Failed(expected.to_owned()))
    );
    let run = std::fs::read_to_string(dir.path().join("run/run.json")).expect("a run.json");
    let run: serde_json::Value = serde_json::from_str(&run).expect("JSON");
    assert_eq!(run["status"], "failed");
    let lines = std::fs::read_to_string(dir.path().join("run/metrics.jsonl")).expect("records");
    assert_eq!(lines.lines().count(), 2, "the steps that were complete");
}

#[test]
fn a_steps_record_is_written_before_a_notice_that_panics() {
    let memory = MemorySink::default();
    let notifies = on_step(|ctx| {
        ctx.log("mine", ctx.step() as f64);
        ctx.notice_with([], |[]| panic!("no words"));
        Ok(())
    });
    let trainer = tiny_run(3)
        .callback(notifies)
        .sink(memory.clone())
        .build()
        .expect("a valid run");
    assert!(catch_unwind(AssertUnwindSafe(|| trainer.fit())).is_err());
    assert_eq!(memory.series("mine"), [(1, 1.0)]);
}
