//! Check that an interrupted and resumed run equals an uninterrupted one.

use super::callback::recorded::matches;
use super::scratch::Scratch;
use crate::cadence::{Cadence, at};
use crate::callback::{CallbackExt, on_step};
use crate::checkpoint::{self, Checkpoint};
use crate::params::Tensors;
use crate::sink::Jsonl;
use crate::task::Task;
use crate::trainer::{Resume, TrainerBuilder};
use burn::tensor::TensorData;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Checks that a run resumes exactly.
///
/// For each of `stops`, a run is interrupted after that step and resumed from its checkpoint. It must end with
/// bit-identical weights, optimizer and callback states, and with equal records.
///
/// `make` composes the run each time, without a run directory and without checkpoints: data, model, optimizer,
/// accumulation, callbacks. Values that depend on the time differ from run to run: list their keys, such as
/// `throughput/*`, in `measured`, and they are not compared.
///
/// On a CPU every run should pass. Only one thread of the process may train at a time, because burn has one generator
/// of random numbers for the whole CPU. Calls of this function wait for each other. Other tests that train need their
/// own process (`cargo nextest`), or `cargo test -- --test-threads 1`. A run that differs even without an
/// interruption is reported as such.
///
/// # Panics
///
/// If a run differs, with the first difference, or if a run cannot be built or fails.
///
/// # Examples
///
/// ```no_run
/// use bdh::testing::resume_exact;
/// # use bdh::{NextToken, BoxError, CausalLm, Trainer, lm::RandomCrops, burn::optim::AdamWConfig};
/// # fn check<M: CausalLm>(task: fn() -> NextToken<M, RandomCrops>, model: fn() -> M) {
/// resume_exact([1, 7], &["throughput/*"], || {
///     let run = Trainer::builder(task(), model()).steps(10).grad_accum_steps(2);
///     run.optimizer(AdamWConfig::new().build(), 1e-3)
/// });
/// # }
/// ```
pub fn resume_exact<T: Task>(
    stops: impl IntoIterator<Item = u64>,
    measured: &[&str],
    make: impl Fn() -> TrainerBuilder<T>,
) {
    let stops: Vec<u64> = stops.into_iter().collect();
    // The same checkpoints in all runs, because callbacks have a hook for them.
    let run = || make().checkpoint(at(stops.clone()) | Cadence::Last);
    // The lock guards no data, so a panic of another test (which poisons it) does not matter.
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let whole = uninterrupted(run(), measured);
    uninterrupted(run(), measured).compare(&whole, TWICE);
    for &stop in &stops {
        let how = format!("stopped after step {stop} and resumed");
        resumed(run, stop, measured).compare(&whole, &how);
    }
}

fn uninterrupted<T: Task>(run: TrainerBuilder<T>, measured: &[&str]) -> End {
    let scratch = Scratch::new();
    fit(run.run_dir(&scratch.run));
    End::of(&scratch.run, measured)
}

/// Runs until a step, and then again from its checkpoint to the end.
fn resumed<T: Task>(run: impl Fn() -> TrainerBuilder<T>, stop: u64, measured: &[&str]) -> End {
    let scratch = Scratch::new();
    let interrupt = on_step(|ctx| {
        ctx.stop("interrupted by the test");
        Ok(())
    });
    let interrupt = interrupt.on(at([stop])).named("interrupt");
    fit(run().run_dir(&scratch.run).callback(interrupt));
    fit(run().run_dir(&scratch.run).resume(Resume::Auto));
    End::of(&scratch.run, measured)
}

/// Lock for training: cargo runs tests on several threads, which share burn's generator of random numbers.
static ALONE: Mutex<()> = Mutex::new(());

const TWICE: &str = "run twice and never interrupted (something is random without the run's seed, or another test of \
                     this process trains at the same time: `cargo test -- --test-threads 1`)";

fn fit<T: Task>(run: TrainerBuilder<T>) {
    let trainer = run
        .build()
        .unwrap_or_else(|error| panic!("the run is not valid: {error}"));
    let result = trainer
        .fit()
        .unwrap_or_else(|error| panic!("the run failed: {error}"));
    assert!(
        result.warnings.is_empty(),
        "the run had warnings: {:?}",
        result.warnings
    );
}

/// Records and last checkpoint of a run, without values that depend on the time.
struct End {
    records: Vec<Value>,
    last: Checkpoint,
}

impl End {
    fn of(dir: &Path, measured: &[&str]) -> Self {
        let text = fs::read_to_string(dir.join(Jsonl::FILE)).expect("a run has records");
        let last = last_checkpoint(dir, measured);
        let mut records = Vec::new();
        for line in text.lines() {
            records.push(comparable(line, dir, measured));
        }
        Self { records, last }
    }

    /// Panics at the first difference from `whole`; `how` describes this run.
    fn compare(&self, whole: &Self, how: &str) {
        self.compare_records(whole, how);
        self.compare_tensors(whole, how);
        let state = serde_json::to_value(&self.last.state).expect("a state is JSON");
        let expected = serde_json::to_value(&whole.last.state).expect("a state is JSON");
        assert_same(&state, &expected, &format!("{how}, the state differs"));
    }

    fn compare_records(&self, whole: &Self, how: &str) {
        for (resumed, expected) in self.records.iter().zip(&whole.records) {
            assert_same(resumed, expected, &format!("{how}, a record differs"));
        }
        assert_eq!(
            self.records.len(),
            whole.records.len(),
            "{how}, the number of records differs"
        );
    }

    fn compare_tensors(&self, whole: &Self, how: &str) {
        let (files, expected_files) = (self.files(), whole.files());
        assert!(
            files.keys().eq(expected_files.keys()),
            "{how}, the list of files differs: {:?} instead of {:?}",
            files.keys(),
            expected_files.keys()
        );
        for (name, expected) in expected_files {
            assert_same_tensors(files[&name], expected, how, &name);
        }
    }

    /// Returns the tensors in each file of the checkpoint.
    fn files(&self) -> BTreeMap<String, &Tensors> {
        let mut files = BTreeMap::new();
        files.insert("model".to_owned(), &self.last.model);
        files.insert("optimizer".to_owned(), &self.last.optimizer);
        for (name, copy) in &self.last.copies {
            files.insert(format!("copy of `{name}`"), copy);
        }
        files
    }
}

/// Reads the last checkpoint of a run, without values that depend on the time.
fn last_checkpoint(dir: &Path, measured: &[&str]) -> Checkpoint {
    let path = checkpoint::latest(&dir.join("checkpoints")).expect("a run has a checkpoint");
    let mut last = Checkpoint::read(&path).expect("a complete checkpoint");
    last.state.record = comparable(&last.state.record.to_string(), dir, measured);
    last.state.clock.elapsed = Duration::ZERO;
    for state in last.state.callbacks.values_mut() {
        remove_elapsed(state);
    }
    last
}

/// Checks that the tensors of two files are equal to the bit; `name` is the file's.
fn assert_same_tensors(resumed: &Tensors, expected: &Tensors, how: &str, name: &str) {
    for (tensor, data) in expected {
        assert!(
            resumed.get(tensor).map(TensorData::as_bytes) == Some(data.as_bytes()),
            "{how}, `{tensor}` of the {name} differs"
        );
    }
    assert_eq!(resumed.len(), expected.len(), "{how}, the {name} differs");
}

/// Checks that two values are equal; for objects the panic names the first key that differs.
fn assert_same(resumed: &Value, expected: &Value, what: &str) {
    if let (Value::Object(resumed), Value::Object(expected)) = (resumed, expected) {
        for key in expected.keys().chain(resumed.keys()) {
            let (is, was) = (resumed.get(key), expected.get(key));
            assert!(
                is == was,
                "{what}: `{key}` is {is:?} instead of {was:?}, in {expected:?}"
            );
        }
    }
    assert!(
        resumed == expected,
        "{what}: {resumed} instead of {expected}"
    );
}

/// Removes every time from a callback's state.
fn remove_elapsed(state: &mut Value) {
    match state {
        Value::Object(fields) => {
            fields.remove("elapsed");
            fields.values_mut().for_each(remove_elapsed);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_elapsed),
        _ => {}
    }
}

/// Parses a record, without the run directory and without values that depend on the time.
fn comparable(record: &str, dir: &Path, measured: &[&str]) -> Value {
    // Records of files contain the run directory, which differs from run to run.
    let record = record.replace(&*dir.to_string_lossy(), "");
    let mut record = serde_json::from_str(&record).expect("a record is JSON");
    if let Value::Object(values) = &mut record {
        values.remove("elapsed");
        for pattern in measured {
            values.retain(|key, _| !matches(pattern, key));
        }
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::StepEnd;
    use crate::failure::panic_text;
    use crate::seed;
    use crate::testing::tiny_run;
    use std::panic::catch_unwind;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    #[test]
    fn run_that_differs_twice_is_reported_as_such() {
        let panic = catch_unwind(|| {
            static CALLS: AtomicU64 = AtomicU64::new(0);
            let counts = |ctx: &StepEnd<'_>| {
                ctx.log("calls", CALLS.fetch_add(1, Ordering::Relaxed) as f64);
                Ok(())
            };
            resume_exact([1], &[], || tiny_run(2).callback(on_step(counts)));
        });
        let text = panic_text(&*panic.expect_err("the run differs each time"));
        assert!(
            text.starts_with("run twice and never interrupted"),
            "{text}"
        );
        assert!(
            text.contains("`calls` is Some(Number(2.0)) instead of Some(Number(0.0))"),
            "{text}"
        );
    }

    #[test]
    fn threads_that_check_random_runs_wait_for_each_other() {
        let draws = |ctx: &StepEnd<'_>| {
            ctx.device().seed(seed::data(5, ctx.step()));
            thread::yield_now(); // without the lock, the threads would now disturb each other
            let shape = burn::tensor::Shape::new([4]);
            let noise = burn::tensor::Distribution::Default;
            let noise =
                burn::tensor::Tensor::<1>::random(shape, noise, &ctx.device().clone().inner());
            ctx.log("noise", noise.sum());
            Ok(())
        };
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| resume_exact([4], &[], || tiny_run(9).callback(on_step(draws))));
            }
        });
    }
}
