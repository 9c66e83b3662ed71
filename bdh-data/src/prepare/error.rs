//! Errors of preparing data.

use crate::error::DataError;
use std::io;
use std::path::{Path, PathBuf};

/// Error of preparing data, or of opening prepared data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// The documents, the tokenizer or the shards cannot be used.
    #[error(transparent)]
    Data(#[from] Box<DataError>),
    /// The directory was prepared from something else.
    #[error("`{dir}` was prepared with {what}: use another directory, or delete it")]
    Other {
        /// The directory.
        dir: PathBuf,
        /// Differing setting with both values.
        what: String,
    },
    /// The directory has token shards that another program has made.
    #[error("`{dir}` has token shards without a manifest, such as `{name}`: use another directory")]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// A shard.
        name: String,
    },
    /// A manifest is damaged, or does not describe its directory.
    #[error(
        "the prepared data in `{dir}` cannot be used: {why}; delete the directory and prepare the data again"
    )]
    Manifest {
        /// The directory.
        dir: PathBuf,
        /// Fault.
        why: String,
    },
    /// The documents of a split do not fill one row.
    #[error("the {split} documents do not fill one row of {} tokens: give more text, or a shorter row", seq_len + 1)]
    TooShort {
        /// `train` or `val`.
        split: &'static str,
        /// Tokens of a row, without the last target.
        seq_len: usize,
    },
    /// Rows have no tokens.
    #[error("a row of 0 tokens is empty: use 1 or more")]
    EmptyRow,
    /// A file cannot be read or written.
    #[error("cannot use `{path}` ({source}): the directory must be writable and have free space")]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
}

impl PrepareError {
    pub(super) fn data(error: impl Into<DataError>) -> Self {
        Self::Data(Box::new(error.into()))
    }

    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn manifest(dir: &Path, why: String) -> Self {
        Self::Manifest {
            dir: dir.to_owned(),
            why,
        }
    }

    /// Error for a directory that another process deletes meanwhile.
    pub(super) fn vanished(dir: &Path) -> Self {
        Self::manifest(dir, "its manifest vanished".to_owned())
    }
}
