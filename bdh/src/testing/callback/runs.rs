//! The runs in which callbacks are checked.

use crate::cadence::{every, last};
use crate::outcome::{Fitted, Outcome};
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

/// Steps of a run, if the callback does not end it.
pub(super) const STEPS: u64 = 12;

/// Micro-batches of a step: more than one, for callbacks that look at each.
pub(super) const MICRO_BATCHES: usize = 2;

/// A line of `metrics.jsonl`: a step, and what was recorded on it.
pub(super) type Line = Map<String, Value>;

/// A run that has ended.
pub(super) struct Run {
    pub(super) fitted: Fitted<Tiny>,
    pub(super) plan: Plan,
    pub(super) records: Vec<Record>,
    /// The same, on disk; after a resume from the beginning.
    pub(super) lines: Vec<Line>,
}

/// A run with everything that callbacks look at.
pub(super) fn run() -> TrainerBuilder<TinyTask> {
    tiny::run(STEPS)
        .optimizer(AdamWConfig::new().build(), 0.01)
        .grad_accum_steps(MICRO_BATCHES)
        .clip_grad_norm(0.5)
        .eval(every(4) | last())
        .checkpoint(every(4) | last())
}

/// One whose loss is NaN from its second or third step on.
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
    let fitted = trainer
        .fit()
        .unwrap_or_else(|error| panic!("the run failed: {error:?}"));
    assert!(
        !matches!(fitted.outcome, Outcome::Failed(_)),
        "{}",
        fitted.outcome
    );
    let lines = fs::read_to_string(dir.join(Jsonl::FILE)).expect("a run has records");
    let lines = lines.replace(&*dir.to_string_lossy(), "run"); // no two runs are in one place
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"));
    Run {
        fitted,
        plan,
        records: memory.records(),
        lines: lines.collect(),
    }
}

impl Run {
    /// Checks that nothing went wrong; the callback under test is to blame if it did.
    pub(super) fn check(&self, name: &str) {
        let problems = &self.fitted.problems;
        assert!(problems.is_empty(), "`{name}` failed: {problems:?}");
    }

    /// The last step.
    pub(super) fn steps(&self) -> u64 {
        self.fitted
            .last
            .as_ref()
            .map_or(0, |record| record.clock.step)
    }

    /// The parameters to the bit.
    pub(super) fn weights(&self) -> Vec<Vec<u8>> {
        let table = ParamTable::with_frozen(&self.fitted.model);
        let tensors =
            params::capture(&self.fitted.model, &table).expect("parameters of a model on the CPU");
        tensors
            .values()
            .map(|tensor| tensor.as_bytes().to_vec())
            .collect()
    }

    /// Every key that was recorded.
    pub(super) fn keys(&self) -> BTreeSet<String> {
        let values = self.records.iter().flat_map(|record| &record.values);
        values.map(|(key, _)| key.clone()).collect()
    }
}
