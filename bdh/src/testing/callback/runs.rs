//! Runs in which callbacks are checked.

use crate::cadence::{every, last};
use crate::outcome::{Outcome, TrainResult};
use crate::params::{self, ParamTable};
use crate::plan::Plan;
use crate::record::Record;
use crate::sink::{Jsonl, MemorySink};
use crate::testing::tiny::{self, Tiny, TinyTask};
use crate::trainer::TrainerBuilder;
use burn::optim::{AdamWConfig, SgdConfig};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Number of steps of a run, if the callback does not stop it.
pub(super) const STEPS: u64 = 12;

/// Number of micro-batches per step: more than one, for callbacks with the hook `on_micro_batch`.
pub(super) const MICRO_BATCHES: usize = 2;

/// A line of `metrics.jsonl`: the step and its values.
pub(super) type Line = Map<String, Value>;

/// A run that has ended.
pub(super) struct Run {
    pub(super) result: TrainResult<Tiny>,
    pub(super) plan: Plan,
    pub(super) records: Vec<Record>,
    /// Records on disk: after a resume also those before it.
    pub(super) lines: Vec<Line>,
}

/// Composes a run with everything that callbacks observe.
pub(super) fn run() -> TrainerBuilder<TinyTask> {
    tiny::run(STEPS)
        .optimizer(AdamWConfig::new().build(), 0.01)
        .grad_accum_steps(MICRO_BATCHES)
        .clip_grad_norm(0.5)
        .eval(every(4) | last())
        .checkpoint(every(4) | last())
}

/// Composes a run whose loss is NaN from the second or third step on.
pub(super) fn diverging_run() -> TrainerBuilder<TinyTask> {
    tiny::run(STEPS)
        .optimizer(SgdConfig::new().build(), f64::MAX)
        .eval(every(4))
}

/// Runs to the end, in a directory.
pub(super) fn fit(dir: &Path, run: TrainerBuilder<TinyTask>) -> Run {
    let memory = MemorySink::default();
    let trainer = run.run_dir(dir).sink(memory.clone()).build();
    let trainer = trainer.unwrap_or_else(|error| panic!("the run is not valid: {error:?}"));
    let plan = trainer.plan().clone();
    let result = trainer
        .fit()
        .unwrap_or_else(|error| panic!("the run failed: {error:?}"));
    assert!(
        !matches!(result.outcome, Outcome::Failed(_)),
        "{}",
        result.outcome
    );
    Run {
        result,
        plan,
        records: memory.records(),
        lines: read_lines(dir),
    }
}

fn read_lines(dir: &Path) -> Vec<Line> {
    let text = fs::read_to_string(dir.join(Jsonl::FILE)).expect("a run has records");
    // Records of files contain the run directory, which differs from run to run.
    let text = text.replace(&*dir.to_string_lossy(), "run");
    let mut lines = Vec::new();
    for line in text.lines() {
        lines.push(serde_json::from_str(line).expect("a record is a JSON object"));
    }
    lines
}

impl Run {
    /// Checks that the run had no warnings; the callback under test caused any.
    pub(super) fn check(&self, name: &str) {
        let warnings = &self.result.warnings;
        assert!(warnings.is_empty(), "`{name}` failed: {warnings:?}");
    }

    /// Returns the number of the last step.
    pub(super) fn steps(&self) -> u64 {
        match &self.result.last {
            Some(record) => record.clock.step,
            None => 0,
        }
    }

    /// Returns the bytes of every parameter.
    pub(super) fn weights(&self) -> Vec<Vec<u8>> {
        let table = ParamTable::with_frozen(&self.result.model);
        let tensors =
            params::capture(&self.result.model, &table).expect("parameters of a model on the CPU");
        tensors
            .values()
            .map(|tensor| tensor.as_bytes().to_vec())
            .collect()
    }

    /// Returns every recorded key.
    pub(super) fn keys(&self) -> BTreeSet<String> {
        let values = self.records.iter().flat_map(|record| &record.values);
        values.map(|(key, _)| key.clone()).collect()
    }
}
