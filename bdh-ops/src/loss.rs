//! Cross-entropy of next tokens, with ignored targets.

#[cfg(feature = "flex")]
use crate::cpu;
use crate::upcast_f32;
use burn::tensor::{Int, Tensor};

/// Target without a loss.
pub const IGNORED: i32 = -1;

/// Computes the negative log-likelihood of each target token in nats, `[batch, seq_len]`: 0 for [`IGNORED`] targets.
///
/// `logits` are `[batch, seq_len, vocab]`, `targets` are ids below `vocab`. The loss is log-sum-exp minus the target's
/// logit, in f32 at least. On the CPU the backward pass overwrites the logits, so there is never more than one copy of
/// them.
#[must_use]
pub fn token_nll(logits: Tensor<3>, targets: Tensor<2, Int>) -> Tensor<2> {
    let logits = upcast_f32(logits);
    #[cfg(feature = "flex")]
    if cpu::takes(&logits) {
        return cpu::loss::token_nll(logits, targets);
    }
    let ignored = targets.clone().equal_elem(IGNORED);
    let targets = targets.mask_fill(ignored.clone(), 0).unsqueeze_dim::<3>(2); // `gather` needs a valid id
    let peak = logits.clone().max_dim(2).detach();
    let log_sum = (logits.clone() - peak.clone()).exp().sum_dim(2).log() + peak;
    let nats = (log_sum - logits.gather(2, targets)).squeeze_dim::<2>(2);
    nats.mask_fill(ignored, 0.0)
}
