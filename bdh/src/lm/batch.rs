//! Micro-batches of token ids, on the host.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// A micro-batch for next-token prediction: input ids and, as targets, the ids that follow them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBatch {
    inputs: Vec<i32>,
    targets: Vec<i32>,
    rows: usize,
}

/// Error for a token id outside a model's vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "token id {id} ({what}, row {row}, position {position}) is outside the model's vocabulary, ids 0 to {}: \
     use the tokenizer that the model was made for",
    vocab_size.saturating_sub(1)
)]
#[non_exhaustive]
pub struct UnknownToken {
    /// Unknown id.
    pub id: i32,
    /// Role of the id: `an input`, `a target` or `to be scored`.
    pub what: &'static str,
    /// Row of the batch, from 0.
    pub row: usize,
    /// Position in the row, from 0.
    pub position: usize,
    /// Number of token ids that the model knows.
    pub vocab_size: usize,
}

impl TokenBatch {
    /// Target that no loss and no metric counts.
    pub const IGNORED: i32 = bdh_ops::IGNORED;

    /// Splits rows of `seq_len + 1` ids into inputs (all but the last id) and targets (all but the first).
    ///
    /// # Panics
    ///
    /// If there are no rows, rows differ in length, or a row has fewer than two ids.
    #[must_use]
    pub fn from_rows<R: AsRef<[i32]>>(rows: &[R]) -> Self {
        let width = row_width(rows);
        let mut inputs = Vec::with_capacity(rows.len() * (width - 1));
        let mut targets = Vec::with_capacity(rows.len() * (width - 1));
        for row in rows {
            let row = row.as_ref();
            assert_eq!(row.len(), width, "every row of a batch has the same length");
            inputs.extend_from_slice(&row[..width - 1]);
            targets.extend_from_slice(&row[1..]);
        }
        Self {
            inputs,
            targets,
            rows: rows.len(),
        }
    }

    /// Creates a batch of `rows` sequences from their inputs and their targets, row after row.
    ///
    /// For targets that are not the inputs shifted by one: some are [`IGNORED`](Self::IGNORED), or a file has both.
    ///
    /// # Panics
    ///
    /// If there are no ids, or not equally many inputs and targets, or they do not fill `rows` rows.
    ///
    /// # Examples
    ///
    /// ```
    /// use bdh::TokenBatch;
    ///
    /// let batch = TokenBatch::from_ids(vec![1, 2, 3, 4], vec![2, TokenBatch::IGNORED, 4, 5], 2);
    /// assert_eq!((batch.rows(), batch.seq_len(), batch.num_counted()), (2, 2, 3));
    /// ```
    #[must_use]
    pub fn from_ids(inputs: Vec<i32>, targets: Vec<i32>, rows: usize) -> Self {
        assert!(!inputs.is_empty(), "a batch has at least one id");
        assert_eq!(inputs.len(), targets.len(), "each input has a target");
        assert!(
            rows > 0 && inputs.len().is_multiple_of(rows),
            "{} ids do not fill {rows} rows",
            inputs.len()
        );
        Self {
            inputs,
            targets,
            rows,
        }
    }

    /// Returns the number of sequences in the batch.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the number of tokens in a sequence.
    #[must_use]
    pub fn seq_len(&self) -> usize {
        self.inputs.len() / self.rows
    }

    /// Returns the number of tokens in the batch, with ignored targets.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.inputs.len()
    }

    /// Returns the number of targets that are not ignored.
    #[must_use]
    pub fn num_counted(&self) -> usize {
        self.targets
            .iter()
            .filter(|target| **target != Self::IGNORED)
            .count()
    }

    /// Returns the target ids, row after row; [`IGNORED`](Self::IGNORED) for positions without a target.
    #[must_use]
    pub fn targets(&self) -> &[i32] {
        &self.targets
    }

    /// Checks that a model of `vocab_size` tokens knows every id.
    ///
    /// # Errors
    ///
    /// [`UnknownToken`] with the first unknown input, or else the first unknown target.
    ///
    /// # Examples
    ///
    /// ```
    /// let batch = bdh::TokenBatch::from_rows(&[[7, 300, 8]]);
    /// assert_eq!(
    ///     batch.check(256).unwrap_err().to_string(),
    ///     "token id 300 (an input, row 0, position 1) is outside the model's vocabulary, ids 0 to 255: \
    ///      use the tokenizer that the model was made for",
    /// );
    /// ```
    pub fn check(&self, vocab_size: usize) -> Result<(), UnknownToken> {
        self.check_ids("an input", &self.inputs, None, vocab_size)?;
        self.check_ids("a target", &self.targets, Some(Self::IGNORED), vocab_size)
    }

    fn check_ids(
        &self,
        what: &'static str,
        ids: &[i32],
        allowed: Option<i32>,
        vocab_size: usize,
    ) -> Result<(), UnknownToken> {
        for (index, &id) in ids.iter().enumerate() {
            if !is_known(id, vocab_size) && Some(id) != allowed {
                return Err(UnknownToken {
                    id,
                    what,
                    row: index / self.seq_len(),
                    position: index % self.seq_len(),
                    vocab_size,
                });
            }
        }
        Ok(())
    }

    /// Copies the input ids to `device`, `[rows, seq_len]`.
    #[must_use]
    pub fn inputs_on(&self, device: &Device) -> Tensor<2, Int> {
        self.on(device, &self.inputs)
    }

    /// Copies the target ids to `device`, `[rows, seq_len]`.
    #[must_use]
    pub fn targets_on(&self, device: &Device) -> Tensor<2, Int> {
        self.on(device, &self.targets)
    }

    fn on(&self, device: &Device, ids: &[i32]) -> Tensor<2, Int> {
        let data = TensorData::new(ids.to_vec(), [self.rows, self.seq_len()]);
        Tensor::from_data(data, device)
    }
}

/// Returns the length of the first row.
fn row_width<R: AsRef<[i32]>>(rows: &[R]) -> usize {
    let first = rows.first().expect("a batch has at least one row");
    let width = first.as_ref().len();
    assert!(
        width >= 2,
        "a row has at least two ids: an input and a target"
    );
    width
}

/// Whether an id is one of a vocabulary.
pub(super) fn is_known(id: i32, vocab_size: usize) -> bool {
    usize::try_from(id).is_ok_and(|id| id < vocab_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(rows: &[[i32; 4]]) -> Option<(i32, &'static str, usize, usize)> {
        let error = TokenBatch::from_rows(rows).check(5).err()?;
        Some((error.id, error.what, error.row, error.position))
    }

    #[test]
    fn batches_of_ids_equal_those_of_rows() {
        let batch = TokenBatch::from_ids(vec![0, 1, 5, 6], vec![1, 2, 6, 7], 2);
        assert_eq!(batch, TokenBatch::from_rows(&[[0, 1, 2], [5, 6, 7]]));
    }

    #[test]
    #[should_panic(expected = "3 ids do not fill 2 rows")]
    fn ids_that_do_not_fill_the_rows_are_refused() {
        let _ = TokenBatch::from_ids(vec![0, 1, 2], vec![1, 2, 3], 2);
    }

    #[test]
    fn unknown_ids_are_reported_with_their_place() {
        assert_eq!(
            unknown(&[[0, 1, 2, 3], [4, 4, 4, -1]]),
            None,
            "an ignored target is allowed"
        );
        assert_eq!(
            unknown(&[[0, 1, 2, 3], [4, 5, 4, 4]]),
            Some((5, "an input", 1, 1))
        );
        assert_eq!(
            unknown(&[[0, 1, 2, 3], [4, -1, 4, 4]]),
            Some((-1, "an input", 1, 1))
        );
        assert_eq!(
            unknown(&[[0, 1, 2, -7], [4, 4, 4, 4]]),
            Some((-7, "a target", 0, 2))
        );
        assert_eq!(
            unknown(&[[0, 1, 2, i32::MAX]]),
            Some((i32::MAX, "a target", 0, 2))
        );
    }
}
