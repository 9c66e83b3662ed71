//! Errors of sweep files and of the folders of sweeps.

use std::io;
use std::path::PathBuf;

/// An error of a sweep file, or of the folder of a sweep.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// The file cannot be read.
    #[error("`{}` cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The file has a key or a value that a sweep file cannot have; the text names it and its line.
    #[error("{0}")]
    Schema(#[from] serde_norway::Error),
    /// The file contradicts itself, or the sweep that is in the folder already.
    #[error("{0}")]
    Invalid(String),
    /// The folder of the sweep cannot be read or written.
    #[error("`{}` cannot be used: {source}", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}
