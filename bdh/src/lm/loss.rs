//! Cross-entropy of next tokens, with targets that do not count.

use super::TokenBatch;
use burn::tensor::{Int, Tensor};

/// Nats of each target token, `[batch, seq_len]`: 0 where the target is
/// [`IGNORED`](TokenBatch::IGNORED).
///
/// `logits` are `[batch, seq_len, vocab]` in f32. Computed as log-sum-exp minus the target's logit, which
/// keeps one tensor of that size fewer for the backward pass than a log-softmax does.
#[must_use]
pub fn token_nats(logits: Tensor<3>, targets: Tensor<2, Int>) -> Tensor<2> {
    let ignored = targets.clone().equal_elem(TokenBatch::IGNORED);
    let targets = targets.mask_fill(ignored.clone(), 0).unsqueeze_dim::<3>(2); // any id that exists
    let peak = logits.clone().max_dim(2).detach();
    let log_sum = (logits.clone() - peak.clone()).exp().sum_dim(2).log() + peak;
    let nats = (log_sum - logits.gather(2, targets)).squeeze_dim::<2>(2);
    nats.mask_fill(ignored, 0.0)
}

/// The mean over the targets that count, `[1]`; 0 if none does.
#[must_use]
pub fn cross_entropy(logits: Tensor<3>, batch: &TokenBatch) -> Tensor<1> {
    let targets = batch.targets_on(&logits.device());
    token_nats(logits, targets).sum() / batch.num_counted().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn uniform_logits_cost_the_logarithm_of_the_vocabulary_and_ignored_targets_nothing() {
        let device = Device::flex();
        let logits = Tensor::<3>::zeros([1, 3, 5], &device);
        let targets = Tensor::<2, Int>::from_data(TensorData::from([[4, -1, 0]]), &device);
        let nats: Vec<f32> = token_nats(logits, targets).into_data().try_to_vec().expect("f32");
        assert_eq!(nats, [5.0_f32.ln(), 0.0, 5.0_f32.ln()]);
    }

    #[test]
    fn large_logits_stay_finite() {
        let device = Device::flex();
        let logits = Tensor::<3>::from_data(TensorData::from([[[1000.0_f32, -1000.0]]]), &device);
        let targets = Tensor::<2, Int>::from_data(TensorData::from([[1]]), &device);
        let nats: Vec<f32> = token_nats(logits, targets).into_data().try_to_vec().expect("f32");
        assert_eq!(nats, [2000.0]);
    }
}
