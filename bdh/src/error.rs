//! What can go wrong, one enum for each thing a caller can do next.

mod report;

use crate::failure::BoxError;
pub use report::{Report, Result};

use crate::config_change::{self, ConfigChange};
use crate::failure::with_causes;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The settings of a run contradict each other, or ask for what is not there. Nothing has run yet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A required setting was not given.
    #[error("`{field}` is required")]
    Missing {
        /// The builder's method.
        field: &'static str,
    },
    /// A setting has a value that cannot work.
    #[error("`{field}` is {value}, {expected}")]
    Invalid {
        /// The setting's name.
        field: &'static str,
        /// The value that was given.
        value: String,
        /// What would work, as the end of the sentence.
        expected: String,
    },
    /// A cadence cannot work in this run.
    #[error("the cadence of {whose} cannot work: {source}")]
    Cadence {
        /// The callback or setting that has it.
        whose: String,
        /// What is wrong with it.
        source: crate::cadence::CadenceError,
    },
    /// Two callbacks have one name, so their states and costs could not be told apart.
    #[error("two callbacks are called `{name}`; give one another name with `.named(\"…\")`")]
    DuplicateCallback {
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
        "unknown callback `{name}`; known are {known}; those of a crate are once the program says `use the_crate as _;`"
    )]
    UnknownCallback {
        /// The name that was given.
        name: String,
        /// Every registered name, in alphabetical order; `none` if there is none.
        known: String,
    },
    /// Two callbacks were registered under the name that a configuration says.
    #[error(
        "two callbacks are registered as `{name}`, in {places}; one of them needs another name"
    )]
    AmbiguousCallback {
        /// The name that was given.
        name: String,
        /// Module, file and line of each.
        places: String,
    },
    /// A callback's settings cannot work: in no run, or not in this one.
    #[error("the settings of callback `{name}` are wrong: {}", with_causes(&**source))]
    Callback {
        /// The callback's name.
        name: String,
        /// The error of its deserialization, where unknown keys are named with those that would work, or of its
        /// [`check`](crate::Callback::check).
        source: BoxError,
    },
    /// A configuration text is not valid TOML or YAML, or not a list of callbacks.
    #[error("the callback configuration cannot be read: {}", with_causes(&**.0))]
    Syntax(#[source] BoxError),
    /// The parameters and the groups do not fit together.
    #[error("parameter groups: {0}")]
    Groups(String),
    /// The model cannot take a batch of the validation data.
    #[error("validation batch {batch} cannot be used: {}", with_causes(&**source))]
    ValData {
        /// Its place among [`val_batches`](crate::Task::val_batches), from 0.
        batch: usize,
        /// What the task said.
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
    #[error("`{}` is in use by another run; wait for its end, or choose another name", path.display())]
    RunInUse {
        /// The directory.
        path: PathBuf,
    },
    /// A run is over, and left no checkpoint.
    #[error("`{}` has no checkpoint to go on from; begin again under another name", path.display())]
    NothingToResume {
        /// The directory.
        path: PathBuf,
    },
    /// The configuration is not the one that the checkpoint was made with.
    #[error("`{}` was made with another configuration:{}", path.display(), config_change::explain(changes))]
    Changed {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        changes: Vec<ConfigChange>,
    },
    /// The run directory cannot be written.
    #[error("the run directory `{}` cannot be written: {source}", path.display())]
    RunDir {
        /// The directory.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A checkpoint to start from cannot be used.
    #[error("cannot resume: {0}")]
    Resume(#[from] CheckpointError),
}

impl From<derive_builder::UninitializedFieldError> for ConfigError {
    fn from(error: derive_builder::UninitializedFieldError) -> Self {
        Self::Missing {
            field: error.field_name(),
        }
    }
}

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file system refused.
    #[error("`{}` cannot be read or written: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// There is no file of weights under a path.
    #[error("cannot read weights from `{}`: {why}", path.display())]
    NoWeights {
        /// The path.
        path: PathBuf,
        /// What is there, and what would work.
        why: String,
    },
    /// A file is not what the manifest says, or not what its name says.
    #[error("`{}` is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The checkpoint is whole, but of another model, task or set of callbacks.
    #[error("`{}` does not fit this run: {what}", path.display())]
    Mismatch {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// The device failed while the parameters were read.
    #[error("the device failed: {0}")]
    Device(String),
}

/// Why a run that had begun could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Nothing ran: the settings contradict each other.
    #[error("the trainer is not configured correctly: {0}")]
    Config(#[from] ConfigError),
    /// A callback whose policy is [`OnError::Abort`](crate::OnError::Abort), or an intervention, failed.
    #[error("`{callback}` failed in `{hook}` at step {step}: {}", with_causes(&**source))]
    Callback {
        /// The callback's or intervention's name.
        callback: String,
        /// The hook that failed.
        hook: &'static str,
        /// The step under way.
        step: u64,
        /// What it said.
        source: BoxError,
    },
    /// The training data could not be read.
    #[error("the training data failed at step {step}: {}", with_causes(&**source))]
    Data {
        /// The step under way.
        step: u64,
        /// What the task said.
        source: BoxError,
    },
    /// The device failed while values were read from it.
    #[error("the device failed at step {step}: {reason}")]
    Device {
        /// The step under way.
        step: u64,
        /// What burn said.
        reason: String,
    },
    /// A replica on another device panicked, or its device failed; the others have stopped.
    #[error("replica {replica} failed at step {step}: {text}")]
    Replica {
        /// Its number, which is its device's place in [`devices`](crate::TrainerBuilder::devices), from 0.
        replica: usize,
        /// The step under way.
        step: u64,
        /// What the panic or the device said.
        text: String,
    },
    /// Replicas of one model have come to differ, which they never should: a device computes otherwise, or wrongly.
    #[error(
        "`{param}` of replica {replica} is no longer that of replica 0 at step {step}; train on equal devices, or fewer"
    )]
    ReplicasApart {
        /// The first replica that differs from the first one.
        replica: usize,
        /// The first parameter that differs.
        param: String,
        /// The step after which they were compared.
        step: u64,
    },
    /// The task or the model panicked; `fit` passes the panic on after everybody has been told of this.
    #[error("the task or the model panicked at step {step}: {text}")]
    Panic {
        /// The step under way.
        step: u64,
        /// What the panic said.
        text: String,
    },
    /// The run's last checkpoint could not be written, so nothing on the disk holds what the run has reached. Older
    /// checkpoints stay, and a resume goes on from the newest. The trained model is not returned.
    #[error("the last checkpoint, of step {step}, could not be written: {source}")]
    Unsaved {
        /// The step of which the state is lost.
        step: u64,
        /// The error of the writer.
        source: CheckpointError,
    },
    /// A checkpoint that was to be looked at cannot be used.
    #[error("cannot replay: {0}")]
    Replay(#[from] CheckpointError),
    /// The run directory was deleted, moved or replaced, so nothing more was written there.
    #[error("the run directory `{}` {how}, which was noticed after step {step}; {}", path.display(), last_checkpoint_is(last_checkpoint.as_deref()))]
    DirLost {
        /// The path where the run wrote.
        path: PathBuf,
        /// The way in which the directory was lost.
        how: DirLoss,
        /// The step after which that was found out.
        step: u64,
        /// The newest checkpoint that is left, where the directory can still be found.
        last_checkpoint: Option<PathBuf>,
    },
    /// No gradient reached any parameter, so training would change nothing.
    #[error("no parameter received a gradient at step {step}; is the model on an autodiff device?")]
    NoGradients {
        /// The step under way.
        step: u64,
    },
}

/// Ways in which a run loses its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirLoss {
    /// The directory was deleted.
    Deleted,
    /// The directory was moved, and nothing stands in its place.
    Moved,
    /// Another directory, of another run perhaps, stands in its place.
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
