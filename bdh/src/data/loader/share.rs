//! Batches of a dataset made by several threads, in one order.

use super::recipe::{Order, Recipe};
use crate::data::{Prefetch, TrainData};
use crate::failure::BoxError;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Batches that each thread makes ahead.
const CAPACITY: usize = 2;

/// Threads that take turns: of `n` threads each makes every `n`-th batch, so the order is the same for any `n`.
pub(super) struct Shares<I: 'static, B: Send + 'static> {
    shares: Vec<Prefetch<Share<I, B>>>,
    /// Index of the thread whose batch is next.
    turn: usize,
}

impl<I: 'static, B: Send + 'static> Shares<I, B> {
    /// Prepares batches of this range, numbered from the start of the run. With 0 workers there is no thread.
    ///
    /// Each thread starts with its first batch.
    pub(super) fn new(recipe: &Recipe<I, B>, workers: usize, batches: &Range<u64>) -> Self {
        let newest = Arc::new(Mutex::new(None));
        let stride = workers.max(1) as u64;
        let capacity = if workers == 0 { 0 } else { CAPACITY };
        let mut shares = Vec::new();
        for worker in 0..stride {
            let share = Share {
                recipe: recipe.clone(),
                next: batches.start.saturating_add(worker),
                end: batches.end,
                stride,
                order: None,
                newest: Arc::clone(&newest),
            };
            shares.push(Prefetch::new(share).capacity(capacity));
        }
        Self { shares, turn: 0 }
    }

    pub(super) fn next(&mut self) -> Result<B, BoxError> {
        let batch = self.shares[self.turn].next_batch()?;
        self.turn = (self.turn + 1) % self.shares.len();
        Ok(batch)
    }
}

/// Every `stride`-th batch of a run.
pub(super) struct Share<I, B> {
    recipe: Recipe<I, B>,
    /// Number of the next batch, counted from the start of the run.
    next: u64,
    /// Number after the last batch.
    end: u64,
    stride: u64,
    /// Order of the epoch under way.
    order: Option<Arc<Order>>,
    newest: Newest,
}

/// Order of the newest epoch, which threads share: the order of a large dataset takes time and memory.
type Newest = Arc<Mutex<Option<Arc<Order>>>>;

impl<I, B> Share<I, B> {
    /// Sets the order to that of an epoch.
    fn enter(&mut self, epoch: u64) {
        if self
            .order
            .as_ref()
            .is_some_and(|order| order.epoch == epoch)
        {
            return;
        }
        // Held while the order is drawn, so that the other threads wait for it instead of drawing it too.
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.as_ref().is_none_or(|order| order.epoch < epoch) {
            *newest = self.recipe.order(epoch).map(Arc::new);
        }
        self.order = match &*newest {
            Some(order) if order.epoch == epoch => Some(Arc::clone(order)),
            _ => self.recipe.order(epoch).map(Arc::new), // the other threads are an epoch ahead
        };
    }
}

impl<I: 'static, B: Send + 'static> TrainData for Share<I, B> {
    type Batch = B;

    fn next_batch(&mut self) -> Result<B, BoxError> {
        if self.next >= self.end {
            return Err("there are no further batches".into()); // ends the thread of an eval
        }
        let batches = self.recipe.num_batches();
        self.enter(self.next / batches);
        let batch = self
            .recipe
            .batch(self.order.as_deref(), self.next % batches)?;
        self.next = self.next.saturating_add(self.stride);
        Ok(batch)
    }
}
