//! Cross-entropy of next tokens, with targets that do not count.

#[cfg(feature = "flex")]
use crate::cpu;
use crate::widened;
use burn::tensor::{Int, Tensor};

/// A target that costs nothing.
pub const IGNORED: i32 = -1;

/// Nats of each target token, `[batch, seq_len]`: 0 where the target is [`IGNORED`].
///
/// `logits` are `[batch, seq_len, vocab]`, `targets` ids below `vocab`. Computed as log-sum-exp minus the target's
/// logit, in f32 where logits are in less, and the nats are in f32 then. On the CPU the backward pass writes over the logits, of which there is one copy at any time.
#[must_use]
pub fn token_nats(logits: Tensor<3>, targets: Tensor<2, Int>) -> Tensor<2> {
    let logits = widened(logits);
    #[cfg(feature = "flex")]
    if cpu::takes(&logits) {
        return cpu::loss::token_nats(logits, targets);
    }
    let ignored = targets.clone().equal_elem(IGNORED);
    let targets = targets.mask_fill(ignored.clone(), 0).unsqueeze_dim::<3>(2); // any id that exists
    let peak = logits.clone().max_dim(2).detach();
    let log_sum = (logits.clone() - peak.clone()).exp().sum_dim(2).log() + peak;
    let nats = (log_sum - logits.gather(2, targets)).squeeze_dim::<2>(2);
    nats.mask_fill(ignored, 0.0)
}
