//! Preparation of data: documents are tokenized and packed into token shards once, for all runs that train on them.
//!
//! ```text
//! train_00000.bin, train_00001.bin, …   rows for training, some 100 million tokens a file
//! val_00000.bin                         rows for validation
//! tokenizer.json                        the tokenizer
//! manifest.json                         what all this was made of; written last, so it marks a complete directory
//! ```

mod error;
mod manifest;
mod pack;
mod synthetic;
mod write;

pub use error::PrepareError;
pub use manifest::{Manifest, ShardEntry};
pub use synthetic::synthetic_shards;

use crate::documents::Split;
use crate::shards::TokenShards;
use crate::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use write::Writer;

/// Rule by which documents become rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packing {
    /// Documents are cut into pieces that fit a row, and shuffled. No token is lost but in a last row.
    #[default]
    BestFit,
    /// Documents in order, as in nanochat. The end of one that does not fit its row is lost.
    Nanochat,
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BestFit => "best-fit",
            Self::Nanochat => "nanochat",
        })
    }
}

/// Error of a name that is no packing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown packing `{0}`: use best-fit or nanochat")]
pub struct UnknownPacking(String);

impl FromStr for Packing {
    type Err = UnknownPacking;

    fn from_str(name: &str) -> Result<Self, UnknownPacking> {
        match name {
            "best-fit" | "best_fit" => Ok(Self::BestFit),
            "nanochat" => Ok(Self::Nanochat),
            other => Err(UnknownPacking(other.to_owned())),
        }
    }
}

/// Request to prepare data.
///
/// # Examples
///
/// ```
/// use bdh_data::{Documents, Packing, Prepare, Tokenizer};
/// use std::sync::Arc;
///
/// # let dir = tempfile::tempdir()?;
/// # let (text, out) = (dir.path().join("stories.jsonl"), dir.path().join("shards"));
/// # let line = "{\"text\": \"Once upon a time there was a row of tokens.\"}\n";
/// std::fs::write(&text, line.repeat(100))?;
/// let request = Prepare {
///     data: Documents::open(&text)?.split()?,
///     tokenizer: Arc::new(Tokenizer::Bytes),
///     seq_len: 64,
///     packing: Packing::BestFit,
///     seed: 1,
/// };
/// let prepared = request.run(&out, &mut |_| {})?;
/// assert!(prepared.train().num_tokens() > 1000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Prepare {
    /// Documents for training and for validation.
    pub data: Split,
    /// Tokenizer, with at most 65,535 ids.
    pub tokenizer: Arc<Tokenizer>,
    /// Tokens of a row.
    pub seq_len: usize,
    /// Rule by which documents become rows.
    pub packing: Packing,
    /// Seed of the order of documents; without effect for nanochat's packing.
    pub seed: u64,
}

/// Progress of preparing data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrepareProgress {
    /// Bytes of the files that are done, estimated within a file.
    pub done_bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
    /// Tokens in rows so far.
    pub tokens: u64,
}

/// Prepared data: token shards with their tokenizer.
#[derive(Debug, Clone)]
pub struct Prepared {
    dir: PathBuf,
    manifest: Manifest,
    train: TokenShards,
    val: TokenShards,
    tokenizer: Arc<Tokenizer>,
}

impl Prepare {
    /// Prepares the data in a directory, or opens what an earlier call has prepared there.
    ///
    /// Of several processes that prepare the same directory one does the work, and the others wait for it. Memory is
    /// bounded: one group of documents, and some thousands that wait for a row. What a killed process leaves is
    /// deleted.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Other`] if the directory was prepared from something else, [`PrepareError::Foreign`] if it has token
    /// shards of another program, [`PrepareError::Io`] if it cannot be
    /// written, [`PrepareError::Data`] for documents or a tokenizer that cannot be used. No manifest is written then.
    pub fn run(
        &self,
        dir: &Path,
        progress: &mut dyn FnMut(&PrepareProgress),
    ) -> Result<Prepared, PrepareError> {
        let _lock = lock(dir)?;
        if let Some(prepared) = Prepared::open(dir)? {
            return self.accept(prepared);
        }
        write::begin(dir)?;
        Writer::new(self, dir, progress).run()?;
        Prepared::open(dir)?.ok_or_else(|| PrepareError::vanished(dir))
    }

    /// Returns a short name of the request: equal requests have equal names.
    ///
    /// # Panics
    ///
    /// Never: a request is JSON.
    #[must_use]
    pub fn key(&self) -> String {
        let request = serde_json::to_string(&self.manifest()).expect("a manifest is JSON");
        let mut key = bdh::files::hex(Sha256::digest(request));
        key.truncate(16);
        key
    }

    /// Returns the manifest before the work: the request without results.
    fn manifest(&self) -> Manifest {
        Manifest {
            tokenizer: self.tokenizer.id(),
            vocab_size: self.tokenizer.vocab_size(),
            seq_len: self.seq_len,
            packing: self.packing,
            seed: self.seed,
            train_source: self.data.train.identity(),
            val_source: self.data.val.identity(),
            ..Manifest::default()
        }
    }

    /// Returns what an earlier call has prepared, if it was the same request.
    fn accept(&self, prepared: Prepared) -> Result<Prepared, PrepareError> {
        match prepared.manifest.difference(&self.manifest()) {
            Some(what) => Err(PrepareError::Other {
                dir: prepared.dir,
                what,
            }),
            None => Ok(prepared),
        }
    }
}

impl Prepared {
    /// Opens a prepared directory; `None` if there is no manifest.
    ///
    /// Checks the headers and sizes of the shards. [`Manifest::verify`] checks every byte.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Manifest`] for a damaged manifest or shards that differ from it, and the errors of the shards and
    /// of the tokenizer as [`PrepareError::Data`].
    pub fn open(dir: &Path) -> Result<Option<Self>, PrepareError> {
        let Some(manifest) = Manifest::read(dir)? else {
            return Ok(None);
        };
        let tokenizer = if manifest.is_synthetic {
            Tokenizer::Bytes
        } else {
            Tokenizer::load(&dir.join(Tokenizer::FILE)).map_err(PrepareError::data)?
        };
        if !manifest.is_synthetic && tokenizer.id() != manifest.tokenizer {
            let why = "its tokenizer is another one than the manifest's".to_owned();
            return Err(PrepareError::manifest(dir, why));
        }
        Ok(Some(Self {
            train: manifest.open(dir, &manifest.train)?,
            val: manifest.open(dir, &manifest.val)?,
            dir: dir.to_owned(),
            tokenizer: Arc::new(tokenizer),
            manifest,
        }))
    }

    /// Returns the shards for training.
    #[must_use]
    pub fn train(&self) -> &TokenShards {
        &self.train
    }

    /// Returns the shards for validation.
    #[must_use]
    pub fn val(&self) -> &TokenShards {
        &self.val
    }

    /// Returns the tokenizer; of synthetic shards, whose ids stand for no text, that of bytes.
    #[must_use]
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Returns the description of the data.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Creates a directory, and locks it until the returned file is closed or the process ends.
fn lock(dir: &Path) -> Result<File, PrepareError> {
    let path = dir.join(".lock");
    let locked = fs::create_dir_all(dir)
        .and_then(|()| File::create(&path))
        .and_then(|file| file.lock().map(|()| file));
    locked.map_err(|source| PrepareError::io(&path, source))
}
