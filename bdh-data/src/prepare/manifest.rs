//! Description of prepared data: `manifest.json`.

use super::Packing;
use super::error::PrepareError;
use crate::shards::TokenShards;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Name of the file.
const FILE: &str = "manifest.json";

/// Version of the format.
const VERSION: u32 = 1;

/// Description of prepared data, which marks a complete directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// Version of the format.
    pub version: u32,
    /// Identity of the tokenizer, see [`Tokenizer::id`](crate::Tokenizer::id).
    pub tokenizer: String,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Tokens of a row.
    pub seq_len: usize,
    /// Rule by which documents became rows.
    pub packing: Packing,
    /// Seed of the order of documents.
    pub seed: u64,
    /// Identity of the documents for training.
    pub train_source: Value,
    /// Identity of the documents for validation.
    pub val_source: Value,
    /// Shards for training, in order.
    pub train: Vec<ShardEntry>,
    /// Shards for validation, in order.
    pub val: Vec<ShardEntry>,
    /// Documents of both splits.
    pub documents: u64,
    /// Bytes of text of both splits.
    pub text_bytes: u64,
    /// Tokens that no row has: ends of documents that did not fit, and the last row.
    pub dropped_tokens: u64,
    /// Whether the ids are random and stand for no text.
    #[serde(default)]
    pub is_synthetic: bool,
}

/// Shard of prepared data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    /// Name of the file.
    pub name: String,
    /// Number of rows.
    pub rows: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            version: VERSION,
            tokenizer: String::new(),
            vocab_size: 0,
            seq_len: 0,
            packing: Packing::default(),
            seed: 0,
            train_source: Value::Null,
            val_source: Value::Null,
            train: Vec::new(),
            val: Vec::new(),
            documents: 0,
            text_bytes: 0,
            dropped_tokens: 0,
            is_synthetic: false,
        }
    }
}

impl Manifest {
    /// Returns the number of tokens for training, those of all rows.
    #[must_use]
    pub fn train_tokens(&self) -> u64 {
        rows(&self.train) * self.seq_len as u64
    }

    /// Returns the number of tokens for validation.
    #[must_use]
    pub fn val_tokens(&self) -> u64 {
        rows(&self.val) * self.seq_len as u64
    }

    /// Checks the SHA-256 of every shard, which takes some seconds a gigabyte.
    ///
    /// # Errors
    ///
    /// [`PrepareError::Manifest`] with the first file that differs, [`PrepareError::Io`] for one that cannot be read.
    pub fn verify(&self, dir: &Path) -> Result<(), PrepareError> {
        for entry in self.train.iter().chain(&self.val) {
            let path = dir.join(&entry.name);
            if sha256(&path).map_err(|source| PrepareError::io(&path, source))? != entry.sha256 {
                let why = format!(
                    "`{}` has another SHA-256 than the manifest says",
                    entry.name
                );
                return Err(PrepareError::manifest(dir, why));
            }
        }
        Ok(())
    }

    /// Reads the manifest of a directory; `None` if there is none.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, PrepareError> {
        let path = dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            Err(source) => return Err(PrepareError::io(&path, source)),
        };
        let manifest: Self = serde_json::from_slice(&text).map_err(|error| {
            PrepareError::manifest(dir, format!("`{FILE}` is no manifest ({error})"))
        })?;
        if manifest.version != VERSION {
            let found = manifest.version;
            let why = format!("its version is {found}, and this program reads {VERSION}");
            return Err(PrepareError::manifest(dir, why));
        }
        Ok(Some(manifest))
    }

    /// Writes the manifest, which makes the directory complete.
    pub(super) fn write(&self, dir: &Path) -> Result<(), PrepareError> {
        let text = serde_json::to_vec_pretty(self).expect("a manifest is JSON");
        let path = dir.join(FILE);
        bdh::files::write_atomically(&path, &text).map_err(|source| PrepareError::io(&path, source))
    }

    /// Opens shards, and compares them with their entries.
    pub(super) fn open(
        &self,
        dir: &Path,
        entries: &[ShardEntry],
    ) -> Result<TokenShards, PrepareError> {
        let mut paths: Vec<PathBuf> = Vec::with_capacity(entries.len());
        for entry in entries {
            if Path::new(&entry.name).file_name() != Some(entry.name.as_ref()) {
                let why = format!("`{}` is no name of a file", entry.name);
                return Err(PrepareError::manifest(dir, why));
            }
            paths.push(dir.join(&entry.name));
        }
        let shards = TokenShards::open(paths).map_err(PrepareError::data)?;
        let found = (shards.num_rows(), shards.row_len(), shards.vocab_size());
        if found
            != (
                Some(rows(entries)),
                Some(self.seq_len),
                Some(self.vocab_size),
            )
        {
            let why = "its shards have other rows or another vocabulary than the manifest says";
            return Err(PrepareError::manifest(dir, why.to_owned()));
        }
        Ok(shards)
    }

    /// Returns the first setting in which a request differs, with both values.
    pub(super) fn difference(&self, request: &Self) -> Option<String> {
        let settings = |manifest: &Self| {
            [
                ("the tokenizer", manifest.tokenizer.clone()),
                ("a vocabulary of", manifest.vocab_size.to_string()),
                ("rows of", manifest.seq_len.to_string()),
                ("the packing", manifest.packing.to_string()),
                ("the seed", manifest.seed.to_string()),
                ("the training files", manifest.train_source.to_string()),
                ("the validation files", manifest.val_source.to_string()),
            ]
        };
        for ((name, here), (_, wanted)) in settings(self).into_iter().zip(settings(request)) {
            if here != wanted {
                let (here, wanted) = (shortened(here), shortened(wanted));
                return Some(format!("{name} {here}, not {wanted}"));
            }
        }
        None
    }
}

/// Returns the number of rows of shards.
fn rows(entries: &[ShardEntry]) -> u64 {
    entries.iter().map(|entry| entry.rows).sum()
}

/// Returns the beginning of a long value.
fn shortened(mut value: String) -> String {
    if value.len() > 100 {
        value.truncate(value.floor_char_boundary(100));
        value += "…";
    }
    value
}

/// Returns the SHA-256 of a file, in hexadecimal.
pub(super) fn sha256(path: &Path) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut file = File::open(path)?;
    let mut part = vec![0; 1 << 20];
    loop {
        match file.read(&mut part)? {
            0 => return Ok(bdh::files::hex(digest.finalize())),
            read => digest.update(&part[..read]),
        }
    }
}
