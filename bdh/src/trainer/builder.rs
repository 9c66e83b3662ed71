//! Composes a run, and checks it as a whole before the first step.

mod devices;

use super::callbacks::Callbacks;
use super::compute::Compute;
use super::engine::Engine;
use super::observers::Observers;
use super::run_io::RunIo;
use super::{Resume, Trainer};
use crate::cadence::{Cadence, CadenceError};
use crate::callback::Callback;
use crate::checkpoint;
use crate::clock::Clock;
use crate::error::ConfigError;
use crate::feedback::Feedback;
use crate::hook::Hooks;
use crate::intervention::{self, Intervention};
use crate::optim::{Group, Optimizers};
use crate::params::{self, ParamTable};
use crate::plan::{Metrics, Plan, PlanRow, check_keys};
use crate::run::RunInfo;
use crate::run_dir;
use crate::schedule::Schedule;
use crate::sink::{Jsonl, Sink};
use crate::task::{BatchSize, Task, Totals};
use burn::module::Module;
use burn::optim::DynOptimizer;
use burn::tensor::Device;
use derive_builder::Builder;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a run is made of, as the builder collects it. Its fields' documentation is the setters'.
#[derive(Builder)]
#[builder(
    name = "TrainerBuilder",
    pattern = "owned",
    build_fn(private, name = "assemble", error = "ConfigError")
)]
#[builder_struct_attr(doc = "Composes a [`Trainer`]; begun by [`Trainer::builder`].")]
#[builder_struct_attr(must_use = "a builder does nothing until `build` is called")]
pub struct Parts<T: Task> {
    #[builder(setter(custom))]
    task: T,
    #[builder(setter(custom))]
    model: T::Model,
    #[builder(setter(custom), default)]
    groups: Vec<Group>,
    #[builder(setter(custom), default)]
    callbacks: Vec<Box<dyn Callback>>,
    #[builder(setter(custom), default)]
    interventions: Vec<Box<dyn Intervention>>,
    #[builder(setter(custom), default)]
    sinks: Vec<Box<dyn Sink>>,
    /// How many updates the run takes. Required.
    steps: u64,
    /// Micro-batches that are averaged into one update. Defaults to 1.
    #[builder(default = 1)]
    grad_accum_steps: usize,
    /// Devices that share each step, from [`bdh::devices`](crate::devices): a replica of the model is trained on each, and
    /// the step's micro-batches are dealt out to them in turn. The model is to be on the first. Unset, it trains where it is.
    ///
    /// `grad_accum_steps` counts the micro-batches of all devices together, so the run is the same on any number of them,
    /// up to the rounding of sums; and, on several GPUs, up to dropout: burn has one generator for all of them, which their
    /// threads ask in no certain order. Hooks inside a step see the first device's micro-batches.
    #[builder(default, setter(into))]
    devices: Vec<Device>,
    /// Whether gradients and weights go through host memory also where NCCL could carry them. Defaults to no.
    #[builder(default)]
    exchange_on_host: bool,
    /// The steps on which all replicas are read, parameters and buffers, and compared to the bit. Defaults to every 1,000
    /// and the last.
    #[builder(default = "crate::cadence::every(1000) | Cadence::Last", setter(into))]
    check_replicas: Cadence,
    /// Largest global L2 norm that the gradients may have; larger ones are scaled down to it, on the
    /// device, as PyTorch's `clip_grad_norm_` does. Unset, nothing is clipped.
    #[builder(default, setter(strip_option))]
    clip_grad_norm: Option<f64>,
    /// The steps on which `train/loss` and the learning rates are recorded. Defaults to every step.
    ///
    /// A recorded step costs one device read; where a step takes less than a millisecond on a GPU,
    /// `every(10)` keeps the device busy. The last step is recorded in any case but [`never`](crate::never), and so is
    /// the one on which a run is stopped, until it is resumed.
    #[builder(default, setter(into))]
    log: Cadence,
    /// The steps on which the validation split is measured. Defaults to the last one.
    #[builder(default, setter(into, strip_option))]
    eval: Option<Cadence>,
    /// The steps on which a checkpoint is written to `checkpoints/` in the run directory. Defaults to
    /// none; callbacks may ask for more.
    #[builder(default = Cadence::Never, setter(into))]
    checkpoint: Cadence,
    /// How many of those checkpoints are kept, newest first. Pinned ones do not count. Defaults to 2.
    #[builder(default = 2)]
    keep_checkpoints: usize,
    /// Seed of everything random in training: dropout, interventions, samples, and data that a task draws from the device.
    /// Defaults to 0.
    ///
    /// The model's first weights exist before; [`bdh::seed`](crate::seed()) is for them.
    #[builder(default)]
    seed: u64,
    /// Where the run writes; unset, it leaves nothing on disk.
    #[builder(default, setter(into, strip_option))]
    run_dir: Option<PathBuf>,
    /// Where to go on from: `"auto"`, or the path of a checkpoint. Model, optimizer, data, clock and
    /// callbacks are restored.
    ///
    /// The run directory may be the one that the checkpoint is in: the run goes on there, and records and
    /// checkpoints of later steps, a future that is given up, are deleted. Or it may be a new one.
    #[builder(default, setter(into, strip_option))]
    resume: Option<Resume>,
    #[builder(setter(custom), default)]
    allowed_changes: Vec<String>,
    /// Whether SIGINT and SIGTERM end the run cleanly: checkpoint, flush, return. Defaults to yes; a
    /// second signal ends the process at once.
    #[builder(default = true)]
    stop_on_signals: bool,
    /// How much one callback may slow the steps, in percent, before the table at the end of the run warns of it and says
    /// which cadence would do. Defaults to 5: what costs more is switched off by somebody in a hurry, and missed later.
    #[builder(default = 5.0)]
    overhead_budget: f64,
    #[builder(setter(custom), default)]
    config: Value,
}

/// The settings that the loop goes by.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Settings {
    pub(super) steps: u64,
    pub(super) grad_accum_steps: usize,
    #[serde(skip_serializing_if = "is_one")] // as in runs of versions that knew one device
    pub(super) devices: usize,
    #[serde(skip)]
    pub(super) check_replicas: Cadence,
    pub(super) clip_grad_norm: Option<f64>,
    pub(super) log: Cadence,
    /// When the trainer's own values are recorded: as `log` says, and on the last step.
    #[serde(skip)]
    pub(super) record: Cadence,
    pub(super) eval: Cadence,
    pub(super) checkpoint: Cadence,
    pub(super) keep_checkpoints: usize,
    pub(super) seed: u64,
}

impl<T: Task> TrainerBuilder<T> {
    pub(super) fn new(task: T, model: T::Model) -> Self {
        Self { task: Some(task), model: Some(model), ..Self::default() }
    }

    /// Updates all parameters that no earlier group claims with one of burn's optimizers, such as
    /// `AdamWConfig::new().build()`. A number as schedule is a constant learning rate.
    pub fn optimizer(
        self,
        optimizer: impl DynOptimizer + 'static,
        schedule: impl Into<Schedule>,
    ) -> Self {
        self.group(Group::new("default", |_| true, optimizer, schedule))
    }

    /// Adds a parameter group. The first group that claims a parameter gets it.
    pub fn group(mut self, group: Group) -> Self {
        self.groups.get_or_insert_default().push(group);
        self
    }

    /// Adds a callback. Callbacks are called in the order in which they were added.
    pub fn callback(mut self, callback: impl Callback + 'static) -> Self {
        self.callbacks.get_or_insert_default().push(Box::new(callback));
        self
    }

    /// Adds callbacks, each for itself, such as those that
    /// [`callbacks_from_toml`](crate::callbacks_from_toml) built.
    pub fn callbacks(mut self, callbacks: impl IntoIterator<Item = Box<dyn Callback>>) -> Self {
        self.callbacks.get_or_insert_default().extend(callbacks);
        self
    }

    /// Adds an intervention. Interventions act in the order in which they were added.
    pub fn intervention(mut self, intervention: impl Intervention + 'static) -> Self {
        self.interventions.get_or_insert_default().push(Box::new(intervention));
        self
    }

    /// Adds a sink. With a run directory, `metrics.jsonl` is written without asking.
    pub fn sink(mut self, sink: impl Sink + 'static) -> Self {
        self.sinks.get_or_insert_default().push(Box::new(sink));
        self
    }

    /// Adds sinks, such as those that were chosen by name.
    pub fn sinks(mut self, sinks: impl IntoIterator<Item = Box<dyn Sink>>) -> Self {
        self.sinks.get_or_insert_default().extend(sinks);
        self
    }

    /// Lets a resumed run differ from its checkpoint in these settings of its configuration, or in all
    /// below them: `"trainer.steps"`, `"callbacks"`, `"user.depth"`. Otherwise a difference is refused; what
    /// no number depends on (sinks, the checkpoint cadence) may change anyway.
    pub fn allow_changed(mut self, keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.allowed_changes.get_or_insert_default().extend(keys.into_iter().map(Into::into));
        self
    }

    /// The user's own configuration, saved in `run.json` and in every checkpoint.
    pub fn config(mut self, config: impl Serialize) -> Self {
        self.config = Some(serde_json::to_value(config).unwrap_or(Value::Null));
        self
    }

    /// Finishes the trainer and checks it as a whole. Nothing is written yet; a run directory to go on in
    /// is locked.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the setting, its value, and what would work.
    pub fn build(self) -> Result<Trainer<T>, ConfigError> {
        let mut parts = self.assemble()?;
        parts.check()?;
        if parts.run_dir.is_some() {
            add_jsonl(&mut parts.sinks);
        }
        check_val(&parts.task, &parts.model)?;
        let table = table_of(&parts.model)?;
        let saved = ParamTable::with_frozen(&parts.model);
        let mut callbacks = Callbacks::new(std::mem::take(&mut parts.callbacks))?;
        let own_keys = own_keys(&parts.groups);
        callbacks.keep_for_trainer(own_keys.iter().cloned());
        let optimizers = Optimizers::new(std::mem::take(&mut parts.groups), &table, &saved)?;
        let settings = parts.settings();
        let plan = parts.plan(&settings, &table, &optimizers, &callbacks, &own_keys)?;
        let info = parts.info(&settings, &optimizers, &table, &callbacks);
        let transport = parts.transport();
        // A clone that the caller has kept is not trained along.
        let model = params::with_own_states(&parts.model);
        drop(parts.model); // a resume needs the room on the device for the saved weights
        let compute = Compute {
            devices: parts.devices,
            transport,
            optimizers,
            ..Compute::new(parts.task, model, table)
        };
        let mut io = RunIo::new(info, parts.sinks);
        io.keep_checkpoints = settings.keep_checkpoints;
        io.stop_on_signals = parts.stop_on_signals;
        let observers = Observers::new(callbacks, parts.overhead_budget);
        let engine = Engine::new(compute, observers, io, plan, settings.seed);
        let mut trainer = Trainer { engine, interventions: parts.interventions, settings };
        if let Some(from) = parts.resume {
            trainer.resume(from, &parts.allowed_changes)?;
        }
        Ok(trainer)
    }
}

impl<T: Task> Parts<T> {
    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |field, value: &dyn ToString, expected: &str| {
            let (value, expected) = (value.to_string(), expected.to_owned());
            Err(ConfigError::Invalid { field, value, expected })
        };
        if self.steps == 0 {
            return invalid("steps", &self.steps, "a run takes 1 step or more");
        }
        if self.grad_accum_steps == 0 {
            let expected = "an update needs 1 micro-batch or more";
            return invalid("grad_accum_steps", &self.grad_accum_steps, expected);
        }
        self.check_devices()?;
        if let Some(norm) = self.clip_grad_norm.filter(|norm| *norm <= 0.0 || norm.is_nan()) {
            return invalid("clip_grad_norm", &norm, "a norm to clip to is above 0; 1.0 is usual");
        }
        if self.overhead_budget < 0.0 || self.overhead_budget.is_nan() {
            let expected =
                "a budget is 0 % or more; 5.0 is usual, and `f64::INFINITY` warns of nothing";
            return invalid("overhead_budget", &self.overhead_budget, expected);
        }
        if self.groups.is_empty() {
            return Err(ConfigError::Missing { field: "optimizer" });
        }
        let peaks = self.groups.iter().map(|group| group.schedule().peak());
        if let Some(peak) = peaks.into_iter().find(|peak| !peak.is_finite() || *peak < 0.0) {
            return invalid(
                "learning rate",
                &peak,
                "a learning rate is a finite number, 0 or more",
            );
        }
        if self.run_dir.is_none() && self.checkpoint != Cadence::Never {
            return Err(ConfigError::Missing { field: "run_dir" });
        }
        if let Some(dir) = &self.run_dir
            && run_dir::holds_run(dir)
            && !self.resumes_in(dir)
        {
            return Err(ConfigError::RunExists { path: dir.clone() });
        }
        intervention::check_names(&self.interventions)
    }

    /// Whether the checkpoint to continue from is one of this directory's own.
    fn resumes_in(&self, dir: &Path) -> bool {
        let Some(Resume::From(resume)) = &self.resume else { return self.resume.is_some() };
        // A checkpoint that cannot be found is told of when it is read.
        let Ok(resume) = resume.canonicalize() else { return true };
        // The folder of the checkpoints may be a link to another disk.
        [dir.to_owned(), dir.join(checkpoint::FOLDER)]
            .iter()
            .any(|own| own.canonicalize().is_ok_and(|own| resume.starts_with(own)))
    }

    fn settings(&self) -> Settings {
        Settings {
            steps: self.steps,
            grad_accum_steps: self.grad_accum_steps,
            devices: self.devices.len().max(1),
            check_replicas: self.check_replicas.clone(),
            clip_grad_norm: self.clip_grad_norm,
            log: self.log.clone(),
            record: with_last(&self.log),
            eval: match &self.eval {
                _ if self.task.val_batches().is_empty() => Cadence::Never,
                Some(cadence) => cadence.clone(),
                None => Cadence::Last,
            },
            checkpoint: self.checkpoint.clone(),
            keep_checkpoints: self.keep_checkpoints,
            seed: self.seed,
        }
    }

    /// Predicts the run.
    fn plan(
        &self,
        settings: &Settings,
        table: &ParamTable,
        optimizers: &Optimizers,
        callbacks: &Callbacks,
        own_keys: &[String],
    ) -> Result<Plan, ConfigError> {
        let per_step = self.task.batch_size().map(|size| self.clock_of_one_step(size));
        let row = |name: &str, hooks, cadence: &Cadence, keys: &[&str]| {
            let keys = keys.iter().map(ToString::to_string).collect();
            let row =
                PlanRow::new(name, hooks, cadence.clone(), keys, per_step.as_ref(), self.steps);
            check_cadence(name, cadence, per_step.as_ref(), self.steps).map(|()| row)
        };
        // Step 0 is no step of training: it has an eval and a checkpoint, but no loss and no hooks.
        let of_training = |mut row: PlanRow| {
            row.firings.iter_mut().for_each(|firings| firings.retain(|step| *step > 0));
            let is_idle = row.firings.as_ref().is_some_and(Vec::is_empty);
            if is_idle && row.cadence != Cadence::Never && !row.is_passive() {
                return Err(only_at_the_start(&row, self.steps));
            }
            Ok(row)
        };
        let mut rows = vec![
            row("record", Hooks::NONE, &settings.log, &["train/loss", "lr"])
                .and_then(of_training)
                .and_then(|_| row("record", Hooks::NONE, &settings.record, &["train/loss", "lr"]))
                .and_then(of_training)?,
            row("eval", Hooks::NONE, &settings.eval, &["val/*"])?,
            row("checkpoint", Hooks::NONE, &settings.checkpoint, &[])?,
        ];
        for callback in callbacks.iter() {
            let keys = callback.keys();
            let keys: Vec<_> = keys.iter().map(String::as_str).collect();
            let row = row(&callback.name(), callback.hooks(), &callback.cadence(), &keys)?;
            rows.push(of_training(row)?);
        }
        let find_metrics = || metrics_of(&self.task, &self.model);
        let metrics = Metrics::new(&find_metrics);
        check_keys(&rows, own_keys, &metrics)?;
        let mut plan = Plan {
            steps: self.steps,
            grad_accum_steps: self.grad_accum_steps,
            devices: settings.devices,
            clip_grad_norm: self.clip_grad_norm,
            params: (table.len(), table.num_elements()),
            groups: optimizers.describe(table),
            files: self.files(callbacks, &rows[2]),
            rows,
            interventions: self.interventions.iter().map(|i| i.name()).collect(),
            sinks: self.sinks.iter().map(|sink| sink.name()).collect(),
            notes: self.notes(optimizers, table),
        };
        callbacks.check(&mut plan, self.run_dir.is_some(), &metrics)?;
        Ok(plan)
    }

    /// Settings of the trainer's own that have no effect.
    fn notes(&self, optimizers: &Optimizers, table: &ParamTable) -> Vec<String> {
        let mut notes = Vec::new();
        let evals = self.eval.as_ref().filter(|eval| **eval != Cadence::Never);
        if let Some(eval) = evals.filter(|_| self.task.val_batches().is_empty()) {
            notes.push(format!(
                "`eval` is `{eval}`, but nothing is evaluated: the task has no validation batches (a text shorter \
                 than one window makes none)"
            ));
        }
        let groups = optimizers.describe(table).into_iter().map(|group| group.schedule.warmup());
        let warmups: Vec<u64> = groups.filter(|warmup| *warmup > self.steps).collect();
        if let Some(longest) = warmups.iter().max() {
            let (count, steps) = (warmups.len(), self.steps);
            let groups = if count == 1 { "1 group".to_owned() } else { format!("{count} groups") };
            notes.push(format!(
                "{groups} will not reach the peak learning rate: {longest} updates of warmup, {steps} steps"
            ));
        }
        let saves = self.checkpoint != Cadence::Never || self.resume.is_some();
        if saves && self.task.position().is_null() {
            notes.push(
                "no checkpoint of this run can be resumed: the task does not say where its data stands \
                 (`Task::position`)"
                    .to_owned(),
            );
        }
        notes
    }

    /// What one step of micro-batches of this size adds to the clock.
    fn clock_of_one_step(&self, size: BatchSize) -> Clock {
        let micro_batches = self.grad_accum_steps as u64;
        Clock {
            step: 1,
            micro_batches,
            tokens: size.tokens as u64 * micro_batches,
            samples: size.samples as u64 * micro_batches,
            ..Clock::default()
        }
    }

    fn files(&self, callbacks: &Callbacks, checkpoints: &PlanRow) -> Vec<String> {
        if self.run_dir.is_none() {
            return Vec::new();
        }
        let firings = checkpoints.firings.iter().flatten();
        let newest = firings.rev().take(self.keep_checkpoints.max(1));
        let mut files = vec!["run.json".to_owned()];
        files.extend(self.sinks.iter().flat_map(|sink| sink.files()));
        files.extend(newest.map(|step| format!("checkpoints/{}", super::checkpoint_name(*step))));
        files.extend(callbacks.iter().flat_map(|callback| callback.files(self.steps)));
        files
    }

    fn info(
        &self,
        settings: &Settings,
        optimizers: &Optimizers,
        table: &ParamTable,
        callbacks: &Callbacks,
    ) -> RunInfo {
        let groups = optimizers.describe(table).into_iter();
        let groups = groups.map(|group| (group.name.clone(), json!(group)));
        let interventions = self.interventions.iter().map(|i| (i.name(), i.config()));
        let config = json!({
            "trainer": settings,
            "groups": groups.collect::<Map<_, _>>(),
            "interventions": interventions.collect::<Map<_, _>>(),
            "callbacks": callbacks.configs(),
            "parameters": table.num_elements(),
            "user": self.config,
        });
        info(self.run_dir.as_deref(), self.steps, self.seed, config)
    }
}

/// A cadence of records, and the last step, whose values tables of runs compare.
fn with_last(log: &Cadence) -> Cadence {
    match log {
        Cadence::Never => Cadence::Never,
        every if *every == Cadence::EVERY_STEP => every.clone(),
        some => some.clone() | Cadence::Last,
    }
}

/// The keys that the trainer itself records, but for the metrics of an eval.
fn own_keys(groups: &[Group]) -> Vec<String> {
    let of_groups = groups.iter().map(|group| format!("lr/{}", group.name()));
    let own = ["train/loss", "train/skipped", "lr"].map(str::to_owned);
    own.into_iter().chain(of_groups.filter(|_| groups.len() > 1)).collect()
}

/// The names of the metrics of an eval: those that the task gives, or those of its first validation batch.
pub(super) fn metrics_of<T: Task>(task: &T, model: &T::Model) -> Vec<String> {
    if let Some(names) = task.metrics() {
        return names;
    }
    let Some(batch) = task.val_batches().first() else { return Vec::new() };
    let mut totals = Totals::default();
    task.eval(&model.valid(), batch, &mut totals);
    task.summarize(&totals).into_iter().map(|(name, _)| name).collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_one(count: &usize) -> bool {
    *count == 1
}

/// What the sinks are told of a run that begins.
pub(super) fn info(dir: Option<&Path>, steps: u64, seed: u64, config: Value) -> RunInfo {
    let dir_name = dir.and_then(Path::file_name);
    RunInfo {
        name: dir_name.map_or("unnamed".into(), |name| name.to_string_lossy().into_owned()),
        dir: dir.map(Path::to_owned),
        steps,
        seed,
        config,
        resumed_at: None,
        resumed_record: None,
        notes: Vec::new(),
        started_at: crate::clock::now(),
        feedback: Feedback::default(),
    }
}

/// Has a run with a directory keep the truth, unless its user saw to that.
pub(super) fn add_jsonl(sinks: &mut Vec<Box<dyn Sink>>) {
    if sinks.iter().all(|sink| sink.name() != "jsonl") {
        sinks.insert(0, Box::new(Jsonl::default())); // the truth comes first
    }
}

/// Asks the task of each validation batch, so that a bad one does not end the run at its first eval.
pub(super) fn check_val<T: Task>(task: &T, model: &T::Model) -> Result<(), ConfigError> {
    let check = |(batch, data)| {
        task.check(model, data).map_err(|source| ConfigError::ValData { batch, source })
    };
    task.val_batches().iter().enumerate().try_for_each(check)
}

/// The parameters of a model that can be trained.
pub(super) fn table_of(model: &impl Module) -> Result<Arc<ParamTable>, ConfigError> {
    let table = ParamTable::of(model);
    if table.is_empty() {
        let value = "without a parameter that gets gradients".to_owned();
        let expected = "make it on a device from `bdh::device`, which has a tape".to_owned();
        return Err(ConfigError::Invalid { field: "model", value, expected });
    }
    if let Some((first, second)) = table.tied() {
        let value = format!("with `{}` and `{}` as one tensor", first.name, second.name);
        let expected = "which an update would untie; keep one of them, and use it in both places";
        return Err(ConfigError::Invalid { field: "model", value, expected: expected.to_owned() });
    }
    Ok(Arc::new(table))
}

/// The error for a cadence of something that happens in training, due only before it.
fn only_at_the_start(row: &PlanRow, steps: u64) -> ConfigError {
    let source = CadenceError::NeverFires {
        cadence: row.cadence.to_string(),
        horizon: steps,
        advice: format!("a step from 1 to {steps}; before the first there is nothing to see"),
    };
    ConfigError::Cadence { whose: row.name.clone(), source }
}

fn check_cadence(
    whose: &str,
    cadence: &Cadence,
    per_step: Option<&Clock>,
    steps: u64,
) -> Result<(), ConfigError> {
    // Where the size of a batch is not known beforehand, cadences by tokens get the benefit of the doubt.
    let plenty = Clock { step: 1, tokens: 1 << 32, samples: 1 << 32, ..Clock::default() };
    cadence
        .check(per_step.unwrap_or(&plenty), steps)
        .map_err(|source| ConfigError::Cadence { whose: whose.to_owned(), source })
}
