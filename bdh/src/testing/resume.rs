//! Check that an interrupted and resumed run equals an uninterrupted one.

use super::callback::recorded::matches;
use super::scratch::Scratch;
use crate::cadence::{Cadence, at};
use crate::callback::{CallbackExt, on_step};
use crate::checkpoint::{self, Checkpoint};
use crate::params::Tensors;
use crate::seed;
use crate::sink::Jsonl;
use crate::task::Task;
use crate::trainer::{Resume, TrainerBuilder};
use crate::turn::{self, Traces, Turn};
use burn::tensor::TensorData;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
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
/// On a CPU every run should pass, also under the test threads of cargo. burn has one generator of random numbers for the
/// whole CPU, so meanwhile other runs of the process wait before their next step, and calls of this function wait for
/// each other. Random numbers that something else draws, such as the weights of another test's model, are noticed and
/// the run is repeated, up to ten times. `make` is called each time with a generator of the same seed.
///
/// # Panics
///
/// If a run differs, with the first difference; if a run cannot be built or fails; or if other threads never stop drawing
/// random numbers. A run that differs even without an interruption is reported as such.
///
/// # Examples
///
/// ```no_run
/// use bdh::testing::resume_exact;
/// # use bdh::{NextToken, CausalLm, Trainer, lm::RandomCrops, burn::optim::AdamWConfig};
/// # fn check<M: CausalLm>(data: RandomCrops, model: fn() -> M) {
/// resume_exact([1, 7], &["throughput/*"], || {
///     let run = Trainer::builder(NextToken::new(), model()).train_data(data.clone());
///     let run = run.steps(10).grad_accum_steps(2);
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
    let check = Check {
        // The same checkpoints in all runs, because callbacks have a hook for them.
        make: || make().checkpoint(at(stops.clone()) | Cadence::Last),
        measured,
        turn: Turn::take(),
    };
    let whole = check.whole();
    for &stop in &stops {
        check.resumed_equals(&whole, stop);
    }
}

/// Most repetitions of a run that other threads disturb.
const ATTEMPTS: usize = 10;

const TWICE: &str = "run twice and never interrupted (something is random without the run's seed)";

const DISTURBED: &str = "the random numbers differed each time: another thread of this process draws some too, and burn \
                         has one generator for the whole CPU; give this test a file of its own, or use \
                         `cargo nextest` or `cargo test -- --test-threads 1`";

/// Check of the runs that `make` composes, all equal.
struct Check<'a, F> {
    make: F,
    measured: &'a [&'a str],
    turn: Turn,
}

impl<T: Task, F: Fn() -> TrainerBuilder<T>> Check<'_, F> {
    /// Runs without an interruption until two runs in succession end equal.
    fn whole(&self) -> End {
        let mut first = self.uninterrupted();
        for _ in 0..ATTEMPTS {
            let second = self.uninterrupted();
            let Some(difference) = second.difference(&first) else {
                return second;
            };
            assert!(!second.has_draws_of(&first), "{TWICE}, {difference}");
            first = second;
        }
        panic!("run {ATTEMPTS} times and never interrupted, {DISTURBED}");
    }

    /// Checks that a run that is stopped after a step and resumed ends as `whole`.
    fn resumed_equals(&self, whole: &End, stop: u64) {
        let how = format!("stopped after step {stop} and resumed");
        let mut before: Option<End> = None;
        for _ in 0..ATTEMPTS {
            let end = self.resumed(stop);
            let Some(difference) = end.difference(whole) else {
                return;
            };
            // A resume may also be wrong in what it draws; then it is so again.
            for other in before.iter().chain([whole]) {
                assert!(!end.has_draws_of(other), "{how}, {difference}");
            }
            before = Some(end);
        }
        panic!("{how} {ATTEMPTS} times, {DISTURBED}");
    }

    fn uninterrupted(&self) -> End {
        let scratch = Scratch::new();
        self.fit(|run| run.run_dir(&scratch.run));
        End::of(&scratch.run, self.measured, self.turn.take_traces())
    }

    /// Runs until a step, and then again from its checkpoint to the end.
    fn resumed(&self, stop: u64) -> End {
        let scratch = Scratch::new();
        let interrupt = on_step(|ctx| {
            ctx.stop("interrupted by the test");
            Ok(())
        });
        let interrupt = interrupt.on(at([stop])).named("interrupt");
        self.fit(|run| run.run_dir(&scratch.run).callback(interrupt));
        let first = self.turn.take_traces();
        self.fit(|run| run.run_dir(&scratch.run).resume(Resume::Auto));
        let mut traces = self.turn.take_traces();
        traces.extend(first); // also its trace of the first weights: those of the second part are replaced
        End::of(&scratch.run, self.measured, traces)
    }

    /// Composes a run, changes it with `set`, and trains.
    fn fit(&self, set: impl FnOnce(TrainerBuilder<T>) -> TrainerBuilder<T>) {
        let device = crate::device::device("cpu"); // an error without the feature `flex`
        if let Ok(device) = &device {
            seed::seed(device, 0);
        }
        let trainer = set((self.make)())
            .build()
            .unwrap_or_else(|error| panic!("the run is not valid: {error}"));
        if let Ok(device) = &device {
            turn::trace(device, 0, 0); // reveals draws while the first weights were drawn
        }
        let result = trainer
            .fit()
            .unwrap_or_else(|error| panic!("the run failed: {error}"));
        assert!(
            result.warnings.is_empty(),
            "the run had warnings: {:?}",
            result.warnings
        );
    }
}

/// Records and last checkpoint of a run, without values that depend on the time.
struct End {
    records: Vec<Value>,
    last: Checkpoint,
    /// Numbers drawn in the run's forward passes.
    traces: Traces,
}

impl End {
    fn of(dir: &Path, measured: &[&str], traces: Traces) -> Self {
        let text = fs::read_to_string(dir.join(Jsonl::FILE)).expect("a run has records");
        let last = last_checkpoint(dir, measured);
        let mut records = Vec::new();
        for line in text.lines() {
            records.push(comparable(line, dir, measured));
        }
        Self {
            records,
            last,
            traces,
        }
    }

    /// Whether both runs drew the same random numbers, so that nothing else drew meanwhile.
    fn has_draws_of(&self, other: &Self) -> bool {
        self.traces == other.traces
    }

    /// Describes the first difference from another end.
    fn difference(&self, whole: &Self) -> Option<String> {
        self.records_difference(whole)
            .or_else(|| self.tensors_difference(whole))
            .or_else(|| self.state_difference(whole))
    }

    fn records_difference(&self, whole: &Self) -> Option<String> {
        for (record, expected) in self.records.iter().zip(&whole.records) {
            if let Some(difference) = difference(record, expected) {
                return Some(format!("a record differs: {difference}"));
            }
        }
        let (count, expected) = (self.records.len(), whole.records.len());
        (count != expected).then(|| format!("there are {count} records instead of {expected}"))
    }

    fn tensors_difference(&self, whole: &Self) -> Option<String> {
        let (files, expected) = (self.files(), whole.files());
        if !files.keys().eq(expected.keys()) {
            let (files, expected) = (files.keys(), expected.keys());
            return Some(format!(
                "the list of files differs: {files:?} instead of {expected:?}"
            ));
        }
        for (name, tensors) in &files {
            if let Some(tensor) = different_tensor(tensors, expected[name]) {
                return Some(format!("`{tensor}` of the {name} differs"));
            }
        }
        None
    }

    fn state_difference(&self, whole: &Self) -> Option<String> {
        let state = serde_json::to_value(&self.last.state).expect("a state is JSON");
        let expected = serde_json::to_value(&whole.last.state).expect("a state is JSON");
        let difference = difference(&state, &expected)?;
        Some(format!("the state differs: {difference}"))
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

/// Returns the name of the first tensor that is not in both files with the same bits.
fn different_tensor<'a>(tensors: &'a Tensors, expected: &'a Tensors) -> Option<&'a str> {
    for name in expected.keys().chain(tensors.keys()) {
        let (is, was) = (tensors.get(name), expected.get(name));
        if is.map(TensorData::as_bytes) != was.map(TensorData::as_bytes) {
            return Some(name);
        }
    }
    None
}

/// Describes the difference of two values; for objects, that of the first key that differs.
fn difference(value: &Value, expected: &Value) -> Option<String> {
    if let (Value::Object(fields), Value::Object(wanted)) = (value, expected) {
        for key in wanted.keys().chain(fields.keys()) {
            let (is, was) = (fields.get(key), wanted.get(key));
            if is != was {
                return Some(format!(
                    "`{key}` is {is:?} instead of {was:?}, in {expected:?}"
                ));
            }
        }
    }
    (value != expected).then(|| format!("{value} instead of {expected}"))
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
