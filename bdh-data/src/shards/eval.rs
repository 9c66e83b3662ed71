//! Batches of shards for an eval.

use super::TokenShards;
use super::batches::ShardBatches;
use super::error::ShardError;
use bdh::data::EvalData;
use bdh::{BoxError, TokenBatch};

/// Eval set from the beginning of [`TokenShards`], which is read anew at every eval.
#[derive(Debug, Clone)]
pub struct ShardEval {
    shards: TokenShards,
    rows: usize,
    seq_len: usize,
    batches: usize,
}

impl ShardEval {
    pub(super) fn new(
        shards: TokenShards,
        rows: usize,
        seq_len: usize,
        max_tokens: usize,
    ) -> Result<Self, ShardError> {
        shards.check_batch(rows, seq_len)?;
        let rows = shards.at_most(rows, seq_len);
        if rows == 0 {
            let needed = shards.num_rows().map_or(seq_len as u64 + 1, |_| 1);
            return Err(shards.too_short(needed));
        }
        let available = match shards.num_rows() {
            Some(all) => all / rows as u64,
            None => shards.num_windows(rows, seq_len),
        };
        let wanted = (max_tokens / (rows * seq_len)).max(1);
        Ok(Self {
            shards,
            rows,
            seq_len,
            batches: wanted.min(available as usize),
        })
    }
}

impl TokenShards {
    /// Returns the number of rows of a batch: fewer than asked if no shard has enough for one batch.
    fn at_most(&self, rows: usize, seq_len: usize) -> usize {
        let most = match self.num_rows() {
            Some(all) => all,
            None => self.longest().saturating_sub(1) / seq_len as u64,
        };
        most.min(rows as u64) as usize
    }
}

impl EvalData for ShardEval {
    type Batch = TokenBatch;

    fn batches(&self) -> Box<dyn Iterator<Item = Result<TokenBatch, BoxError>> + '_> {
        let mut batches = ShardBatches::new(self.shards.clone(), self.rows, self.seq_len)
            .expect("a batch of this size was checked when the set was made");
        Box::new((0..self.batches).map(move |_| Ok(batches.read()?)))
    }

    fn num_batches(&self) -> Option<usize> {
        Some(self.batches)
    }
}
