//! The builder of a trainer, which checks the whole configuration before the first step.

mod devices;
mod plan;
mod settings;

use settings::own_keys;
pub(super) use settings::{Settings, info};

use super::callbacks::Callbacks;
use super::compute::Compute;
use super::engine::Engine;
use super::eval_sets::{self, EvalSet};
use super::observers::Observers;
use super::run_io::RunIo;
use super::{Resume, Trainer};
use crate::cadence::Cadence;
use crate::callback::Callback;
use crate::checkpoint::{self, Start};
use crate::clock::{Span, steps};
use crate::data::{EvalData, TrainData};
use crate::error::ConfigError;
use crate::freeze::{Freeze, FrozenParams};
use crate::intervention::{self, Intervention};
use crate::optim::{Group, Optimizers};
use crate::params::{self, ParamTable};
use crate::run::RunInfo;
use crate::run_dir;
use crate::schedule::Schedule;
use crate::seed;
use crate::sink::{Jsonl, Sink};
use crate::task::Task;
use burn::module::Module;
use burn::optim::DynOptimizer;
use burn::tensor::Device;
use derive_builder::Builder;
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The configuration that the builder collects. Docs of the fields become docs of the setters.
#[derive(Builder)]
#[builder(
    name = "TrainerBuilder",
    public,
    pattern = "owned",
    build_fn(private, name = "assemble", error = "ConfigError")
)]
#[builder_struct_attr(doc = "Builder of a [`Trainer`], returned by [`Trainer::builder`].")]
#[builder_struct_attr(must_use = "a builder does nothing until `build` is called")]
pub(super) struct TrainerConfig<T: Task> {
    #[builder(setter(custom))]
    task: T,
    #[builder(setter(custom))]
    model: T::Model,
    #[builder(setter(custom))]
    train_data: Box<dyn TrainData<Batch = T::Batch>>,
    #[builder(setter(custom), default)]
    eval_sets: Vec<EvalSet<T::Batch>>,
    #[builder(setter(custom), default)]
    groups: Vec<Group>,
    #[builder(setter(custom), default)]
    freezes: Vec<Freeze>,
    #[builder(setter(custom), default)]
    callbacks: Vec<Box<dyn Callback>>,
    #[builder(setter(custom), default)]
    interventions: Vec<Box<dyn Intervention>>,
    #[builder(setter(custom), default)]
    sinks: Vec<Box<dyn Sink>>,
    /// Length of the run, in optimizer updates, epochs, tokens, samples or wall-clock training time: `steps(2_000)`,
    /// `epochs(3)`, `minutes(5)`. Required.
    ///
    /// Epochs need data that knows its [`batches_per_epoch`](TrainData::batches_per_epoch), tokens and samples data
    /// that knows its [`batch_size`](TrainData::batch_size); these are converted to steps before the run. A run that is
    /// limited by time ends with the first step after the limit, its schedules follow the share of the time, and a
    /// resumed run counts the time before; its length in steps, and so its results, are not repeatable.
    #[builder(setter(into))]
    duration: Span,
    /// Number of micro-batches that are averaged into one update, over all devices together. Defaults to 1.
    #[builder(default = 1)]
    grad_accum_steps: usize,
    /// Devices that share each step, from [`bdh::devices`](crate::devices). Defaults to the device of the model.
    ///
    /// A replica of the model trains on each device, and the micro-batches of a step are distributed to them in turn.
    /// The model must be on the first device.
    ///
    /// `grad_accum_steps` counts the micro-batches of all devices together, so results do not depend on the number of
    /// devices, up to the rounding of sums. On several GPUs dropout differs too: burn has one random generator for all
    /// GPUs, and their threads use it in no fixed order. Hooks inside a step see the first device's micro-batches.
    #[builder(default, setter(into))]
    devices: Vec<Device>,
    /// Whether gradients and weights are exchanged through host memory even where NCCL is available. Defaults to no.
    #[builder(default)]
    exchange_on_host: bool,
    /// Steps on which the parameters and buffers of all replicas are read and compared bit for bit. Defaults to every
    /// 1,000th and the last.
    #[builder(default = "crate::cadence::every(1000) | Cadence::Last", setter(into))]
    check_replicas: Cadence,
    /// Maximum global L2 norm of the gradients. Larger gradients are scaled down to it on the device, as PyTorch's
    /// `clip_grad_norm_` does. Defaults to no clipping.
    #[builder(default, setter(strip_option))]
    clip_grad_norm: Option<f64>,
    /// Steps on which `train/loss` and the learning rates are recorded. Defaults to every step.
    ///
    /// A recorded step costs one device read. Where a step takes less than a millisecond on a GPU, `every(10)` keeps
    /// the device busy. The last step is recorded too, unless the cadence is [`never`](crate::cadence::never). So is
    /// the step on which a run is stopped; if it is not one of these steps, a resume removes the trainer's values of it
    /// from `metrics.jsonl`.
    #[builder(default, setter(into))]
    log: Cadence,
    /// Steps on which the eval sets without a cadence of their own are evaluated. Defaults to the last one.
    #[builder(default, setter(into, strip_option))]
    eval: Option<Cadence>,
    /// Steps on which a checkpoint is written to `checkpoints/` in the run directory. Defaults to none. Callbacks may
    /// request more.
    #[builder(default = Cadence::Never, setter(into))]
    checkpoint: Cadence,
    /// Whether a step with an eval is saved before the eval, so that an eval that kills the process costs nothing: the
    /// resumed run begins with that eval. Defaults to no. Costs a checkpoint for each step with an eval.
    #[builder(default)]
    checkpoint_before_eval: bool,
    /// Number of checkpoints to keep, newest first. Pinned ones are kept as well and do not count. Defaults to 2.
    #[builder(default = 2)]
    keep_checkpoints: usize,
    /// Seed of everything random in training: dropout, interventions, samples, and training data that draws from the
    /// device. Defaults to 0.
    ///
    /// With [`Trainer::builder_with`] it covers the initial weights too. [`Trainer::builder`] gets a model whose weights
    /// are drawn already: seed them with [`bdh::seed`](crate::seed()).
    #[builder(default)]
    seed: u64,
    /// Directory that the run writes to. Without one, the run leaves nothing on disk.
    #[builder(default, setter(into, strip_option))]
    run_dir: Option<PathBuf>,
    /// Checkpoint to resume from: `"auto"`, or the path of a checkpoint. Model, optimizer, data, clock and callbacks
    /// are restored.
    ///
    /// If the checkpoint is in the run directory, the run continues there, and records and checkpoints of later steps
    /// are deleted. Otherwise the run directory must be a new one.
    #[builder(default, setter(into, strip_option))]
    resume: Option<Resume>,
    /// Place at which the run begins: step, optimizer state and data position of another program's run, such as
    /// nanochat's. Defaults to step 0, with new optimizers.
    ///
    /// The model has that run's weights already. The run is a new one, in a directory of its own. Its length, schedules
    /// and cadences count from the start: a run of 45 steps that starts at step 40 takes 5. Before the first update,
    /// the eval sets whose cadence is due on the start step are evaluated, and a checkpoint of it is saved if one is due,
    /// as on step 0 otherwise. Steps before the start do not occur, so a cadence that is due only there is an error, and
    /// so are state tensors that fit no parameter. A run that resumes from a checkpoint ignores the start.
    #[builder(default, setter(strip_option))]
    start_from: Option<Start>,
    #[builder(setter(custom), default)]
    allowed_changes: Vec<String>,
    /// Whether SIGINT and SIGTERM end the run cleanly, with a checkpoint and flushed sinks. Defaults to yes. A second
    /// signal ends the process at once.
    #[builder(default = true)]
    stop_on_signals: bool,
    /// Share of the step time, in percent, above which the overhead table at the end of the run warns of a callback and
    /// suggests a cadence. Defaults to 5: a callback that costs more tends to be switched off, and missed later.
    #[builder(default = 5.0)]
    overhead_budget: f64,
    /// The model of [`Trainer::builder_with`], made in `build`.
    #[builder(setter(custom), default)]
    #[expect(
        dead_code,
        reason = "the builder makes the model before it assembles the configuration"
    )]
    new_model: Option<NewModel<T::Model>>,
    #[builder(setter(custom), default)]
    config: Value,
    /// The error of a configuration that could not be serialized, reported by `build`.
    #[builder(setter(custom), default)]
    config_error: Option<String>,
}

/// A model that is still to be made, on this device.
struct NewModel<M> {
    device: Device,
    make: Box<dyn FnOnce(&Device) -> M>,
}

impl<T: Task> TrainerBuilder<T> {
    pub(super) fn with_model_on(
        task: T,
        device: &Device,
        make: impl FnOnce(&Device) -> T::Model + 'static,
    ) -> Self {
        let new_model = NewModel {
            device: device.clone(),
            make: Box::new(make),
        };
        Self {
            task: Some(task),
            new_model: Some(Some(new_model)),
            ..Self::default()
        }
    }

    /// Makes the model of [`Trainer::builder_with`], with the run's seed.
    fn make_model(&mut self) {
        if let Some(NewModel { device, make }) = self.new_model.take().flatten() {
            seed::seed(&device, self.seed.unwrap_or_default());
            let model = make(&device);
            // burn draws a parameter on first access: here, so that the eval data cannot draw in between.
            drop(ParamTable::with_frozen(&model));
            self.model = Some(model);
        }
    }

    pub(super) fn new(task: T, model: T::Model) -> Self {
        Self {
            task: Some(task),
            model: Some(model),
            ..Self::default()
        }
    }

    /// Sets the training data, from which the trainer draws its micro-batches. Required.
    ///
    /// The module [`data`](crate::data) has adapters for batches in memory, iterators, and loaders of burn.
    pub fn train_data(mut self, data: impl TrainData<Batch = T::Batch>) -> Self {
        self.train_data = Some(Box::new(data));
        self
    }

    /// Adds an eval set, evaluated on the steps of [`eval`](Self::eval). Its metrics are recorded as `<name>/<metric>`,
    /// such as `val/loss`.
    ///
    /// Callbacks that watch a metric without the name of a set, such as `loss`, watch the first set.
    pub fn eval_data(
        self,
        name: impl Into<String>,
        data: impl EvalData<Batch = T::Batch> + 'static,
    ) -> Self {
        self.eval_set(EvalSet::new(name, data, None))
    }

    /// Adds an eval set with a cadence of its own, such as a test set at the end: `.eval_data_on("test", data, last())`.
    pub fn eval_data_on(
        self,
        name: impl Into<String>,
        data: impl EvalData<Batch = T::Batch> + 'static,
        on: impl Into<Cadence>,
    ) -> Self {
        self.eval_set(EvalSet::new(name, data, Some(on.into())))
    }

    fn eval_set(mut self, set: EvalSet<T::Batch>) -> Self {
        self.eval_sets.get_or_insert_default().push(set);
        self
    }

    /// Sets the length of the run in optimizer updates: the same as `.duration(steps(n))`.
    pub fn steps(self, n: u64) -> Self {
        self.duration(steps(n))
    }

    /// Sets the optimizer of all parameters that no earlier group claims: one of burn's, such as
    /// `AdamWConfig::new().build()`. A plain number as schedule is a constant learning rate.
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

    /// Freezes parameters by name, for a part of the run or all of it: `freeze("backbone.*").until(steps(500))`.
    pub fn freeze(mut self, freeze: impl Into<Freeze>) -> Self {
        self.freezes.get_or_insert_default().push(freeze.into());
        self
    }

    /// Adds a callback. Callbacks are called in the order in which they were added.
    pub fn callback(mut self, callback: impl Callback + 'static) -> Self {
        self.callbacks
            .get_or_insert_default()
            .push(Box::new(callback));
        self
    }

    /// Adds several callbacks, for example the result of [`from_toml`](crate::registry::from_toml).
    pub fn callbacks(mut self, callbacks: impl IntoIterator<Item = Box<dyn Callback>>) -> Self {
        self.callbacks.get_or_insert_default().extend(callbacks);
        self
    }

    /// Adds an intervention. Interventions act in the order in which they were added.
    pub fn intervention(mut self, intervention: impl Intervention + 'static) -> Self {
        self.interventions
            .get_or_insert_default()
            .push(Box::new(intervention));
        self
    }

    /// Adds a sink. A run with a directory always writes `metrics.jsonl`; it needs no sink here.
    pub fn sink(mut self, sink: impl Sink + 'static) -> Self {
        self.sinks.get_or_insert_default().push(Box::new(sink));
        self
    }

    /// Adds several sinks, for example sinks chosen by name.
    pub fn sinks(mut self, sinks: impl IntoIterator<Item = Box<dyn Sink>>) -> Self {
        self.sinks.get_or_insert_default().extend(sinks);
        self
    }

    /// Allows a resumed run to differ from its checkpoint in these settings, or in all settings below them:
    /// `"trainer.steps"`, `"callbacks"`, `"user.depth"`.
    ///
    /// Any other difference is refused. Settings that do not affect results (sinks, the checkpoint cadence) may always
    /// change.
    pub fn allow_changed(mut self, keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.allowed_changes
            .get_or_insert_default()
            .extend(keys.into_iter().map(Into::into));
        self
    }

    /// Sets the user's own configuration, saved in `run.json` and in every checkpoint.
    ///
    /// A configuration that cannot be serialized, such as a map with keys that are no strings, is an error of
    /// [`build`](Self::build).
    pub fn config(mut self, config: impl Serialize) -> Self {
        match serde_json::to_value(config) {
            Ok(config) => {
                self.config = Some(config);
                self.config_error = None;
            }
            Err(error) => self.config_error = Some(Some(error.to_string())),
        }
        self
    }

    /// Builds the trainer and checks the whole configuration. Nothing is written yet. The run directory of a resumed
    /// run is locked.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the setting, its value, and what would work.
    pub fn build(mut self) -> Result<Trainer<T>, ConfigError> {
        self.make_model();
        let mut config = self.assemble()?;
        config.check()?;
        if config.run_dir.is_some() {
            add_jsonl(&mut config.sinks);
        }
        eval_sets::check(&config.eval_sets, &config.task, &config.model)?;
        let (resume, allowed) = (config.resume.clone(), config.allowed_changes.clone());
        let start = config.take_start();
        let mut trainer = config.into_trainer()?;
        if let Some(from) = resume {
            trainer.resume(from, &allowed)?;
        }
        if let Some(start) = start {
            trainer.start_from(start)?;
        }
        Ok(trainer)
    }
}

impl<T: Task> TrainerConfig<T> {
    fn into_trainer(mut self) -> Result<Trainer<T>, ConfigError> {
        self.model = params::with_own_ids(self.model)?;
        let table = table_of(&self.model)?;
        let saved = ParamTable::with_frozen(&self.model);
        let own_keys = own_keys(&self.groups);
        let callbacks = self.take_callbacks(&own_keys)?;
        let optimizers = Optimizers::new(std::mem::take(&mut self.groups), &table, &saved)?;
        let settings = self.settings()?;
        let per_step = self.clock_of_one_step();
        let frozen = FrozenParams::new(&self.freezes, &table, settings.length, &per_step)?;
        let mut plan = self.plan(&settings, &table, &optimizers, &callbacks, &own_keys)?;
        plan.frozen = frozen.describe();
        let info = self.info(&settings, &optimizers, &table, &callbacks);

        let io = self.take_io(info);
        let observers = Observers::new(callbacks, self.overhead_budget);
        let interventions = std::mem::take(&mut self.interventions);
        let compute = Compute {
            frozen,
            ..self.into_compute(table, optimizers)
        };
        Ok(Trainer {
            engine: Engine::new(compute, observers, io, plan, settings.seed),
            interventions,
            settings,
            eval_pending_since: None,
        })
    }

    /// Takes the callbacks, which cannot log under the trainer's own keys.
    fn take_callbacks(&mut self, own_keys: &[String]) -> Result<Callbacks, ConfigError> {
        let mut callbacks = Callbacks::new(std::mem::take(&mut self.callbacks))?;
        callbacks.keep_for_trainer(own_keys.iter().cloned());
        Ok(callbacks)
    }

    /// Takes the start of the run, and leaves its clock for the plan.
    fn take_start(&mut self) -> Option<Start> {
        let clock = self.start_from.as_ref()?.clock;
        self.start_from.replace(Start {
            clock,
            ..Start::default()
        })
    }

    fn take_io(&mut self, info: RunInfo) -> RunIo {
        let mut io = RunIo::new(info, std::mem::take(&mut self.sinks));
        io.keep_checkpoints = self.keep_checkpoints;
        io.stop_on_signals = self.stop_on_signals;
        io
    }

    fn into_compute(self, table: Arc<ParamTable>, optimizers: Optimizers) -> Compute<T> {
        let transport = self.transport();
        // Own buffers: a clone that the caller has kept must not change while this one trains.
        let model = params::with_own_states(&self.model);
        drop(self.model); // a resume needs the room on the device for the saved weights
        Compute {
            devices: self.devices,
            transport,
            optimizers,
            ..Compute::new(self.task, model, table, self.train_data, self.eval_sets)
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.check_train_data()?;
        self.check_counts()?;
        self.check_clip_norm()?;
        self.check_overhead_budget()?;
        self.check_devices()?;
        self.check_groups()?;
        self.check_run_dir()?;
        if let Some(error) = &self.config_error {
            let problem = "use types that JSON has, and strings as keys of maps";
            return Err(ConfigError::invalid("config", error, problem));
        }
        intervention::check_names(&self.interventions)
    }

    fn check_train_data(&self) -> Result<(), ConfigError> {
        if self.train_data.batches_per_epoch() == Some(0) {
            let problem = "it has no batches; check the path and the filters of the dataset";
            return Err(ConfigError::invalid("train_data", "empty", problem));
        }
        Ok(())
    }

    fn check_counts(&self) -> Result<(), ConfigError> {
        if self.grad_accum_steps == 0 {
            let problem = "an update takes at least 1 micro-batch";
            return Err(ConfigError::invalid("grad_accum_steps", 0, problem));
        }
        Ok(())
    }

    fn check_clip_norm(&self) -> Result<(), ConfigError> {
        if let Some(norm) = self.clip_grad_norm
            && (norm <= 0.0 || norm.is_nan())
        {
            let problem = "gradients are clipped to a norm above 0; 1.0 is usual";
            return Err(ConfigError::invalid("clip_grad_norm", norm, problem));
        }
        Ok(())
    }

    fn check_overhead_budget(&self) -> Result<(), ConfigError> {
        let budget = self.overhead_budget;
        if budget < 0.0 || budget.is_nan() {
            let problem =
                "a budget is 0 % or more; 5.0 is usual, and `f64::INFINITY` turns warnings off";
            return Err(ConfigError::invalid("overhead_budget", budget, problem));
        }
        Ok(())
    }

    fn check_groups(&self) -> Result<(), ConfigError> {
        if self.groups.is_empty() {
            return Err(ConfigError::Missing { field: "optimizer" });
        }
        Ok(())
    }

    fn check_run_dir(&self) -> Result<(), ConfigError> {
        let Some(dir) = &self.run_dir else {
            if self.checkpoint == Cadence::Never && !self.checkpoint_before_eval {
                return Ok(());
            }
            return Err(ConfigError::Missing { field: "run_dir" });
        };
        if run_dir::holds_run(dir) && !self.resumes_in(dir) {
            return Err(ConfigError::RunExists { path: dir.clone() });
        }
        Ok(())
    }

    /// Whether the checkpoint to continue from is one of this directory's own.
    fn resumes_in(&self, dir: &Path) -> bool {
        let Some(Resume::From(resume)) = &self.resume else {
            return self.resume.is_some();
        };
        // Reading a checkpoint that cannot be found fails later, with a better error.
        let Ok(resume) = resume.canonicalize() else {
            return true;
        };
        // The folder of the checkpoints may be a link to another disk.
        for own in [dir.to_owned(), dir.join(checkpoint::FOLDER)] {
            if own.canonicalize().is_ok_and(|own| resume.starts_with(own)) {
                return true;
            }
        }
        false
    }
}

/// Adds the sink for `metrics.jsonl`, the authoritative records, unless the user has added one.
pub(super) fn add_jsonl(sinks: &mut Vec<Box<dyn Sink>>) {
    if sinks.iter().all(|sink| sink.name() != "jsonl") {
        sinks.insert(0, Box::new(Jsonl::default())); // first in the plan's lists of sinks and files
    }
}

/// Returns the table of a model's trainable parameters. A model without any is refused.
pub(super) fn table_of(model: &impl Module) -> Result<Arc<ParamTable>, ConfigError> {
    let table = ParamTable::of(model);
    if table.is_empty() {
        let problem = "create it on a device from `bdh::device`, which records gradients";
        let value = "without any parameter that gets gradients";
        return Err(ConfigError::invalid("model", value, problem));
    }
    Ok(Arc::new(table))
}
