//! Batches of packed rows, endless for training and fixed for validation.

use crate::best_fit::{Shelf, add};
use crate::error::DataError;
use crate::order::epoch_order;
use bdh::data::TrainData;
use bdh::lm::fingerprint;
use bdh::{BatchSize, BoxError, TokenBatch};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// Seed of the order of validation documents, the same for every run.
const VAL_SEED: u64 = 0;

/// Endless stream of micro-batches from documents, without padding.
///
/// A row has `seq_len + 1` ids: whole documents while any fits, then the beginning of one more (nanochat's rule, see
/// `best_fit.rs`). Documents should start with BOS and be no longer than a row, like those of
/// [`passages`](crate::passages::passages): the end of a longer document is never used.
///
/// The seed decides the order of documents, which differs in each epoch. A saved position includes the documents that
/// wait for a row, about 5 kB of JSON, so a resumed run continues with exactly the same rows.
#[derive(Debug, Clone)]
pub struct Packed {
    documents: Arc<[Vec<i32>]>,
    fingerprint: u64,
    shape: Shape,
    stream: Stream,
    /// Documents that wait for a row, by index.
    shelf: Shelf<u32>,
}

/// Shape of batches, checked against the number of tokens.
#[derive(Debug, Clone, Copy)]
struct Shape {
    rows: usize,
    seq_len: usize,
    /// Number of ids in all documents.
    tokens: usize,
}

/// Endless stream of documents, one epoch after another.
#[derive(Debug, Clone)]
struct Stream {
    seed: u64,
    epoch: u64,
    /// Index in `order` of the next document.
    next: usize,
    order: Vec<u32>,
}

/// Saved state of a [`Packed`].
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    epoch: u64,
    next: usize,
    /// Documents on the shelf, in their order.
    waiting: Vec<u32>,
    /// Number of documents; with `tokens` and `fingerprint` it identifies the data.
    documents: usize,
    tokens: usize,
    fingerprint: u64,
}

impl Packed {
    /// Creates a stream of micro-batches with `rows` rows of `seq_len` inputs and targets.
    ///
    /// # Errors
    ///
    /// [`DataError::EmptyBatch`] if `rows` or `seq_len` is 0; [`DataError::TooShort`] if the documents together do not
    /// fill one row.
    pub fn new(
        documents: Arc<[Vec<i32>]>,
        rows: usize,
        seq_len: usize,
        seed: u64,
    ) -> Result<Self, DataError> {
        let shape = Shape::of(&documents, rows, seq_len, "train")?;
        let stream = Stream::at(seed, 0, 0, documents.len());
        let fingerprint = fingerprint(documents.iter().map(Vec::as_slice));
        Ok(Self {
            documents,
            fingerprint,
            shape,
            stream,
            shelf: Shelf::default(),
        })
    }

    /// Whether a saved position belongs to these documents.
    fn has_position(&self, position: &Position) -> bool {
        let documents = self.documents.len();
        let same_data = position.documents == documents
            && position.tokens == self.shape.tokens
            && position.fingerprint == self.fingerprint;
        let in_range = position.next < documents
            && position.waiting.iter().all(|&id| (id as usize) < documents);
        same_data && in_range
    }

    fn row(&mut self) -> Vec<i32> {
        let width = self.shape.seq_len + 1;
        let mut row = Vec::with_capacity(width);
        while row.len() < width {
            while !self.shelf.is_full() {
                let id = self.stream.next_document();
                self.push(id);
            }
            let id = self.shelf.take(width - row.len());
            let id = id.expect("the shelf is restocked without end") as usize;
            add(&mut row, &self.documents[id], width);
        }
        row
    }

    /// Puts a document on the shelf.
    fn push(&mut self, id: u32) {
        self.shelf.push(id, self.documents[id as usize].len());
    }
}

impl TrainData for Packed {
    type Batch = TokenBatch;

    fn next_batch(&mut self) -> Result<TokenBatch, BoxError> {
        let mut rows = Vec::with_capacity(self.shape.rows);
        for _ in 0..self.shape.rows {
            rows.push(self.row());
        }
        Ok(TokenBatch::from_rows(&rows))
    }

    fn batch_size(&self) -> Option<BatchSize> {
        let Shape { rows, seq_len, .. } = self.shape;
        Some(BatchSize {
            samples: rows,
            tokens: rows * seq_len,
        })
    }

    fn state(&self) -> Value {
        let position = Position {
            epoch: self.stream.epoch,
            next: self.stream.next,
            waiting: self.shelf.documents().to_vec(),
            documents: self.documents.len(),
            tokens: self.shape.tokens,
            fingerprint: self.fingerprint,
        };
        serde_json::to_value(position).expect("numbers and lists of them are JSON")
    }

    fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
        let position = Position::deserialize(state).map_err(|_| DataError::Position)?;
        if !self.has_position(&position) {
            return Err(DataError::Position.into());
        }
        let documents = self.documents.len();
        self.stream = Stream::at(self.stream.seed, position.epoch, position.next, documents);
        self.shelf = Shelf::default();
        for id in position.waiting {
            self.push(id);
        }
        Ok(())
    }
}

/// Packs documents into batches of at most `max_tokens` tokens together, the same ones in every run.
///
/// No document is used twice. Rows that do not fill a batch are left out, but there is always at least one batch, with
/// fewer rows if necessary.
///
/// # Errors
///
/// [`DataError::EmptyBatch`] if `rows` or `seq_len` is 0; [`DataError::TooShort`] if the documents together do not fill
/// one row.
pub fn val_batches(
    documents: &[Vec<i32>],
    rows: usize,
    seq_len: usize,
    max_tokens: usize,
) -> Result<Vec<TokenBatch>, DataError> {
    Shape::of(documents, rows, seq_len, "val")?;
    let most_batches = (max_tokens / seq_len / rows).max(1);
    let packed = val_rows(documents, seq_len, most_batches.saturating_mul(rows));
    if packed.len() < rows {
        return Ok(vec![TokenBatch::from_rows(&packed)]);
    }
    Ok(packed
        .chunks_exact(rows)
        .map(TokenBatch::from_rows)
        .collect())
}

/// Packs validation documents into at most `most` rows of `seq_len + 1` ids.
fn val_rows(documents: &[Vec<i32>], seq_len: usize, most: usize) -> Vec<Vec<i32>> {
    let mut order = epoch_order(VAL_SEED, 0, documents.len()).into_iter();
    let mut shelf = Shelf::default();
    let width = seq_len + 1;
    let (mut rows, mut row) = (Vec::new(), Vec::with_capacity(width));
    while rows.len() < most {
        while !shelf.is_full()
            && let Some(id) = order.next()
        {
            shelf.push(id as usize, documents[id as usize].len());
        }
        let Some(id) = shelf.take(width - row.len()) else {
            break; // all documents are used
        };
        add(&mut row, &documents[id], width);
        if row.len() == width {
            rows.push(std::mem::replace(&mut row, Vec::with_capacity(width)));
        }
    }
    rows
}

impl Shape {
    /// Checks that the documents of a split fill at least one row.
    fn of(
        documents: &[Vec<i32>],
        rows: usize,
        seq_len: usize,
        split: &'static str,
    ) -> Result<Self, DataError> {
        let tokens = documents.iter().map(Vec::len).sum();
        if rows == 0 || seq_len == 0 {
            return Err(DataError::EmptyBatch { rows, seq_len });
        }
        if tokens <= seq_len {
            return Err(DataError::TooShort {
                split,
                tokens,
                seq_len,
            });
        }
        Ok(Self {
            rows,
            seq_len,
            tokens,
        })
    }
}

impl Stream {
    fn at(seed: u64, epoch: u64, next: usize, documents: usize) -> Self {
        Self {
            seed,
            epoch,
            next,
            order: epoch_order(seed, epoch, documents),
        }
    }

    fn next_document(&mut self) -> u32 {
        let document = self.order[self.next];
        self.next += 1;
        if self.next == self.order.len() {
            *self = Self::at(self.seed, self.epoch + 1, 0, self.order.len());
        }
        document
    }
}
