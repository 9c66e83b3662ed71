//! Causal self-attention with value embeddings, rotary positions, and normed queries and keys.

use super::config::{GptConfig, VALUE_GATE_CHANNELS};
use super::norm::norm;
use super::rope::Rope;
use crate::init::{Law, Weights};
use crate::layers::apply_linear;
use bdh::burn;
use bdh::burn::module::Module;
use bdh::burn::nn::Linear;
use bdh::burn::tensor::Tensor;
use bdh::burn::tensor::activation::sigmoid;
use bdh::ops::{Mask, attention, upcast_f32};

/// Factor of normed queries and of normed keys, which makes attention sharper. Source: nanochat.
const SHARPNESS: f64 = 1.2;
/// Largest factor of a value embedding. The gates start at one half, so the factor starts at 1.5.
const VALUE_GATE_MAX: f64 = 3.0;

/// Causal self-attention of one layer.
#[derive(Module, Debug)]
pub struct Attention {
    /// Channels to queries.
    pub c_q: Linear,
    /// Channels to keys.
    pub c_k: Linear,
    /// Channels to values.
    pub c_v: Linear,
    /// Weighted values back to channels.
    pub c_proj: Linear,
    /// The first 12 channels to one gate per key head, in layers with a value embedding.
    pub ve_gate: Option<Linear>,
    n_head: usize,
    n_kv_head: usize,
}

impl Attention {
    pub(super) fn new(config: &GptConfig, layer: usize, weights: &Weights<'_>) -> Self {
        let (width, kv_width) = (config.n_embd, config.kv_width());
        let spread = Law::within((3.0 / width as f32).sqrt());
        let linear = |name: &str, shape, law| {
            weights.linear(&format!("transformer.h.{layer}.attn.{name}"), shape, law)
        };
        let gate = [VALUE_GATE_CHANNELS, config.n_kv_head];
        let has_gate = config.has_value_embedding(layer);
        Self {
            c_q: linear("c_q", [width, width], spread),
            c_k: linear("c_k", [width, kv_width], spread),
            c_v: linear("c_v", [width, kv_width], spread),
            c_proj: linear("c_proj", [width, width], Law::Zero),
            ve_gate: has_gate.then(|| linear("ve_gate", gate, Law::Uniform(0.0, 0.02))),
            n_head: config.n_head,
            n_kv_head: config.n_kv_head,
        }
    }

    /// Projects the normed block input `x`, `[batch, seq_len, n_embd]`, to queries, keys and values.
    ///
    /// `value_embedding` is the layer's own embedding of the tokens, `[batch, seq_len, kv_width]`. The tables
    /// of `rope` must have `seq_len` positions.
    pub(super) fn project(
        &self,
        x: Tensor<3>,
        value_embedding: Option<Tensor<3>>,
        rope: &Rope,
    ) -> Heads {
        let [batch, seq_len, width] = x.dims();
        let head_size = width / self.n_head;
        let heads = |x: Tensor<3>, heads| x.reshape([batch, seq_len, heads, head_size]);

        let queries = heads(apply_linear(&self.c_q, x.clone()), self.n_head);
        let keys = heads(apply_linear(&self.c_k, x.clone()), self.n_kv_head);
        let mut values = heads(apply_linear(&self.c_v, x.clone()), self.n_kv_head);
        if let (Some(ve_gate), Some(embedding)) = (&self.ve_gate, value_embedding) {
            let gate = value_gate(ve_gate, x).cast(values.dtype());
            values = values + heads(embedding, self.n_kv_head) * gate;
        }
        Heads {
            queries: norm(rope.rotate(queries)),
            keys: norm(rope.rotate(keys)),
            values,
        }
    }

    /// Merges what the heads have read, `[batch, seq_len, n_head, head_size]`, to `[batch, seq_len, n_embd]`.
    pub(super) fn merge(&self, read: Tensor<4>) -> Tensor<3> {
        let [batch, seq_len, heads, head_size] = read.dims();
        apply_linear(
            &self.c_proj,
            read.reshape([batch, seq_len, heads * head_size]),
        )
    }
}

/// Queries, keys and values of all heads, `[batch, seq_len, heads, head_size]` each.
pub(super) struct Heads {
    pub(super) queries: Tensor<4>,
    pub(super) keys: Tensor<4>,
    pub(super) values: Tensor<4>,
}

impl Heads {
    /// Returns the average of the visible values for each query.
    pub(super) fn attend(self, mask: &Mask) -> Tensor<4> {
        let scale = self.scale();
        attention(self.queries, self.keys, self.values, mask, scale)
    }

    /// Returns the factor of the products of queries and keys.
    pub(super) fn scale(&self) -> f64 {
        let [.., head_size] = self.queries.dims();
        SHARPNESS * SHARPNESS / (head_size as f64).sqrt()
    }
}

/// Returns the factors of value embeddings from the first channels of `x`, `[batch, seq_len, n_kv_head, 1]` in f32.
fn value_gate(gate: &Linear, x: Tensor<3>) -> Tensor<4> {
    let read = upcast_f32(x.narrow(2, 0, VALUE_GATE_CHANNELS));
    let factors = sigmoid(gate.forward(read)) * VALUE_GATE_MAX;
    factors.unsqueeze_dim(3)
}
