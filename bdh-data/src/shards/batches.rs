//! Batches of shards in their order, without an end.

use super::error::ShardError;
use super::reader::{Ids, Reader, RowRange};
use super::{Files, TokenShards};
use bdh::data::TrainData;
use bdh::{BatchSize, BoxError, TokenBatch};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Endless training data from [`TokenShards`], in the order of the files.
///
/// **Rows** follow each other without a gap: rows at the end of an epoch that do not fill a batch begin one that
/// continues with the first rows. The number of batches in an epoch is therefore rounded up.
///
/// **Streams** are cut into windows. A batch is a window of `rows * seq_len + 1` ids, and the next one begins `rows *
/// seq_len` ids later, in the same shard. The rest of a shard that is too short for a window is skipped, and so is a
/// shard without any. Source: build-nanogpt.
///
/// A saved position is one row, or one token of one shard. It does not depend on the size of the batches, so a run can
/// be continued with other ones.
#[derive(Debug)]
pub struct ShardBatches {
    shards: TokenShards,
    reader: Reader,
    rows: usize,
    seq_len: usize,
    place: Place,
}

/// Row or token of a shard.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    epoch: u64,
    shard: usize,
    at: u64,
}

/// Saved form of a place.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    epoch: u64,
    #[serde(flatten)]
    place: SavedPlace,
    /// Fingerprint of the shards.
    data: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum SavedPlace {
    /// Row, counted over all shards.
    Row { row: u64 },
    /// Token of a shard.
    Token { shard: usize, token: u64 },
}

impl ShardBatches {
    pub(super) fn new(
        shards: TokenShards,
        rows: usize,
        seq_len: usize,
    ) -> Result<Self, ShardError> {
        shards.check_batch(rows, seq_len)?;
        let needed = match shards.num_rows() {
            Some(_) => 1,
            None => (rows * seq_len) as u64 + 1,
        };
        if !shards.0.shards.iter().any(|shard| shard.len() >= needed) {
            return Err(shards.too_short(needed));
        }
        Ok(Self {
            reader: Reader::new(shards.clone()),
            shards,
            rows,
            seq_len,
            place: Place::default(),
        })
    }

    /// Reads the next batch. After an error, the next call tries again.
    pub(super) fn read(&mut self) -> Result<TokenBatch, ShardError> {
        match self.shards.num_rows() {
            Some(_) => self.read_rows(),
            None => self.read_window(),
        }
    }

    fn read_rows(&mut self) -> Result<TokenBatch, ShardError> {
        let mut place = self.place;
        let mut ids = Ids::default();
        let mut missing = self.rows as u64;
        while missing > 0 {
            let left = place.enter(&self.shards, 1);
            let count = missing.min(left);
            let range = self.range(place, count);
            self.reader.rows(range, &mut ids)?;
            place.at += count;
            missing -= count;
        }
        self.place = place;
        Ok(TokenBatch::from_ids(ids.inputs, ids.targets, self.rows))
    }

    fn range(&self, place: Place, count: u64) -> RowRange {
        RowRange {
            shard: place.shard,
            first: place.at,
            count: count as usize,
            seq_len: self.seq_len,
        }
    }

    fn read_window(&mut self) -> Result<TokenBatch, ShardError> {
        let span = self.rows * self.seq_len;
        let mut place = self.place;
        place.enter(&self.shards, span as u64 + 1);
        let mut inputs = self.reader.window(place.shard, place.at, span + 1)?;
        let targets = inputs[1..].to_vec();
        inputs.truncate(span);
        place.at += span as u64;
        self.place = place;
        Ok(TokenBatch::from_ids(inputs, targets, self.rows))
    }

    /// Finds the place of a saved position; `None` for one of other data.
    fn find(&self, position: &Position) -> Option<Place> {
        let files = &self.shards.0;
        let is_rows = self.shards.num_rows().is_some();
        if position.data != files.fingerprint {
            return None;
        }
        let (shard, at) = match position.place {
            SavedPlace::Row { row } if is_rows => files.place_of_row(row),
            SavedPlace::Token { shard, token } if !is_rows => (shard, token),
            _ => return None,
        };
        let epoch = position.epoch;
        Some(Place { epoch, shard, at })
    }

    fn save(&self) -> SavedPlace {
        let Place { shard, at, .. } = self.place;
        match self.shards.num_rows() {
            Some(_) => SavedPlace::Row {
                row: self.shards.shard(shard).start + at,
            },
            None => SavedPlace::Token { shard, token: at },
        }
    }
}

impl Files {
    /// Returns the shard of a row, and the row's number in it.
    fn place_of_row(&self, row: u64) -> (usize, u64) {
        // Not 0: the first shard starts with row 0.
        let shard = self.shards.partition_point(|shard| shard.start <= row) - 1;
        (shard, row - self.shards[shard].start)
    }
}

impl Place {
    /// Moves to the next shard until one has `needed` more rows or tokens, and returns their number.
    fn enter(&mut self, shards: &TokenShards, needed: u64) -> u64 {
        loop {
            let left = shards.shard(self.shard).len().saturating_sub(self.at);
            if left >= needed {
                return left; // at least one shard is long enough
            }
            self.at = 0;
            self.shard += 1;
            if self.shard == shards.0.shards.len() {
                self.shard = 0;
                self.epoch = self.epoch.saturating_add(1); // a crafted checkpoint may have the largest
            }
        }
    }

    /// Whether the place is in the shards or at the end of one.
    fn is_in(self, shards: &TokenShards) -> bool {
        let shard = shards.0.shards.get(self.shard);
        shard.is_some_and(|shard| self.at <= shard.len())
    }
}

impl TrainData for ShardBatches {
    type Batch = TokenBatch;

    fn next_batch(&mut self) -> Result<TokenBatch, BoxError> {
        Ok(self.read()?)
    }

    fn batch_size(&self) -> Option<BatchSize> {
        Some(BatchSize {
            samples: self.rows,
            tokens: self.rows * self.seq_len,
        })
    }

    fn batches_per_epoch(&self) -> Option<u64> {
        Some(match self.shards.num_rows() {
            Some(rows) => rows.div_ceil(self.rows as u64),
            None => self.shards.num_windows(self.rows, self.seq_len),
        })
    }

    fn state(&self) -> Value {
        let position = Position {
            epoch: self.place.epoch,
            place: self.save(),
            data: self.shards.0.fingerprint.clone(),
        };
        serde_json::to_value(position).expect("numbers and a text are JSON")
    }

    fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
        let position = Position::deserialize(state).map_err(|_| ShardError::Position)?;
        let place = self.find(&position).ok_or(ShardError::Position)?;
        if !place.is_in(&self.shards) {
            let place = match position.place {
                SavedPlace::Row { row } => format!("row {row}"),
                SavedPlace::Token { shard, token } => format!("token {token} of shard {shard}"),
            };
            return Err(ShardError::OutOfRange { place }.into());
        }
        self.place = place;
        Ok(())
    }
}
