//! nanochat's data loader: documents in order, tokenized as they are needed, packed by best fit.

mod refill;
mod state;

pub use state::NanochatPosition;

use crate::best_fit::{Shelf, add};
use crate::documents::Documents;
use crate::error::DataError;
use crate::tokenizer::Tokenizer;
use bdh::data::{EvalData, TrainData};
use bdh::{BatchSize, BoxError, TokenBatch};
use refill::{Refill, Waiting};
use serde_json::Value;
use state::State;
use std::fmt;
use std::sync::Arc;

/// Endless training batches of nanochat's loader, batch for batch as on one process.
///
/// A row has `seq_len + 1` ids: whole documents while any of the waiting ones fits, then the beginning of the shortest.
/// The documents of a row group are tokenized 128 at a time, whenever fewer than 1,000 are waiting. Wrap the loader in
/// [`Prefetch`](bdh::data::Prefetch) to tokenize while the model trains.
///
/// A saved position names the waiting documents, some 10 kB of JSON, so a resumed run continues with exactly the same
/// rows; it reads and tokenizes these documents again. A position of nanochat, which has only the three numbers of
/// [`NanochatPosition`], continues as nanochat does: with the next row group, and without the waiting documents.
///
/// Source: `nanochat/dataloader.py` of karpathy/nanochat at 92d63d4.
pub struct NanochatLoader {
    documents: Documents,
    tokenizer: Arc<Tokenizer>,
    rows: usize,
    seq_len: usize,
    shelf: Shelf<Waiting>,
    refill: Refill,
}

impl fmt::Debug for NanochatLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NanochatLoader")
            .field("rows", &self.rows)
            .field("seq_len", &self.seq_len)
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}

impl NanochatLoader {
    /// Creates a loader of batches with `rows` rows of `seq_len` inputs and targets.
    ///
    /// # Errors
    ///
    /// [`DataError::EmptyBatch`] if `rows` or `seq_len` is 0.
    pub fn new(
        documents: Documents,
        tokenizer: Arc<Tokenizer>,
        rows: usize,
        seq_len: usize,
    ) -> Result<Self, DataError> {
        if rows == 0 || seq_len == 0 {
            return Err(DataError::EmptyBatch { rows, seq_len });
        }
        Ok(Self {
            refill: Refill::new(documents.clone()),
            documents,
            tokenizer,
            rows,
            seq_len,
            shelf: Shelf::default(),
        })
    }

    /// Returns nanochat's position: the row group of the documents that were tokenized last.
    #[must_use]
    pub fn position(&self) -> NanochatPosition {
        self.refill.position()
    }

    fn row(&mut self) -> Result<Vec<i32>, DataError> {
        let width = self.seq_len + 1;
        let mut row = Vec::with_capacity(width);
        while row.len() < width {
            while !self.shelf.is_full() {
                for waiting in self.refill.next(&self.tokenizer)? {
                    let length = waiting.ids.len();
                    self.shelf.push(waiting, length);
                }
            }
            let waiting = self.shelf.take(width - row.len());
            let waiting = waiting.expect("the shelf is restocked without end");
            add(&mut row, &waiting.ids, width);
        }
        Ok(row)
    }
}

impl TrainData for NanochatLoader {
    type Batch = TokenBatch;

    fn next_batch(&mut self) -> Result<TokenBatch, BoxError> {
        let mut rows = Vec::with_capacity(self.rows);
        for _ in 0..self.rows {
            rows.push(self.row()?);
        }
        Ok(TokenBatch::from_rows(&rows))
    }

    fn batch_size(&self) -> Option<BatchSize> {
        Some(BatchSize {
            samples: self.rows,
            tokens: self.rows * self.seq_len,
        })
    }

    fn state(&self) -> Value {
        State::of(&self.documents, &self.refill, self.shelf.documents()).to_json()
    }

    fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
        let state = State::parse(state, &self.documents)?;
        let waiting = state.waiting(&self.documents, &self.tokenizer)?;
        self.refill = state.refill(self.documents.clone());
        self.shelf = Shelf::default();
        for waiting in waiting {
            let length = waiting.ids.len();
            self.shelf.push(waiting, length);
        }
        Ok(())
    }
}

/// Validation batches of nanochat's loader: the first ones, at every eval.
#[derive(Debug)]
pub struct NanochatEval {
    documents: Documents,
    tokenizer: Arc<Tokenizer>,
    rows: usize,
    seq_len: usize,
    batches: usize,
}

impl NanochatEval {
    /// Creates evaluation data of at most `max_tokens` tokens, but of at least one batch.
    ///
    /// # Errors
    ///
    /// [`DataError::EmptyBatch`] if `rows` or `seq_len` is 0.
    pub fn new(
        documents: Documents,
        tokenizer: Arc<Tokenizer>,
        rows: usize,
        seq_len: usize,
        max_tokens: usize,
    ) -> Result<Self, DataError> {
        NanochatLoader::new(documents.clone(), Arc::clone(&tokenizer), rows, seq_len)?;
        Ok(Self {
            documents,
            tokenizer,
            rows,
            seq_len,
            batches: (max_tokens / seq_len / rows).max(1),
        })
    }
}

impl EvalData for NanochatEval {
    type Batch = TokenBatch;

    fn batches(&self) -> Box<dyn Iterator<Item = Result<TokenBatch, BoxError>> + '_> {
        let (documents, tokenizer) = (self.documents.clone(), Arc::clone(&self.tokenizer));
        let mut loader = NanochatLoader::new(documents, tokenizer, self.rows, self.seq_len)
            .expect("`new` has checked the shape");
        Box::new((0..self.batches).map(move |_| loader.next_batch()))
    }

    fn num_batches(&self) -> Option<usize> {
        Some(self.batches)
    }
}
