//! One layer: attention, then an MLP, each on the normed residual stream and added to it.

use super::config::{Gelu, Gpt2Config};
use crate::init::{Law, Weights};
use crate::layers::apply_linear;
use bdh::Probe;
use bdh::burn;
use bdh::burn::module::{Module, Param};
use bdh::burn::nn::{LayerNorm, LayerNormConfig, Linear};
use bdh::burn::tensor::{Device, Tensor};
use bdh::ops::{Mask, gelu, gelu_tanh, layer_norm, self_attention};

/// Added to variances before their root. Source: nanoGPT; burn's default is the same.
const EPSILON: f64 = 1e-5;
/// Standard deviation of initial weights. Source: nanoGPT.
const DEVIATION: f64 = 0.02;

/// One layer of a [`Gpt2`](super::Gpt2).
#[derive(Module, Debug)]
pub struct Block {
    /// Norm before attention.
    pub ln_1: LayerNorm,
    /// Attention over earlier tokens.
    pub attn: Attention,
    /// Norm before the MLP.
    pub ln_2: LayerNorm,
    /// MLP on each token.
    pub mlp: Mlp,
}

impl Block {
    pub(super) fn new(config: &Gpt2Config, layer: usize, weights: &Weights<'_>) -> Self {
        let name = |part: &str| format!("transformer.h.{layer}.{part}");
        let device = weights.device();
        Self {
            ln_1: norm(&name("ln_1"), config, weights, device),
            attn: Attention::new(&name("attn"), config, weights),
            ln_2: norm(&name("ln_2"), config, weights, device),
            mlp: Mlp::new(&name("mlp"), config, weights),
        }
    }

    /// Applies the layer to the residual stream, `[batch, seq_len, n_embd]`; `layer` is its number, for taps.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        mask: &Mask,
        layer: usize,
        probe: &Probe<'_>,
    ) -> Tensor<3> {
        let read = self.attn.forward(normed(&self.ln_1, x.clone()), mask);
        probe.tap(format_args!("h.{layer}.attn"), &read);
        let x = x + read;
        let hidden = self.mlp.hidden(normed(&self.ln_2, x.clone()));
        probe.tap(format_args!("h.{layer}.mlp"), &hidden);
        let x = x + apply_linear(&self.mlp.c_proj, hidden);
        probe.tap(format_args!("h.{layer}.resid"), &x);
        x
    }
}

/// Causal self-attention of one layer.
#[derive(Module, Debug)]
pub struct Attention {
    /// Channels to queries, keys and values, in this order.
    pub c_attn: Linear,
    /// Weighted values back to channels.
    pub c_proj: Linear,
    n_head: usize,
}

impl Attention {
    fn new(name: &str, config: &Gpt2Config, weights: &Weights<'_>) -> Self {
        let width = config.n_embd;
        Self {
            c_attn: linear(
                &format!("{name}.c_attn"),
                [width, 3 * width],
                DEVIATION,
                config,
                weights,
            ),
            c_proj: projection(&format!("{name}.c_proj"), width, config, weights),
            n_head: config.n_head,
        }
    }

    /// Applies attention to the normed stream `x`, `[batch, seq_len, n_embd]`, and keeps its shape.
    fn forward(&self, x: Tensor<3>, mask: &Mask) -> Tensor<3> {
        let read = self_attention(apply_linear(&self.c_attn, x), self.n_head, mask);
        apply_linear(&self.c_proj, read)
    }
}

/// MLP of one layer: two linear layers with a GELU between them.
#[derive(Module, Debug)]
pub struct Mlp {
    /// Channels to hidden units, four for each.
    pub c_fc: Linear,
    /// Hidden units back to channels.
    pub c_proj: Linear,
    #[module(skip)]
    gelu: Gelu,
}

impl Mlp {
    fn new(name: &str, config: &Gpt2Config, weights: &Weights<'_>) -> Self {
        let hidden = 4 * config.n_embd;
        let shape = [config.n_embd, hidden];
        Self {
            c_fc: linear(&format!("{name}.c_fc"), shape, DEVIATION, config, weights),
            c_proj: projection(&format!("{name}.c_proj"), hidden, config, weights),
            gelu: config.gelu,
        }
    }

    /// Returns the hidden units, `[batch, seq_len, 4 * n_embd]`.
    fn hidden(&self, x: Tensor<3>) -> Tensor<3> {
        let x = apply_linear(&self.c_fc, x);
        match self.gelu {
            Gelu::Erf => gelu(x),
            Gelu::Tanh => gelu_tanh(x),
        }
    }
}

/// Applies a norm to the residual stream.
pub(super) fn normed(norm: &LayerNorm, x: Tensor<3>) -> Tensor<3> {
    let bias = norm.beta.as_ref().map(Param::val);
    layer_norm(x, Some(norm.gamma.val()), bias, EPSILON)
}

/// Creates a norm with gains of one, and with biases of zero if the model has biases.
pub(super) fn norm(
    name: &str,
    config: &Gpt2Config,
    weights: &Weights<'_>,
    device: &Device,
) -> LayerNorm {
    let width = config.n_embd;
    let mut norm = LayerNormConfig::new(width)
        .with_bias(config.bias)
        .init(device);
    norm.gamma = weights.param(&format!("{name}.weight"), [width], Law::One);
    norm.beta = bias(name, width, config, weights);
    norm
}

/// Creates a layer back into the residual stream, with a smaller deviation because two of them in each layer add up.
fn projection(name: &str, inputs: usize, config: &Gpt2Config, weights: &Weights<'_>) -> Linear {
    let deviation = DEVIATION / ((2 * config.n_layer) as f64).sqrt();
    linear(name, [inputs, config.n_embd], deviation, config, weights)
}

fn linear(
    name: &str,
    shape: [usize; 2],
    deviation: f64,
    config: &Gpt2Config,
    weights: &Weights<'_>,
) -> Linear {
    let layer = weights.linear(name, shape, Law::Normal(deviation));
    Linear {
        bias: bias(name, shape[1], config, weights),
        ..layer
    }
}

fn bias(
    name: &str,
    outputs: usize,
    config: &Gpt2Config,
    weights: &Weights<'_>,
) -> Option<Param<Tensor<1>>> {
    config
        .bias
        .then(|| weights.param(&format!("{name}.bias"), [outputs], Law::Zero))
}
