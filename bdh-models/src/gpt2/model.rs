//! The model: a token table, a position table, blocks, and a head that is the token table.

use super::block::{Block, norm, normed};
use super::config::Gpt2Config;
use crate::init::{Law, Weights};
use bdh::burn;
use bdh::burn::module::Module;
use bdh::burn::nn::{Embedding, LayerNorm};
use bdh::burn::tensor::{Device, FloatDType, Int, Tensor};
use bdh::ops::{Mask, tied_head};
use bdh::{CausalLm, Probe};

/// GPT-2, with its parameters under the names of nanoGPT and Hugging Face.
///
/// The head is the token table: one parameter, named `transformer.wte.weight`, which gets the gradients of both uses.
///
/// Source: karpathy/nanoGPT at 3adf61e, karpathy/build-nanogpt at 6104ab1.
#[derive(Module, Debug)]
pub struct Gpt2 {
    /// All parameters.
    pub transformer: Transformer,
    mask: Mask,
    #[module(skip)]
    config: Gpt2Config,
}

/// The part of a [`Gpt2`] that the originals keep under `transformer`.
#[derive(Module, Debug)]
pub struct Transformer {
    /// The token table, and the head.
    pub wte: Embedding,
    /// The table of positions.
    pub wpe: Embedding,
    /// The layers, first to last.
    pub h: Vec<Block>,
    /// Norm before the head.
    pub ln_f: LayerNorm,
}

impl Gpt2 {
    /// Returns the settings that the model was built with.
    #[must_use]
    pub fn config(&self) -> &Gpt2Config {
        &self.config
    }

    /// Creates the model with the given weights; `config` has passed its checks.
    pub(super) fn new(config: &Gpt2Config, weights: &Weights<'_>, device: &Device) -> Self {
        let (width, usual) = (config.n_embd, Law::Normal(0.02)); // nanoGPT's deviation
        Self {
            transformer: Transformer {
                wte: weights.table("transformer.wte", [config.vocab_size, width], usual),
                wpe: weights.table("transformer.wpe", [config.block_size, width], usual),
                h: (0..config.n_layer)
                    .map(|layer| Block::new(config, layer, weights))
                    .collect(),
                ln_f: norm("transformer.ln_f", config, weights, device),
            },
            mask: Mask::causal(config.block_size, device),
            config: config.clone(),
        }
    }
}

impl CausalLm for Gpt2 {
    /// Scores every next token: `[batch, seq_len]` ids to `[batch, seq_len, vocab_size]` logits in f32.
    ///
    /// Taps `embed`, and for each layer `h.<layer>.attn` (the output of attention), `h.<layer>.mlp` (the hidden units
    /// after the GELU) and `h.<layer>.resid` (the residual stream after the layer).
    ///
    /// # Panics
    ///
    /// If the input is longer than `block_size`.
    fn logits(&self, tokens: Tensor<2, Int>, probe: &Probe<'_>) -> Tensor<3> {
        let [_, seq_len] = tokens.dims();
        let longest = self.config.block_size;
        assert!(
            seq_len <= longest,
            "an input of {seq_len} tokens is longer than block_size {longest}"
        );
        let Transformer { wte, wpe, h, ln_f } = &self.transformer;
        let positions = wpe.weight.val().narrow(0, 0, seq_len).unsqueeze::<3>();

        let mut x = self.config.precision.cast(wte.forward(tokens) + positions);
        probe.tap("embed", &x);
        for (layer, block) in h.iter().enumerate() {
            x = block.forward(x, &self.mask, layer, probe);
        }
        tied_head(normed(ln_f, x), wte.weight.val()).cast(FloatDType::F32)
    }

    fn vocab_size(&self) -> Option<usize> {
        Some(self.config.vocab_size)
    }

    fn max_context(&self) -> Option<usize> {
        Some(self.config.block_size)
    }

    fn flops_per_token(&self, seq_len: usize) -> Option<f64> {
        Some(self.config.flops_per_token(seq_len))
    }
}
