//! Cross-entropy of next tokens, with targets that do not count.

use super::TokenBatch;
use burn::tensor::Tensor;

pub use bdh_ops::token_nats;

/// The mean over the targets that count, `[1]`; 0 if none does.
#[must_use]
pub fn cross_entropy(logits: Tensor<3>, batch: &TokenBatch) -> Tensor<1> {
    let targets = batch.targets_on(&logits.device());
    token_nats(logits, targets).sum() / batch.num_counted().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Int, TensorData};

    #[test]
    fn uniform_logits_cost_the_logarithm_of_the_vocabulary_and_ignored_targets_nothing() {
        let device = Device::flex();
        let logits = Tensor::<3>::zeros([1, 3, 5], &device);
        let targets = Tensor::<2, Int>::from_data(TensorData::from([[4, -1, 0]]), &device);
        let nats: Vec<f32> = token_nats(logits, targets)
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
        let nats: Vec<f32> = token_nats(logits, targets)
            .into_data()
            .try_to_vec()
            .expect("f32");
        assert_eq!(nats, [2000.0]);
    }
}
