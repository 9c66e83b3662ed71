//! Errors of token shards.

use super::ShardFormat;
use std::io;
use std::path::PathBuf;

/// Error of reading or writing token shards.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// A file or directory cannot be read.
    #[error("cannot read `{}` ({source}): check the path, and that it may be read", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// A file does not begin like a token shard.
    #[error(
        "`{}` is not a token shard ({found}): known are rows (magic 20260902), streams (magic 20240520) and `.npy` \
         files (uint16, one dimension)",
        path.display()
    )]
    NotAShard {
        /// The file.
        path: PathBuf,
        /// Beginning of the file, such as its magic number.
        found: String,
    },
    /// The header of a shard has a value that cannot be.
    #[error("the header of `{}` is damaged or of a later version ({why}): write the shard again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The value, and those that can be.
        why: String,
    },
    /// A shard ends early, or is longer than its header says.
    #[error(
        "`{}` has {found} bytes, and its header says {expected}: copy or write the shard again",
        path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Length of the file in bytes.
        found: u64,
        /// Length of a complete file with this header, in bytes.
        expected: u64,
    },
    /// Two shards of one data set have different formats.
    #[error(
        "`{}` has the format {first_format}, and `{}` has the format {second_format}: \
         put each data set into a directory of its own",
        first.display(), second.display()
    )]
    Mixed {
        /// First file.
        first: PathBuf,
        /// Format of the first file.
        first_format: ShardFormat,
        /// First file of another format.
        second: PathBuf,
        /// Format of this other file.
        second_format: ShardFormat,
    },
    /// Two shards of one data set were made with different settings.
    #[error(
        "`{}` has {what} {first_value}, and `{}` has {what} {second_value}: \
         put each data set into a directory of its own",
        first.display(), second.display()
    )]
    Differs {
        /// Name of the number in the header.
        what: &'static str,
        /// First file.
        first: PathBuf,
        /// Number in the first file.
        first_value: i64,
        /// First file with another number.
        second: PathBuf,
        /// Number in this other file.
        second_value: i64,
    },
    /// No file was given.
    #[error("no token shard was given: name at least one file")]
    NoFiles,
    /// A directory has shards of the validation split only.
    #[error(
        "the token shards in `{}` are all of the validation split, such as `{example}`: \
         add one whose name has the part `train`, such as `train_00000.bin`",
        dir.display()
    )]
    NoTrain {
        /// The directory.
        dir: PathBuf,
        /// Name of one of the shards.
        example: String,
    },
    /// The requested batch is empty or too large.
    #[error(
        "a micro-batch of {rows} rows and seq_len {seq_len} cannot be made: both must be 1 or more, and their product \
         at most 2147483648"
    )]
    Batch {
        /// Requested rows.
        rows: usize,
        /// Requested tokens of a row.
        seq_len: usize,
    },
    /// The requested sequences are longer than the rows.
    #[error(
        "the rows of the shards have {row_len} tokens, fewer than seq_len {seq_len}: \
         use sequences of at most {row_len} tokens, or prepare the data again"
    )]
    SeqLen {
        /// Requested tokens of a row.
        seq_len: usize,
        /// Tokens of a row in the shards.
        row_len: usize,
    },
    /// No shard is long enough for one batch.
    #[error(
        "the longest shard has {longest} tokens, and one batch needs {needed}: use smaller batches, or longer shards"
    )]
    TooShort {
        /// Tokens of the longest shard, or its rows if there are rows.
        longest: u64,
        /// Tokens or rows that the smallest possible batch needs.
        needed: u64,
    },
    /// A shard has an id that its own header excludes.
    #[error(
        "`{}` has the token id {id} in row {row}, and its vocabulary has the ids 0 to {}: write the shard again",
        path.display(), vocab_size - 1
    )]
    UnknownId {
        /// The file.
        path: PathBuf,
        /// Row of the file, from 0.
        row: u64,
        /// The id.
        id: i32,
        /// Number of token ids, from the header.
        vocab_size: usize,
    },
    /// A saved position belongs to other shards.
    #[error(
        "the saved position belongs to other token shards: resume with the `--data` of the first run"
    )]
    Position,
    /// A saved position lies behind the end of the shards.
    #[error("the saved position, {place}, is behind the end of the token shards")]
    OutOfRange {
        /// The row or the token.
        place: String,
    },
    /// Ids of a vocabulary do not fit into two bytes.
    #[error(
        "a vocabulary of {size} tokens cannot be written: token shards have ids of two bytes, so 1 to 65535 tokens \
         (65535 marks a target to ignore)"
    )]
    Vocabulary {
        /// Number of token ids.
        size: usize,
    },
    /// Rows of a requested length cannot be written.
    #[error("rows of {row_len} tokens cannot be written: use a length from 1 to 2147483647")]
    RowLen {
        /// Requested tokens of a row.
        row_len: usize,
    },
    /// A row to be written has another length than the others.
    #[error(
        "a row has {found} ids, and the shard needs {expected}: its inputs and one target more"
    )]
    RowWidth {
        /// Ids of the row.
        found: usize,
        /// Ids of every row.
        expected: usize,
    },
    /// A row to be written has an id outside of the vocabulary.
    #[error(
        "a row has the token id {id}, outside of the vocabulary (ids 0 to {}): use the tokenizer of the shard",
        vocab_size - 1
    )]
    RowId {
        /// The id.
        id: i32,
        /// Number of token ids.
        vocab_size: usize,
    },
    /// A shard has the largest number of rows.
    #[error("`{}` has 2147483647 rows, and a shard cannot have more: write several", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// A shard cannot be written. No file has its name.
    #[error("cannot write `{}` ({source}): choose a directory with free space that may be written", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
}
