//! A micro-batch of token ids, on the host.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// One micro-batch for next-token prediction: ids and the ids that follow them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBatch {
    inputs: Vec<i32>,
    targets: Vec<i32>,
    rows: usize,
}

/// A token id that a model does not know, which would be a panic on some devices and nonsense on others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "token id {id} ({what}, row {row}, position {position}) is not in the vocabulary, whose ids are 0 to {}; \
     is the text of another tokenizer?",
    vocab_size.saturating_sub(1)
)]
#[non_exhaustive]
pub struct UnknownToken {
    /// The id.
    pub id: i32,
    /// What it is there: an input, a target or a part of a prompt.
    pub what: &'static str,
    /// The row of the batch, from 0.
    pub row: usize,
    /// Its place in the row, from 0.
    pub position: usize,
    /// How many tokens the model knows.
    pub vocab_size: usize,
}

impl TokenBatch {
    /// A target that no loss and no metric counts.
    pub const IGNORED: i32 = bdh_ops::IGNORED;

    /// Cuts each row of `seq_len + 1` ids into inputs (all but the last) and targets (all but the first).
    ///
    /// # Panics
    ///
    /// If there is no row, rows differ in length, or a row has fewer than two ids.
    #[must_use]
    pub fn from_rows<R: AsRef<[i32]>>(rows: &[R]) -> Self {
        let width = rows
            .first()
            .expect("a batch has at least one row")
            .as_ref()
            .len();
        assert!(
            width >= 2,
            "a row needs an input and a target, so two ids or more"
        );
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

    /// Sequences in the batch.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Tokens in a sequence.
    #[must_use]
    pub fn seq_len(&self) -> usize {
        self.inputs.len() / self.rows
    }

    /// Tokens in the batch, ignored targets included.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.inputs.len()
    }

    /// Targets that count: those that are not ignored.
    #[must_use]
    pub fn num_counted(&self) -> usize {
        self.targets
            .iter()
            .filter(|target| **target != Self::IGNORED)
            .count()
    }

    /// The target ids, row after row; [`IGNORED`](Self::IGNORED) where there is none.
    #[must_use]
    pub fn targets(&self) -> &[i32] {
        &self.targets
    }

    /// Checks that a model of `vocab_size` tokens knows every id.
    ///
    /// # Errors
    ///
    /// [`UnknownToken`], the first one that it does not know.
    ///
    /// # Examples
    ///
    /// ```
    /// let batch = bdh::TokenBatch::from_rows(&[[7, 300, 8]]);
    /// assert_eq!(
    ///     batch.check(256).unwrap_err().to_string(),
    ///     "token id 300 (an input, row 0, position 1) is not in the vocabulary, whose ids are 0 to 255; \
    ///      is the text of another tokenizer?",
    /// );
    /// ```
    pub fn check(&self, vocab_size: usize) -> Result<(), UnknownToken> {
        let is_known = |id: i32| usize::try_from(id).is_ok_and(|id| id < vocab_size);
        let input = self.inputs.iter().position(|&id| !is_known(id));
        let target = || {
            self.targets
                .iter()
                .position(|&id| id != Self::IGNORED && !is_known(id))
        };
        let unknown = |what, ids: &[i32], at| UnknownToken {
            id: ids[at],
            what,
            row: at / self.seq_len(),
            position: at % self.seq_len(),
            vocab_size,
        };
        match (input, input.is_none().then(target).flatten()) {
            (Some(at), _) => Err(unknown("an input", &self.inputs, at)),
            (None, Some(at)) => Err(unknown("a target", &self.targets, at)),
            (None, None) => Ok(()),
        }
    }

    /// The input ids on `device`, `[rows, seq_len]`.
    #[must_use]
    pub fn inputs_on(&self, device: &Device) -> Tensor<2, Int> {
        self.on(device, &self.inputs)
    }

    /// The target ids on `device`, `[rows, seq_len]`.
    #[must_use]
    pub fn targets_on(&self, device: &Device) -> Tensor<2, Int> {
        self.on(device, &self.targets)
    }

    fn on(&self, device: &Device, ids: &[i32]) -> Tensor<2, Int> {
        let data = TensorData::new(ids.to_vec(), [self.rows, self.seq_len()]);
        Tensor::from_data(data, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(rows: &[[i32; 4]]) -> Option<(i32, &'static str, usize, usize)> {
        let error = TokenBatch::from_rows(rows).check(5).err()?;
        Some((error.id, error.what, error.row, error.position))
    }

    #[test]
    fn ids_that_a_model_does_not_know_are_found_with_their_place() {
        assert_eq!(
            told(&[[0, 1, 2, 3], [4, 4, 4, -1]]),
            None,
            "an ignored target is none"
        );
        assert_eq!(
            told(&[[0, 1, 2, 3], [4, 5, 4, 4]]),
            Some((5, "an input", 1, 1))
        );
        assert_eq!(
            told(&[[0, 1, 2, 3], [4, -1, 4, 4]]),
            Some((-1, "an input", 1, 1))
        );
        assert_eq!(
            told(&[[0, 1, 2, -7], [4, 4, 4, 4]]),
            Some((-7, "a target", 0, 2))
        );
        assert_eq!(
            told(&[[0, 1, 2, i32::MAX]]),
            Some((i32::MAX, "a target", 0, 2))
        );
    }
}
