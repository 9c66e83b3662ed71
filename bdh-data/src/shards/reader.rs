//! Reads of ids at places in shards, with one open file.

use super::TokenShards;
use super::error::ShardError;
use super::shard::open_file;
use bdh::TokenBatch;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Target in a file that no loss counts.
const IGNORED: i32 = 65_535;

/// Reader of one batch after another, which holds the file of the last one open.
#[derive(Debug)]
pub(super) struct Reader {
    shards: TokenShards,
    open: Option<OpenShard>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct OpenShard {
    index: usize,
    file: File,
}

/// Ids of a batch, row after row.
#[derive(Debug, Default)]
pub(super) struct Ids {
    pub(super) inputs: Vec<i32>,
    pub(super) targets: Vec<i32>,
}

/// Rows of one shard that follow each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowRange {
    pub(super) shard: usize,
    pub(super) first: u64,
    pub(super) count: usize,
    /// Number of ids to take from each row.
    pub(super) seq_len: usize,
}

impl Reader {
    pub(super) fn new(shards: TokenShards) -> Self {
        Self {
            shards,
            open: None,
            bytes: Vec::new(),
        }
    }

    /// Reads rows of inputs and of targets, and adds them to `ids`.
    pub(super) fn rows(&mut self, range: RowRange, ids: &mut Ids) -> Result<(), ShardError> {
        let num_rows = self.shards.shard(range.shard).len();
        let inputs = self.section(range, 0)?;
        let mut targets = self.section(range, num_rows)?; // behind all rows of inputs
        for target in &mut targets {
            if *target == IGNORED {
                *target = TokenBatch::IGNORED;
            }
        }
        self.check(range, &inputs)?;
        self.check(range, &targets)?;
        ids.inputs.extend(inputs);
        ids.targets.extend(targets);
        Ok(())
    }

    /// Reads rows behind the first `before` rows of a shard.
    fn section(&mut self, range: RowRange, before: u64) -> Result<Vec<i32>, ShardError> {
        let width = self.shards.row_len().unwrap_or(1);
        let first = (before + range.first) * width as u64;
        self.read(range.shard, first, range.count * width)?;
        Ok(self.columns(width, range.seq_len))
    }

    /// Reads ids of a stream that follow each other.
    pub(super) fn window(
        &mut self,
        shard: usize,
        first: u64,
        count: usize,
    ) -> Result<Vec<i32>, ShardError> {
        self.read(shard, first, count)?;
        Ok(self.columns(count, count))
    }

    /// Returns the first ids of each row of `width` ids in the bytes that were read.
    fn columns(&self, width: usize, seq_len: usize) -> Vec<i32> {
        let rows = self.bytes.len() / (2 * width);
        let mut ids = Vec::with_capacity(rows * seq_len);
        for row in self.bytes.chunks_exact(2 * width) {
            for id in row[..2 * seq_len].chunks_exact(2) {
                ids.push(u16::from_le_bytes([id[0], id[1]]).into());
            }
        }
        ids
    }

    /// Checks that the header's vocabulary has all ids.
    fn check(&self, range: RowRange, ids: &[i32]) -> Result<(), ShardError> {
        let vocab_size = self.shards.vocab_size().unwrap_or(usize::MAX);
        let unknown = |&id: &i32| id >= 0 && id as usize >= vocab_size;
        let Some(place) = ids.iter().position(unknown) else {
            return Ok(());
        };
        Err(ShardError::UnknownId {
            path: self.shards.shard(range.shard).path.clone(),
            row: range.first + (place / range.seq_len) as u64,
            id: ids[place],
            vocab_size,
        })
    }

    /// Fills the buffer with the bytes of `count` ids of a shard, from the id number `first` on.
    fn read(&mut self, shard: usize, first: u64, count: usize) -> Result<(), ShardError> {
        let place = self.shards.shard(shard).header.data + 2 * first;
        self.bytes.resize(2 * count, 0);
        match self.read_at(shard, place) {
            Ok(()) => Ok(()),
            Err(source) => Err(ShardError::Unreadable {
                path: self.shards.shard(shard).path.clone(),
                source,
            }),
        }
    }

    fn read_at(&mut self, shard: usize, place: u64) -> io::Result<()> {
        if self.open.as_ref().is_none_or(|open| open.index != shard) {
            let file = self.open_again(shard)?;
            self.open = Some(OpenShard { index: shard, file });
        }
        if let Some(open) = &mut self.open {
            open.file.seek(SeekFrom::Start(place))?;
            open.file.read_exact(&mut self.bytes)?;
        }
        Ok(())
    }

    /// Opens a shard whose header was read when the run began.
    fn open_again(&self, shard: usize) -> io::Result<File> {
        let shard = self.shards.shard(shard);
        let file = open_file(&shard.path)?;
        let (had, has) = (shard.header.file_len(), file.metadata()?.len());
        if had != has {
            let what = format!("it had {had} bytes at first, and has {has} now");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(file)
    }
}
