//! How a step's tokens are cut into micro-batches.

use super::RecipeError;

/// How many sequences one forward and backward pass may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MicroBatch {
    /// This many, or the run is refused.
    Exactly(usize),
    /// The most that cut a step evenly, up to this many: a limit of memory, not a wish.
    AtMost(usize),
}

impl MicroBatch {
    /// The number as it was given.
    #[must_use]
    pub fn sequences(self) -> usize {
        match self {
            Self::Exactly(sequences) | Self::AtMost(sequences) => sequences,
        }
    }

    /// Sequences a micro-batch, such that whole micro-batches make up `total` tokens, as many on each device.
    pub(super) fn fit(
        self,
        total: usize,
        sequence_len: usize,
        devices: usize,
    ) -> Result<usize, RecipeError> {
        let cuts = |micro_batch: usize| {
            let at_once = micro_batch
                .saturating_mul(sequence_len)
                .saturating_mul(devices);
            total.is_multiple_of(at_once)
        };
        let (fits, smallest) = match self {
            Self::Exactly(sequences) => (
                Some(sequences).filter(|&sequences| cuts(sequences)),
                sequences,
            ),
            Self::AtMost(most) => ((1..=most).rev().find(|&sequences| cuts(sequences)), 1),
        };
        fits.ok_or(RecipeError::UnevenBatch {
            total,
            micro_batch: smallest,
            sequence_len,
            devices,
        })
    }
}
