//! Errors of tokenizers.

use std::io;
use std::path::{Path, PathBuf};

/// Error of reading, training or saving a tokenizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The vocabulary is too small for all bytes and BOS.
    #[error("a vocabulary of {size} tokens is too small: every byte and BOS need 257, so use more")]
    Vocabulary {
        /// Requested tokens.
        size: usize,
    },
    /// A path has no tokenizer.
    #[error(
        "no tokenizer in `{path}`: give nanochat's `tokenizer.pkl`, a `tokenizer.json`, \
         GPT-2's `vocab.json` with `merges.txt`, or a directory with one of them"
    )]
    NotFound {
        /// The file or directory.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read the tokenizer in `{path}` ({source})")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// A file has another content than that of a tokenizer.
    #[error("cannot use the tokenizer in `{path}`: {why}")]
    Damaged {
        /// The file or directory.
        path: PathBuf,
        /// Fault of the content, and what it would need.
        why: String,
    },
    /// The training failed.
    #[error("cannot train a tokenizer on the text ({0}): use bytes instead")]
    Training(#[source] bdh::BoxError),
    /// A file cannot be written.
    #[error("cannot write the tokenizer to `{path}` ({source})")]
    Unwritable {
        /// The file or directory.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// nanochat's programs cannot use the tokenizer.
    #[error("nanochat cannot use this tokenizer: {why}")]
    NotForNanochat {
        /// Missing part.
        why: String,
    },
}

impl TokenizerError {
    pub(super) fn unreadable(path: &Path, source: io::Error) -> Self {
        Self::Unreadable {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn damaged(path: &Path, why: String) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            why,
        }
    }
}
