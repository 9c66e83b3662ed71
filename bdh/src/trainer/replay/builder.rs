//! Composes a replay, and refuses what could never be called in one.

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
use serde_json::json;
use std::path::{Path, PathBuf};

/// Composes a [`Replay`]; begun by [`Replay::builder`].
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

/// Called in every replay, about no checkpoint in particular.
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

    /// Adds a checkpoint, or all that a run directory holds. Required.
    pub fn checkpoints(mut self, path: impl Into<PathBuf>) -> Self {
        self.paths.push(path.into());
        self
    }

    /// Adds a callback. It acts on every checkpoint, whatever its cadence.
    pub fn callback(mut self, callback: impl Callback + 'static) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Adds callbacks, each for itself, such as those that
    /// [`callbacks_from_toml`](crate::callbacks_from_toml) built.
    pub fn callbacks(mut self, callbacks: impl IntoIterator<Item = Box<dyn Callback>>) -> Self {
        self.callbacks.extend(callbacks);
        self
    }

    /// Adds a sink. With a run directory, `metrics.jsonl` is written without asking.
    pub fn sink(mut self, sink: impl Sink + 'static) -> Self {
        self.sinks.push(Box::new(sink));
        self
    }

    /// Adds sinks, such as those that were chosen by name.
    pub fn sinks(mut self, sinks: impl IntoIterator<Item = Box<dyn Sink>>) -> Self {
        self.sinks.extend(sinks);
        self
    }

    /// Where the replay writes: a directory of its own, not that of the run. Unset, it leaves nothing on disk.
    pub fn run_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.run_dir = Some(dir.into());
        self
    }

    /// Whether each checkpoint is measured on the validation split. Defaults to no.
    pub fn eval(mut self, eval: bool) -> Self {
        self.eval = eval;
        self
    }

    /// Whether the step after each checkpoint is taken up to its gradients, for callbacks that look at gradients or
    /// activations. Defaults to no.
    ///
    /// The batches are those that the run saw in that step, and so are losses, gradients and activations; what is
    /// logged of them is recorded at that step, one after the checkpoint's, as the run did.
    pub fn gradients(mut self, gradients: bool) -> Self {
        self.gradients = gradients;
        self
    }

    /// Finds the checkpoints, and checks the replay as a whole. Nothing is written yet.
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
        let last = checkpoints.last().map_or(0, |(step, _)| *step);
        // As long as the run of the checkpoint.
        let steps = first.state.config["trainer"]["steps"]
            .as_u64()
            .unwrap_or_default()
            .max(last);
        let callbacks = Callbacks::new(std::mem::take(&mut self.callbacks))?;
        let config = json!({
            "replay": { "checkpoints": self.paths, "eval": self.eval, "gradients": self.gradients },
            "callbacks": callbacks.configs(),
            "parameters": table.num_elements(),
            "user": first.state.config["user"],
        });
        if self.run_dir.is_some() {
            add_jsonl(&mut self.sinks);
        }
        let mut plan = self.plan(steps, &table, &callbacks, &checkpoints);
        let find_metrics = || metrics_of(&self.task, &self.model);
        let metrics = Metrics::new(&find_metrics);
        check_keys(&plan.rows, &[], &metrics)?;
        callbacks.check(&mut plan, self.run_dir.is_some(), &metrics)?;
        let info = info(self.run_dir.as_deref(), steps, first.state.seed, config);
        let compute = Compute::new(self.task, self.model, table);
        params::check(&compute.saved, &first.model).map_err(|what| {
            let path = path.clone();
            unusable(&path.clone(), &CheckpointError::Mismatch { path, what })
        })?;
        // No step is slowed, so no callback is over its budget.
        let mut observers = Observers::new(callbacks, f64::INFINITY);
        observers.all_due = true;
        let io = RunIo::new(info, self.sinks);
        let engine = Engine::new(compute, observers, io, plan, first.state.seed);
        Ok(Replay {
            engine,
            checkpoints,
            eval: self.eval,
            gradients: self.gradients,
        })
    }

    /// Which checkpoints are looked at, and what is recorded of them.
    fn plan(
        &self,
        steps: u64,
        table: &ParamTable,
        callbacks: &Callbacks,
        checkpoints: &[(u64, PathBuf)],
    ) -> Plan {
        let looked_at: Vec<_> = checkpoints.iter().map(|(step, _)| *step).collect();
        let row = |name: String, hooks, keys| PlanRow {
            name,
            hooks,
            cadence: cadence::at(looked_at.iter().copied()),
            firings: Some(looked_at.clone()),
            keys,
        };
        let mut rows = Vec::new();
        if self.eval {
            rows.push(row(
                "eval".to_owned(),
                Hooks::NONE,
                vec!["val/*".to_owned()],
            ));
        }
        rows.extend(callbacks.iter().map(|c| row(c.name(), c.hooks(), c.keys())));
        Plan {
            steps,
            devices: 1,
            grad_accum_steps: 1,
            clip_grad_norm: None,
            params: (table.len(), table.num_elements()),
            groups: Vec::new(),
            rows,
            interventions: Vec::new(),
            sinks: self.sinks.iter().map(|sink| sink.name()).collect(),
            files: self.sinks.iter().flat_map(|sink| sink.files()).collect(),
            notes: Vec::new(),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.eval && self.task.val_batches().is_empty() {
            let expected = "and the task has no validation batches".to_owned();
            return Err(ConfigError::Invalid {
                field: "eval",
                value: "true".to_owned(),
                expected,
            });
        }
        self.callbacks
            .iter()
            .try_for_each(|callback| self.check_callback(&**callback))
    }

    /// Refuses a callback of which no hook would be called, but for the first and the last.
    fn check_callback(&self, callback: &dyn Callback) -> Result<(), ConfigError> {
        let acts_in: Vec<_> = callback
            .hooks()
            .iter()
            .filter(|hook| !FRAME.contains(hook))
            .collect();
        let is_called = |hook: &Hook| match hook {
            Hook::OnStep => true,
            hook if EVAL.contains(hook) => self.eval,
            hook => self.gradients && GRADIENTS.contains(hook),
        };
        if acts_in.is_empty() || acts_in.iter().any(is_called) {
            return Ok(());
        }
        let needs = |hooks: &[Hook]| acts_in.iter().any(|hook| hooks.contains(hook));
        let why = match () {
            () if needs(&GRADIENTS) => "for which a replay needs `.gradients(true)`",
            () if needs(&EVAL) => "for which a replay needs `.eval(true)`",
            () => "which a replay never comes to: it updates and saves nothing",
        };
        let hooks = acts_in.into_iter().fold(Hooks::NONE, Hooks::with);
        let expected = format!("which acts only in {hooks}, {why}");
        Err(ConfigError::Invalid {
            field: "callback",
            value: callback.name(),
            expected,
        })
    }
}

/// The checkpoints at some paths, in the order of steps, and one of each step.
fn find(paths: &[PathBuf]) -> Result<Vec<(u64, PathBuf)>, ConfigError> {
    if paths.is_empty() {
        return Err(ConfigError::Missing {
            field: "checkpoints",
        });
    }
    let mut found = Vec::new();
    for path in paths {
        let here = checkpoint::find(path).map_err(|error| unusable(path, &error))?;
        if here.is_empty() {
            let value = path.display().to_string();
            let expected = "where there is none; give a checkpoint, or a run directory with some";
            return Err(ConfigError::Invalid {
                field: "checkpoints",
                value,
                expected: expected.to_owned(),
            });
        }
        found.extend(here);
    }
    found.sort();
    found.dedup_by_key(|(step, _)| *step);
    Ok(found)
}

fn unusable(path: &Path, error: &CheckpointError) -> ConfigError {
    let value = path.display().to_string();
    let expected = format!("which cannot be replayed: {}", with_causes(error));
    ConfigError::Invalid {
        field: "checkpoints",
        value,
        expected,
    }
}
