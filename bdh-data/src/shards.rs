//! Shards of token ids: text that was tokenized once, in files that training reads piece by piece.
//!
//! | format                  | written by                        | contents                                      |
//! |-------------------------|-----------------------------------|-----------------------------------------------|
//! | [`ShardFormat::Rows`]   | [`RowWriter`], nanochat's rewrite | rows of inputs and targets, packed beforehand |
//! | [`ShardFormat::Stream`] | modded-nanogpt, llm.c             | one text after another, without an end        |
//! | [`ShardFormat::Npy`]    | build-nanogpt                     | a stream as well, in numpy's `.npy`           |
//!
//! All have ids of two bytes. Opening reads the first 4 KiB of each file, and compares its length with what the header
//! says. Training reads only the ids of the next batch, so the size of the data does not matter for the memory.
//! Files are read by position and not mapped: a file that shrinks during the run is an error, and no signal.

mod batches;
mod error;
mod eval;
mod header;
mod npy;
mod reader;
mod shard;
mod split;
mod writer;

pub use batches::ShardBatches;
pub use error::ShardError;
pub use eval::ShardEval;
pub use split::ShardSplit;
pub use writer::{RowHeader, RowWriter};

use self::shard::Shard;
use bdh::files::hex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest number of tokens in a micro-batch; more do not fit into any device.
const MAX_BATCH: usize = 1 << 31;

/// Token ids in files of one format, in the order of the files.
///
/// A clone is cheap and shares the list of files.
///
/// # Examples
///
/// ```
/// use bdh::data::TrainData;
/// use bdh_data::{RowHeader, RowWriter, TokenShards};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let header = RowHeader { row_len: 4, vocab_size: 100, tokenizer_id: 0 };
/// let mut writer = RowWriter::create(&dir.join("train_00000.bin"), header)?;
/// writer.push(&[1, 2, 3, 4, 5])?;
/// writer.push(&[6, 7, 8, 9, 10])?;
/// writer.finish()?;
///
/// let shards = TokenShards::open([dir.join("train_00000.bin")])?;
/// assert_eq!((shards.num_rows(), shards.num_tokens()), (Some(2), 8));
/// let batch = shards.batches(2, 4)?.next_batch()?;
/// assert_eq!(batch.targets(), [2, 3, 4, 5, 7, 8, 9, 10]);
/// # Ok::<(), bdh::BoxError>(())
/// ```
#[derive(Debug, Clone)]
pub struct TokenShards(Arc<Files>);

/// Format of token shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ShardFormat {
    /// Rows of inputs, then rows of targets, behind a header of 64 numbers with the magic 20260902.
    Rows,
    /// A stream of ids behind a header of 256 numbers with the magic 20240520.
    Stream,
    /// A stream of ids as numpy's `.npy`: uint16, one dimension.
    Npy,
}

/// Open list of shards.
#[derive(Debug)]
struct Files {
    shards: Vec<Shard>,
    /// SHA-256 of the lengths and the first bytes of all files.
    fingerprint: String,
}

impl TokenShards {
    /// Opens shards of one format, in the given order.
    ///
    /// # Errors
    ///
    /// [`ShardError::Unreadable`], [`NotAShard`](ShardError::NotAShard), [`Damaged`](ShardError::Damaged) or
    /// [`Length`](ShardError::Length) for a file; [`Mixed`](ShardError::Mixed) or [`Differs`](ShardError::Differs) for
    /// two that do not belong together; [`NoFiles`](ShardError::NoFiles) for none.
    pub fn open(paths: impl IntoIterator<Item = PathBuf>) -> Result<Self, ShardError> {
        let mut digest = Sha256::new();
        let mut shards: Vec<Shard> = Vec::new();
        let mut start = 0;
        for path in paths {
            let shard = Shard::open(path, start, &mut digest)?;
            start += shard.len();
            if let Some(first) = shards.first() {
                first.check_fits(&shard)?;
            }
            shards.push(shard);
        }
        if shards.is_empty() {
            return Err(ShardError::NoFiles);
        }
        let fingerprint = hex(digest.finalize());
        let files = Files {
            shards,
            fingerprint,
        };
        Ok(Self(Arc::new(files)))
    }

    /// Opens the shards of a directory, by the names of its files; `None` if none is a token shard.
    ///
    /// A shard is a file `*.bin` or `*.npy` that begins with the header of one. A part of its name, between
    /// underscores, is `train` or `val`: `train_00000.bin`, `fineweb_val_000000.bin`, `edufineweb_train_000001.npy`.
    /// Shards are sorted by name. Hidden files and subdirectories are skipped, and every other file is reported as left
    /// out.
    ///
    /// # Errors
    ///
    /// The errors of [`open`](Self::open), and [`ShardError::NoTrain`] if all shards are of the validation split.
    pub fn of_dir(dir: &Path) -> Result<Option<ShardSplit>, ShardError> {
        split::of_dir(dir)
    }

    /// Returns the format of the files.
    #[must_use]
    pub fn format(&self) -> ShardFormat {
        self.first().header.format
    }

    /// Returns the number of tokens: of a stream its ids, of rows their inputs.
    #[must_use]
    pub fn num_tokens(&self) -> u64 {
        self.len() * self.row_len().unwrap_or(1) as u64
    }

    /// Returns the number of rows; `None` for a stream.
    #[must_use]
    pub fn num_rows(&self) -> Option<u64> {
        self.row_len().map(|_| self.len())
    }

    /// Returns the number of inputs of a row, which is the longest sequence to train on; `None` for a stream.
    #[must_use]
    pub fn row_len(&self) -> Option<usize> {
        self.rows().map(|rows| rows.row_len)
    }

    /// Returns the number of token ids of the tokenizer; `None` for a stream, whose header does not have it.
    #[must_use]
    pub fn vocab_size(&self) -> Option<usize> {
        self.rows().map(|rows| rows.vocab_size)
    }

    /// Returns the number of the tokenizer in the header; `None` for a stream, whose header does not have it.
    #[must_use]
    pub fn tokenizer_id(&self) -> Option<i32> {
        self.rows().map(|rows| rows.tokenizer_id)
    }

    /// Returns a small JSON value by which a run recognizes the data, wherever its directory is.
    ///
    /// Equal for equal files in the same order. Of the contents it holds the lengths and the first 4 KiB of each file:
    /// reading all of them would take minutes.
    #[must_use]
    pub fn identity(&self) -> Value {
        json!({
            "format": self.format().name(),
            "files": self.0.shards.len(),
            "tokens": self.num_tokens(),
            "sha256_of_heads": self.0.fingerprint,
        })
    }

    /// Returns endless training data: batches of `rows` rows with `seq_len` inputs and targets.
    ///
    /// # Errors
    ///
    /// [`ShardError::Batch`] if `rows` or `seq_len` is 0 or a batch is too large; [`SeqLen`](ShardError::SeqLen) if
    /// `seq_len` is longer than a row; [`TooShort`](ShardError::TooShort) if no shard has enough tokens for a batch.
    pub fn batches(&self, rows: usize, seq_len: usize) -> Result<ShardBatches, ShardError> {
        ShardBatches::new(self.clone(), rows, seq_len)
    }

    /// Returns the first batches as an eval set, of at most `max_tokens` tokens together.
    ///
    /// Rows that do not fill a batch are left out, but there is always at least one batch, with fewer rows if
    /// necessary.
    ///
    /// # Errors
    ///
    /// The errors of [`batches`](Self::batches); [`ShardError::TooShort`] only if there is not even one row.
    pub fn eval_batches(
        &self,
        rows: usize,
        seq_len: usize,
        max_tokens: usize,
    ) -> Result<ShardEval, ShardError> {
        ShardEval::new(self.clone(), rows, seq_len, max_tokens)
    }

    fn first(&self) -> &Shard {
        &self.0.shards[0] // at least one
    }

    fn rows(&self) -> Option<RowHeader> {
        self.first().header.rows
    }

    /// Returns the number of rows, or of tokens of a stream.
    fn len(&self) -> u64 {
        self.0.shards.iter().map(Shard::len).sum()
    }

    fn shard(&self, index: usize) -> &Shard {
        &self.0.shards[index]
    }

    /// Checks the size of a micro-batch.
    fn check_batch(&self, rows: usize, seq_len: usize) -> Result<(), ShardError> {
        let tokens = rows.checked_mul(seq_len);
        if !tokens.is_some_and(|tokens| (1..=MAX_BATCH).contains(&tokens)) {
            return Err(ShardError::Batch { rows, seq_len });
        }
        match self.row_len() {
            Some(row_len) if seq_len > row_len => Err(ShardError::SeqLen { seq_len, row_len }),
            _ => Ok(()),
        }
    }

    /// Returns the number of batches in one pass whose tokens follow each other in one shard.
    fn num_windows(&self, rows: usize, seq_len: usize) -> u64 {
        let span = (rows * seq_len) as u64;
        let windows = |shard: &Shard| shard.len().saturating_sub(1) / span; // the last target is one more
        self.0.shards.iter().map(windows).sum()
    }

    fn too_short(&self, needed: u64) -> ShardError {
        ShardError::TooShort {
            longest: self.longest(),
            needed,
        }
    }

    /// Returns the number of rows, or of tokens, of the longest shard.
    fn longest(&self) -> u64 {
        let lengths = self.0.shards.iter().map(Shard::len);
        lengths.max().unwrap_or_default()
    }
}

impl ShardFormat {
    fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Stream => "stream",
            Self::Npy => "npy",
        }
    }
}

impl fmt::Display for ShardFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
