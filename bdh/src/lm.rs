//! Language models: implement [`CausalLm`] for a model, and train it with [`NextToken`].

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
pub use loss::{cross_entropy, token_nll};
pub use next_token::NextToken;
pub use score::score;

use crate::device_read;
use crate::failure::BoxError;
use crate::probe::Probe;
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// A model that predicts each token of a text from the tokens before it.
///
/// Only [`logits`](Self::logits) is required. No method should read from the device: each read stalls it.
pub trait CausalLm: Module + 'static {
    /// Computes the logits of every next token: token ids `[batch, seq_len]` to logits `[batch, seq_len, vocab]`.
    ///
    /// The logits are f32, whatever precision the model computes in. Position `t` must depend on tokens `0..=t` only.
    /// Offer activations that are worth watching to `probe` (see [`Probe::tap`]).
    fn logits(&self, tokens: Tensor<2, Int>, probe: &Probe<'_>) -> Tensor<3>;

    /// Returns the number of token ids that the model knows, from 0 to one below. Defaults to `None`, unknown.
    ///
    /// [`NextToken`] refuses batches and prompts with other ids before the forward pass. With `None` it checks nothing,
    /// and an unknown id has an effect that depends on the device: a panic or wrong numbers.
    fn vocab_size(&self) -> Option<usize> {
        None
    }

    /// Returns the largest context in tokens, if the model has a limit, such as a table of positions. Defaults to
    /// `None`.
    ///
    /// Generation passes no more tokens than this to the model, whatever the [`Sampling`] allows.
    fn max_context(&self) -> Option<usize> {
        None
    }

    /// Returns the floating-point operations of training per token, forward and backward, if known.
    ///
    /// With it the throughput in tokens per second becomes model FLOPs utilization (MFU).
    fn flops_per_token(&self, _seq_len: usize) -> Option<f64> {
        None
    }

    /// Starts to read a text token by token, at a constant cost per token, if the model can. Defaults to `None`.
    ///
    /// Generation then uses the stream. Otherwise it computes the whole context again for each token.
    fn stream(&self) -> Option<Box<dyn TokenStream + '_>> {
        None
    }
}

/// A model in the middle of a text, which it reads token by token.
pub trait TokenStream {
    /// Reads one token and returns the logits of the next one, `[vocab]`.
    ///
    /// They equal the last row of [`CausalLm::logits`] for the text so far.
    fn read(&mut self, token: i32) -> Tensor<1>;

    /// Reads several tokens and returns the logits after the last one, `[vocab]`. Defaults to one after the other.
    ///
    /// # Panics
    ///
    /// If there is no token.
    fn read_all(&mut self, tokens: &[i32]) -> Tensor<1> {
        let (last, before) = tokens.split_last().expect("there is a token to read");
        for token in before {
            self.read(*token);
        }
        self.read(*last)
    }
}

/// Copies rows of ids to a device, `[rows, width]`: cut to the width, or padded at their ends.
///
/// Without a `padding` id, each row is padded with its last id, which is in the model's vocabulary.
fn padded(rows: &[&[i32]], width: usize, padding: Option<i32>, device: &Device) -> Tensor<2, Int> {
    let mut ids = Vec::with_capacity(rows.len() * width);
    for row in rows {
        let padding = padding.or(row.last().copied()).unwrap_or_default();
        for index in 0..width {
            ids.push(row.get(index).copied().unwrap_or(padding));
        }
    }
    Tensor::from_data(TensorData::new(ids, [rows.len(), width]), device)
}

/// Reads the values of a tensor, row by row, in one device read.
fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, BoxError> {
    let read = device_read::vectors([tensor.reshape([-1])])?;
    Ok(read.iter().flat_map(|data| data.iter::<f32>()).collect())
}
