//! What can be wrong with somebody's text.

use crate::left_out::LeftOut;
use std::io;
use std::path::PathBuf;

/// Why there is no text to train on, or no batch to make of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or directory is missing, or may not be read.
    #[error(
        "cannot read `{path}` ({source}): `--data` takes a text file, a directory, `shakespeare` or `synthetic`"
    )]
    Unreadable {
        /// What was asked for.
        path: PathBuf,
        /// The system's word on it.
        source: io::Error,
    },
    /// The file holds no bytes.
    #[error("`{path}` is empty: give a file with text in it, the more the better")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file holds NUL bytes or invalid UTF-8.
    #[error("`{path}` is not UTF-8 text ({why}): unpack or convert it, then give the text file")]
    Binary {
        /// The file.
        path: PathBuf,
        /// What it is, as far as its bytes show.
        why: String,
    },
    /// No file below the directory is text.
    #[error("no UTF-8 text file in `{path}` (hidden files do not count){left_out}")]
    NoText {
        /// The directory.
        path: PathBuf,
        /// Its other files.
        left_out: LeftOut,
    },
    /// The text is too short to be split in two.
    #[error(
        "`{name}` has {bytes} bytes of text, too few to keep some for validation: give more text"
    )]
    NoSplit {
        /// The corpus.
        name: String,
        /// All of its text, in bytes.
        bytes: usize,
    },
    /// The text does not fill one row.
    #[error(
        "the {split} text has {tokens} tokens, and one row of seq_len {seq_len} needs {}: \
         give more text or a smaller `--max-seq-len`",
        seq_len + 1
    )]
    TooShort {
        /// `train` or `val`.
        split: &'static str,
        /// Tokens there are, BOS tokens included.
        tokens: usize,
        /// Tokens asked for in a row, targets not counted.
        seq_len: usize,
    },
    /// A batch was asked for that holds nothing.
    #[error("a micro-batch of {rows} rows and seq_len {seq_len} is empty: both must be 1 or more")]
    EmptyBatch {
        /// Rows asked for.
        rows: usize,
        /// Tokens asked for in a row.
        seq_len: usize,
    },
    /// A saved position belongs to other text, or to the same text cut differently.
    #[error(
        "the saved position is not one of this text: resume with the `--data` of the first run"
    )]
    Position,
    /// The vocabulary cannot hold all bytes and BOS.
    #[error(
        "a vocabulary of {size} tokens is too small: 257 hold every byte and BOS, so ask for more"
    )]
    Vocabulary {
        /// Tokens asked for.
        size: usize,
    },
    /// A tokenizer's files are missing or broken.
    #[error(
        "no words for the model in `{path}` ({source}): its `vocab.json` and `merges.txt`, as GPT-2 has them, must lie there"
    )]
    Words {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        source: bdh::BoxError,
    },
    /// The tokenizer could not be trained.
    #[error("no tokenizer could be trained on the text ({0}): use bytes instead")]
    Training(#[source] bdh::BoxError),
    /// A download did not arrive.
    #[error(
        "could not download `{url}` ({source}): fetch it elsewhere and give the copy as `--data FILE`"
    )]
    Download {
        /// Where from.
        url: String,
        /// What happened on the way.
        source: Box<ureq::Error>,
    },
    /// A file is not the one that was meant.
    #[error("`{from}` is not the expected file: sha256 {found}, expected {expected}")]
    Checksum {
        /// The address or path.
        from: String,
        /// Its SHA-256.
        found: String,
        /// The SHA-256 of the right file.
        expected: String,
    },
    /// A download could not be kept.
    #[error(
        "cannot write `{path}` ({source}): point `XDG_CACHE_HOME` at a directory with room in it"
    )]
    Unwritable {
        /// The file in the cache.
        path: PathBuf,
        /// The system's word on it.
        source: io::Error,
    },
    /// There is nowhere to keep a download.
    #[error("no home directory to keep downloads in: set `XDG_CACHE_HOME`, or give `--data FILE`")]
    NoCache,
}
