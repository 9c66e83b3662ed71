//! The model, whose layers share one set of weights.

use super::config::BdhConfig;
use super::pairs::{split_pair_rows, split_pairs};
use super::rope::Rope;
use crate::init::{Law, Weights};
use bdh::burn;
use bdh::burn::module::{Module, Param};
use bdh::burn::nn::{Dropout, DropoutConfig, Embedding};
use bdh::burn::tensor::{FloatDType, Int, Tensor};
use bdh::lm::TokenStream;
use bdh::ops::{gated, layer_norm, linear_attention, relu_heads, sum_heads};
use bdh::{CausalLm, Probe};

/// Added to variances before their root, so that none is 0. Source: the original, which uses PyTorch's default.
const EPSILON: f64 = 1e-5;

/// BDH-GPU, with its parameters under the names of the original.
///
/// In each layer a token makes some neurons fire (`x`). Attention without a softmax reads the residual stream of
/// earlier tokens at which the same neurons fired; the rotated activity of a neuron is both its query and its key. The
/// values read make neurons fire as well (`y`). The product of both activities goes back into the residual stream.
///
/// Source: pathwaycom/bdh, `bdh.py` at 714bc80; Kosowski et al., 2025, *The Dragon Hatchling* (arXiv:2509.26507).
#[derive(Module, Debug)]
pub struct Bdh {
    /// Neurons to channels, `[heads * neurons, n_embd]`.
    pub decoder: Param<Tensor<2>>,
    /// Channels to neurons, `[heads, n_embd, neurons]`.
    pub encoder: Param<Tensor<3>>,
    /// Channels read by attention to neurons, `[heads, n_embd, neurons]`.
    pub encoder_v: Param<Tensor<3>>,
    /// Channels to logits, `[n_embd, vocab_size]`.
    pub lm_head: Param<Tensor<2>>,
    /// Token embeddings.
    pub embed: Embedding,
    dropout: Dropout,
    pub(super) rope: Rope,
    #[module(skip)]
    config: BdhConfig,
}

impl Bdh {
    /// Returns the settings that the model was built with.
    #[must_use]
    pub fn config(&self) -> &BdhConfig {
        &self.config
    }

    /// Creates the model with the given weights; `config` has passed its checks.
    pub(super) fn new(config: &BdhConfig, weights: &Weights<'_>) -> Self {
        let BdhConfig {
            n_embd,
            n_head,
            vocab_size,
            ..
        } = *config;
        let (all, usual) = (config.neurons(), Law::Normal(0.02)); // the original's deviation
        let encoder = [n_head, n_embd, all / n_head];
        Self {
            decoder: weights.param("decoder", [all, n_embd], usual),
            encoder: weights.param("encoder", encoder, usual),
            encoder_v: weights.param("encoder_v", encoder, usual),
            lm_head: weights.param("lm_head", [n_embd, vocab_size], usual),
            embed: weights.table("embed", [vocab_size, n_embd], usual),
            dropout: DropoutConfig::new(config.dropout).init(),
            rope: Rope::new(0, config.context, all / n_head, weights.device()),
            config: config.clone(),
        }
    }

    /// Returns the weights that every layer uses, with neurons in the order of `pairs.rs`.
    pub(super) fn layer(&self) -> Layer {
        Layer {
            encoder: split_pairs(self.encoder.val()),
            encoder_v: split_pairs(self.encoder_v.val()),
            decoder: split_pair_rows(self.decoder.val(), self.config.n_head),
            dropout: if self.trains() {
                self.dropout.prob
            } else {
                0.0
            },
        }
    }

    /// Returns whether dropout acts: only with autodiff, which is burn's rule.
    fn trains(&self) -> bool {
        self.dropout.training.is_enabled() && self.lm_head.val().device().is_autodiff()
    }

    /// Returns the residual stream that enters the first layer, `[batch, tokens, n_embd]`.
    pub(super) fn embedded(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.config.precision.cast(norm(self.embed.forward(tokens)))
    }

    /// Returns the logits of a residual stream, `[batch, tokens, vocab_size]` in f32.
    pub(super) fn scores(&self, x: Tensor<3>) -> Tensor<3> {
        let head = self.lm_head.val().cast(x.dtype());
        x.matmul(head.unsqueeze()).cast(FloatDType::F32)
    }
}

impl CausalLm for Bdh {
    /// Scores every next token: `[batch, seq_len]` ids to `[batch, seq_len, vocab_size]` logits in f32.
    ///
    /// Taps the activity of all neurons in each layer: `<layer>.x` for the token, `<layer>.y` for the values read by
    /// attention, and `<layer>.xy` for their product. The sparsity of a BDH is the share of zeros in these activities.
    fn logits(&self, tokens: Tensor<2, Int>, probe: &Probe<'_>) -> Tensor<3> {
        let [_, seq_len] = tokens.dims();
        let rope = self.rope.at(0, seq_len);
        let layer = self.layer();
        let mut x = self.embedded(tokens);
        for number in 0..self.config.n_layer {
            x = layer.forward(x, &rope, |name, activity| {
                if probe.is_on() {
                    probe.tap(format_args!("{number}.{name}"), &by_token(activity));
                }
            });
        }
        self.scores(x)
    }

    fn vocab_size(&self) -> Option<usize> {
        Some(self.config.vocab_size)
    }

    fn flops_per_token(&self, seq_len: usize) -> Option<f64> {
        Some(self.config.flops_per_token(seq_len))
    }

    fn stream(&self) -> Option<Box<dyn TokenStream + '_>> {
        Some(Box::new(self.recurrent()))
    }
}

/// Weights that every layer shares, with the first neurons of all pairs before the second ones.
pub(super) struct Layer {
    /// `[heads, n_embd, neurons]`.
    pub(super) encoder: Tensor<3>,
    /// `[heads, n_embd, neurons]`.
    pub(super) encoder_v: Tensor<3>,
    /// `[heads, neurons, n_embd]`.
    pub(super) decoder: Tensor<3>,
    dropout: f64,
}

impl Layer {
    /// Applies the layer to the residual stream, `[batch, tokens, n_embd]`, and passes each activity to `tap`.
    fn forward(
        &self,
        x: Tensor<3>,
        rope: &Rope,
        mut tap: impl FnMut(&str, &Tensor<4>),
    ) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let stream = x.clone().reshape([1, batch * tokens, width]);
        let activity = split_rows(encode(stream, &self.encoder), [batch, tokens]);
        tap("x", &activity);
        let read = norm(linear_attention(rope.rotate(activity.clone()), x.clone()));
        let read_activity = encode(join_rows(read), &self.encoder_v);
        let read_activity = split_rows(read_activity, [batch, tokens]);
        tap("y", &read_activity);
        let product = gated(activity, read_activity, self.dropout);
        tap("xy", &product);
        let update = norm(self.decode(join_rows(product)));
        norm(x + update.reshape([batch, tokens, width]))
    }

    /// Maps neurons, `[heads, tokens, neurons]`, back to channels, `[1, tokens, n_embd]`.
    pub(super) fn decode(&self, neurons: Tensor<3>) -> Tensor<3> {
        sum_heads(neurons, self.decoder.clone())
    }

    /// Multiplies two activities, with dropout in training.
    pub(super) fn gated(&self, activity: Tensor<3>, read_activity: Tensor<3>) -> Tensor<3> {
        gated(activity, read_activity, self.dropout)
    }
}

/// Returns the activity of all neurons for `x`, `[heads or 1, tokens, n_embd]`: `[heads, tokens, neurons]`.
pub(super) fn encode(x: Tensor<3>, encoder: &Tensor<3>) -> Tensor<3> {
    relu_heads(x, encoder.clone())
}

/// Reshapes `[heads, batch * tokens, channels]` to `[heads, batch, tokens, channels]`.
fn split_rows(x: Tensor<3>, [batch, tokens]: [usize; 2]) -> Tensor<4> {
    let [heads, _, channels] = x.dims();
    x.reshape([heads, batch, tokens, channels])
}

/// Reshapes `[heads, batch, tokens, channels]` to `[heads, batch * tokens, channels]`.
fn join_rows(x: Tensor<4>) -> Tensor<3> {
    let [heads, batch, tokens, channels] = x.dims();
    x.reshape([heads, batch * tokens, channels])
}

/// Puts all neurons of a token into one row: `[heads, batch, tokens, neurons]` to `[batch, tokens, heads * neurons]`.
fn by_token(activity: &Tensor<4>) -> Tensor<3> {
    let [heads, batch, tokens, neurons] = activity.dims();
    activity
        .clone()
        .permute([1, 2, 0, 3])
        .reshape([batch, tokens, heads * neurons])
}

/// Applies layer normalization without weights. Rows of zeros stay zeros.
pub(super) fn norm<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    layer_norm(x, None, None, EPSILON)
}
