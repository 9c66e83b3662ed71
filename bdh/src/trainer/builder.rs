//! Composes a run, and checks it as a whole before the first step.

mod devices;
mod plan;
mod settings;

use settings::own_keys;
pub(super) use settings::{Settings, info};

use super::callbacks::Callbacks;
use super::compute::Compute;
use super::engine::Engine;
use super::observers::Observers;
use super::run_io::RunIo;
use super::{Resume, Trainer};
use crate::cadence::Cadence;
use crate::callback::Callback;
use crate::checkpoint;
use crate::error::ConfigError;
use crate::intervention::{self, Intervention};
use crate::optim::{Group, Optimizers};
use crate::params::{self, ParamTable};
use crate::run_dir;
use crate::schedule::Schedule;
use crate::sink::{Jsonl, Sink};
use crate::task::{Task, Totals};
use burn::module::Module;
use burn::optim::DynOptimizer;
use burn::tensor::Device;
use derive_builder::Builder;
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything that a run is made of, as the builder collects it. The fields' documentation is that of the setters.
#[derive(Builder)]
#[builder(
    name = "TrainerBuilder",
    public,
    pattern = "owned",
    build_fn(private, name = "assemble", error = "ConfigError")
)]
#[builder_struct_attr(doc = "Composes a [`Trainer`]; begun by [`Trainer::builder`].")]
#[builder_struct_attr(must_use = "a builder does nothing until `build` is called")]
pub(super) struct TrainerConfig<T: Task> {
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

impl<T: Task> TrainerBuilder<T> {
    pub(super) fn new(task: T, model: T::Model) -> Self {
        Self {
            task: Some(task),
            model: Some(model),
            ..Self::default()
        }
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
        self.callbacks
            .get_or_insert_default()
            .push(Box::new(callback));
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
        self.interventions
            .get_or_insert_default()
            .push(Box::new(intervention));
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
        self.allowed_changes
            .get_or_insert_default()
            .extend(keys.into_iter().map(Into::into));
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
        let mut trainer = Trainer {
            engine,
            interventions: parts.interventions,
            settings,
        };
        if let Some(from) = parts.resume {
            trainer.resume(from, &parts.allowed_changes)?;
        }
        Ok(trainer)
    }
}

impl<T: Task> TrainerConfig<T> {
    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |field, value: &dyn ToString, expected: &str| {
            let (value, expected) = (value.to_string(), expected.to_owned());
            Err(ConfigError::Invalid {
                field,
                value,
                expected,
            })
        };
        if self.steps == 0 {
            return invalid("steps", &self.steps, "a run takes 1 step or more");
        }
        if self.grad_accum_steps == 0 {
            let expected = "an update needs 1 micro-batch or more";
            return invalid("grad_accum_steps", &self.grad_accum_steps, expected);
        }
        self.check_devices()?;
        if let Some(norm) = self
            .clip_grad_norm
            .filter(|norm| *norm <= 0.0 || norm.is_nan())
        {
            return invalid(
                "clip_grad_norm",
                &norm,
                "a norm to clip to is above 0; 1.0 is usual",
            );
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
        if let Some(peak) = peaks
            .into_iter()
            .find(|peak| !peak.is_finite() || *peak < 0.0)
        {
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
        let Some(Resume::From(resume)) = &self.resume else {
            return self.resume.is_some();
        };
        // A checkpoint that cannot be found is told of when it is read.
        let Ok(resume) = resume.canonicalize() else {
            return true;
        };
        // The folder of the checkpoints may be a link to another disk.
        [dir.to_owned(), dir.join(checkpoint::FOLDER)]
            .iter()
            .any(|own| own.canonicalize().is_ok_and(|own| resume.starts_with(own)))
    }
}

/// The names of the metrics of an eval: those that the task gives, or those of its first validation batch.
pub(super) fn metrics_of<T: Task>(task: &T, model: &T::Model) -> Vec<String> {
    if let Some(names) = task.metrics() {
        return names;
    }
    let Some(batch) = task.val_batches().first() else {
        return Vec::new();
    };
    let mut totals = Totals::default();
    task.eval(&model.valid(), batch, &mut totals);
    task.summarize(&totals)
        .into_iter()
        .map(|(name, _)| name)
        .collect()
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
        task.check(model, data)
            .map_err(|source| ConfigError::ValData { batch, source })
    };
    task.val_batches().iter().enumerate().try_for_each(check)
}

/// The parameters of a model that can be trained.
pub(super) fn table_of(model: &impl Module) -> Result<Arc<ParamTable>, ConfigError> {
    let table = ParamTable::of(model);
    if table.is_empty() {
        let value = "without a parameter that gets gradients".to_owned();
        let expected = "make it on a device from `bdh::device`, which has a tape".to_owned();
        return Err(ConfigError::Invalid {
            field: "model",
            value,
            expected,
        });
    }
    if let Some((first, second)) = table.tied() {
        let value = format!("with `{}` and `{}` as one tensor", first.name, second.name);
        let expected = "which an update would untie; keep one of them, and use it in both places";
        return Err(ConfigError::Invalid {
            field: "model",
            value,
            expected: expected.to_owned(),
        });
    }
    Ok(Arc::new(table))
}
