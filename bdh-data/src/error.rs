//! Errors of texts, tokenizers and downloads.

use crate::documents::DocumentError;
use crate::left_out::LeftOut;
use crate::prepare::PrepareError;
use crate::shards::ShardError;
use crate::tokenizer::TokenizerError;
use std::io;
use std::path::PathBuf;

/// Error of loading text, or of making batches of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or directory is missing, or may not be read.
    #[error(
        "cannot read `{path}` ({source}): `--data` takes a text file, a directory, `shakespeare` or `synthetic`"
    )]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// A file has no bytes.
    #[error("`{path}` is empty: give a file with text")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A file has NUL bytes or invalid UTF-8.
    #[error("`{path}` is not UTF-8 text ({why}): unpack or convert it, then give the text file")]
    Binary {
        /// The file.
        path: PathBuf,
        /// Probable format of the file.
        why: String,
    },
    /// A directory has no text file.
    #[error("no UTF-8 text file in `{path}` (hidden files do not count){left_out}")]
    NoText {
        /// The directory.
        path: PathBuf,
        /// Files that are not text.
        left_out: LeftOut,
    },
    /// The text is too short for two splits.
    #[error(
        "`{name}` has {bytes} bytes of text, too few for a training and a validation split: give more text"
    )]
    NoSplit {
        /// The corpus.
        name: String,
        /// Size of its text in bytes.
        bytes: usize,
    },
    /// The text is shorter than one row.
    #[error(
        "the {split} text has {tokens} tokens, and one row of seq_len {seq_len} needs {}: \
         give more text or a smaller `--max-seq-len`",
        seq_len + 1
    )]
    TooShort {
        /// `train` or `val`.
        split: &'static str,
        /// Number of tokens, including BOS.
        tokens: usize,
        /// Requested tokens of a row, without the last target.
        seq_len: usize,
    },
    /// The requested batch has no tokens.
    #[error("a micro-batch of {rows} rows and seq_len {seq_len} is empty: both must be 1 or more")]
    EmptyBatch {
        /// Requested rows.
        rows: usize,
        /// Requested tokens of a row.
        seq_len: usize,
    },
    /// The files have no document at all.
    #[error("the files have no documents: give files with texts")]
    NoDocuments,
    /// A saved position belongs to other text, or to the same text in other passages.
    #[error(
        "the saved position belongs to another text: resume with the `--data` of the first run"
    )]
    Position,
    /// Documents cannot be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Token shards cannot be read or written.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// A tokenizer cannot be read, trained or saved.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Data cannot be prepared.
    #[error(transparent)]
    Prepare(#[from] Box<PrepareError>),
    /// A download failed.
    #[error(
        "cannot download `{url}` ({source}): download it elsewhere and give the copy with `--data FILE`"
    )]
    Download {
        /// Address of the file.
        url: String,
        /// Error of the network or the server.
        source: Box<ureq::Error>,
    },
    /// A file has another checksum than expected.
    #[error("`{from}` is not the expected file: sha256 {found}, expected {expected}")]
    Checksum {
        /// Address or path of the file.
        from: String,
        /// SHA-256 of the file.
        found: String,
        /// SHA-256 of the expected file.
        expected: String,
    },
    /// A download cannot be written to the cache.
    #[error(
        "cannot write `{path}` ({source}): set `XDG_CACHE_HOME` to a writable directory with free space"
    )]
    Unwritable {
        /// The file in the cache.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// There is no cache directory for a download.
    #[error("no home directory for downloads: set `XDG_CACHE_HOME`, or give `--data FILE`")]
    NoCache,
}
