//! Whether a run that is interrupted and resumed is the run that was never interrupted.

use super::callback::recorded::matches;
use super::scratch::Scratch;
use crate::cadence::{Cadence, at};
use crate::callback::{Attach, on_step};
use crate::checkpoint::{Checkpoint, latest_checkpoint};
use crate::params::Tensors;
use crate::sink::Jsonl;
use crate::task::Task;
use crate::trainer::{Resume, TrainerBuilder};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Checks that a run of your own resumes exactly: interrupted after each of `stops` steps and resumed from its
/// checkpoint, it ends with the same weights, optimizer and callback states to the bit, and with the same records.
///
/// `make` composes the run anew each time, without a run directory and without checkpoints; it decides about
/// everything else: data, model, optimizer, accumulation, callbacks. What is measured by the clock on the wall cannot
/// be the same twice, so the keys in `measured`, such as `throughput/*`, are not compared.
///
/// On a CPU it should hold for every run. One thread of a process may train at a time: burn's CPU generator of random
/// numbers is the process's. Calls of this function wait for each other; other tests that train need a process of their
/// own (`cargo nextest`), or `cargo test -- --test-threads 1`. A run that is not the same twice without any interruption is
/// reported as that.
///
/// # Panics
///
/// With the first number that differs, or with what kept a run from being built or from ending.
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
    let saves = || at(stops.clone()) | Cadence::Last; // in all runs: callbacks hear of checkpoints
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let undisturbed = || {
        let scratch = Scratch::new();
        fit(make().run_dir(&scratch.run).checkpoint(saves()));
        End::of(&scratch.run, measured)
    };
    let whole = undisturbed();
    undisturbed().compare(&whole, TWICE);
    for &stop in &stops {
        let scratch = Scratch::new();
        let interrupt = on_step(|at| {
            at.stop("interrupted by the test");
            Ok(())
        });
        let run = || make().run_dir(&scratch.run).checkpoint(saves());
        fit(run().callback(interrupt.every(at([stop])).named("interrupt")));
        fit(run().resume(Resume::Auto));
        let how = format!("stopped after step {stop} and resumed");
        End::of(&scratch.run, measured).compare(&whole, &how);
    }
}

/// Tests of one process, which cargo runs on several threads, share burn's generator of random numbers.
static ALONE: Mutex<()> = Mutex::new(());

const TWICE: &str = "run twice and never interrupted (something is random without the run's seed, or another test of \
                     this process trains at the same time: `cargo test -- --test-threads 1`)";

fn fit<T: Task>(run: TrainerBuilder<T>) {
    let trainer = run
        .build()
        .unwrap_or_else(|error| panic!("the run is not valid: {error}"));
    let fitted = trainer
        .fit()
        .unwrap_or_else(|error| panic!("the run failed: {error}"));
    assert!(
        fitted.problems.is_empty(),
        "the run had problems: {:?}",
        fitted.problems
    );
}

/// What a run leaves behind, without what is measured by the clock on the wall.
struct End {
    records: Vec<Value>,
    last: Checkpoint,
}

impl End {
    fn of(dir: &Path, measured: &[&str]) -> Self {
        let text = fs::read_to_string(dir.join(Jsonl::FILE)).expect("the records of a run");
        // Files are recorded with their paths, and each run has a directory of its own.
        let text = text.replace(&*dir.to_string_lossy(), "");
        let records = text.lines().map(|line| {
            let record = serde_json::from_str(line).expect("a line of our own");
            without(record, measured)
        });
        let last = latest_checkpoint(&dir.join("checkpoints")).expect("the last checkpoint");
        let mut last = Checkpoint::read(&last).expect("a checkpoint of our own");
        let record = last
            .state
            .record
            .to_string()
            .replace(&*dir.to_string_lossy(), "");
        let record = serde_json::from_str(&record).expect("a record of our own");
        last.state.record = without(record, measured);
        last.state.clock.elapsed = Duration::ZERO;
        last.state.callbacks.values_mut().for_each(forget_time);
        Self {
            records: records.collect(),
            last,
        }
    }

    /// Panics at the first difference; `how` says what was done to this run.
    fn compare(&self, whole: &Self, how: &str) {
        let found = |what: &str| format!("{how}, {what} differs");
        for (resumed, expected) in self.records.iter().zip(&whole.records) {
            assert_same(resumed, expected, &found("a record"));
        }
        let steps = [self, whole].map(|end| end.records.len());
        assert_eq!(steps[0], steps[1], "{}", found("the number of records"));

        let files = |end: &Self| {
            let Checkpoint {
                model,
                optimizer,
                copies,
                ..
            } = &end.last;
            let copies = copies.iter().map(|(name, copy)| (name.clone(), bits(copy)));
            let main = [
                ("model".to_owned(), bits(model)),
                ("optimizer".to_owned(), bits(optimizer)),
            ];
            main.into_iter().chain(copies).collect::<Vec<_>>()
        };
        let [ours, theirs] = [self, whole].map(files);
        let names =
            [&ours, &theirs].map(|of| of.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
        assert_eq!(names[0], names[1], "{}", found("the list of files"));
        for ((name, resumed), (_, expected)) in ours.iter().zip(&theirs) {
            for (resumed, expected) in resumed.iter().zip(expected) {
                assert!(
                    resumed == expected,
                    "{}",
                    found(&format!("`{}` of the {name}", expected.0))
                );
            }
            assert_eq!(resumed.len(), expected.len(), "{}", found(name));
        }
        let states = [self, whole].map(|end| serde_json::to_value(&end.last.state));
        let [resumed, expected] = states.map(|state| state.expect("a state is JSON"));
        assert_same(&resumed, &expected, &found("the state"));
    }
}

fn bits(tensors: &Tensors) -> Vec<(String, Vec<u8>)> {
    tensors
        .iter()
        .map(|(name, data)| (name.clone(), data.as_bytes().to_vec()))
        .collect()
}

/// Names the first key of two objects that differs, with both values.
fn assert_same(resumed: &Value, expected: &Value, found: &str) {
    if let (Value::Object(resumed), Value::Object(expected)) = (resumed, expected) {
        for key in expected.keys().chain(resumed.keys()) {
            let [is, was] = [resumed, expected].map(|object| object.get(key));
            assert!(
                is == was,
                "{found}: `{key}` is {is:?} instead of {was:?}, in {expected:?}"
            );
        }
    }
    assert!(
        resumed == expected,
        "{found}: {resumed} instead of {expected}"
    );
}

/// Takes out of a state when its steps were taken.
fn forget_time(state: &mut Value) {
    match state {
        Value::Object(fields) => {
            fields.remove("elapsed");
            fields.values_mut().for_each(forget_time);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_time),
        _ => {}
    }
}

/// A record without what the clock on the wall decides.
fn without(mut record: Value, measured: &[&str]) -> Value {
    if let Some(record) = record.as_object_mut() {
        let is_measured = |key: &str| measured.iter().any(|pattern| matches(pattern, key));
        record.retain(|key, _| key != "elapsed" && !is_measured(key));
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
    fn a_run_that_is_not_the_same_twice_is_reported_as_that_and_not_as_a_bad_resume() {
        let said = catch_unwind(|| {
            static CALLS: AtomicU64 = AtomicU64::new(0);
            let counts = |at: &StepEnd<'_>| {
                at.log("calls", CALLS.fetch_add(1, Ordering::Relaxed) as f64);
                Ok(())
            };
            resume_exact([1], &[], || tiny_run(2).callback(on_step(counts)));
        });
        let said = panic_text(&*said.expect_err("it is never the same"));
        assert!(
            said.starts_with("run twice and never interrupted"),
            "{said}"
        );
        assert!(
            said.contains("`calls` is Some(Number(2.0)) instead of Some(Number(0.0))"),
            "{said}"
        );
    }

    #[test]
    fn several_threads_may_check_runs_that_draw_random_numbers() {
        let draws = |at: &StepEnd<'_>| {
            at.device().seed(seed::data(5, at.step()));
            thread::yield_now(); // so that threads that do not wait for each other would disturb each other
            let shape = burn::tensor::Shape::new([4]);
            let noise = burn::tensor::Distribution::Default;
            let noise =
                burn::tensor::Tensor::<1>::random(shape, noise, &at.device().clone().inner());
            at.log("noise", noise.sum());
            Ok(())
        };
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| resume_exact([4], &[], || tiny_run(9).callback(on_step(draws))));
            }
        });
    }
}
