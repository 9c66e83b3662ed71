//! The builder of a replay, which refuses callbacks that a replay never calls.

use super::Replay;
use crate::cadence;
use crate::callback::Callback;
use crate::checkpoint::{self, Checkpoint};
use crate::error::{CheckpointError, ConfigError};
use crate::failure::with_causes;
use crate::hook::{Hook, Hooks};
use crate::params::{self, ParamTable};
use crate::plan::{Metrics, Plan, PlanRow, check_keys};
use crate::sink::Sink;
use crate::task::Task;
use crate::trainer::builder::{add_jsonl, check_val, info, metrics_of, table_of};
use crate::trainer::callbacks::Callbacks;
use crate::trainer::compute::Compute;
use crate::trainer::engine::Engine;
use crate::trainer::observers::Observers;
use crate::trainer::run_io::RunIo;
use serde_json::{Value, json};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Builder of a [`Replay`], returned by [`Replay::builder`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct ReplayBuilder<T: Task> {
    task: T,
    model: T::Model,
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

    /// Sets whether each checkpoint is evaluated on the validation split. Defaults to no.
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
        check_val(&self.task, &self.model)?;
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
        let steps = num_steps(first, checkpoints);
        let plan = self.plan(steps, &table, &callbacks, checkpoints)?;
        let config = self.config(first, &table, &callbacks);
        let info = info(self.run_dir.as_deref(), steps, seed, config);
        let compute = Compute::new(self.task, self.model, table);
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
        steps: u64,
        table: &ParamTable,
        callbacks: &Callbacks,
        checkpoints: &[(u64, PathBuf)],
    ) -> Result<Plan, ConfigError> {
        let mut plan = Plan {
            steps,
            devices: 1,
            grad_accum_steps: 1,
            clip_grad_norm: None,
            params: (table.len(), table.num_elements()),
            groups: Vec::new(),
            rows: self.rows(callbacks, checkpoints),
            interventions: Vec::new(),
            sinks: self.sinks.iter().map(|sink| sink.name()).collect(),
            files: self.sinks.iter().flat_map(|sink| sink.files()).collect(),
            notes: Vec::new(),
        };
        let find_metrics = || metrics_of(&self.task, &self.model);
        let metrics = Metrics::new(&find_metrics);
        check_keys(&plan.rows, &[], &metrics)?;
        callbacks.check(&mut plan, self.run_dir.is_some(), &metrics)?;
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
            let keys = vec!["val/*".to_owned()];
            rows.push(row("eval".to_owned(), Hooks::NONE, keys));
        }
        for callback in callbacks.iter() {
            rows.push(row(callback.name(), callback.hooks(), callback.keys()));
        }
        rows
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.eval && self.task.val_batches().is_empty() {
            let problem = "the task has no validation batches";
            return Err(ConfigError::invalid("eval", true, problem));
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
fn num_steps(first: &Checkpoint, checkpoints: &[(u64, PathBuf)]) -> u64 {
    let planned = first.state.config["trainer"]["steps"].as_u64();
    let last = checkpoints.last().map_or(0, |(step, _)| *step);
    planned.unwrap_or(0).max(last)
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
