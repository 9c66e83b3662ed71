//! Division of a step's tokens into micro-batches.

use super::RecipeError;

/// Requested sequences in one forward and backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MicroBatch {
    /// Exactly this number; other numbers are an error.
    Exactly(usize),
    /// The largest number up to this limit of memory that divides a step evenly.
    AtMost(usize),
}

impl MicroBatch {
    /// Returns the number as given.
    #[must_use]
    pub fn sequences(self) -> usize {
        match self {
            Self::Exactly(sequences) | Self::AtMost(sequences) => sequences,
        }
    }

    /// Returns the sequences of a micro-batch, so that each device gets the same number of whole micro-batches of a
    /// step of `total` tokens.
    pub(super) fn fit(
        self,
        total: usize,
        sequence_len: usize,
        devices: usize,
    ) -> Result<usize, RecipeError> {
        let (largest, smallest) = match self {
            Self::Exactly(sequences) => (sequences, sequences),
            Self::AtMost(most) => (most, 1),
        };
        for micro_batch in (smallest..=largest).rev() {
            let at_once = micro_batch
                .saturating_mul(sequence_len)
                .saturating_mul(devices);
            if total.is_multiple_of(at_once) {
                return Ok(micro_batch);
            }
        }
        Err(RecipeError::UnevenBatch {
            total,
            micro_batch: smallest,
            sequence_len,
            devices,
        })
    }
}
