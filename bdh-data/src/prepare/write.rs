//! Writing of prepared data.

use super::error::PrepareError;
use super::manifest::{Manifest, ShardEntry, sha256};
use super::pack::Packer;
use super::{Prepare, PrepareProgress};
use crate::documents::{Documents, GroupPosition};
use crate::shards::{RowHeader, RowWriter};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Tokens of a shard.
const SHARD_TOKENS: usize = 100_000_000;

/// Time between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// Seed of the order of validation documents, the same for every request.
const VAL_SEED: u64 = 0;

/// File that marks a directory whose preparation has begun. Only such a directory is cleared.
const MARKER: &str = ".preparing";

/// Marks a directory, and deletes what an interrupted call has left in it.
pub(super) fn begin(dir: &Path) -> Result<(), PrepareError> {
    let marker = dir.join(MARKER);
    let is_ours = marker.exists();
    let entries = fs::read_dir(dir).map_err(|source| PrepareError::io(dir, source))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let (path, is_split) = (
            entry.path(),
            name.starts_with("train_") || name.starts_with("val_"),
        );
        let ending = path.extension().unwrap_or_default();
        let is_scratch = name.starts_with('.') && ending == "tmp";
        if !(is_scratch || is_split && ending == "bin") {
            continue;
        }
        if !is_ours {
            let dir = dir.to_owned();
            return Err(PrepareError::Foreign { dir, name });
        }
        fs::remove_file(&path).map_err(|source| PrepareError::io(&path, source))?;
    }
    fs::write(&marker, "").map_err(|source| PrepareError::io(&marker, source))
}

/// Writes the manifest, which makes the directory complete.
pub(super) fn complete(dir: &Path, manifest: &Manifest) -> Result<(), PrepareError> {
    manifest.write(dir)?;
    // A mark that stays is harmless: a directory with a manifest is opened, and not cleared.
    let _ = fs::remove_file(dir.join(MARKER));
    Ok(())
}

/// Writer of all files of a request.
pub(super) struct Writer<'a> {
    request: &'a Prepare,
    dir: &'a Path,
    report: &'a mut dyn FnMut(&PrepareProgress),
    reported: Instant,
    progress: PrepareProgress,
    manifest: Manifest,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        request: &'a Prepare,
        dir: &'a Path,
        report: &'a mut dyn FnMut(&PrepareProgress),
    ) -> Self {
        let total_bytes = request.data.train.bytes() + request.data.val.bytes();
        Self {
            request,
            dir,
            report,
            reported: Instant::now(),
            progress: PrepareProgress {
                total_bytes,
                ..PrepareProgress::default()
            },
            manifest: request.manifest(),
        }
    }

    /// Writes shards, tokenizer and manifest.
    pub(super) fn run(mut self) -> Result<(), PrepareError> {
        let Prepare { data, seed, .. } = self.request;
        if self.request.seq_len == 0 {
            return Err(PrepareError::EmptyRow);
        }
        self.request
            .tokenizer
            .save(self.dir)
            .map_err(PrepareError::data)?;
        self.manifest.train = self.split("train", &data.train, *seed)?;
        self.manifest.val = self.split("val", &data.val, VAL_SEED)?;
        (self.report)(&self.progress);
        complete(self.dir, &self.manifest)
    }

    /// Writes the shards of a split.
    fn split(
        &mut self,
        name: &'static str,
        documents: &Documents,
        seed: u64,
    ) -> Result<Vec<ShardEntry>, PrepareError> {
        let seq_len = self.request.seq_len;
        let mut packer = Packer::new(self.request.packing, seq_len, seed);
        let mut shards = Shards::new(name, self.dir, self.header());
        let before = self.progress.done_bytes;
        let files = documents.num_files();
        for group in documents.groups_from(GroupPosition::default()) {
            let group = group.map_err(PrepareError::data)?;
            self.add(&group.texts, &mut packer);
            while let Some(row) = packer.row() {
                shards.push(row)?;
            }
            let share = documents.bytes() * (group.at.file as u64) / files as u64; // files of one size, as an estimate
            self.progress.done_bytes = before + share;
            self.progress.tokens = shards.rows * seq_len as u64 + self.tokens_before(name);
            self.report_now_and_then();
        }
        while let Some(row) = packer.last_row() {
            shards.push(row)?;
        }
        self.progress.done_bytes = before + documents.bytes();
        self.manifest.dropped_tokens += packer.dropped;
        if shards.rows == 0 {
            return Err(PrepareError::TooShort {
                split: name,
                seq_len,
            });
        }
        shards.finish()
    }

    /// Tokenizes documents on all cores, and adds them to the packer.
    fn add(&mut self, texts: &[String], packer: &mut Packer) {
        let tokenizer = &self.request.tokenizer;
        for ids in tokenizer.encode_all(texts) {
            packer.add(&ids, tokenizer.bos());
        }
        self.manifest.documents += texts.len() as u64;
        self.manifest.text_bytes += texts.iter().map(|text| text.len() as u64).sum::<u64>();
    }

    /// Returns the tokens of the splits before this one.
    fn tokens_before(&self, name: &str) -> u64 {
        if name == "train" {
            0
        } else {
            self.manifest.train_tokens()
        }
    }

    fn report_now_and_then(&mut self) {
        if self.reported.elapsed() >= REPORT_EVERY {
            (self.report)(&self.progress);
            self.reported = Instant::now();
        }
    }

    fn header(&self) -> RowHeader {
        RowHeader {
            row_len: self.request.seq_len,
            vocab_size: self.request.tokenizer.vocab_size(),
            tokenizer_id: tokenizer_id(&self.manifest.tokenizer),
        }
    }
}

/// Returns the number of a tokenizer in the headers of shards: the first 31 bits of its identity.
pub(super) fn tokenizer_id(id: &str) -> i32 {
    let bits = id
        .get(..8)
        .and_then(|hex| u32::from_str_radix(hex, 16).ok());
    (bits.unwrap_or(0) >> 1) as i32
}

/// Shards of one split; the last one is being written.
pub(super) struct Shards<'a> {
    name: &'static str,
    dir: &'a Path,
    header: RowHeader,
    /// Rows of a full shard.
    full: u64,
    writer: Option<RowWriter>,
    entries: Vec<ShardEntry>,
    /// Rows of all shards.
    pub(super) rows: u64,
}

impl<'a> Shards<'a> {
    pub(super) fn new(name: &'static str, dir: &'a Path, header: RowHeader) -> Self {
        Self {
            name,
            dir,
            header,
            full: (SHARD_TOKENS / header.row_len).max(1) as u64,
            writer: None,
            entries: Vec::new(),
            rows: 0,
        }
    }

    pub(super) fn push(&mut self, row: &[i32]) -> Result<(), PrepareError> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let path = self.dir.join(name_of(self.name, self.entries.len()));
                none.insert(RowWriter::create(&path, self.header).map_err(PrepareError::data)?)
            }
        };
        writer.push(row).map_err(PrepareError::data)?;
        self.rows += 1;
        if self.rows.is_multiple_of(self.full) {
            self.end_shard()?;
        }
        Ok(())
    }

    fn end_shard(&mut self) -> Result<(), PrepareError> {
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let rows = writer.finish().map_err(PrepareError::data)?;
        let name = name_of(self.name, self.entries.len());
        let path = self.dir.join(&name);
        let sha256 = sha256(&path).map_err(|source| PrepareError::io(&path, source))?;
        self.entries.push(ShardEntry { name, rows, sha256 });
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Vec<ShardEntry>, PrepareError> {
        self.end_shard()?;
        Ok(self.entries)
    }
}

fn name_of(split: &str, index: usize) -> String {
    format!("{split}_{index:05}.bin")
}
