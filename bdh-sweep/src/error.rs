//! Errors of sweep files and of the folders of sweeps.

use std::io;
use std::path::PathBuf;

/// Why a sweep file is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// The file cannot be read.
    #[error("`{}` cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It does not say what a sweep file can say; with the key and the line.
    #[error("{0}")]
    Schema(#[from] serde_norway::Error),
    /// What it says does not fit together, or does not fit the sweep that is there.
    #[error("{0}")]
    Invalid(String),
    /// The folder of the sweep cannot be read or written.
    #[error("`{}` cannot be used: {source}", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
