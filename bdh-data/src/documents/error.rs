//! Errors of documents.

use crate::error::DataError;
use crate::left_out::LeftOut;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

/// Error of reading documents.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// A file or directory is missing, or may not be read.
    #[error(
        "cannot read `{path}` ({source}): give a file of text, JSONL or parquet, or a directory of them"
    )]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// No file has documents.
    #[error("no documents in `{path}` (hidden files do not count){left_out}")]
    NoDocuments {
        /// The file or directory.
        path: PathBuf,
        /// Files that are not read.
        left_out: LeftOut,
    },
    /// Files would be left out, and that is not allowed.
    #[error(
        "`{path}` has files that cannot be read as documents{left_out}; remove them, or allow that they are left out"
    )]
    LeftOut {
        /// The directory.
        path: PathBuf,
        /// The files.
        left_out: LeftOut,
    },
    /// A parquet file has no column of texts.
    #[error(
        "`{path}` has no column `text` of strings, only {found}: rename the column with the texts"
    )]
    NoTextColumn {
        /// The file.
        path: PathBuf,
        /// Columns of the file.
        found: String,
    },
    /// A file is damaged, or its content has another form.
    #[error(
        "cannot read {place} of `{path}` ({why}): get the file again, or write it anew as UTF-8 text or as parquet with \
         zstd, snappy, gzip or no compression and without nulls"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Row group, line or footer.
        place: String,
        /// Fault.
        why: String,
    },
    /// A line is no JSON object with a text.
    #[error(
        "line {line} of `{path}` {why}: each line must be an object such as {{\"text\": \"…\"}}"
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: u64,
        /// Fault.
        why: String,
    },
    /// A document is larger than the limit.
    #[error("a document of `{path}` is larger than {} MiB: split it", limit >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Most bytes of a document.
        limit: u64,
    },
}

impl DocumentError {
    pub(super) fn unreadable(path: &Path, source: io::Error) -> Self {
        Self::Unreadable {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn none_in(path: &Path, left_out: LeftOut) -> Self {
        Self::NoDocuments {
            path: path.to_owned(),
            left_out,
        }
    }

    /// Converts the error of listing a directory.
    pub(super) fn listing(dir: &Path, error: DataError) -> Self {
        match error {
            DataError::Unreadable { path, source } => Self::Unreadable { path, source },
            other => Self::Unreadable {
                path: dir.to_owned(),
                source: io::Error::other(other.to_string()),
            },
        }
    }

    pub(super) fn damaged(path: &Path, place: impl Into<String>, why: &dyn Display) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            place: place.into(),
            why: why.to_string(),
        }
    }
}
