//! Language models: one method to implement, everything else ready.

mod batch;
mod crops;
mod generate;
mod loss;
mod next_token;
mod sampling;

pub use batch::TokenBatch;
pub use crops::{RandomCrops, bytes, windows};
pub use generate::{Generated, Vocabulary};
pub use loss::{cross_entropy, token_nats};
pub use next_token::NextToken;
pub use sampling::Sampling;

use crate::Probe;
use burn::module::Module;
use burn::tensor::{Int, Tensor};

/// A model that predicts each next token from those before it.
pub trait CausalLm: Module + 'static {
    /// Scores every next token: `[batch, seq_len]` token ids to `[batch, seq_len, vocab]` logits.
    ///
    /// Position `t` may see tokens `0..=t` only. Offer activations to `probe` where they are worth
    /// watching.
    fn logits(&self, tokens: Tensor<2, Int>, probe: &Probe<'_>) -> Tensor<3>;

    /// Training cost per token in floating-point operations (forward and backward), where known.
    ///
    /// It turns tokens per second into model FLOPs utilisation (MFU).
    fn flops_per_token(&self, _seq_len: usize) -> Option<f64> {
        None
    }
}
