//! Language models: one method to implement, everything else ready.

mod batch;
mod crops;
mod generate;
mod loss;
mod next_token;
mod sampling;
mod score;

pub use crate::text::{Generated, Sampling, TokenScore};
pub use batch::{TokenBatch, UnknownToken};
pub use crops::{RandomCrops, bytes, fingerprint, windows};
pub use generate::Vocabulary;
pub use loss::{cross_entropy, token_nats};
pub use next_token::NextToken;
pub use score::score;

use crate::failure::BoxError;
use crate::probe::Probe;
use crate::read;
use burn::module::Module;
use burn::tensor::{Int, Tensor};

/// A model that predicts each next token from those before it.
pub trait CausalLm: Module + 'static {
    /// Scores every next token: `[batch, seq_len]` token ids to `[batch, seq_len, vocab]` logits in f32, whatever
    /// the model computes in.
    ///
    /// Position `t` may see tokens `0..=t` only. Offer activations to `probe` where they are worth
    /// watching.
    fn logits(&self, tokens: Tensor<2, Int>, probe: &Probe<'_>) -> Tensor<3>;

    /// How many tokens it knows: ids are from 0 to one below.
    ///
    /// [`NextToken`] refuses batches and prompts with other ids before the model sees them. Without it (`None`)
    /// nothing is checked, and what becomes of such an id is up to the device: a panic, or numbers that are wrong.
    fn vocab_size(&self) -> Option<usize> {
        None
    }

    /// How many tokens it can see at once, where there is a limit, such as a table of positions.
    ///
    /// Text is generated from so many tokens of context at most, whatever was asked for.
    fn max_context(&self) -> Option<usize> {
        None
    }

    /// Training cost per token in floating-point operations (forward and backward), where known.
    ///
    /// It turns tokens per second into model FLOPs utilisation (MFU).
    fn flops_per_token(&self, _seq_len: usize) -> Option<f64> {
        None
    }

    /// The model at the beginning of a text, to read it token by token at a constant cost each, where it can.
    ///
    /// Text is then generated so; otherwise the whole context is computed anew for each token.
    fn stream(&self) -> Option<Box<dyn TokenStream + '_>> {
        None
    }
}

/// Reads a text token by token, and scores what may follow.
pub trait TokenStream {
    /// Reads one more token. What comes back are the logits of the one after it, `[vocab]`, as
    /// [`CausalLm::logits`] has them for the text so far.
    fn read(&mut self, token: i32) -> Tensor<1>;
}

/// The values of a tensor, row by row, in one device read.
fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, BoxError> {
    let read = read::vectors([tensor.reshape([-1])])?;
    Ok(read.iter().flat_map(|data| data.iter::<f32>()).collect())
}
