//! A task that panics takes the run down, but not before everybody was told.

use bdh::burn::nn::{Linear, LinearConfig};
use bdh::burn::optim::AdamWConfig;
use bdh::burn::tensor::Tensor;
use bdh::testing::tiny_run;
use bdh::{
    BatchSize, BoxError, Callback, FitEnd, HookResult, MemorySink, Outcome, Probe, Task, Trainer,
    callback, on_step,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

/// Panics on its third batch.
struct Breaks(u32);

impl Task for Breaks {
    type Model = Linear;
    type Batch = u32;

    fn next_batch(&mut self) -> Result<u32, BoxError> {
        self.0 += 1;
        Ok(self.0)
    }

    fn size(&self, _: &u32) -> BatchSize {
        BatchSize {
            samples: 1,
            tokens: 1,
        }
    }

    fn loss(&self, model: &Linear, batch: &u32, _: &Probe<'_>) -> Tensor<1> {
        assert!(*batch < 3, "batch {batch} is too much");
        model.weight.val().square().mean()
    }
}

struct Listens(Arc<Mutex<Option<Outcome>>>);

#[callback]
impl Callback for Listens {
    fn on_fit_end(&mut self, at: &FitEnd<'_>) -> HookResult {
        *self.0.lock().expect("nobody panics here") = Some(at.outcome.clone());
        Ok(())
    }
}

#[test]
fn a_panic_of_the_task_is_told_in_on_fit_end_and_in_run_json_and_then_passed_on() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let heard = Arc::new(Mutex::new(None));
    let device = bdh::device("cpu").expect("the CPU is compiled in");
    let trainer = Trainer::builder(Breaks(0), LinearConfig::new(1, 1).init(&device))
        .optimizer(AdamWConfig::new().build(), 0.1)
        .steps(10)
        .callback(Listens(Arc::clone(&heard)))
        .run_dir(dir.path().join("run"))
        .build()
        .expect("a valid run");

    let panic = catch_unwind(AssertUnwindSafe(|| trainer.fit())).expect_err("the task panics");
    let text = panic.downcast_ref::<String>().expect("a text");
    assert_eq!(text, "batch 3 is too much");

    let told = "the task or the model panicked at step 3: batch 3 is too much";
    assert_eq!(
        *heard.lock().expect("nobody panics here"),
        Some(Outcome::Failed(told.to_owned()))
    );
    let run = std::fs::read_to_string(dir.path().join("run/run.json")).expect("a run.json");
    let run: serde_json::Value = serde_json::from_str(&run).expect("JSON");
    assert_eq!(run["status"], "failed");
    let lines = std::fs::read_to_string(dir.path().join("run/metrics.jsonl")).expect("records");
    assert_eq!(lines.lines().count(), 2, "the steps that were complete");
}

#[test]
fn the_record_of_a_step_is_written_before_lines_that_panic() {
    let memory = MemorySink::default();
    let says = on_step(|at| {
        at.log("mine", at.step() as f64);
        at.say([], |[]| panic!("no words"));
        Ok(())
    });
    let trainer = tiny_run(3)
        .callback(says)
        .sink(memory.clone())
        .build()
        .expect("a valid run");
    assert!(catch_unwind(AssertUnwindSafe(|| trainer.fit())).is_err());
    assert_eq!(memory.series("mine"), [(1, 1.0)]);
}
