//! A micro-batch of token ids, on the host.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// One micro-batch for next-token prediction: ids and the ids that follow them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBatch {
    inputs: Vec<i32>,
    targets: Vec<i32>,
    rows: usize,
}

impl TokenBatch {
    /// A target that no loss and no metric counts.
    pub const IGNORED: i32 = -1;

    /// Cuts each row of `seq_len + 1` ids into inputs (all but the last) and targets (all but the first).
    ///
    /// # Panics
    ///
    /// If there is no row, rows differ in length, or a row has fewer than two ids.
    #[must_use]
    pub fn from_rows<R: AsRef<[i32]>>(rows: &[R]) -> Self {
        let width = rows.first().expect("a batch has at least one row").as_ref().len();
        assert!(width >= 2, "a row needs an input and a target, so two ids or more");
        let mut inputs = Vec::with_capacity(rows.len() * (width - 1));
        let mut targets = Vec::with_capacity(rows.len() * (width - 1));
        for row in rows {
            let row = row.as_ref();
            assert_eq!(row.len(), width, "every row of a batch has the same length");
            inputs.extend_from_slice(&row[..width - 1]);
            targets.extend_from_slice(&row[1..]);
        }
        Self { inputs, targets, rows: rows.len() }
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
        self.targets.iter().filter(|target| **target != Self::IGNORED).count()
    }

    /// The target ids, row after row; [`IGNORED`](Self::IGNORED) where there is none.
    #[must_use]
    pub fn targets(&self) -> &[i32] {
        &self.targets
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
