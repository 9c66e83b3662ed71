//! One layer: attention, then an MLP, each on the normed residual stream and added to it.

use super::config::{Gelu, Gpt2Config};
use crate::init::{Law, Weights};
use crate::layers::through;
use bdh::Probe;
use bdh::burn;
use bdh::burn::module::{Module, Param};
use bdh::burn::nn::{LayerNorm, LayerNormConfig, Linear};
use bdh::burn::tensor::{Device, Tensor};
use bdh::ops::{Mask, gelu, gelu_tanh, layer_norm, self_attention};

/// Below this no variance is divided by. Source: nanoGPT; burn's default is the same.
const EPSILON: f64 = 1e-5;
/// The deviation of first weights.
const DEVIATION: f64 = 0.02;

/// One layer of a [`Gpt2`](super::Gpt2).
#[derive(Module, Debug)]
pub struct Block {
    /// Norms the stream for attention.
    pub ln_1: LayerNorm,
    /// Reads other tokens.
    pub attn: Attention,
    /// Norms the stream for the MLP.
    pub ln_2: LayerNorm,
    /// Works on each token by itself.
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

    /// Takes the residual stream, `[batch, seq_len, n_embd]`, through layer number `layer`.
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
        let x = x + through(&self.mlp.c_proj, hidden);
        probe.tap(format_args!("h.{layer}.resid"), &x);
        x
    }
}

/// Lets each token read those before it, and itself.
#[derive(Module, Debug)]
pub struct Attention {
    /// Channels to queries, keys and values, one after the other.
    pub c_attn: Linear,
    /// What was read, back to channels.
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

    /// Reads the normed stream `x`, `[batch, seq_len, n_embd]`; what comes back has the same shape.
    fn forward(&self, x: Tensor<3>, mask: &Mask) -> Tensor<3> {
        let read = self_attention(through(&self.c_attn, x), self.n_head, mask);
        through(&self.c_proj, read)
    }
}

/// Two layers with a GELU between them.
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

    /// The hidden units: `[batch, seq_len, 4 * n_embd]`.
    fn hidden(&self, x: Tensor<3>) -> Tensor<3> {
        let x = through(&self.c_fc, x);
        match self.gelu {
            Gelu::Erf => gelu(x),
            Gelu::Tanh => gelu_tanh(x),
        }
    }
}

/// The residual stream as a block reads it.
pub(super) fn normed(norm: &LayerNorm, x: Tensor<3>) -> Tensor<3> {
    let bias = norm.beta.as_ref().map(Param::val);
    layer_norm(x, Some(norm.gamma.val()), bias, EPSILON)
}

/// A norm with gains of one, and biases of zero where the model has biases.
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

/// A layer back into the residual stream: narrower, since two of them in each layer add up there.
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
