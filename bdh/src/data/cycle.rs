//! Batches in memory, epoch after epoch.

use super::TrainData;
use crate::failure::BoxError;
use crate::seed;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;

/// Endless training data of batches in memory, made by [`cycle`].
#[derive(Clone)]
pub struct Cycle<B> {
    batches: Vec<B>,
    /// Seed of the order of each epoch; without one, the order is that of the `Vec`.
    shuffle: Option<u64>,
    /// Number of the next batch, counted from the start of the run.
    next: u64,
    /// Order of the epoch under way. Empty until the first batch after the start or a resume.
    order: Vec<usize>,
}

/// Saved form of [`Cycle::state`].
#[derive(Serialize, Deserialize)]
struct Position {
    batch: u64,
    batches: usize,
    shuffle: Option<u64>,
}

/// Returns endless training data: batches in memory, in order, and again from the first after the last.
///
/// Each batch is cloned when its turn comes. Without batches, a run is refused before it starts. The saved state is the
/// number of the next batch, the number of all batches and the seed of the order; other numbers are refused on a resume.
///
/// # Examples
///
/// ```
/// use bdh::data::{TrainData, cycle};
///
/// let mut data = cycle(vec!["a", "b"]);
/// assert_eq!(data.next_batch()?, "a");
/// assert_eq!(data.next_batch()?, "b");
/// assert_eq!(data.next_batch()?, "a");
/// assert_eq!(data.batches_per_epoch(), Some(2));
/// # Ok::<(), bdh::BoxError>(())
/// ```
#[must_use]
pub fn cycle<B>(batches: Vec<B>) -> Cycle<B> {
    Cycle {
        batches,
        shuffle: None,
        next: 0,
        order: Vec::new(),
    }
}

impl<B> Cycle<B> {
    /// Yields the batches of each epoch in another order, which depends only on the seed and the epoch.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::data::{TrainData, cycle};
    ///
    /// let mut data = cycle(vec![1, 2, 3]).shuffled(7);
    /// let sum = data.next_batch()? + data.next_batch()? + data.next_batch()?;
    /// assert_eq!(sum, 6); // each batch once an epoch
    /// # Ok::<(), bdh::BoxError>(())
    /// ```
    #[must_use]
    pub fn shuffled(mut self, seed: u64) -> Self {
        self.shuffle = Some(seed);
        self.order.clear();
        self
    }

    /// Returns the index of the next batch of at least one, and draws the order of an epoch that begins.
    fn next_index(&mut self) -> usize {
        let batches = self.batches.len();
        let epoch = self.next / batches as u64;
        let place = (self.next % batches as u64) as usize;
        let Some(seed) = self.shuffle else {
            return place;
        };
        if place == 0 || self.order.is_empty() {
            self.order = order(batches, seed, epoch);
        }
        self.order[place]
    }

    /// Checks that a saved position is one in these batches and this order.
    fn check(&self, saved: &Position) -> Result<(), BoxError> {
        let (had, have) = (saved.batches, self.batches.len());
        if had != have {
            let text = format!(
                "the training data had {had} batches and has {have} now: resume with the same data"
            );
            return Err(text.into());
        }
        if saved.shuffle != self.shuffle {
            let (had, have) = (order_name(saved.shuffle), order_name(self.shuffle));
            let text =
                format!("the batches were {had} and are {have} now: resume with the same order");
            return Err(text.into());
        }
        if saved.batch > u64::MAX / 2 {
            // Only a damaged or crafted checkpoint is there; the next batches must still have numbers.
            let batch = saved.batch;
            return Err(format!("the saved position, batch {batch}, is out of range").into());
        }
        Ok(())
    }
}

/// Returns the numbers below `len` in an order that depends only on the seed and the epoch.
///
/// Source: Fisher and Yates' shuffle, in the form of Durstenfeld, 1964, *Algorithm 235: Random permutation*.
pub(super) fn order(len: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let seed = seed::purpose(seed, epoch, "shuffle");
    let mut order: Vec<usize> = (0..len).collect();
    for last in (1..len).rev() {
        let other = (seed::uniform(seed, last as u64) * (last + 1) as f64) as usize;
        order.swap(last, other);
    }
    order
}

pub(super) fn order_name(shuffle: Option<u64>) -> String {
    match shuffle {
        Some(seed) => format!("shuffled with seed {seed}"),
        None => "in order".to_owned(),
    }
}

impl<B: Clone + Send + 'static> TrainData for Cycle<B> {
    type Batch = B;

    fn next_batch(&mut self) -> Result<B, BoxError> {
        if self.batches.is_empty() {
            return Err("the training data has no batches: give `cycle` at least one".into());
        }
        let index = self.next_index();
        self.next += 1;
        Ok(self.batches[index].clone())
    }

    fn batches_per_epoch(&self) -> Option<u64> {
        Some(self.batches.len() as u64)
    }

    fn state(&self) -> Value {
        json!(Position {
            batch: self.next,
            batches: self.batches.len(),
            shuffle: self.shuffle,
        })
    }

    fn load_state(&mut self, state: &Value) -> Result<(), BoxError> {
        let saved = Position::deserialize(state)?;
        self.check(&saved)?;
        self.next = saved.batch;
        self.order.clear();
        Ok(())
    }
}

impl<B> fmt::Debug for Cycle<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cycle")
            .field("batches", &self.batches.len())
            .field("shuffle", &self.shuffle)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn epoch(data: &mut Cycle<usize>) -> Vec<usize> {
        (0..data.batches.len())
            .map(|_| data.next_batch().expect("there are batches"))
            .collect()
    }

    #[test]
    fn batches_come_in_order_again_and_again() {
        let mut data = cycle(vec![5, 6, 7]);
        assert_eq!(epoch(&mut data), [5, 6, 7]);
        assert_eq!(epoch(&mut data), [5, 6, 7]);
    }

    #[test]
    fn each_shuffled_epoch_has_every_batch_in_another_order() {
        let mut data = cycle((0..50).collect()).shuffled(3);
        let epochs: HashSet<Vec<usize>> = (0..10).map(|_| epoch(&mut data)).collect();
        assert_eq!(epochs.len(), 10, "no order comes twice");
        for mut order in epochs {
            order.sort_unstable();
            assert!(order.into_iter().eq(0..50));
        }
    }

    #[test]
    fn orders_are_uniform() {
        // 6 orders of 3 batches in 6,000 epochs: each 1,000 times, with a standard deviation of 29.
        let mut counts = std::collections::BTreeMap::new();
        for epoch in 0..6_000 {
            *counts.entry(order(3, 1, epoch)).or_insert(0_i32) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| (count - 1_000).abs() < 150));
    }

    #[test]
    fn another_seed_gives_another_order() {
        assert_eq!(order(20, 1, 0), order(20, 1, 0));
        assert_ne!(order(20, 1, 0), order(20, 2, 0));
    }

    #[test]
    fn no_batches_are_an_error_and_are_known_before_the_run() {
        let mut data = cycle(Vec::<u8>::new()).shuffled(1);
        assert_eq!(data.batches_per_epoch(), Some(0));
        let error = data.next_batch().expect_err("no batches");
        assert_eq!(
            error.to_string(),
            "the training data has no batches: give `cycle` at least one"
        );
    }

    #[test]
    fn positions_in_other_data_are_refused() {
        let refused = |saved: Value| {
            let error = cycle(vec![1, 2, 3])
                .load_state(&saved)
                .expect_err("refused");
            error.to_string()
        };
        assert_eq!(
            refused(cycle(vec![1, 2]).state()),
            "the training data had 2 batches and has 3 now: resume with the same data"
        );
        assert_eq!(
            refused(cycle(vec![1, 2, 3]).shuffled(4).state()),
            "the batches were shuffled with seed 4 and are in order now: resume with the same order"
        );
        assert_eq!(
            refused(json!({ "batch": u64::MAX, "batches": 3, "shuffle": null })),
            "the saved position, batch 18446744073709551615, is out of range"
        );
        assert!(!refused(json!({})).is_empty());
    }
}
