//! Cross-entropy of next tokens, without ignored targets.

use super::TokenBatch;
use burn::tensor::{Bool, Int, Tensor};

pub use bdh_ops::token_nll;

/// Computes the mean loss in nats over the targets that are not ignored, `[1]`; 0 if all are.
#[must_use]
pub fn cross_entropy(logits: Tensor<3>, batch: &TokenBatch) -> Tensor<1> {
    let targets = batch.targets_on(&logits.device());
    token_nll(logits, targets).sum() / batch.num_counted().max(1) as f64
}

/// Returns whether the likeliest id is the target, `[rows, seq_len]`.
pub(super) fn hits(logits: Tensor<3>, targets: Tensor<2, Int>) -> Tensor<2, Bool> {
    // An ignored target is -1, which no prediction equals.
    logits.argmax(2).squeeze_dim::<2>(2).equal(targets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn uniform_logits_cost_ln_vocab_and_ignored_targets_cost_0() {
        let device = Device::flex();
        let logits = Tensor::<3>::zeros([1, 3, 5], &device);
        let targets = Tensor::<2, Int>::from_data(TensorData::from([[4, -1, 0]]), &device);
        let nats: Vec<f32> = token_nll(logits, targets)
            .into_data()
            .try_to_vec()
            .expect("f32");
        assert_eq!(nats, [5.0_f32.ln(), 0.0, 5.0_f32.ln()]);
    }

    #[test]
    fn large_logits_stay_finite() {
        let device = Device::flex();
        let logits = Tensor::<3>::from_data(TensorData::from([[[1000.0_f32, -1000.0]]]), &device);
        let targets = Tensor::<2, Int>::from_data(TensorData::from([[1]]), &device);
        let nats: Vec<f32> = token_nll(logits, targets)
            .into_data()
            .try_to_vec()
            .expect("f32");
        assert_eq!(nats, [2000.0]);
    }
}
