//! Errors of checkpoints of nanochat.

use crate::nanochat::config::GptConfigError;
use bdh::BoxError;
use bdh::error::CheckpointError;
use std::io;
use std::path::PathBuf;

/// A checkpoint of nanochat that could not be found, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A directory has no checkpoint, or none of the step.
    #[error("cannot find a checkpoint of nanochat in `{}`: {why}", dir.display())]
    NotFound {
        /// The directory.
        dir: PathBuf,
        /// The reason, and the steps or folders that would work.
        why: String,
    },
    /// The description of a checkpoint is missing, or has another form.
    #[error(
        "cannot read `{}` ({source}): nanochat writes it beside the weights, so copy it from there", path.display()
    )]
    Meta {
        /// The file `meta_NNNNNN.json`.
        path: PathBuf,
        /// The error of the file system or of the file's contents.
        source: BoxError,
    },
    /// The settings of a checkpoint describe no model.
    #[error("`{}` describes no model: {source}", path.display())]
    Config {
        /// The file `meta_NNNNNN.json`.
        path: PathBuf,
        /// The setting that cannot work.
        source: GptConfigError,
    },
    /// The weights are those of a model of another size.
    #[error("`{}` does not fit the settings: {why}", path.display())]
    Size {
        /// The file `model_NNNNNN.pt`.
        path: PathBuf,
        /// The sizes of both.
        why: String,
    },
    /// The weights or the optimizer state cannot be read, or do not fit the model; or the weights cannot be written.
    #[error(transparent)]
    Weights(#[from] CheckpointError),
    /// The optimizer state is missing, divided among processes, or that of another model.
    #[error("cannot continue with the optimizer state `{}`: {why}", path.display())]
    Optimizer {
        /// The file `optim_NNNNNN_rank0.pt`.
        path: PathBuf,
        /// The reason, and a way to go on.
        why: String,
    },
    /// The file system refused.
    #[error("`{}` cannot be read or written: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}
