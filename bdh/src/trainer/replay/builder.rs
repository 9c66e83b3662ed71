//! The builder of a replay, which refuses callbacks that a replay never calls.

use super::Replay;
use crate::cadence;
use crate::callback::Callback;
use crate::checkpoint::{self, Checkpoint};
use crate::clock::RunLength;
use crate::data::{self, EvalData, TrainData};
use crate::error::{CheckpointError, ConfigError};
use crate::failure::with_causes;
use crate::hook::{Hook, Hooks};
use crate::params::{self, ParamTable};
use crate::plan::{Plan, PlanRow, check_keys};
use crate::run::RunInfo;
use crate::sink::Sink;
use crate::task::Task;
use crate::trainer::builder::{add_jsonl, info, table_of};
use crate::trainer::callbacks::Callbacks;
use crate::trainer::compute::Compute;
use crate::trainer::engine::Engine;
use crate::trainer::eval_sets::{self, EvalSet};
use crate::trainer::observers::Observers;
use crate::trainer::run_io::RunIo;
use serde_json::{Value, json};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Builder of a [`Replay`], returned by [`Replay::builder`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct ReplayBuilder<T: Task> {
    task: T,
    model: T::Model,
    train_data: Option<Box<dyn TrainData<Batch = T::Batch>>>,
    eval_sets: Vec<EvalSet<T::Batch>>,
    paths: Vec<PathBuf>,
    callbacks: Vec<Box<dyn Callback>>,
    sinks: Vec<Box<dyn Sink>>,
    run_dir: Option<PathBuf>,
    eval: bool,
    gradients: bool,
}

impl<T: Task> fmt::Debug for ReplayBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBuilder")
            .field("checkpoints", &self.paths)
            .field("run_dir", &self.run_dir)
            .finish_non_exhaustive()
    }
}

/// Hooks that are called once in a replay, independent of its checkpoints.
const FRAME: [Hook; 2] = [Hook::OnFitStart, Hook::OnFitEnd];
const EVAL: [Hook; 2] = [Hook::OnEvalBatch, Hook::OnEval];
const GRADIENTS: [Hook; 3] = [Hook::OnStepStart, Hook::OnMicroBatch, Hook::AfterBackward];

impl<T: Task> ReplayBuilder<T> {
    pub(super) fn new(task: T, model: T::Model) -> Self {
        Self {
            task,
            model,
            train_data: None,
            eval_sets: Vec::new(),
            paths: Vec::new(),
            callbacks: Vec::new(),
            sinks: Vec::new(),
            run_dir: None,
            eval: false,
            gradients: false,
        }
    }

    /// Adds a checkpoint, or all checkpoints of a run directory. Required.
    pub fn checkpoints(mut self, path: impl Into<PathBuf>) -> Self {
        self.paths.push(path.into());
        self
    }

    /// Adds a callback. It acts on every checkpoint; its cadence is ignored.
    pub fn callback(mut self, callback: impl Callback + 'static) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Adds several callbacks, for example the result of [`from_toml`](crate::registry::from_toml).
    pub fn callbacks(mut self, callbacks: impl IntoIterator<Item = Box<dyn Callback>>) -> Self {
        self.callbacks.extend(callbacks);
        self
    }

    /// Adds a sink. A replay with a run directory always writes `metrics.jsonl`; it needs no sink here.
    pub fn sink(mut self, sink: impl Sink + 'static) -> Self {
        self.sinks.push(Box::new(sink));
        self
    }

    /// Adds several sinks, for example sinks chosen by name.
    pub fn sinks(mut self, sinks: impl IntoIterator<Item = Box<dyn Sink>>) -> Self {
        self.sinks.extend(sinks);
        self
    }

    /// Sets the directory that the replay writes to; it must not be the run's. Without one, nothing is left on disk.
    pub fn run_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.run_dir = Some(dir.into());
        self
    }

    /// Sets the training data of the original run, for [`gradients`](Self::gradients).
    pub fn train_data(mut self, data: impl TrainData<Batch = T::Batch>) -> Self {
        self.train_data = Some(Box::new(data));
        self
    }

    /// Adds an eval set under a name, for [`eval`](Self::eval).
    pub fn eval_data(
        mut self,
        name: impl Into<String>,
        data: impl EvalData<Batch = T::Batch> + 'static,
    ) -> Self {
        self.eval_sets.push(EvalSet::new(name, data, None));
        self
    }

    /// Sets whether each checkpoint is evaluated on the eval sets. Defaults to no.
    pub fn eval(mut self, eval: bool) -> Self {
        self.eval = eval;
        self
    }

    /// Sets whether the gradients of the step after each checkpoint are computed, for callbacks that use gradients or
    /// activations. Defaults to no.
    ///
    /// Batches, losses, gradients and activations are those of the original run. Values logged from them are recorded
    /// at that step, one after the checkpoint's.
    pub fn gradients(mut self, gradients: bool) -> Self {
        self.gradients = gradients;
        self
    }

    /// Finds the checkpoints, builds the replay and checks it as a whole. Nothing is written yet.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] if there is no checkpoint, if the first one is damaged or of another model, or if a callback
    /// would never be called.
    pub fn build(mut self) -> Result<Replay<T>, ConfigError> {
        let checkpoints = find(&self.paths)?;
        self.check()?;
        eval_sets::check(&self.eval_sets, &self.task, &self.model)?;
        self.model = params::with_own_ids(self.model)?;
        let table = table_of(&self.model)?;
        let path = &checkpoints[0].1;
        let first = Checkpoint::read(path).map_err(|error| unusable(path, &error))?;
        let callbacks = Callbacks::new(std::mem::take(&mut self.callbacks))?;
        if self.run_dir.is_some() {
            add_jsonl(&mut self.sinks);
        }
        let (eval, gradients) = (self.eval, self.gradients);
        let engine = self.into_engine(table, callbacks, &first, &checkpoints)?;
        Ok(Replay {
            engine,
            checkpoints,
            eval,
            gradients,
        })
    }

    /// Makes the engine, with the seed and the length of the original run.
    fn into_engine(
        self,
        table: Arc<ParamTable>,
        callbacks: Callbacks,
        first: &Checkpoint,
        checkpoints: &[(u64, PathBuf)],
    ) -> Result<Engine<T>, ConfigError> {
        let seed = first.state.seed;
        let length = length(first, checkpoints);
        let plan = self.plan(length, &table, &callbacks, checkpoints)?;
        let config = self.config(first, &table, &callbacks);
        let info = RunInfo {
            eval_sets: plan.eval_sets.clone(),
            ..info(self.run_dir.as_deref(), plan.length, seed, config)
        };
        let data = match self.train_data {
            Some(data) => data,
            None => Box::new(data::by_hand()),
        };
        let compute = Compute::new(self.task, self.model, table, data, self.eval_sets);
        check_model(&compute.saved, first, &checkpoints[0].1)?;
        // A replay has no step time, so no callback can exceed an overhead budget.
        let mut observers = Observers::new(callbacks, f64::INFINITY);
        observers.all_due = true;
        let io = RunIo::new(info, self.sinks);
        Ok(Engine::new(compute, observers, io, plan, seed))
    }

    /// Returns the configuration that `run.json` of the replay holds.
    fn config(&self, first: &Checkpoint, table: &ParamTable, callbacks: &Callbacks) -> Value {
        json!({
            "replay": { "checkpoints": self.paths, "eval": self.eval, "gradients": self.gradients },
            "callbacks": callbacks.configs(),
            "parameters": table.num_elements(),
            "user": first.state.config["user"],
        })
    }

    /// Makes the plan of the replay, and checks its keys.
    fn plan(
        &self,
        length: RunLength,
        table: &ParamTable,
        callbacks: &Callbacks,
        checkpoints: &[(u64, PathBuf)],
    ) -> Result<Plan, ConfigError> {
        let mut plan = Plan {
            steps: length.steps().unwrap_or(0),
            length,
            devices: 1,
            grad_accum_steps: 1,
            clip_grad_norm: None,
            params: (table.len(), table.num_elements()),
            tied: table.tied(),
            groups: Vec::new(),
            frozen: Vec::new(),
            eval_sets: eval_sets::names(&self.eval_sets),
            rows: self.rows(callbacks, checkpoints),
            interventions: Vec::new(),
            sinks: self.sinks.iter().map(|sink| sink.name()).collect(),
            files: self.sinks.iter().flat_map(|sink| sink.files()).collect(),
            notes: Vec::new(),
        };
        eval_sets::with_metrics(&self.eval_sets, &self.task, &self.model, |metrics| {
            check_keys(&plan.rows, &[], metrics)?;
            callbacks.check(&mut plan, self.run_dir.is_some(), metrics)
        })?;
        Ok(plan)
    }

    /// Makes the rows of the plan. Each acts on every checkpoint.
    fn rows(&self, callbacks: &Callbacks, checkpoints: &[(u64, PathBuf)]) -> Vec<PlanRow> {
        let steps_shown: Vec<u64> = checkpoints.iter().map(|(step, _)| *step).collect();
        let row = |name: String, hooks, keys| PlanRow {
            name,
            hooks,
            cadence: cadence::at(steps_shown.iter().copied()),
            firings: Some(steps_shown.clone()),
            keys,
        };
        let mut rows = Vec::new();
        if self.eval {
            let mut keys = Vec::new();
            for set in &self.eval_sets {
                keys.push(format!("{}/*", set.name));
            }
            rows.push(row("eval".to_owned(), Hooks::NONE, keys));
        }
        for callback in callbacks.iter() {
            rows.push(row(callback.name(), callback.hooks(), callback.keys()));
        }
        rows
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.eval && self.eval_sets.is_empty() {
            let problem = "the replay has no eval set; add one with `.eval_data(\"val\", …)`";
            return Err(ConfigError::invalid("eval", true, problem));
        }
        if self.gradients && self.train_data.is_none() {
            return Err(ConfigError::Missing {
                field: "train_data",
            });
        }
        for callback in &self.callbacks {
            self.check_callback(&**callback)?;
        }
        Ok(())
    }

    /// Refuses a callback if a replay would call none of its hooks except `on_fit_start` and `on_fit_end`.
    fn check_callback(&self, callback: &dyn Callback) -> Result<(), ConfigError> {
        let mut hooks = Hooks::NONE;
        for hook in callback.hooks().iter() {
            if FRAME.contains(&hook) {
                continue;
            }
            if self.calls(hook) {
                return Ok(());
            }
            hooks = hooks.with(hook);
        }
        if hooks == Hooks::NONE {
            return Ok(());
        }
        let why = why_not_called(hooks);
        let problem = format!("it acts in {hooks} only, and {why}");
        Err(ConfigError::invalid("callback", callback.name(), problem))
    }

    /// Whether the replay calls a hook for each checkpoint.
    fn calls(&self, hook: Hook) -> bool {
        match hook {
            Hook::OnStep => true,
            hook if EVAL.contains(&hook) => self.eval,
            hook => self.gradients && GRADIENTS.contains(&hook),
        }
    }
}

/// Returns the reason why a replay calls none of these hooks.
fn why_not_called(hooks: Hooks) -> &'static str {
    if GRADIENTS.iter().any(|hook| hooks.contains(*hook)) {
        return "a replay calls it with `.gradients(true)` only";
    }
    if EVAL.iter().any(|hook| hooks.contains(*hook)) {
        return "a replay calls it with `.eval(true)` only";
    }
    "a replay updates and saves nothing, so it is never called"
}

/// Returns the length of the original run, so that fractions of it mean the same in the replay.
fn length(first: &Checkpoint, checkpoints: &[(u64, PathBuf)]) -> RunLength {
    let settings = &first.state.config["trainer"];
    let limit = settings["seconds"]
        .as_f64()
        .map(Duration::try_from_secs_f64);
    if let Some(Ok(limit)) = limit {
        return RunLength::Time(limit);
    }
    let last = checkpoints.last().map_or(0, |(step, _)| *step);
    RunLength::Steps(settings["steps"].as_u64().unwrap_or(0).max(last))
}

/// Checks that the saved model has the parameters of this one.
fn check_model(table: &ParamTable, saved: &Checkpoint, path: &Path) -> Result<(), ConfigError> {
    params::check(table, &saved.model).map_err(|error| {
        let mismatch = CheckpointError::Mismatch {
            path: path.to_owned(),
            what: error.to_string(),
        };
        unusable(path, &mismatch)
    })
}

/// Finds the checkpoints at the given paths, one for each step, in the order of steps.
fn find(paths: &[PathBuf]) -> Result<Vec<(u64, PathBuf)>, ConfigError> {
    if paths.is_empty() {
        return Err(ConfigError::Missing {
            field: "checkpoints",
        });
    }
    let mut found = Vec::new();
    for path in paths {
        found.extend(find_at(path)?);
    }
    found.sort();
    found.dedup_by_key(|(step, _)| *step);
    Ok(found)
}

/// Finds the checkpoints at one path, at least one.
fn find_at(path: &Path) -> Result<Vec<(u64, PathBuf)>, ConfigError> {
    let found = checkpoint::find(path).map_err(|error| unusable(path, &error))?;
    if found.is_empty() {
        let problem =
            "no checkpoint is there; give a checkpoint, or the directory of a run with checkpoints";
        return Err(ConfigError::invalid("checkpoints", path.display(), problem));
    }
    Ok(found)
}

fn unusable(path: &Path, error: &CheckpointError) -> ConfigError {
    let problem = format!("it cannot be replayed: {}", with_causes(error));
    ConfigError::invalid("checkpoints", path.display(), problem)
}
