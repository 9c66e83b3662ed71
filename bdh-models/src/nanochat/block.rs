//! One layer: attention, then an MLP, each added to the residual stream.

use super::attention::Attention;
use super::config::GptConfig;
use super::norm::norm;
use super::rope::Rope;
use super::stream::Past;
use crate::init::{Law, Weights};
use crate::layers::apply_linear;
use bdh::Probe;
use bdh::burn;
use bdh::burn::module::Module;
use bdh::burn::nn::Linear;
use bdh::burn::tensor::Tensor;
use bdh::ops::{Mask, relu_squared};

/// Hidden channels of the MLP for each channel of the residual stream.
const EXPANSION: usize = 4;

/// One layer of a [`Gpt`](super::Gpt).
#[derive(Module, Debug)]
pub struct Block {
    /// Attention over earlier tokens.
    pub attn: Attention,
    /// MLP on each token.
    pub mlp: Mlp,
}

impl Block {
    pub(super) fn new(config: &GptConfig, layer: usize, weights: &Weights<'_>) -> Self {
        Self {
            attn: Attention::new(config, layer, weights),
            mlp: Mlp::new(config, layer, weights),
        }
    }

    /// Applies the layer to the residual stream, `[batch, seq_len, n_embd]`.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        inputs: BlockInputs<'_>,
        probe: &Probe<'_>,
    ) -> Tensor<3> {
        let BlockInputs {
            layer,
            value_embedding,
            rope,
            mask,
            past,
        } = inputs;
        let heads = self.attn.project(norm(x.clone()), value_embedding, rope);
        let read = match past {
            Some(past) => past.attend(heads, mask),
            None => heads.attend(mask),
        };
        let read = self.attn.merge(read);
        probe.tap(format_args!("h.{layer}.attn"), &read);
        let x = x + read;
        let hidden = self.mlp.hidden(norm(x.clone()));
        probe.tap(format_args!("h.{layer}.mlp"), &hidden);
        let x = x + apply_linear(&self.mlp.c_proj, hidden);
        probe.tap(format_args!("h.{layer}.resid"), &x);
        x
    }
}

/// Inputs of a block besides the residual stream.
pub(super) struct BlockInputs<'a> {
    /// Number of the layer, from 0.
    pub(super) layer: usize,
    /// The layer's own embedding of the tokens, `[batch, seq_len, kv_width]`, in layers that have one.
    pub(super) value_embedding: Option<Tensor<3>>,
    /// Rotary tables of `seq_len` positions.
    pub(super) rope: &'a Rope,
    /// Tokens that a query may see.
    pub(super) mask: &'a Mask,
    /// Keys and values of the tokens before the input, if it continues a text.
    pub(super) past: Option<&'a mut Past>,
}

/// MLP of one layer: two linear layers with a squared ReLU between them.
#[derive(Module, Debug)]
pub struct Mlp {
    /// Channels to hidden units, four for each.
    pub c_fc: Linear,
    /// Hidden units back to channels.
    pub c_proj: Linear,
}

impl Mlp {
    fn new(config: &GptConfig, layer: usize, weights: &Weights<'_>) -> Self {
        let (width, hidden) = (config.n_embd, EXPANSION * config.n_embd);
        let spread = Law::within(0.4 * (3.0 / width as f32).sqrt());
        Self {
            c_fc: weights.linear(
                &format!("transformer.h.{layer}.mlp.c_fc"),
                [width, hidden],
                spread,
            ),
            c_proj: weights.linear(
                &format!("transformer.h.{layer}.mlp.c_proj"),
                [hidden, width],
                Law::Zero,
            ),
        }
    }

    /// Returns the hidden units, `[batch, seq_len, 4 * n_embd]`. Most of them are 0.
    fn hidden(&self, x: Tensor<3>) -> Tensor<3> {
        relu_squared(apply_linear(&self.c_fc, x))
    }
}
