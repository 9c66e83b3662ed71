//! Batches of rows packed from documents, endless for training and fixed for validation.

use crate::best_fit::Shelf;
use crate::error::DataError;
use crate::order::epoch_order;
use bdh::lm::fingerprint;
use bdh::{BatchSize, BoxError, Source, TokenBatch};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// The order in which validation takes its documents, the same for every run.
const VAL_SEED: u64 = 0;

/// An endless stream of micro-batches from documents, without padding.
///
/// A row holds `seq_len + 1` ids: whole documents as long as any fits, then the beginning of one that does
/// not (the rule is nanochat's, and `best_fit.rs` has it). Documents should start with BOS and be no longer
/// than a row, as [`passages`](crate::passages::passages) makes them: the end of a longer one is never seen.
///
/// Each epoch has an order of its own, fixed by the seed. A position names the documents that were waiting
/// for a row, about 5 kB of JSON, so a resumed run sees the very same rows.
#[derive(Debug, Clone)]
pub struct Packed {
    documents: Arc<[Vec<i32>]>,
    fingerprint: u64,
    shape: Shape,
    stream: Stream,
    shelf: Shelf,
}

/// The batches asked for, once it is certain that the documents fill one row at least.
#[derive(Debug, Clone, Copy)]
struct Shape {
    rows: usize,
    seq_len: usize,
    /// Ids in all documents.
    tokens: usize,
}

/// Document after document, epoch after epoch.
#[derive(Debug, Clone)]
struct Stream {
    seed: u64,
    epoch: u64,
    /// Place in `order` of the document to come.
    next: usize,
    order: Vec<u32>,
}

/// What [`Packed::position`] saves.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    epoch: u64,
    next: usize,
    /// Documents on the shelf, in their order.
    waiting: Vec<u32>,
    /// Documents and tokens in all, to recognize the data by.
    documents: usize,
    tokens: usize,
    fingerprint: u64,
}

impl Packed {
    /// Prepares micro-batches of `rows` rows with `seq_len` inputs and targets each.
    ///
    /// # Errors
    ///
    /// [`DataError::EmptyBatch`] if either is 0; [`DataError::TooShort`] if the documents together do not
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

    fn row(&mut self) -> Option<Vec<i32>> {
        let Self {
            documents,
            shape,
            stream,
            shelf,
            ..
        } = self;
        shelf.row(shape.seq_len + 1, documents, |shelf| {
            while !shelf.is_full() {
                shelf.push(stream.next_document(), documents);
            }
        })
    }
}

impl Source for Packed {
    type Batch = TokenBatch;

    fn next_batch(&mut self) -> Result<TokenBatch, BoxError> {
        let rows: Option<Vec<_>> = (0..self.shape.rows).map(|_| self.row()).collect();
        Ok(TokenBatch::from_rows(
            &rows.expect("a shelf that is restocked does not run out"),
        ))
    }

    fn batch_size(&self) -> Option<BatchSize> {
        let Shape { rows, seq_len, .. } = self.shape;
        Some(BatchSize {
            samples: rows,
            tokens: rows * seq_len,
        })
    }

    fn position(&self) -> Value {
        let position = Position {
            epoch: self.stream.epoch,
            next: self.stream.next,
            waiting: self.shelf.ids().to_vec(),
            documents: self.documents.len(),
            tokens: self.shape.tokens,
            fingerprint: self.fingerprint,
        };
        serde_json::to_value(position).expect("numbers and lists of them are JSON")
    }

    fn seek(&mut self, position: &Value) -> Result<(), BoxError> {
        let position = Position::deserialize(position).map_err(|_| DataError::Position)?;
        let documents = self.documents.len();
        let same_data = position.documents == documents
            && position.tokens == self.shape.tokens
            && position.fingerprint == self.fingerprint;
        let in_range = position.next < documents
            && position.waiting.iter().all(|&id| (id as usize) < documents);
        if !same_data || !in_range {
            return Err(DataError::Position.into());
        }
        self.stream = Stream::at(self.stream.seed, position.epoch, position.next, documents);
        self.shelf = Shelf::default();
        position
            .waiting
            .iter()
            .for_each(|&id| self.shelf.push(id, &self.documents));
        Ok(())
    }
}

/// Packs documents into batches of up to `max_tokens` tokens in all, the same ones every time.
///
/// No document is taken twice; what does not fill a batch is left out, except that there is always at
/// least one batch, of fewer rows if need be.
///
/// # Errors
///
/// [`DataError::EmptyBatch`] and [`DataError::TooShort`], as [`Packed::new`].
pub fn val_batches(
    documents: &[Vec<i32>],
    rows: usize,
    seq_len: usize,
    max_tokens: usize,
) -> Result<Vec<TokenBatch>, DataError> {
    Shape::of(documents, rows, seq_len, "val")?;
    let mut coming = epoch_order(VAL_SEED, 0, documents.len()).into_iter();
    let mut shelf = Shelf::default();
    let mut row = || {
        shelf.row(seq_len + 1, documents, |shelf| {
            while !shelf.is_full()
                && let Some(id) = coming.next()
            {
                shelf.push(id, documents);
            }
        })
    };
    let most = (max_tokens / seq_len / rows).max(1);
    let packed: Vec<_> = std::iter::from_fn(&mut row)
        .take(most.saturating_mul(rows))
        .collect();
    if packed.len() < rows {
        return Ok(vec![TokenBatch::from_rows(&packed)]);
    }
    Ok(packed
        .chunks_exact(rows)
        .map(TokenBatch::from_rows)
        .collect())
}

impl Shape {
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
