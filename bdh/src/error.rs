//! Errors, one enum for each thing that a caller can do next.

mod report;

pub use crate::config_change::ConfigChange;
pub use crate::device_read::DeviceError;
pub use crate::failure::with_causes;
pub use report::{Report, Result};

use crate::config_change;
use crate::failure::BoxError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Settings of a run that contradict each other, or ask for something that does not exist. Nothing has run yet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A required setting was not given.
    #[error("`{field}` is required")]
    Missing {
        /// The method of the builder.
        field: &'static str,
    },
    /// A setting has a value that cannot work.
    #[error("`{field}` is {value}: {problem}")]
    Invalid {
        /// The setting's name.
        field: &'static str,
        /// The value that was given.
        value: String,
        /// A full clause: the reason why the value cannot work, and values that would.
        problem: String,
    },
    /// A cadence cannot work in this run.
    #[error("the cadence of {whose} cannot work: {source}")]
    Cadence {
        /// The callback or setting of the cadence.
        whose: String,
        /// The fault of the cadence.
        source: crate::cadence::CadenceError,
    },
    /// Two callbacks have one name, so their states and costs could not be kept apart.
    #[error("two callbacks are called `{name}`; rename one with `.named(\"…\")`")]
    DuplicateCallback {
        /// The shared name.
        name: String,
    },
    /// Two interventions have one name, so their states could not be kept apart.
    #[error(
        "two interventions are called `{name}`; return another name from the `name` of one of them"
    )]
    DuplicateIntervention {
        /// The shared name.
        name: String,
    },
    /// Two callbacks record one key, or a callback records one of the trainer's own, so that one of them would be lost.
    #[error(
        "`{first}` and `{second}` both record `{key}`; let one record under a prefix of its own with `.prefix(\"…\")`"
    )]
    DuplicateKey {
        /// The key, or the pattern of keys.
        key: String,
        /// The callback that was added first, or `trainer`.
        first: String,
        /// The callback that was added later; the same one for a list of callbacks with one key twice.
        second: String,
    },
    /// A configuration names a callback that is not registered.
    #[error(
        "unknown callback `{name}`: registered are {known}; a program registers the callbacks of a crate with `use the_crate as _;`"
    )]
    UnknownCallback {
        /// The name that was given.
        name: String,
        /// Every registered name, in alphabetical order; `none` if there is none.
        known: String,
    },
    /// A configuration names a callback that two types are registered as.
    #[error("two callbacks are registered as `{name}`, in {places}; rename one of them")]
    AmbiguousCallback {
        /// The name that was given.
        name: String,
        /// Module, file and line of each.
        places: String,
    },
    /// A callback's settings cannot work, in any run or in this one.
    #[error("the settings of callback `{name}` are wrong: {}", with_causes(&**source))]
    Callback {
        /// The callback's name.
        name: String,
        /// The error of its deserialization, where unknown keys are named with those that would work, or of its
        /// [`check`](crate::Callback::check).
        source: BoxError,
    },
    /// An intervention's settings cannot work, in any run or in this one.
    #[error("the settings of intervention `{name}` are wrong: {}", with_causes(&**source))]
    Intervention {
        /// The intervention's name.
        name: String,
        /// The error of its [`check`](crate::Intervention::check).
        source: BoxError,
    },
    /// A configuration text is not valid TOML or YAML, or not a list of callbacks.
    #[error("the callback configuration cannot be read: {}", with_causes(&**.0))]
    Syntax(#[source] BoxError),
    /// The parameters and the optimizer groups do not fit together.
    #[error("parameter groups: {0}")]
    Groups(String),
    /// The model cannot take a batch of an eval set, or the batch cannot be read.
    #[error("batch {batch} of the eval set `{set}` cannot be used: {}", with_causes(&**source))]
    EvalData {
        /// The name of the eval set.
        set: String,
        /// The place of the batch in the set, from 0.
        batch: usize,
        /// The error of the task or the data.
        source: BoxError,
    },
    /// The device is unknown, or not compiled in.
    #[error("{0}")]
    Device(String),
    /// The run directory exists already and belongs to another run.
    #[error("`{}` exists already; choose another directory, or continue its run with `.resume(\"auto\")`", path.display())]
    RunExists {
        /// The directory.
        path: PathBuf,
    },
    /// Another process writes to the run directory.
    #[error("`{}` is in use by another run; wait until it ends, or choose another name", path.display())]
    RunInUse {
        /// The directory.
        path: PathBuf,
    },
    /// A run has ended without a checkpoint.
    #[error("`{}` has no checkpoint to continue from; start a new run under another name", path.display())]
    NothingToResume {
        /// The directory.
        path: PathBuf,
    },
    /// The configuration is not the one that the checkpoint was made with.
    #[error("`{}` was made with another configuration:{}", path.display(), config_change::explain(changes))]
    Changed {
        /// The checkpoint.
        path: PathBuf,
        /// The settings that differ.
        changes: Vec<ConfigChange>,
    },
    /// The run directory cannot be written.
    #[error("the run directory `{}` cannot be written: {source}", path.display())]
    RunDir {
        /// The directory.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A checkpoint to start from cannot be used.
    #[error("cannot resume: {0}")]
    Resume(#[from] CheckpointError),
}

impl ConfigError {
    /// Returns the error of a setting whose value cannot work; `problem` says why, and what would.
    ///
    /// # Examples
    ///
    /// ```
    /// let error = bdh::ConfigError::invalid("steps", 0, "a run takes at least 1 step");
    /// assert_eq!(error.to_string(), "`steps` is 0: a run takes at least 1 step");
    /// ```
    pub fn invalid(
        field: &'static str,
        value: impl fmt::Display,
        problem: impl Into<String>,
    ) -> Self {
        Self::Invalid {
            field,
            value: value.to_string(),
            problem: problem.into(),
        }
    }
}

impl From<derive_builder::UninitializedFieldError> for ConfigError {
    fn from(error: derive_builder::UninitializedFieldError) -> Self {
        Self::Missing {
            field: error.field_name(),
        }
    }
}

/// A checkpoint that could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file system refused.
    #[error("`{}` cannot be read or written: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// There is no file of weights under a path.
    #[error("cannot read weights from `{}`: {why}", path.display())]
    NoWeights {
        /// The path.
        path: PathBuf,
        /// The reason, and the paths that would work.
        why: String,
    },
    /// A file differs from its entry in the manifest, or its content from its name.
    #[error("`{}` is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The damage.
        what: String,
    },
    /// The checkpoint is intact, but belongs to another model, task or set of callbacks.
    #[error("`{}` does not fit this run: {what}", path.display())]
    Mismatch {
        /// The checkpoint.
        path: PathBuf,
        /// The difference.
        what: String,
    },
    /// Weights could not be written under a path, or could not be read from their device.
    #[error("cannot write weights to `{}`: {why}", path.display())]
    NotSaved {
        /// The path.
        path: PathBuf,
        /// The reason, and the paths that would work.
        why: String,
    },
    /// Weights of different models, or too few of them, cannot be averaged.
    #[error("`{}` cannot be averaged: {why}", path.display())]
    NoAverage {
        /// The first file, checkpoint or run directory that does not fit.
        path: PathBuf,
        /// The reason, and the inputs that would work.
        why: String,
    },
}

/// A failure that ended a run, or kept it from starting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Nothing ran: the settings contradict each other.
    #[error("the trainer is not configured correctly: {0}")]
    Config(#[from] ConfigError),
    /// A callback whose policy is [`ErrorPolicy::Abort`](crate::ErrorPolicy::Abort), or an intervention, failed.
    #[error("`{callback}` failed in `{hook}` at step {step}: {}", with_causes(&**source))]
    Callback {
        /// The callback's or intervention's name.
        callback: String,
        /// The hook that failed.
        hook: &'static str,
        /// The step under way.
        step: u64,
        /// The error of the callback or intervention.
        source: BoxError,
    },
    /// The training data could not be read, or the model cannot take it.
    #[error("the training data failed at step {step}: {}", with_causes(&**source))]
    Data {
        /// The step under way.
        step: u64,
        /// The error of the data or the task.
        source: BoxError,
    },
    /// An eval set could not be read, or the model cannot take one of its batches.
    #[error("batch {batch} of the eval set `{set}` failed at step {step}: {}", with_causes(&**source))]
    EvalData {
        /// The name of the eval set.
        set: String,
        /// The place of the batch in the set, from 0.
        batch: usize,
        /// The step under way.
        step: u64,
        /// The error of the data or the task.
        source: BoxError,
    },
    /// An eval set has no batches, so it has no metrics.
    #[error("the eval set `{set}` has no batches at step {step}; leave it out, or give it data")]
    EmptyEval {
        /// The name of the eval set.
        set: String,
        /// The step under way.
        step: u64,
    },
    /// A metric could not be computed from an eval's values.
    #[error("the eval set `{set}` failed at step {step}: {source}")]
    Metric {
        /// The name of the eval set.
        set: String,
        /// The step under way.
        step: u64,
        /// The metric and its error.
        source: MetricError,
    },
    /// The device failed while values were read from it.
    #[error("the device failed at step {step}: {reason}")]
    Device {
        /// The step under way.
        step: u64,
        /// The error of burn.
        reason: String,
    },
    /// A replica on another device panicked, or its device failed; the others have stopped.
    #[error("replica {replica} failed at step {step}: {text}")]
    Replica {
        /// The place of its device among [`devices`](crate::TrainerBuilder::devices), from 0.
        replica: usize,
        /// The step under way.
        step: u64,
        /// The text of the panic or of the device's error.
        text: String,
    },
    /// Replicas of one model have diverged: a device computes differently, or wrongly.
    #[error(
        "`{param}` of replica {replica} is no longer that of replica 0 at step {step}; train on equal devices, or fewer"
    )]
    ReplicasApart {
        /// The first replica that differs from replica 0.
        replica: usize,
        /// The first parameter that differs.
        param: String,
        /// The step after which they were compared.
        step: u64,
    },
    /// The task or the model panicked. `fit` resumes the panic after callbacks and sinks have received this error.
    #[error("the task or the model panicked at step {step}: {text}")]
    Panic {
        /// The step under way.
        step: u64,
        /// The text of the panic.
        text: String,
    },
    /// The run's last checkpoint could not be written, so its final state is lost.
    ///
    /// Older checkpoints stay, and a resume continues from the newest. The trained model is not returned.
    #[error("the last checkpoint, of step {step}, could not be written: {source}")]
    Unsaved {
        /// The step whose state is lost.
        step: u64,
        /// The error of the writer.
        source: CheckpointError,
    },
    /// A checkpoint to replay cannot be used.
    #[error("cannot replay: {0}")]
    Replay(#[from] CheckpointError),
    /// The run directory was deleted, moved or replaced. Nothing more was written there.
    #[error("the run directory `{}` {how}, which was noticed after step {step}; {}", path.display(), last_checkpoint_is(last_checkpoint.as_deref()))]
    DirLost {
        /// The path of the run directory.
        path: PathBuf,
        /// The way in which the directory was lost.
        how: DirLoss,
        /// The step after which the loss was noticed.
        step: u64,
        /// The newest remaining checkpoint, if the directory can still be found.
        last_checkpoint: Option<PathBuf>,
    },
    /// A run that has already ended with an error was finished.
    #[error("the run has already ended with an error, which an earlier call returned")]
    Ended,
    /// A learning rate is NaN, infinite or negative. The parameters are as they were after the step before.
    #[error(
        "the learning rate of group `{group}` is {lr} at step {step}; its schedule, times the factors of interventions, must be a finite number, 0 or more"
    )]
    LearningRate {
        /// The parameter group.
        group: String,
        /// The rate, with the factors of interventions.
        lr: f64,
        /// The step under way.
        step: u64,
    },
    /// No parameter received a gradient, so training would change nothing.
    #[error("no parameter received a gradient at step {step}; is the model on an autodiff device?")]
    NoGradients {
        /// The step under way.
        step: u64,
    },
}

/// A metric that could not be computed.
#[derive(Debug, thiserror::Error)]
#[error("the metric `{metric}` cannot be computed: {}", with_causes(&**source))]
pub struct MetricError {
    /// The name of the metric.
    pub metric: String,
    /// The error of its [`compute`](crate::metrics::Metric::compute).
    pub source: BoxError,
}

/// Ways in which a run can lose its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirLoss {
    /// The directory was deleted.
    Deleted,
    /// The directory was moved, and nothing is in its place.
    Moved,
    /// Another directory, perhaps of another run, is in its place.
    Replaced,
}

impl fmt::Display for DirLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deleted => "was deleted",
            Self::Moved => "was moved",
            Self::Replaced => "was replaced by another one",
        })
    }
}

fn last_checkpoint_is(path: Option<&Path>) -> String {
    match path {
        Some(path) => format!("the last checkpoint of the run is `{}`", path.display()),
        None => "no checkpoint of the run can be found".to_owned(),
    }
}
