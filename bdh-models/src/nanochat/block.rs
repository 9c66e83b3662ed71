//! One layer: attention, then an MLP, each added to the residual stream.

use super::attention::Attention;
use super::config::GptConfig;
use super::norm::norm;
use super::rope::Rope;
use crate::init::{Law, Weights};
use crate::layers::through;
use bdh::Probe;
use bdh::burn;
use bdh::burn::module::Module;
use bdh::burn::nn::Linear;
use bdh::burn::tensor::Tensor;
use bdh::ops::{Mask, relu_squared};

/// Channels of the MLP for each channel of the residual stream.
const EXPANSION: usize = 4;

/// One layer of a [`Gpt`](super::Gpt).
#[derive(Module, Debug)]
pub struct Block {
    /// Reads other tokens.
    pub attn: Attention,
    /// Works on each token by itself.
    pub mlp: Mlp,
}

impl Block {
    pub(super) fn new(config: &GptConfig, layer: usize, weights: &Weights<'_>) -> Self {
        Self {
            attn: Attention::new(config, layer, weights),
            mlp: Mlp::new(config, layer, weights),
        }
    }

    /// Takes the residual stream, `[batch, seq_len, n_embd]`, through layer number `layer`.
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
        } = inputs;
        let read = self
            .attn
            .forward(norm(x.clone()), value_embedding, rope, mask);
        probe.tap(format_args!("h.{layer}.attn"), &read);
        let x = x + read;
        let hidden = self.mlp.hidden(norm(x.clone()));
        probe.tap(format_args!("h.{layer}.mlp"), &hidden);
        let x = x + through(&self.mlp.c_proj, hidden);
        probe.tap(format_args!("h.{layer}.resid"), &x);
        x
    }
}

/// What a block needs besides the residual stream.
pub(super) struct BlockInputs<'a> {
    /// Its number, counted from 0.
    pub(super) layer: usize,
    /// Its own embedding of the tokens, `[batch, seq_len, kv_width]`, where it has one.
    pub(super) value_embedding: Option<Tensor<3>>,
    /// The tables of `seq_len` positions.
    pub(super) rope: &'a Rope,
    /// What a query may see.
    pub(super) mask: &'a Mask,
}

/// Two layers with a squared ReLU between them.
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

    /// The hidden units, most of them 0: `[batch, seq_len, 4 * n_embd]`.
    fn hidden(&self, x: Tensor<3>) -> Tensor<3> {
        relu_squared(through(&self.c_fc, x))
    }
}
