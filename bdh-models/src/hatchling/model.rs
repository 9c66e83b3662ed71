//! The model itself: one set of weights, gone through once for each layer.

use super::config::BdhConfig;
use super::pairs::{first_apart, rows_first_apart};
use super::rope::Rope;
use crate::init::{Law, Weights};
use bdh::burn;
use bdh::burn::module::{Module, Param};
use bdh::burn::nn::{Dropout, DropoutConfig, Embedding};
use bdh::burn::tensor::{FloatDType, Int, Tensor};
use bdh::lm::TokenStream;
use bdh::ops::{gated, layer_norm, linear_attention, relu_heads, sum_heads};
use bdh::{CausalLm, Probe};

/// Below this no variance is divided by.
const EPSILON: f64 = 1e-5;

/// BDH-GPU, with its parameters under the names of the original.
///
/// A token makes some neurons fire (`x`); they read what was said near tokens at which the same neurons fired, by
/// attention without a softmax, in which a neuron's turned activity is query and key at once; what was read makes
/// neurons fire too (`y`), and where both do, something goes back into the residual stream.
///
/// Source: pathwaycom/bdh, `bdh.py` at 714bc80; Kosowski et al., 2025, *The Dragon Hatchling* (arXiv:2509.26507).
#[derive(Module, Debug)]
pub struct Bdh {
    /// Neurons to channels, `[heads * neurons, n_embd]`.
    pub decoder: Param<Tensor<2>>,
    /// Channels to neurons, `[heads, n_embd, neurons]`.
    pub encoder: Param<Tensor<3>>,
    /// What was read to neurons, `[heads, n_embd, neurons]`.
    pub encoder_v: Param<Tensor<3>>,
    /// Channels to scores, `[n_embd, vocab_size]`.
    pub lm_head: Param<Tensor<2>>,
    /// The token table.
    pub embed: Embedding,
    dropout: Dropout,
    pub(super) rope: Rope,
    #[module(skip)]
    config: BdhConfig,
}

impl Bdh {
    /// The settings that the model was built with.
    #[must_use]
    pub fn config(&self) -> &BdhConfig {
        &self.config
    }

    /// The model with the given weights; `config` has passed its checks.
    pub(super) fn new(config: &BdhConfig, weights: &Weights<'_>) -> Self {
        let BdhConfig {
            n_embd,
            n_head,
            vocab_size,
            ..
        } = *config;
        let (all, usual) = (config.neurons(), Law::Normal(0.02));
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

    /// The weights of a layer.
    pub(super) fn layer(&self) -> Layer {
        Layer {
            encoder: first_apart(self.encoder.val()),
            encoder_v: first_apart(self.encoder_v.val()),
            decoder: rows_first_apart(self.decoder.val(), self.config.n_head),
            dropout: if self.trains() {
                self.dropout.prob
            } else {
                0.0
            },
        }
    }

    /// Whether dropout acts: as burn has it, where there is a tape.
    fn trains(&self) -> bool {
        self.dropout.training.is_enabled() && self.lm_head.val().device().is_autodiff()
    }

    /// The residual stream that enters the first layer, `[batch, tokens, n_embd]`.
    pub(super) fn embedded(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.config.precision.cast(norm(self.embed.forward(tokens)))
    }

    /// Scores of the residual stream, `[batch, tokens, vocab_size]` in f32.
    pub(super) fn scores(&self, x: Tensor<3>) -> Tensor<3> {
        let head = self.lm_head.val().cast(x.dtype());
        x.matmul(head.unsqueeze()).cast(FloatDType::F32)
    }
}

impl CausalLm for Bdh {
    /// Scores every next token: `[batch, seq_len]` ids to `[batch, seq_len, vocab_size]` logits in f32.
    ///
    /// Offers for each layer the activity of all neurons: `<layer>.x`, what fires at the token; `<layer>.y`, what fires
    /// at what was read; `<layer>.xy`, their product. Their share of zeros is what sparsity means in a BDH.
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

/// The weights that every layer shares, with the first neurons of all pairs before the second.
pub(super) struct Layer {
    /// `[heads, n_embd, neurons]`.
    pub(super) encoder: Tensor<3>,
    /// The same.
    pub(super) encoder_v: Tensor<3>,
    /// `[heads, neurons, n_embd]`.
    pub(super) decoder: Tensor<3>,
    dropout: f64,
}

impl Layer {
    /// Takes the residual stream, `[batch, tokens, n_embd]`, through a layer; shows what fires at each token.
    fn forward(
        &self,
        x: Tensor<3>,
        rope: &Rope,
        mut show: impl FnMut(&str, &Tensor<4>),
    ) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let by_row = |x: Tensor<3>| {
            let [heads, _, channels] = x.dims();
            x.reshape([heads, batch, tokens, channels])
        };
        let at_once = |x: Tensor<4>| {
            let [heads, _, _, channels] = x.dims();
            x.reshape([heads, batch * tokens, channels])
        };
        let firing = by_row(fires(
            x.clone().reshape([1, batch * tokens, width]),
            &self.encoder,
        ));
        show("x", &firing);
        let read = norm(linear_attention(rope.turn(firing.clone()), x.clone()));
        let read_firing = by_row(fires(at_once(read), &self.encoder_v));
        show("y", &read_firing);
        let both = gated(firing, read_firing, self.dropout);
        show("xy", &both);
        norm(x + norm(self.decode(at_once(both))).reshape([batch, tokens, width]))
    }

    /// The neurons, `[heads, tokens, neurons]`, back to channels, `[1, tokens, n_embd]`.
    pub(super) fn decode(&self, neurons: Tensor<3>) -> Tensor<3> {
        sum_heads(neurons, self.decoder.clone())
    }

    /// Each neuron's activity times the other's, some dropped in training.
    pub(super) fn gated(&self, firing: Tensor<3>, read_firing: Tensor<3>) -> Tensor<3> {
        gated(firing, read_firing, self.dropout)
    }
}

/// The neurons that fire at `x`, `[heads or 1, tokens, n_embd]`, through an encoder: `[heads, tokens, neurons]`.
pub(super) fn fires(x: Tensor<3>, encoder: &Tensor<3>) -> Tensor<3> {
    relu_heads(x, encoder.clone())
}

/// `[heads, batch, tokens, neurons]` with all neurons of a token in a row: `[batch, tokens, heads * neurons]`.
fn by_token(activity: &Tensor<4>) -> Tensor<3> {
    let [heads, batch, tokens, neurons] = activity.dims();
    activity
        .clone()
        .permute([1, 2, 0, 3])
        .reshape([batch, tokens, heads * neurons])
}

/// Layer normalisation without weights. Where nothing was read it leaves zeros: the variance has a floor.
pub(super) fn norm<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    layer_norm(x, None, None, EPSILON)
}
