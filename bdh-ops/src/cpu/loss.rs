//! Kernel of the cross-entropy, whose backward pass overwrites the logits.

use super::array::Array;
use super::math::{exp, max, sum};
use super::tape::{Kernel, run};
use super::threads::{on_rows, on_tasks, rows_of_piece};
use burn::tensor::{Int, Tensor};

/// Computes the loss of each target.
///
/// # Panics
///
/// If a target is not below the size of the vocabulary, or the number of targets is not the number of rows.
pub(crate) fn token_nll(logits: Tensor<3>, targets: Tensor<2, Int>) -> Tensor<2> {
    let [batch, seq_len, vocab] = logits.dims();
    assert_eq!(
        targets.dims(),
        [batch, seq_len],
        "there must be one target for each row of logits"
    );
    let targets: Vec<i64> = targets.into_data().iter().collect();
    let unknown = targets.iter().find(|target| **target >= vocab as i64);
    assert!(
        unknown.is_none(),
        "the target {unknown:?} is not below the vocabulary size {vocab}"
    );
    Tensor::from_dispatch(run(TokenNll { targets }, [logits.into_dispatch()]))
}

#[derive(Debug)]
struct TokenNll {
    /// One target for each row. Negative targets are ignored.
    targets: Vec<i64>,
}

impl Kernel<1> for TokenNll {
    /// Logits, and the logarithm of the sum of exponentials of each row.
    type Saved = (Array, Vec<f32>);

    fn forward(&self, [logits]: [Array; 1]) -> (Array, Self::Saved) {
        let (values, vocab) = (logits.values(), logits.width());
        let rows = rows_of_piece(vocab);
        let log_sums = on_tasks(
            self.targets.len().div_ceil(rows),
            #[inline(always)]
            |task| {
                let begin = task * rows * vocab;
                let end = values.len().min(begin + rows * vocab);
                let mut log_sums = Vec::with_capacity(rows);
                for row in values[begin..end].chunks_exact(vocab) {
                    let peak = max(row);
                    log_sums.push(sum(row, |x| exp(x - peak)).ln() + peak);
                }
                log_sums
            },
        );
        let log_sums = log_sums.concat();
        let rows = values.chunks_exact(vocab).zip(&log_sums).zip(&self.targets);
        let nats = rows.map(|((row, log_sum), target)| {
            usize::try_from(*target).map_or(0.0, |target| log_sum - row[target])
        });
        let nats = Array::of(nats.collect(), &logits.shape()[..2]);
        (nats, (logits, log_sums))
    }

    fn backward(
        &self,
        (mut logits, log_sums): Self::Saved,
        gradient: Array,
        _: [bool; 1],
    ) -> [Option<Array>; 1] {
        let (vocab, gradient) = (logits.width(), gradient.values());
        on_rows(
            logits.values_mut(),
            vocab,
            #[inline(always)]
            |first, logits| {
                for (row, logits) in logits.chunks_exact_mut(vocab).enumerate() {
                    let row = first + row;
                    let Ok(target) = usize::try_from(self.targets[row]) else {
                        logits.fill(0.0);
                        continue;
                    };
                    let (gradient, log_sum) = (gradient[row], log_sums[row]);
                    for logit in &mut *logits {
                        *logit = gradient * exp(*logit - log_sum);
                    }
                    logits[target] -= gradient;
                }
            },
        );
        [Some(logits)]
    }
}
